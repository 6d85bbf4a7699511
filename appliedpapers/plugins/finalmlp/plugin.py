"""FinalMLP: click-through-rate prediction with two gated MLP streams (arXiv 2304.00902)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="finalmlp",
    title="FinalMLP",
    summary="Predict calibrated click probabilities from impression logs, new ids included.",
    field="advertising",
    data="tables: CSV, Parquet",
    papers=(
        Paper(
            title="FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction",
            year=2023,
            arxiv="2304.00902",
        ),
        Paper(title="Mixture of Weak and Strong Experts on Graphs", year=2024, arxiv="2311.05185"),
    ),
    tasks=(
        TaskSpec(
            name="binary-classification",
            config="appliedpapers.plugins.finalmlp.config:FinalMlpConfig",
            datasets="appliedpapers.plugins.finalmlp.data:DATASETS",
            model="appliedpapers.plugins.finalmlp.model:FinalMlpModel",
            evaluation="appliedpapers.plugins.finalmlp.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightning_fabric", "lightgbm", "xgboost"),
    extra="applied-papers[finalmlp]",
)

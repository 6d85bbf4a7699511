"""FreTS: frequency-domain MLPs for time-series forecasting (arXiv 2311.06184)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="frets",
    title="FreTS",
    summary="Forecast many related series with MLPs that learn in the frequency domain.",
    field="forecasting",
    data="series: CSV, text, Parquet",
    papers=(
        Paper(
            title="Frequency-domain MLPs are More Effective Learners in Time Series Forecasting",
            year=2023,
            arxiv="2311.06184",
        ),
    ),
    tasks=(
        TaskSpec(
            name="forecasting",
            config="appliedpapers.plugins.frets.config:FretsConfig",
            datasets="appliedpapers.plugins.frets.data:DATASETS",
            model="appliedpapers.plugins.frets.model:FretsForecaster",
            evaluation="appliedpapers.plugins.frets.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightning_fabric", "lightgbm"),
    extra="applied-papers[frets]",
)

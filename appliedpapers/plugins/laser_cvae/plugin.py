"""Laser CVAE: which device ages abnormally, and which will fail before the test ends (arXiv 2211.02847)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="laser-cvae",
    title="Laser CVAE",
    summary="Find lasers and LEDs that age abnormally for their condition, and predict which will fail.",
    field="reliability",
    data="life tests, a row a reading: CSV, Parquet",
    papers=(
        Paper(
            title="Degradation Prediction of Semiconductor Lasers using Conditional Variational Autoencoder",
            year=2022,
            arxiv="2211.02847",
        ),
        Paper(
            title="A Machine Learning-based Framework for Predictive Maintenance of Semiconductor Laser for "
            "Optical Communication",
            year=2022,
            arxiv="2211.02842",
        ),
    ),
    tasks=(
        TaskSpec(
            name="ageing",
            config="appliedpapers.plugins.laser_cvae.config:LaserConfig",
            datasets="appliedpapers.plugins.laser_cvae.data:DATASETS",
            model="appliedpapers.plugins.laser_cvae.model:LaserCvae",
            evaluation="appliedpapers.plugins.laser_cvae.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightning_fabric", "sklearn"),
    extra="applied-papers[laser-cvae]",
    advice=(
        "p_value answers whether a device is abnormal for its own condition, p_cross whether it will fail "
        "before the test ends: in a harsh condition a device may be normal, and still certain to fail.",
        "With fewer than 60 devices the forecast starts from the simulator's physics; see forecast.prior.",
    ),
)

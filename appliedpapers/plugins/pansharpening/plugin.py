"""Hyperspectral pansharpening: rho-PNN (arXiv 2505.16658) and R-PNN (arXiv 2311.06510)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="pansharpening",
    title="rho-PNN",
    summary="Sharpen hyperspectral scenes with a panchromatic band, without ground truth.",
    papers=(
        Paper(
            title=(
                "Zero-Shot Hyperspectral Pansharpening Using Hysteresis-Based Tuning "
                "for Spectral Quality Control"
            ),
            year=2025,
            arxiv="2505.16658",
        ),
        Paper(
            title="Band-wise Hyperspectral Image Pansharpening using CNN Model Propagation",
            year=2023,
            arxiv="2311.06510",
        ),
    ),
    tasks=(
        TaskSpec(
            name="sharpening",
            config="appliedpapers.plugins.pansharpening.config:PansharpeningConfig",
            datasets="appliedpapers.plugins.pansharpening.data:DATASETS",
            model="appliedpapers.plugins.pansharpening.model:Pansharpener",
            evaluation="appliedpapers.plugins.pansharpening.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "rasterio", "scipy"),
    extra="applied-papers[pansharpening]",
)

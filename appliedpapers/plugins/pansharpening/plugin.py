"""Hyperspectral pansharpening: rho-PNN (arXiv 2505.16658) and R-PNN (arXiv 2311.06510)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="pansharpening",
    title="rho-PNN",
    summary="Sharpen hyperspectral scenes with a panchromatic band, without ground truth.",
    field="remote sensing",
    data="pairs of rasters: GeoTIFF, ENVI, PRISMA, EnMAP, Hyperion",
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
    advice=(
        "gsa or mtf-glp-fs (--set method=gsa): seconds; as good as anything while the panchromatic band",
        "sees what the bands see. Add --set consistency=1 to keep their spectra to what the sensor saw.",
        "rho-pnn: minutes to hours; for real pairs whose panchromatic band covers a part of the spectrum.",
        "r-pnn: about half the time of rho-pnn, without a spectral target for each band.",
    ),
)

"""volatility-images: short-term volatility from images of order flow (after arXiv 2304.02472)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="volatility-images",
    title="Volatility from order-flow images",
    summary="Forecast the next minute's realised volatility from an order book and trades.",
    field="finance",
    data="order books and trades: captures, frames, TAQ; streams",
    papers=(
        Paper(
            title="Learning to Predict Short-Term Volatility with Order Flow Image Representation",
            year=2023,
            arxiv="2304.02472",
        ),
    ),
    tasks=(
        TaskSpec(
            name="volatility",
            config="appliedpapers.plugins.volatility_images.config:VolatilityConfig",
            datasets="appliedpapers.plugins.volatility_images.data:DATASETS",
            model="appliedpapers.plugins.volatility_images.model:VolatilityForecaster",
            evaluation="appliedpapers.plugins.volatility_images.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightning_fabric", "lightgbm", "arch", "numba"),
    extra="applied-papers[volatility-images]",
    advice=(
        "Read QLIKE, never RMSPE alone: forecasting zero scores an RMSPE of exactly 1, and a constant beats",
        "most published figures. Every table shows both of them.",
        "cnn with features (default): starts from a linear forecast; the report says whether images help.",
        "log-har+flow in the table needs no image and no training to speak of: look at it first.",
    ),
)

"""AgroSense (arXiv 2509.01344) and nitrogen by light (arXiv 2107.02355): crops and nitrogen from soil."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

_HERE = "appliedpapers.plugins.agrosense"

PLUGIN = PluginSpec(
    id="agrosense",
    title="AgroSense",
    summary="Advise on crops, fertiliser and nitrogen from soil tests, spectra and photos of soil.",
    field="agriculture",
    data="tables, spectra and photos: CSV, XLSX, images",
    papers=(
        Paper(
            title="AgroSense: An Integrated Deep Learning System for Crop Recommendation via Soil Image "
            "Analysis and Nutrient Profiling",
            year=2025,
            arxiv="2509.01344",
        ),
        Paper(
            title="Prediction of Total Nitrogen of Soil by UAV Imaging and Laser-Induced Breakdown "
            "Spectroscopy",
            year=2021,
            arxiv="2107.02355",
        ),
    ),
    tasks=(
        TaskSpec(
            name="soil-image",
            config=f"{_HERE}.soil_image.config:SoilImageConfig",
            datasets=f"{_HERE}.soil_image.data:DATASETS",
            model=f"{_HERE}.soil_image.model:SoilClassifier",
            evaluation=f"{_HERE}.soil_image.evaluation:EVALUATION",
        ),
        TaskSpec(
            name="crop",
            config=f"{_HERE}.crop.config:CropConfig",
            datasets=f"{_HERE}.crop.data:DATASETS",
            model=f"{_HERE}.crop.model:CropRecommender",
            evaluation=f"{_HERE}.crop.evaluation:EVALUATION",
        ),
        TaskSpec(
            name="nitrogen",
            config=f"{_HERE}.nitrogen.config:NitrogenConfig",
            datasets=f"{_HERE}.nitrogen.data:DATASETS",
            model=f"{_HERE}.nitrogen.model:NitrogenModel",
            evaluation=f"{_HERE}.nitrogen.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightgbm", "xgboost", "sklearn", "PIL"),
    extra="applied-papers[agrosense]",
    advice=(
        "Say the unit in the header, such as 'P (mg/kg)': without units no fertiliser is recommended.",
        "Name the farm or the site of each row (--group-column): fields of one farm on both sides of a split",
        "make any figure too good. apps data audit agrosense --data FILE looks for that and more.",
        "A row outside what was learned from gets a warning and no advice; it is not forced into a crop.",
    ),
)

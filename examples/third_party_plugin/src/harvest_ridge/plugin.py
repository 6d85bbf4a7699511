"""The front door of Harvest ridge; it is read by ``apps list`` and imports nothing heavy."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="harvest-ridge",
    title="Harvest ridge",
    summary="Predict the harvest of a plot with ridge regression.",
    field="agriculture",
    data="a table, a row a plot: CSV, Parquet",
    papers=(
        Paper(
            title="Ridge Regression: Biased Estimation for Nonorthogonal Problems",
            year=1970,
            doi="10.1080/00401706.1970.10488634",
        ),
    ),
    tasks=(
        TaskSpec(
            name="regression",
            config="harvest_ridge.config:Config",
            datasets="harvest_ridge.data:DATASETS",
            model="harvest_ridge.model:HarvestModel",
            evaluation="harvest_ridge.evaluation:EVALUATION",
        ),
    ),
)

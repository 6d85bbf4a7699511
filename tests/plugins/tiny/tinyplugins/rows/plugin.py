"""Front door of tiny-rows."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="tiny-rows",
    title="Tiny rows",
    summary="Predict a number for each row with ridge regression.",
    papers=(Paper(title="Ridge Regression", year=1970, doi="10.1080/00401706.1970.10488634"),),
    tasks=(
        TaskSpec(
            name="regression",
            config="tinyplugins.rows.config:RowsConfig",
            datasets="tinyplugins.rows.data:DATASETS",
            model="tinyplugins.rows.model:RowsModel",
            evaluation="tinyplugins.rows.evaluation:EVALUATION",
        ),
    ),
)

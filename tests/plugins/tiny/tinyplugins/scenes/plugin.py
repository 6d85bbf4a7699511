"""Front door of tiny-scenes."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="tiny-scenes",
    title="Tiny scenes",
    summary="Estimate a level for each scene and write a smoothed map of it.",
    papers=(Paper(title="Ridge Regression", year=1970, doi="10.1080/00401706.1970.10488634"),),
    tasks=(
        TaskSpec(
            name="mapping",
            config="tinyplugins.scenes.config:ScenesConfig",
            datasets="tinyplugins.scenes.data:DATASETS",
            model="tinyplugins.scenes.model:ScenesModel",
            evaluation="tinyplugins.scenes.evaluation:EVALUATION",
        ),
    ),
)

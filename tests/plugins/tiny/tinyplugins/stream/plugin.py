"""Front door of tiny-stream."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="tiny-stream",
    title="Tiny stream",
    summary="Remove the noise of a sensor, sample by sample.",
    papers=(Paper(title="Control Chart Tests Based on Geometric Moving Averages", year=1959),),
    tasks=(
        TaskSpec(
            name="filtering",
            config="tinyplugins.stream.config:StreamConfig",
            datasets="tinyplugins.stream.data:DATASETS",
            model="tinyplugins.stream.model:StreamModel",
            evaluation="tinyplugins.stream.evaluation:EVALUATION",
        ),
    ),
)

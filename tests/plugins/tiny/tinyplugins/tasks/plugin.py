"""Front door of tiny-tasks."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="tiny-tasks",
    title="Tiny tasks",
    summary="Read a concentration from a spectrum, or forecast short series.",
    papers=(Paper(title="Ridge Regression", year=1970, doi="10.1080/00401706.1970.10488634"),),
    tasks=(
        TaskSpec(
            name="spectrum",
            config="tinyplugins.tasks.config:SpectrumConfig",
            datasets="tinyplugins.tasks.data:SPECTRA",
            model="tinyplugins.tasks.spectrum:SpectrumModel",
            evaluation="tinyplugins.tasks.evaluation:SPECTRUM",
        ),
        TaskSpec(
            name="ahead",
            config="tinyplugins.tasks.config:AheadConfig",
            datasets="tinyplugins.tasks.data:SERIES",
            model="tinyplugins.tasks.ahead:AheadModel",
            evaluation="tinyplugins.tasks.evaluation:AHEAD",
        ),
    ),
)

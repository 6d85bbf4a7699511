"""Every plugin that has a head takes the shared modules by name, without a change of its code."""

from __future__ import annotations

import pytest

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import TaskConfig, option_paths, resolve
from appliedpapers.core.conformance.subject import Subject, require_equal
from appliedpapers.core.errors import ConfigError

HEADS = (
    "mlp",
    "kan(grid=3, hidden=[8])",
    "fan",
    "grkan",
    "glu(hidden_features=8)",
    "resmlp(hidden=8, depth=1)",
    "fff(depth=2)",
)
# what makes a fit take a second or two
REDUCED = {
    "frets": ("data.simulator.steps=1200", "data.simulator.series=2", "training.epochs=1"),
    "finalmlp": ("data.simulator.rows=2000", "training.epochs=1"),
    "volatility-images": (
        "data.simulator={sessions: 2, seconds: 900}",
        "data.window=20",
        "data.windows=[20, 60, 120]",
        "image={seconds: 20, rows: 16}",
        "training.epochs=1",
    ),
}
# options that take a module by name; the second stream of FinalMLP is as the first
TAKERS = ("head", "stream1.block")


def tasks_with_a_head() -> list[tuple[str, str, str]]:
    """Return plugin, task and option path of every head."""
    found = []
    for item in plugins.discover():
        if item.spec is None or plugins.BUILT_IN_DISTRIBUTION not in item.distributions:
            continue
        for task in item.spec.tasks:
            config: type[TaskConfig] = task.load("config")
            paths = [path for path in option_paths(config) if path.endswith(TAKERS)]
            found += [(item.id, task.name, path) for path in paths]
    return found


TASKS = tasks_with_a_head()


@pytest.fixture(autouse=True)
def some_of_the_network_is_kept(monkeypatch):
    # imu-attitude stores no network that adds nothing, and so little training hardly does
    monkeypatch.setattr("appliedpapers.plugins.imu_attitude.residual_choice._choose", lambda errors: 0.5)


def test_at_least_one_plugin_takes_heads_by_name():
    assert ("frets", "forecasting", "model.head") in TASKS
    assert ("finalmlp", "binary-classification", "model.stream1.block") in TASKS


@pytest.mark.parametrize(("plugin", "task", "path"), TASKS)
def test_an_unknown_head_is_refused_with_the_nearest_name(plugin, task, path):
    config = plugins.find(plugin).task(task).load("config")
    with pytest.raises(ConfigError, match="did you mean 'kan'"):
        resolve(config, preset="quick", assignments=[f"{path}=kaan"])
    with pytest.raises(ConfigError, match="cannot be a head"):
        resolve(config, preset="quick", assignments=[f"{path}=snake"])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("plugin", "task", "path"), TASKS)
def test_every_head_fits_predicts_and_survives_a_bundle(plugin, task, path, head, tmp_path):
    spec = plugins.find(plugin)
    subject = Subject(spec, spec.task(task), tmp_path)
    settings = [f"{path}={head}", *REDUCED.get(plugin, ())]
    config: type[TaskConfig] = subject.task.load("config")
    preset = "check" if "check" in config.presets else "quick"
    subject.config = resolve(config, preset=preset, assignments=settings)
    assert subject.prediction.num_rows > 0
    require_equal(subject.predict(subject.example, subject.reload()), subject.prediction, head)
    weights = [path for path in subject.bundle.rglob("*.safetensors") if path.stat().st_size]
    assert weights

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliedpapers.core import plugin as plugins
from appliedpapers.core.errors import ConfigError, PluginError
from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

HEADER = """
from appliedpapers.core.plugin import PluginSpec, TaskSpec
T = TaskSpec('t', 'a:b', 'a:b', 'a:b', 'a:b')
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install distributions, each with one plugin, into a folder on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def one(plugin_id: str, body: str, *, distribution: str | None = None):
        distribution = distribution or f"dist-{plugin_id}"
        module = f"mod_{distribution}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(HEADER + body)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{plugin_id} = {module}:PLUGIN\n")

    yield one
    for name in [name for name in sys.modules if name.startswith("mod_")]:
        del sys.modules[name]


def found(plugin_id: str) -> plugins.Found:
    return next(item for item in plugins.discover() if item.id == plugin_id)


def spec(plugin_id: str, more: str = "") -> str:
    return f"PLUGIN = PluginSpec('{plugin_id}', 'T', 'S.', (), (T,){more})\n"


def test_a_plugin_is_found_by_its_entry_point(install):
    install("good", spec("good"))
    assert found("good").state == "ok"
    assert found("good").distributions == ("dist-good",)
    assert plugins.find("good").title == "T"


@pytest.mark.parametrize(
    ("body", "state", "reason"),
    [
        (spec("x", ", requires=('absent_module',), extra='dist[x]'"), "missing-extra", "needs absent_module"),
        (spec("x", ", requires=('absent_module.part',)"), "missing-extra", "needs absent_module.part"),
        (spec("x", ", api_version=99"), "incompatible", "written for api_version 99, this is 1"),
        (spec("other"), "broken", "entry point 'x' but PluginSpec.id 'other'"),
        ("PLUGIN = 3\n", "broken", "expected a PluginSpec, found int"),
        ("raise RuntimeError('boom')\n", "broken", "RuntimeError: boom"),
        ("import sys; sys.exit(3)\n", "broken", "SystemExit: 3"),
        ("import absent_module\n", "broken", "No module named 'absent_module'"),
        ("def f(:\n", "broken", "SyntaxError"),
        ("PLUGINS = 1\n", "broken", "AttributeError"),
        ("PLUGIN = PluginSpec('x', 'T', 'S.', (), ())\n", "broken", "tasks must be there"),
        ("PLUGIN = PluginSpec('x', 'T', 'S.', (), (T, T))\n", "broken", "differ in name"),
    ],
)
def test_a_defective_plugin_has_a_state_and_a_reason_and_breaks_no_other(install, body, state, reason):
    install("x", body)
    install("good", spec("good"))
    item = found("x")
    assert item.state == state
    assert reason in item.reason
    assert found("good").state == "ok"
    with pytest.raises(PluginError, match=f"x is {state}") as caught:
        plugins.find("x")
    assert caught.value.hint
    if "extra=" in body:
        assert caught.value.hint == 'pip install "dist[x]"'


def test_two_distributions_that_claim_one_id_are_both_named(install):
    install("x", spec("x"), distribution="first")
    install("x", spec("x"), distribution="second")
    assert found("x").state == "broken"
    assert found("x").distributions == ("first", "second")
    assert "first and second" in found("x").reason


def test_a_distribution_that_lies_twice_on_the_path_is_one(install, tmp_path, monkeypatch):
    install("x", spec("x"))
    monkeypatch.syspath_prepend(str(tmp_path / "." / ""))
    monkeypatch.syspath_prepend(str(tmp_path / ".." / tmp_path.name))
    assert found("x").state == "ok"


def test_apps_plugins_restricts_what_is_loaded(install, monkeypatch):
    install("x", "raise RuntimeError('must not be imported')\n")
    install("good", spec("good"))
    monkeypatch.setenv("APPS_PLUGINS", " good , tiny-rows,")
    assert [item.id for item in plugins.discover()] == ["good", "tiny-rows"]
    assert "mod_dist_x" not in sys.modules


def test_an_unknown_plugin_gets_a_suggestion():
    with pytest.raises(PluginError, match="no plugin is called 'tiny-row'") as caught:
        plugins.find("tiny-row")
    assert caught.value.hint == "Did you mean 'tiny-rows'?"


def test_task_is_chosen_by_name_or_by_being_the_only_one():
    one, two = (TaskSpec(name, "a:b", "a:b", "a:b", "a:b") for name in ("crop", "soil"))
    single = PluginSpec("p", "P", "S.", (), (one,))
    double = PluginSpec("p", "P", "S.", (), (one, two))
    assert single.task() is one
    assert double.task("soil") is two
    assert single.registered_name(one) == "apps.p"
    assert double.registered_name(two) == "apps.p.soil"
    with pytest.raises(ConfigError, match="several tasks") as caught:
        double.task()
    assert "crop | soil" in caught.value.hint
    with pytest.raises(ConfigError, match="no task 'sol'") as caught:
        double.task("sol")
    assert caught.value.hint == "Did you mean 'soil'?"


@pytest.mark.parametrize("place", ["absent_module:X", "json:absent", "json.absent:X"])
def test_a_part_that_cannot_be_imported_is_named(place):
    task = TaskSpec("t", "a:b", "a:b", place, "a:b")
    with pytest.raises(PluginError, match=f"model of task 't', {place}"):
        task.load("model")


def test_the_address_of_a_paper():
    assert Paper("T", 2023, arxiv="2311.06184").url == "https://arxiv.org/abs/2311.06184"
    assert Paper("T", 2023, doi="10.1/x").url == "https://doi.org/10.1/x"
    assert Paper("T", 2023).url is None


def test_discovery_imports_nothing_heavy():
    program = (
        "import sys; from appliedpapers.core.plugin import discover; discover(); "
        "heavy = {'torch', 'mlflow', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

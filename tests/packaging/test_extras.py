"""A plugin whose extra is not installed is listed with the line that installs it, and harms no other."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from appliedpapers.cli import main
from appliedpapers.core import plugin as plugins

ROOT = Path(__file__).resolve().parents[2]
OURS = {
    found.id: found.spec
    for found in plugins.discover()
    if found.spec and found.spec.tasks[0].config.startswith("appliedpapers.")
}
NEEDED = sorted((plugin, module) for plugin, spec in OURS.items() for module in spec.requires)


def block(monkeypatch, *modules: str) -> None:
    """Let modules be absent, as where their distribution is not installed."""
    find = importlib.util.find_spec

    def without(name, package=None):
        if name.partition(".")[0] in modules:
            return None
        return find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)


def test_all_nine_need_an_extra_of_their_own_name():
    assert len(OURS) == 9
    assert all(spec.requires and spec.extra == f"applied-papers[{plugin}]" for plugin, spec in OURS.items())


@pytest.mark.parametrize(("plugin", "module"), NEEDED)
def test_without_a_module_the_plugin_says_what_installs_it(plugin, module, monkeypatch):
    block(monkeypatch, module)
    states = {found.id: found for found in plugins.discover()}
    assert states[plugin].state == "missing-extra"
    assert module in states[plugin].reason
    with pytest.raises(plugins.PluginError) as caught:
        plugins.find(plugin)
    assert caught.value.hint == f'pip install "applied-papers[{plugin}]"'
    # and no plugin that does without it is touched
    for other, spec in OURS.items():
        assert (states[other].state == "ok") == (module not in spec.requires)


def test_the_list_names_the_line_for_each_plugin(monkeypatch, capsys):
    block(monkeypatch, *{module for spec in OURS.values() for module in spec.requires})
    with pytest.raises(SystemExit) as ended:
        main(["list", "--json"])
    assert not ended.value.code
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert {rows[plugin]["state"] for plugin in OURS} == {"missing-extra"}
    with pytest.raises(SystemExit):
        main(["list"])
    shown = capsys.readouterr().out
    assert all(f"applied-papers[{plugin}]" in shown.replace("\n", "") for plugin in OURS)


# what a module's distribution is called where the names differ
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "openslide": "openslide-python",
    "lightning_fabric": "lightning-fabric",
}


@pytest.mark.parametrize(("plugin", "module"), NEEDED)
def test_the_extra_brings_what_the_plugin_needs(plugin, module):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras, found, due = project["optional-dependencies"], {"applied-papers"}, [plugin]
    while due:
        for text in extras[due.pop()]:
            requirement = Requirement(text)
            if requirement.name == "applied-papers":
                due += requirement.extras
            found.add(requirement.name)
    found |= {Requirement(text).name for text in project["dependencies"]}
    assert DISTRIBUTIONS.get(module, module) in found

"""Every installed plugin keeps every promise of the contract."""

from __future__ import annotations

import pytest

from appliedpapers.core.plugin import PluginSpec, TaskSpec, discover
from appliedpapers.core.testing import CHECKS, Subject, run_check

FOUND = discover()
PLUGINS = [item.spec for item in FOUND if item.state == "ok" and item.spec is not None]
TASKS = [pytest.param((spec, task), id=f"{spec.id}.{task.name}") for spec in PLUGINS for task in spec.tasks]


@pytest.fixture(scope="session", params=TASKS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    spec, task = request.param
    assert isinstance(spec, PluginSpec)
    assert isinstance(task, TaskSpec)
    return Subject(spec, task, tmp_path_factory.mktemp(f"{spec.id}-{task.name}"))


def test_the_tiny_plugins_are_discovered_like_installed_ones():
    assert {"tiny-rows", "tiny-scenes", "tiny-stream", "tiny-tasks"} <= {spec.id for spec in PLUGINS}


def test_no_installed_plugin_is_broken():
    # a broken one would otherwise drop out of this suite without a word
    assert {item.id: item.reason for item in FOUND if item.state in ("broken", "incompatible")} == {}


@pytest.mark.parametrize("check", CHECKS)
def test_plugin_keeps_its_promise(subject: Subject, check: str):
    result = run_check(subject, check)
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.ok, result.detail

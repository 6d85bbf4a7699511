"""Every task of every installed plugin, fitted once for all tests of a session."""

from __future__ import annotations

import pytest

from appliedpapers.core.plugin import PluginSpec, discover
from appliedpapers.core.testing import Subject, subjects

PLUGINS = [item.spec for item in discover() if item.state == "ok" and item.spec is not None]
TASKS = [
    pytest.param((spec, number), id=f"{spec.id}.{task.name}")
    for spec in PLUGINS
    for number, task in enumerate(spec.tasks)
]


@pytest.fixture(scope="session")
def fitted() -> dict[str, list[Subject]]:
    """The subjects of each plugin that was asked for so far, by its id."""
    return {}


@pytest.fixture(scope="session", params=TASKS)
def subject(
    request: pytest.FixtureRequest,
    fitted: dict[str, list[Subject]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Subject:
    """One task of an installed plugin."""
    spec, number = request.param
    assert isinstance(spec, PluginSpec)
    if spec.id not in fitted:
        fitted[spec.id] = subjects(spec, tmp_path_factory.mktemp(spec.id))
    return fitted[spec.id][number]

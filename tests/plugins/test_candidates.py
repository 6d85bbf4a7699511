"""Every plugin with candidates reads them the same way."""

from __future__ import annotations

import pytest

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import resolve

CHANGES = {"frets": "{small: {model: {hidden: 8}}}", "finalmlp": "{small: {model: {dim: 3}}}"}


@pytest.mark.parametrize("plugin", CHANGES)
def test_candidates_are_configurations_of_their_own_without_candidates(plugin):
    task = plugins.find(plugin).task()
    config = resolve(task.load("config"), preset="quick", assignments=[f"candidates={CHANGES[plugin]}"])
    found = task.load("evaluation").variants(config)
    assert list(found) == ["small"]
    assert found["small"].candidates == {}
    assert found["small"].model != config.model
    assert found["small"].training == config.training
    assert task.load("evaluation").variants(found["small"]) == {}

"""Every plugin reads candidates the same way."""

from __future__ import annotations

import pytest

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import resolve

CHANGES = {
    "frets": {"model": {"hidden": 8}},
    "finalmlp": {"model": {"dim": 3}},
    "imu-attitude": {"model": {"kind": "filter"}},
    "pansharpening": {"method": "gsa"},
    "varifocal-net": {"network": {"views": 1}},
    "volatility-images": {"model": {"loss": "log-mse"}},
}


@pytest.mark.parametrize("plugin", CHANGES)
def test_candidates_are_configurations_of_their_own_without_candidates(plugin):
    task = plugins.find(plugin).task()
    quick, change = resolve(task.load("config"), preset="quick"), CHANGES[plugin]
    config = quick.replace(candidates={"other": change})
    found = task.load("evaluation").variants(config)
    assert found == {"other": quick.replace(**change)}
    assert found["other"] != quick
    assert found["other"].candidates == {}
    assert task.load("evaluation").variants(found["other"]) == {}

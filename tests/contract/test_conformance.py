"""Every installed plugin keeps every promise of the contract."""

from __future__ import annotations

import pytest

from appliedpapers.core.plugin import discover
from appliedpapers.core.testing import CHECKS, Subject, run_check

FOUND = discover()


def test_the_tiny_plugins_are_discovered_like_installed_ones():
    usable = {item.id for item in FOUND if item.state == "ok"}
    assert {"tiny-rows", "tiny-scenes", "tiny-stream", "tiny-tasks"} <= usable


def test_no_installed_plugin_is_broken():
    # a broken one would otherwise drop out of this suite without a word
    assert {item.id: item.reason for item in FOUND if item.state in ("broken", "incompatible")} == {}


@pytest.mark.parametrize("check", CHECKS)
def test_plugin_keeps_its_promise(subject: Subject, check: str):
    result = run_check(subject, check)
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.ok, result.detail

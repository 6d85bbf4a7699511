"""Harvest ridge keeps every promise of the contract; the same suite as ``apps check harvest-ridge``."""

from pathlib import Path

import pytest

from appliedpapers.core.testing import CHECKS, check_plugin


@pytest.mark.parametrize("check", CHECKS)
def test_plugin_keeps_the_contract(check: str, tmp_path: Path) -> None:
    """Each check by itself, so that a failure names what broke."""
    for result in check_plugin("harvest-ridge", folder=tmp_path, checks=[check]):
        assert result.ok, result.detail

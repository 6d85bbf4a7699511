"""One small model for all tests of this folder."""

from __future__ import annotations

import pytest
from drawn_slides import check_config, fitted


@pytest.fixture(scope="session")
def inker(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("inker"), check_config())

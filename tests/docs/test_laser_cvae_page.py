"""The page on ageing: its devices can be written, read, and judged as it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.plugins.laser_cvae.answers import HINTS, STATUS
from appliedpapers.plugins.laser_cvae.config import LaserConfig
from appliedpapers.plugins.laser_cvae.data import DATASETS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "laser-cvae.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the devices of the page."""
    place = tmp_path_factory.mktemp("page")
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    subprocess.run([sys.executable, "-c", found[1]], cwd=place, check=True, capture_output=True)
    return place


def test_the_devices_of_the_page_are_read_and_no_device_stands_in_two_parts(folder):
    dataset = DATASETS.from_user(folder / "leds.csv", resolve(LaserConfig))
    assert sum(part.num_rows for part in (dataset.train, dataset.valid, dataset.test)) == 40
    assert leakage_audit(dataset) == []


def test_every_option_that_the_page_names_exists():
    config = resolve(LaserConfig)
    named = re.findall(r"`((?:data|abnormality|forecast|judge)\.[a-z_.]+)(?:=[^`]*)?`", PAGE)
    assert len(named) > 5
    for option in named:
        part = config
        for name in option.split("."):
            assert hasattr(part, name), option
            part = getattr(part, name)


def test_words_of_answers_stand_on_the_page():
    assert all(word in PAGE for word in (*HINTS[1:5], STATUS[1]))

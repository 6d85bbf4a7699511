"""The page on volatility: its feed can be written, audited and streamed, and its tables are the code's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from appliedpapers.plugins.volatility_images.config import BASELINES, DataConfig, ModelConfig
from appliedpapers.plugins.volatility_images.tables import seconds_schema

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "volatility-images.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def ran(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's feed."""
    place = tmp_path_factory.mktemp("page")
    ran(place, "-c", blocks("python")[0])
    return place


def test_the_feed_of_the_page_is_read_and_audited(folder):
    line = next(line for line in PAGE.splitlines() if line.startswith("apps data audit"))
    assert "no leakage found" in ran(folder, "-m", "appliedpapers", *line.split()[1:]).stdout


def test_the_live_snippet_runs(folder):
    ran(folder, "-c", blocks("python")[1])


def test_the_line_that_the_page_streams_is_one_record():
    record = re.search(r"^echo '(\{.*\})' \| apps stream", PAGE, re.MULTILINE)
    assert record is not None
    assert set(json.loads(record[1])) <= set(seconds_schema().names)


def test_formats_and_losses_of_the_page_are_those_of_the_code():
    table = PAGE.partition("## Formats")[2].partition("`auto` tells")[0]
    named = set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) - {"data.format"}
    assert named == set(get_args(DataConfig.model_fields["format"].annotation)) - {"auto"}
    for loss in get_args(ModelConfig.model_fields["loss"].annotation):
        assert f"`{loss}`" in PAGE or f"model.loss={loss}" in PAGE
    assert {"zero", "best-constant", "naive"} <= set(BASELINES)

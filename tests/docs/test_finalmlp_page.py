"""The page on FinalMLP: its log can be written as the page says, and is read as the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "finalmlp.md").read_text(encoding="utf-8")


def ran(folder: Path, *words: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page")
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    ran(place, "-c", code[1])
    return place


def test_the_roles_that_the_page_shows_are_those_that_are_guessed(folder):
    shown = re.search(r"```text\n( impressions\.csv .*?)```", PAGE, re.DOTALL)
    assert shown is not None
    words = ("data", "describe", "--data", "impressions.csv", "--write", "roles.yaml")
    said = ran(folder, "-m", "appliedpapers", *words)
    assert [line.split() for line in said.splitlines()] == [line.split() for line in shown[1].splitlines()]


def test_the_corrections_that_the_page_shows_are_understood(folder):
    fields = re.search(r"```text\n(    age: .*?)```", PAGE, re.DOTALL)
    assert fields is not None
    words = ("data", "describe", "--data", "impressions.csv", "--write", "guessed.yaml")
    ran(folder, "-m", "appliedpapers", *words)
    roles = yaml.safe_load((folder / "guessed.yaml").read_text())["data"]["fields"]
    corrected = {"data": {"fields": roles | yaml.safe_load(fields[1])}}
    (folder / "corrected.yaml").write_text(yaml.safe_dump(corrected))
    words = ("data", "audit", "finalmlp", "--data", "impressions.csv", "--config", "corrected.yaml")
    assert "no leakage found" in ran(folder, "-m", "appliedpapers", *words)


def test_rows_to_score_have_no_label(folder):
    assert "click" not in (folder / "tonight.csv").read_text().splitlines()[0]

"""The page on soil: its fields and photos can be written, audited, learned and answered for as it says."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from appliedpapers.plugins.agrosense.soils import SOILS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "agrosense.md").read_text(encoding="utf-8")


def command(beginning: str) -> str:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(beginning)]
    return line


def ran(folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def apps(folder: Path, line: str) -> str:
    return ran(folder, "-m", "appliedpapers", *line.split()[1:])


def trained(folder: Path, line: str) -> Path:
    """Return the bundle of a run that is as short as can be."""
    before = set(folder.glob("runs/*/model"))
    apps(folder, f"{line} --preset check --no-register")
    (bundle,) = set(folder.glob("runs/*/model")) - before
    return bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page's script writes."""
    place = tmp_path_factory.mktemp("page")
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    ran(place, "-c", found[1])
    return place


def test_the_audits_of_the_page_pass(folder):
    assert "no leakage found" in apps(folder, command("apps data audit agrosense --task crop"))
    assert "no leakage found" in apps(folder, command("apps data audit agrosense --task soil-image"))


@pytest.mark.slow
def test_fields_are_learned_from_and_answered_for(folder):
    line = command("apps run agrosense --task crop --data fields.csv")
    bundle = trained(folder, f"{line} --set data.folds=2 --set model.family=lightgbm")
    apps(folder, command("apps predict agrosense.crop").replace("agrosense.crop@champion", str(bundle)))
    with (folder / "advice.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    table = re.search(r"<!-- generated: agrosense-crop-output -->(.*?)<!-- end", PAGE, re.DOTALL)
    assert table is not None
    assert list(rows[0]) == re.findall(r"^\| (\w+) \|", table[1], re.MULTILINE)[1:]
    assert len(rows) == 5


@pytest.mark.slow
def test_photos_are_learned_from_and_answered_for_with_a_picture(folder):
    line = command("apps run agrosense --task soil-image --data photos")
    bundle = trained(folder, f"{line} --set data.folds=2")
    line = command("apps predict agrosense.soil-image").replace("agrosense.soil-image@champion", str(bundle))
    apps(folder, line)
    with (folder / "soils.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    told = {Path(row["photo"]).stem: row for row in rows}
    assert not told.pop("leaf")["soil"]
    assert {row["soil"] for row in told.values()} <= {*SOILS, ""}
    drawn = [row["occlusion_path"] for row in told.values() if row["occlusion_path"]]
    assert drawn
    with Image.open(folder / "maps" / drawn[0]) as image:
        assert image.size == (192, 192)

"""The page on attitude: its recordings can be written, tested, compared and answered for as it says."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from appliedpapers.plugins.imu_attitude.answers import FLAGS
from appliedpapers.plugins.imu_attitude.config import DataConfig, ModelConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "imu-attitude.md").read_text(encoding="utf-8")
# one rival shows as much as ten
SHORTER = {"--set model.kind=filter": "--set model.kind=filter --set baselines=[mean-5s] --no-register"}


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def command(beginning: str) -> str:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(beginning)]
    for text, other in SHORTER.items():
        line = line.replace(text, other)
    return line


def ran(folder: Path, *words: str, code: int = 0, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "150"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def apps(folder: Path, line: str, **more) -> subprocess.CompletedProcess[str]:
    return ran(folder, "-m", "appliedpapers", *line.split()[1:], **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's recordings and its ``imu.yaml``."""
    place = tmp_path_factory.mktemp("page")
    ran(place, "-c", block("python"))
    (place / "imu.yaml").write_text(block("yaml"))
    return place


def test_the_recordings_of_the_page_pass_and_a_wrong_unit_is_named_in_its_words(folder):
    audit = command("apps data audit")
    assert "no leakage found" in apps(folder, audit).stdout
    wrong = apps(folder, f"{audit} --set data.gyr_unit=rad/s", code=4)
    assert wrong.stderr.strip() == block("text").strip()


@pytest.mark.slow
def test_a_bundle_answers_for_a_file_and_for_a_stream_alike(folder):
    apps(folder, command("apps run imu-attitude --data"))
    (bundle,) = folder.glob("runs/*/model")
    apps(folder, command("apps predict").replace("imu-attitude@champion", str(bundle)))
    with (folder / "attitude.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = re.search(r"<!-- generated: imu-attitude-output -->(.*?)<!-- end", PAGE, re.DOTALL)
    assert table is not None
    assert re.findall(r"^\| (\w+) \|", table[1], re.MULTILINE)[1:] == list(rows[0])
    with (folder / "logs" / "swing-5.csv").open() as file:
        few = list(csv.DictReader(file))[:50]
    names = {f"{kind}_{axis}": f"{kind[0]}{axis}" for kind in ("acc", "gyr") for axis in "xyz"}
    lines = [
        json.dumps({"time": float(row["ms"]) / 1000} | {ours: float(row[own]) for ours, own in names.items()})
        for row in few
    ]
    streamed = ran(folder, "-m", "appliedpapers", "stream", str(bundle), text="\n".join(lines) + "\n").stdout
    answers = [json.loads(line) for line in streamed.splitlines()]
    assert len(answers) == 50
    for answer, row in zip(answers, rows, strict=False):
        assert answer["heading_observable"] is False
        for name in ("up_x", "up_y", "up_z", "inclination_sd"):
            assert answer[name] == pytest.approx(float(row[name]), abs=1e-9)


def test_the_line_that_the_page_streams_is_one_record():
    record = re.search(r"^echo '(\{.*\})' \| apps stream", PAGE, re.MULTILINE)
    assert record is not None
    assert set(json.loads(record[1])) == {"time"} | {f"{k}_{a}" for k in ("acc", "gyr") for a in "xyz"}


def test_units_and_estimators_of_the_page_are_those_of_the_code():
    units = PAGE.partition("## Units, signs, frames")[2].partition("\n## ")[0]
    for option in ("acc_unit", "gyr_unit", "acc_sign", "frame", "quat_order", "time_unit"):
        (row,) = re.findall(rf"^\| `data\.{option}` \| (.*?) \|", units, re.MULTILINE)
        kinds = get_args(DataConfig.model_fields[option].annotation)
        assert tuple(re.findall(r"`([^`]+)`", row)) == kinds
    table = PAGE.partition("## Which estimator")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert named - {"model"} == set(get_args(ModelConfig.model_fields["kind"].annotation))
    for flag in FLAGS:
        assert f"`{flag}`" in units


def test_the_table_of_trials_is_the_one_that_was_measured():
    measured = json.loads((ROOT / "docs" / "results" / "imu_attitude_trials.json").read_text())
    rows = {
        "filter": "filter",
        "filter, delay": "filter-delay",
        "default: with network": "default",
        "VQF": "vqf",
        "VQF, delay": "vqf-delay-alone",
        "VQF, delay and sampling": "vqf-delay",
        "mean of 10 s": "corrected-mean-10s",
    }
    head = next(line for line in PAGE.splitlines() if line.startswith("| | 01 |"))
    trials = [cell.strip() for cell in head.strip("|").split("|")][1:-2]
    for title, name in rows.items():
        errors, means = measured["errors"][name], measured["means"][name]
        figures = [*(errors[trial] for trial in trials), means["train"], means["test"]]
        assert f"| {title} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |" in PAGE

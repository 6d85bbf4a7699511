"""The Python of the page about the API, executed in its order in one folder, and what it left behind."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

import appliedpapers as ap

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- not run: [^\n]* -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# smaller than the page says: one baseline and one epoch show that a line works
_SMALL = '"baselines=[last-value]", "training.epochs=1"'
SHORTER = {
    '"model.horizon=12"': f'"model.horizon=12", {_SMALL}',
    'seeds=1, preset="quick"': f'seeds=1, preset="quick", assignments=({_SMALL})',
}
JOBS = """\
jobs:
  nightly:
    score: {model: frets@champion, input: frets-sample.csv, output: scores}
    cron: "30 2 * * *"
"""


def in_folder(folder: Path, *words: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment = kept | {"APPS_PLUGINS": "frets", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_files(folder: Path) -> None:
    """Write what the page takes for granted: the reader's load, a sample, its labels, and jobs."""
    hours = np.arange(24 * 28)
    noise = np.random.default_rng(7).normal(0, 0.5, len(hours))
    values = 20 + 5 * np.sin(hours / 24 * 2 * np.pi) + noise
    stamps = np.datetime64("2024-01-01T00:00") + hours.astype("m8[h]")
    rows = [
        f"{str(stamp).replace('T', ' ')},{value:.2f}" for stamp, value in zip(stamps, values, strict=True)
    ]
    (folder / "load.csv").write_text("\n".join(["date,north", *rows, ""]))
    (folder / "jobs.yaml").write_text(JOBS)
    in_folder(folder, "-m", "appliedpapers", "config", "init", "frets", "--preset", "quick")
    last: dict[str, datetime] = {}
    for row in pyarrow.csv.read_csv(folder / "frets-sample.csv").to_pylist():
        last[row["unique_id"]] = max(row["ds"], last.get(row["unique_id"], row["ds"]))
    labels = [
        f"{name},{(moment + timedelta(hours=step)).isoformat()},{step}.5"
        for name, moment in last.items()
        for step in range(1, 13)
    ]
    (folder / "actuals.csv").write_text("\n".join(["unique_id,ds,y", *labels, ""]))


@pytest.mark.slow
def test_the_python_of_the_page_works_as_it_stands(tmp_path):
    write_files(tmp_path)
    blocks = [code for mark, code in BLOCK.findall(PAGE) if not mark]
    assert len(blocks) == PAGE.count("```python") - 2
    program = "\n".join(blocks)
    for text, longer in SHORTER.items():
        assert program.count(text) == 1
        program = program.replace(text, longer)
    said = in_folder(tmp_path, "-c", program).splitlines()
    assert said[0].startswith("True ('--set', 'data.columns.ds=date')")
    assert any(line.endswith("report.html") for line in said)
    assert any("'y_hat'" in line for line in said)
    assert any("'joined': 12" in line and "'mse'" in line for line in said)
    assert "apps.frets 1 1" in said
    assert any(line.startswith("Registered(") and "version=1" in line for line in said)
    assert any(line.endswith("()") and "comparison" in line for line in said)
    assert any(line.startswith("added 20") for line in said)
    assert len(list(tmp_path.glob("scores/predictions.parquet/*.parquet"))) == 1


def test_every_name_of_the_api_is_there_documented_and_in_order():
    assert ap.__all__ == sorted(ap.__all__, key=lambda name: (name.islower(), name))
    for name in ap.__all__:
        assert (getattr(ap, name).__doc__ or "").strip(), name


def test_the_map_of_commands_names_what_exists():
    for kind, target in re.findall(r":(func|mod):`([\w.]+)`", ap.__doc__):
        if kind == "mod":
            importlib.import_module(target)
        elif "." in target:
            module, _, name = target.rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))
        else:
            assert target in ap.__all__

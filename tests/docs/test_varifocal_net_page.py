"""The page on chromosomes: its cells can be written, audited, answered for and corrected as it says."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.plugins.varifocal_net import delivery, scoring
from appliedpapers.plugins.varifocal_net.assignment import CellCosts, Penalties, assign
from appliedpapers.plugins.varifocal_net.blend import Blend
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, Chromosomes
from appliedpapers.plugins.varifocal_net.config import Dispatch, KaryotypeConfig, NetworkConfig, StepsConfig
from appliedpapers.plugins.varifocal_net.dispatch import counts_of, paper_dispatch
from appliedpapers.plugins.varifocal_net.karyotype import FEWEST_WHOLE, MOST_WHOLE
from appliedpapers.plugins.varifocal_net.model import ChromosomeClassifier
from appliedpapers.plugins.varifocal_net.preprocess import FEWEST_FOR_SCALE
from appliedpapers.plugins.varifocal_net.published import published_figures
from appliedpapers.plugins.varifocal_net.steps import new_network, stand_still

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "varifocal-net.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results" / "varifocal-net.json"
CHAMPION = "varifocal-net@champion"
FRACTION = re.compile(r"(?<![\w.,])\d+\.\d+(?![\w.])")


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def section(title: str) -> str:
    found = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    assert found
    return found


def first_cells(text: str) -> list[str]:
    """Return what stands between back quotes in the first cells of the tables of a text."""
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def command(beginning: str, place: int = 0) -> str:
    return [line for line in PAGE.splitlines() if line.startswith(beginning)][place]


def ran(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


def apps(folder: Path, line: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a line of the page with the bundle of the fixture in place of the champion."""
    return ran(folder, "-m", "appliedpapers", *shlex.split(line.replace(CHAMPION, "model"))[1:], code=code)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's cells, and a bundle whose networks were never trained."""
    place = tmp_path_factory.mktemp("page")
    ran(place, "-c", block("python"))
    config = resolve(KaryotypeConfig, preset="check", assignments=["network.answer=joint"])
    model = ChromosomeClassifier(config)
    model.network = new_network(model.config.network, seed=0)
    stand_still(model.network)
    model.blend = Blend(("joint",), (1.0, 1.0), (1.0, 1.0))
    save_bundle(model, place / "model", plugin="varifocal-net", task="karyotype")
    return place


def test_the_cells_of_the_page_are_what_it_says(folder):
    assert apps(folder, command("apps data audit")).stdout.strip() == block("text").strip()


@pytest.mark.slow
def test_cells_become_lists_and_karyograms_and_corrections_are_kept(folder):
    apps(folder, command("apps predict"))
    answers = rows_of(folder / "chromosomes.csv")
    table = re.search(r"<!-- generated: varifocal-net-output -->(.*?)<!-- end", PAGE, re.DOTALL)
    assert table is not None
    assert re.findall(r"^\| (\w+) \|", table[1], re.MULTILINE)[1:] == list(answers[0])
    cases = {row["case"] for row in answers}
    assert {row["case"] for row in rows_of(folder / "karyotypes" / "cases.csv")} == cases
    for kind in ("html", "png"):
        drawn = {path.stem for path in (folder / "karyotypes" / "karyograms").glob(f"*.{kind}")}
        assert drawn == {delivery.file_stem(case) for case in cases}

    path = folder / "karyotypes" / "corrections.csv"
    lines = rows_of(path)
    lines[0]["fixed_type"] = "Y"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    apps(folder, command("apps predict", 1))
    again = {(row["case"], row["chromosome"]): row for row in rows_of(folder / "again.csv")}
    settled = again[lines[0]["case"], lines[0]["chromosome"]]
    assert (settled["type"], settled["needs_review"]) == ("Y", "false")


@pytest.mark.slow
def test_scoring_lays_karyograms_where_the_page_says(folder):
    assert "552 in, 552 out" in apps(folder, command("apps score run")).stdout
    assert len(list(folder.glob("scores/files/*/karyograms/*.html"))) == 12


def test_open_lines_are_not_learned_from(folder):
    """The page says so, and a file without any settled type is refused before anything is trained."""
    path = folder / "open.csv"
    path.write_text(
        "case,chromosome,image,type,probability,needs_review,fixed_type\nA,1,a.png,1,0.9,false,\n"
    )
    (line,) = [line for line in PAGE.splitlines() if "--preset fine-tune" in line]
    refused = apps(folder, line.replace("karyotypes/corrections.csv", path.name), code=4)
    assert "data error" in refused.stderr


def test_files_metrics_steps_and_options_of_the_page_are_those_of_the_code():
    assert {Path(name).name for name in first_cells(section("My own cells")) if name.startswith("karyo")} == {
        delivery.CASES,
        delivery.CORRECTIONS,
        "CASE.html",
        "CASE.png",
    }
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (9, 5), dtype=np.uint8) for _ in range(92)]
    labels = np.tile(np.repeat(np.arange(23, dtype=np.int16), 2), 2)
    labels[0] = 1  # so that one of both cells is aneuploid
    cells = ["a"] * 46 + ["b"] * 46
    chromosomes = Chromosomes(
        images,
        [str(number) for number in range(92)],
        cells,
        cells,
        labels,
        np.arange(92, dtype=np.int8) % 2,
        np.full(92, -1, dtype=np.int16),
    )
    chances = np.full((92, len(TYPES)), 1 / len(TYPES))
    review = KaryotypeConfig().review
    scored = scoring.score(scoring.answers_of(chances, np.full(92, 0.5), chromosomes, review), chromosomes)
    assert set(first_cells(section("How it is judged"))) == set(scored.metrics)

    named = first_cells(section("Networks and steps"))
    steps = {name.removeprefix("steps.") for name in named if name.startswith("steps.")} - {"rotation"}
    assert steps == {
        name for name, field in StepsConfig.model_fields.items() if "Tr" in str(field.annotation)
    }
    options = {name.removeprefix("network.") for name in named if name.startswith("network.")}
    assert options <= set(NetworkConfig.model_fields)
    for dispatch in get_args(Dispatch):
        assert f"`{dispatch}`" in section("Reading a karyotype and its probabilities") or dispatch == "paper"


def test_bounds_and_costs_of_the_page_are_those_of_the_code():
    assert f"fewer than {FEWEST_WHOLE} or more than {MOST_WHOLE} chromosomes in a case" in PAGE
    assert f"each cell of {FEWEST_FOR_SCALE} chromosomes or more" in PAGE.replace("\n", " ").replace(
        "  ", " "
    )
    review = KaryotypeConfig().review
    assert (review.penalty, review.missing, review.threshold) == (4.0, 4.0, 0.9)
    assert "4 nat each" in PAGE
    assert round(1 / review.abnormal_share) == 15
    paper = {row.metric: row.value for row in published_figures("pki3") if row.model == "Varifocal-Net"}
    said = [float(value) / 100 for value in re.findall(r"(\d\d\.\d) %", section("Known limits"))]
    assert said == [
        pytest.approx(paper[metric])
        for metric in ("type_accuracy", "polarity_accuracy", "case_accuracy_dispatch")
    ]


def test_algorithm_1_flags_most_normal_cells_that_are_read_as_the_page_says():
    assert "94 chromosomes in 100" in PAGE
    draws = np.random.default_rng(0)
    right, flagged, false_alarms = [], [], []
    for _ in range(100):
        sexes = [2, 0] if draws.random() < 0.5 else [1, 1]
        truth = np.repeat(np.arange(24), [2] * 22 + sexes)
        features = draws.normal(size=(46, 24))
        features[np.arange(46), truth] += 3.7
        # the posterior of these features: probabilities are calibrated
        odds = np.exp(3.7 * (features - features.max(axis=1, keepdims=True)))
        chances = odds / odds.sum(axis=1, keepdims=True)
        right.append((chances.argmax(axis=1) == truth).mean())
        flagged.append(scoring.is_aneuploid(counts_of(paper_dispatch(chances))))
        assigned = assign(CellCosts(chances), Penalties(4.0, 4.0)).labels
        false_alarms.append(scoring.is_aneuploid(counts_of(assigned)))
    assert np.mean(right) == pytest.approx(0.94, abs=0.01)
    assert np.mean(flagged) > 0.5
    assert np.mean(false_alarms) < 0.1


def test_what_the_page_says_was_measured_stands_in_the_results():
    """Without the file of results the page quotes no figure; with it, only figures that stand there."""
    written, _, table = section("Measured").partition("<!-- generated")
    quoted = FRACTION.findall(written)
    if not RESULTS.is_file():
        assert not quoted
        assert "Not measured yet" in table
        return
    cases = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"]
    checks = [check for case in cases for check in case["checks"]]
    for check in checks:
        assert f"| {check['what']} | {check['target']} |" in table
    known = [check["measured"] for check in checks if check["measured"] is not None]
    known += [row["value"] for case in cases for run in case.get("runs", {}).values() for row in run["rows"]]
    for figure in quoted:
        digits = len(figure.partition(".")[2])
        assert any(
            round(abs(value) * unit, digits) == float(figure) for value in known for unit in (1, 100)
        ), f"{figure} is not in {RESULTS.name}"

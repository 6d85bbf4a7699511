"""What a scoring run says about rows that are unlike those of training."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tinyplugins.bundles import make_bundle, plots

from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.profile import ColumnDrift
from appliedpapers.core.progress import LineProgress, rate_text
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines import score_work
from appliedpapers.pipelines.run import RunRequest, run
from appliedpapers.pipelines.run_profile import training_profile
from appliedpapers.pipelines.score import score_run
from appliedpapers.pipelines.score_drift import warning_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle that knows its training rows."""
    folder = tmp_path_factory.mktemp("rows")
    model = load_bundle(make_bundle(folder, "tiny-rows"))[0]
    spec = plugins.find("tiny-rows").task(None)
    dataset = spec.load("datasets").simulated(resolve(spec.load("config"), assignments=["data.rows=3000"]))
    save_bundle(
        model,
        folder / "known",
        plugin="tiny-rows",
        task=spec.name,
        dataset=training_profile(dataset, model),
    )
    return str(folder / "known")


def scored(bundle, table, folder, **options):
    write_table(table, folder / "a.parquet")
    return score_run(bundle, [str(folder / "a.parquet")], folder / "out", **options)


def warm(count, seed=3):
    heat = np.random.default_rng(seed).uniform(30, 50, count)
    return plots(count, seed=seed).set_column(1, "heat", pa.array(heat))


def test_rows_like_those_of_training_are_said_to_be_so(bundle, tmp_path):
    summary = scored(bundle, plots(2000, seed=4), tmp_path, batch_rows=500)
    assert {(item["of"], item["column"]) for item in summary.drift} == {
        ("input", "heat"),
        ("input", "moisture"),
        ("input", "soil"),
        ("input", "visits"),
        ("prediction", "harvest"),
    }
    assert all(item["psi"] < 0.1 and item["rows"] == 2000 for item in summary.drift)
    assert not [note for note in summary.notes if "drift" in note]


def test_rows_unlike_those_of_training_are_named_with_their_predictions(bundle, tmp_path):
    summary = scored(bundle, warm(2000), tmp_path, batch_rows=500)
    assert summary.drift[0]["column"] == "heat"
    assert {item["column"] for item in summary.drift if item["psi"] > 0.2} == {"heat", "harvest"}
    warning = next(note for note in summary.notes if note.startswith("drift"))
    assert "input 'heat'" in warning
    assert "prediction 'harvest'" in warning
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["drift"] == list(summary.drift)


def test_drift_is_the_same_from_parts_that_were_kept_and_from_workers(bundle, tmp_path):
    first = scored(bundle, warm(2000), tmp_path, batch_rows=500)
    again = scored(bundle, warm(2000), tmp_path, batch_rows=500)
    assert (again.parts_written, again.drift) == (0, first.drift)
    (tmp_path / "many").mkdir()
    assert scored(bundle, warm(2000), tmp_path / "many", batch_rows=500, workers=2).drift == first.drift


def test_a_bundle_that_does_not_know_its_training_rows_has_no_drift(tmp_path):
    summary = scored(str(make_bundle(tmp_path, "tiny-rows")), warm(2000), tmp_path)
    assert summary.drift == ()


def test_a_run_writes_what_its_training_rows_looked_like_into_the_bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = resolve(plugins.find("tiny-rows").task(None).load("config"), assignments=["data.rows=1000"])
    result = run(RunRequest("tiny-rows", config=config, register=False))
    profile = load_bundle(result.folder / "model")[1].dataset["profile"]
    assert profile["inputs"].keys() == {"heat", "moisture", "soil", "visits"}
    assert profile["predictions"].keys() == {"harvest"}


def test_a_long_list_of_far_columns_is_cut_short():
    drift = [ColumnDrift(f"c{number}", "input", 0.5, 1000) for number in range(9)]
    assert warning_of(drift).endswith("'c4' 0.50 and 4 more")
    assert warning_of([replace(item, psi=0.1) for item in drift]) is None


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz"])
def test_progress_tells_rows_a_second_and_the_time_left_where_a_file_tells_its_length(
    name, bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(score_work, "_FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(score_work, "_SAID_EVERY_S", 0.0)
    write_table(plots(1000), tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    write_table(plots(1000), tmp_path / "a.parquet")
    score_run(bundle, [str(tmp_path / name)], tmp_path / "out", batch_rows=400, progress=LineProgress())
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("score")]
    assert len(lines) == 3
    length = r"(/100\d)? " if name == "a.csv" else "/1000 " if name == "a.parquet" else " "
    left = "" if name == "a.csv.gz" else r" · 0:00:\d\d left"
    assert re.fullmatch(rf"score 400{length}\d+s  [\d,.]+ rows/s{left}", lines[0])


def test_slow_rows_are_counted_in_fractions():
    assert [rate_text(count) for count in (12_345.6, 10, 9.96, 0.0213, 0.0)] == [
        "12,346",
        "10",
        "10",
        "0.021",
        "0",
    ]

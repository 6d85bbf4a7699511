"""Scores held against labels that arrived later."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tinyplugins.bundles import make_bundle, plots, series

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.late import late_scores
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines.score import score_run
from appliedpapers.pipelines.score_evaluate import evaluate_scores


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder of scores of 400 plots."""
    folder = tmp_path_factory.mktemp("rows")
    write_table(plots(400), folder / "a.parquet")
    score_run(
        str(make_bundle(folder, "tiny-rows")), [str(folder / "a.parquet")], folder / "out", batch_rows=150
    )
    return folder / "out"


@pytest.fixture(scope="module")
def predictions(scored):
    return pq.read_table(scored / "predictions.parquet").sort_by("plot")


def labels(predictions, folder, *, off=0.5, rows=slice(None), name="labels.csv"):
    """Write labels that are off by a half, up and down in turn."""
    signs = np.where(np.arange(predictions.num_rows) % 2, off, -off)
    table = pa.table(
        {"plot": predictions.column("plot"), "harvest_seen": predictions.column("harvest").to_numpy() + signs}
    )
    chosen = table.take(np.arange(predictions.num_rows)[rows])
    write_table(chosen, folder / name)
    return [str(folder / name)]


def by_name(found):
    return {row["metric"]: row for row in found.metrics}


def test_errors_are_those_of_the_joined_rows_with_an_interval(scored, predictions, tmp_path):
    found = evaluate_scores(scored, labels(predictions, tmp_path))
    assert (found.prediction, found.label, found.keys) == ("harvest", "harvest_seen", ("plot",))
    metrics = by_name(found)
    assert list(metrics) == ["mse", "rmse", "mae"]
    assert metrics["mse"]["value"] == pytest.approx(0.25)
    assert metrics["rmse"]["value"] == metrics["mae"]["value"] == pytest.approx(0.5)
    assert metrics["mse"]["low"] <= 0.25 + 1e-9
    assert metrics["mse"]["n"] == found.rows["joined"] == 400
    assert found.notes == ()
    assert evaluate_scores(scored, labels(predictions, tmp_path)) == found
    json.dumps(asdict(found), allow_nan=False)


def test_missing_repeated_contradicting_and_broken_labels_are_counted_and_said(scored, predictions, tmp_path):
    (path,) = labels(predictions, tmp_path, rows=slice(0, 300))
    lines = Path(path).read_text().splitlines()
    plot, value = lines[1].split(",")
    extra = [
        lines[2],
        f"{plot},{float(value) + 9}",
        "p9999999,1.0",
        "p0000399,much",
        "p0000398,",
        "p0000397,1,2",
    ]
    Path(path).write_text("\n".join([*lines, *extra]) + "\n")
    found = evaluate_scores(scored, [path])
    assert found.rows == {
        "repeated_labels": 1,
        "contradicting_labels": 1,
        "bad_labels": 2,
        "joined": 299,
        "without_label": 101,
        "without_score": 1,
        "repeated_scores": 0,
    }
    assert len(found.notes) == 5
    assert by_name(found)["mae"]["value"] == pytest.approx(0.5)


def test_keys_that_look_like_numbers_in_a_csv_are_joined_as_what_they_are(tmp_path):
    bundle = str(make_bundle(tmp_path, "tiny-rows"))
    table = plots(20).set_column(0, "plot", [[f"{number:03}" for number in range(20)]])
    write_table(table, tmp_path / "a.parquet")
    score_run(bundle, [str(tmp_path / "a.parquet")], tmp_path / "out")
    (tmp_path / "l.csv").write_text("plot,seen\n" + "".join(f"{number:03},1\n" for number in range(20)))
    assert evaluate_scores(tmp_path / "out", [str(tmp_path / "l.csv")]).rows["joined"] == 20


def test_scores_of_one_key_twice_are_said(scored, predictions, tmp_path):
    bundle = str(make_bundle(tmp_path, "tiny-rows"))
    for name in ("a", "b"):
        write_table(plots(10), tmp_path / f"{name}.parquet")
    score_run(bundle, [str(tmp_path / "*.parquet")], tmp_path / "out")
    found = evaluate_scores(tmp_path / "out", labels(predictions, tmp_path, rows=slice(0, 10)))
    assert (found.rows["joined"], found.rows["repeated_scores"]) == (20, 10)
    assert "repeat a key" in found.notes[0]


def test_rows_of_a_group_are_resampled_together(tmp_path):
    bundle = str(make_bundle(tmp_path, "tiny-tasks", "ahead"))
    write_table(series([8, 8, 8]), tmp_path / "a.parquet")
    score_run(bundle, [str(tmp_path / "a.parquet")], tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    answer = next(name for name in table.column_names if name not in ("series", "step"))
    seen = table.set_column(
        table.column_names.index(answer), "seen", [pa.array(np.arange(float(table.num_rows)))]
    )
    write_table(seen, tmp_path / "l.parquet")
    found = evaluate_scores(tmp_path / "out", [str(tmp_path / "l.parquet")], prediction=answer, label="seen")
    assert found.metrics[0]["metric"] == "mse"
    assert found.rows["joined"] == table.num_rows


def test_what_cannot_be_told_is_asked_for(scored, predictions, tmp_path):
    (path,) = labels(predictions, tmp_path)
    with pytest.raises(ConfigError, match="--label seen") as caught:
        evaluate_scores(scored, [path], label="seen")
    assert "harvest_seen" in caught.value.hint
    with pytest.raises(ConfigError, match="--prediction harvests"):
        evaluate_scores(scored, [path], prediction="harvests")
    with pytest.raises(ConfigError, match="--key field"):
        evaluate_scores(scored, [path], keys=["field"])
    (tmp_path / "two.csv").write_text("plot,a,b\np0000001,1,2\n")
    with pytest.raises(ConfigError, match="which column is the label") as caught:
        evaluate_scores(scored, [str(tmp_path / "two.csv")])
    assert "a, b" in caught.value.hint
    assert evaluate_scores(scored, [str(tmp_path / "two.csv")], label="b").rows["joined"] == 1


def test_labels_that_fit_nothing_and_folders_without_scores_are_data_errors(scored, tmp_path):
    (tmp_path / "l.csv").write_text("plot,seen\nq1,1\n")
    with pytest.raises(DataError, match="no label fits a score"):
        evaluate_scores(scored, [str(tmp_path / "l.csv")])
    (tmp_path / "m.csv").write_text("field,seen\nq1,1\n")
    with pytest.raises(DataError, match="no column in common") as caught:
        evaluate_scores(scored, [str(tmp_path / "m.csv")], label="seen")
    assert "field" in caught.value.hint
    with pytest.raises(DataError, match="no scores"):
        evaluate_scores(tmp_path, [str(tmp_path / "l.csv")])


def test_a_damaged_part_is_not_evaluated(predictions, tmp_path):
    write_table(plots(20), tmp_path / "a.parquet")
    score_run(str(make_bundle(tmp_path, "tiny-rows")), [str(tmp_path / "a.parquet")], tmp_path / "out")
    part = next((tmp_path / "out" / "predictions.parquet").glob("part-*"))
    part.write_bytes(part.read_bytes()[:-5])
    with pytest.raises(DataError, match="not the file that was written"):
        evaluate_scores(tmp_path / "out", labels(predictions, tmp_path))


def test_an_output_folder_of_an_earlier_version_is_evaluated_too(scored, predictions, tmp_path):
    import shutil

    shutil.copytree(scored, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    document = json.loads(path.read_text())
    del document["model"]["output"]
    path.write_text(json.dumps(document))
    given = labels(predictions, tmp_path)
    with pytest.raises(ConfigError, match="which prediction"):
        evaluate_scores(tmp_path / "out", given)
    assert by_name(evaluate_scores(tmp_path / "out", given, prediction="harvest"))["mae"][
        "value"
    ] == pytest.approx(0.5)


def test_probabilities_and_classes_have_metrics_of_their_own():
    chances = pa.chunked_array([[0.9, 0.2, 0.7, 0.4]])
    scored = late_scores(chances, pa.chunked_array([[1, 0, 1, 0]]), probability=True)
    assert scored.metrics["auc"].value == 1
    assert scored.metrics["brier"].value == pytest.approx((0.01 + 0.04 + 0.09 + 0.16) / 4)
    assert late_scores(chances, pa.chunked_array([[1.5, 0, 1, 0]]), probability=True).metrics.keys() == {
        "mse",
        "rmse",
        "mae",
    }
    texts = late_scores(pa.chunked_array([["a", "b", "a"]]), pa.chunked_array([["a", "b", "b"]]))
    assert texts.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert texts.metrics["macro_f1"].value == pytest.approx(2 / 3)

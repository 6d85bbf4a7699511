"""Scores of click probabilities, whole and by slices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from appliedpapers.core import metrics
from appliedpapers.core.bootstrap import interval
from appliedpapers.core.calibration import calibration_line
from appliedpapers.core.features.cut import cut_rows
from appliedpapers.core.features.fields import FieldSpec
from appliedpapers.core.features.rows import TableRows
from appliedpapers.plugins.finalmlp.scoring import (
    DAY,
    ClickPrediction,
    moments_of,
    score_clicks,
    shown_periods,
)
from appliedpapers.plugins.finalmlp.splits import ClickSplit

ROWS = 3000


def split_of(*, days: int = 4, by: str = "split", weight: bool = False, truth: bool = False, gauc="user"):
    """Return a test part whose clicks follow known probabilities."""
    random = np.random.default_rng(0)
    chance = random.beta(1, 3, ROWS)
    moments = np.datetime64("2024-01-01", "us") + (np.arange(ROWS) * days * DAY // ROWS).astype("m8[us]")
    table = pa.table(
        {
            "user": random.integers(0, 60, ROWS).astype(str),
            "time": moments,
            "split": np.where(
                np.arange(ROWS) % 10 == 0, "train", np.where(np.arange(ROWS) % 10 == 1, "valid", "test")
            ),
            "weight": random.uniform(0.5, 2.0, ROWS),
            "click": (random.random(ROWS) < chance).astype(np.int8),
        }
    )
    roles = {"user": "categorical", "time": "timestamp", "split": "split", "click": "label"}
    roles["weight"] = "weight" if weight else "ignore"
    if by == "group":
        roles |= {"user": "group", "split": "ignore", "weight": "numeric"}
    fields = {name: FieldSpec(role=role) for name, role in roles.items()}
    source = TableRows(table)
    method = "group" if by == "group" else "column"
    cut = cut_rows(source, fields, method=method)
    split = ClickSplit(source, fields, cut, "test", chance if truth else None, gauc)
    return split, chance[split.places]


def prediction(chance, unseen=None) -> ClickPrediction:
    blurred = np.clip(chance * 1.3, 0.001, 0.999)
    return ClickPrediction(chance, blurred, np.zeros(chance.size, np.int32) if unseen is None else unseen)


def test_every_metric_is_the_plain_one():
    split, chance = split_of(truth=True)
    said = prediction(np.round(chance, 2).clip(0.01, 0.99))
    values = {name: one.value for name, one in score_clicks(said, split).metrics.items()}
    label = split.labels
    slope, intercept = calibration_line(label, said.probability)
    expected = {
        "auc": metrics.auc(label, said.probability),
        "gauc": metrics.gauc(label, said.probability, split.codes("user")),
        "logloss": metrics.logloss(label, said.probability),
        "brier": metrics.brier(label, said.probability),
        "ece": metrics.ece(label, said.probability, 15, "mass"),
        "uncalibrated_logloss": metrics.logloss(label, said.uncalibrated),
        "uncalibrated_brier": metrics.brier(label, said.uncalibrated),
        "uncalibrated_ece": metrics.ece(label, said.uncalibrated, 15, "mass"),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "true_calibration_error": metrics.true_calibration_error(split.truth, said.probability),
    }
    assert values == pytest.approx(expected, abs=1e-9)


def test_weights_count_in_ranking_and_loss():
    split, chance = split_of(weight=True)
    found = score_clicks(prediction(chance), split).metrics
    assert found["auc"].value == pytest.approx(metrics.auc(split.labels, chance, split.weights))
    assert found["logloss"].value == pytest.approx(metrics.logloss(split.labels, chance, split.weights))
    assert found["auc"].value != pytest.approx(metrics.auc(split.labels, chance), abs=1e-9)


def test_true_probabilities_have_no_true_calibration_error_and_without_truth_there_is_none():
    split, chance = split_of(truth=True)
    assert score_clicks(prediction(chance), split).metrics["true_calibration_error"].value == 0
    split, chance = split_of()
    assert "true_calibration_error" not in score_clicks(prediction(chance), split).metrics
    assert "gauc" not in score_clicks(prediction(chance), split_of(gauc=None)[0]).metrics


def test_slices_name_new_ids_and_days_and_their_metrics_are_of_those_rows():
    split, chance = split_of()
    unseen = (np.arange(chance.size) % 5 == 0).astype(np.int32) * 2
    found = score_clicks(prediction(chance, unseen), split)
    names = [next(iter(labels.items())) for labels, _ in found.slices]
    days = [("day", f"2024-01-0{day}") for day in range(1, 5)]
    assert names == [("ids", "all seen"), ("ids", "some unseen"), *days]
    new = found.slices[1][1]
    assert new["auc"].value == pytest.approx(metrics.auc(split.labels[unseen > 0], chance[unseen > 0]))
    assert new["auc"].count == (unseen > 0).sum()
    first = moments_of(split) // DAY == moments_of(split)[0] // DAY
    assert found.slices[2][1]["logloss"].value == pytest.approx(
        metrics.logloss(split.labels[first], chance[first])
    )


@pytest.mark.parametrize(("rows", "shown"), [(49, False), (60, True)])
def test_a_slice_needs_fifty_rows_of_both_classes(rows, shown):
    split, chance = split_of(days=1)
    unseen = (np.arange(chance.size) < rows).astype(np.int32)
    assert bool(score_clicks(prediction(chance, unseen), split).slices) is shown
    positive = np.where(np.cumsum(split.labels) <= 80, split.labels, 0).astype(np.int32)
    assert score_clicks(prediction(chance, positive), split).slices == ()


def test_days_from_all_over_stand_for_many():
    periods = np.repeat(np.arange(100, 140), 60)
    label = np.tile([0.0, 1.0], 1200).astype(np.float32)
    shown = shown_periods(periods, label, 14)
    assert len(shown) == 14
    assert (shown[0], shown[-1]) == (100, 139)
    assert shown_periods(np.full(2400, -1), label, 14) == []


def test_rows_of_a_group_are_resampled_together_only_when_cut_by_group():
    split, chance = split_of(by="group")
    clusters = score_clicks(prediction(chance), split).clusters
    np.testing.assert_array_equal(clusters, split.codes("user"))
    assert score_clicks(prediction(split_of()[1]), split_of()[0]).clusters is None


def test_intervals_hold_the_value_and_a_constant_prediction_has_no_line():
    split, chance = split_of(truth=True)
    found = score_clicks(prediction(np.clip(chance * 1.2, 0, 0.99)), split).metrics
    for name in ("auc", "logloss", "calibration_slope", "true_calibration_error"):
        low, high = interval(found[name], n_boot=200)
        assert low < found[name].value < high
    flat = score_clicks(prediction(np.full(chance.size, 0.25)), split).metrics
    assert flat["auc"].value == 0.5
    assert "calibration_slope" not in flat


def test_a_prediction_of_other_rows_is_refused():
    split, chance = split_of()
    with pytest.raises(ValueError, match="predictions for"):
        score_clicks(prediction(chance[:-1]), split)

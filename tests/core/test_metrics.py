from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliedpapers.core import metrics as m
from appliedpapers.core.errors import ConfigError

PROMISED = """
mse mae rmse mase smape wape auc gauc logloss brier ece accuracy macro_f1 auprc r2 ergas sam q2n psnr ssim
cc d_lambda d_s d_sr d_rho qnr hqnr f1 recall forecast_mae coverage inclination_rmse rmspe qlike log_rmse
type_accuracy polarity_accuracy case_accuracy_argmax case_accuracy_dispatch case_accuracy_assignment
uncalibrated_logloss uncalibrated_brier uncalibrated_ece true_calibration_error calibration_slope
calibration_intercept tile_auroc region_accuracy region_balanced_accuracy hd95_um
"""

finite = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))
labelled = st.integers(2, 40).flatmap(
    lambda n: st.tuples(hnp.arrays(int, n, elements=st.integers(0, 1)), hnp.arrays(float, n, elements=finite))
)


@pytest.mark.parametrize("name", re.findall(r"\w+", PROMISED))
def test_every_promised_metric_is_registered(name):
    assert m.metric(name).name == name
    assert m.metric(name).description


def test_an_unknown_metric_names_the_closest():
    with pytest.raises(ConfigError) as error:
        m.metric("macrof1")
    assert "macro_f1" in (error.value.hint or "")


def test_a_metric_cannot_change_its_direction():
    with pytest.raises(ValueError, match="already registered"):
        m.register_metric("mse", unit="", higher_is_better=True, description="x")
    assert m.register_metric("mse", unit="", higher_is_better=False, description="x") is m.metric("mse")


def test_forecast_errors_of_a_case_worked_by_hand():
    truth, forecast = [1.0, 2.0, 4.0], [2.0, 2.0, 1.0]
    assert m.mse(truth, forecast) == pytest.approx(10 / 3)
    assert m.rmse(truth, forecast) == pytest.approx(math.sqrt(10 / 3))
    assert m.mae(truth, forecast) == pytest.approx(4 / 3)
    assert m.mase(truth, forecast, 2.0) == pytest.approx(2 / 3)
    assert m.wape(truth, forecast) == pytest.approx(400 / 7)
    assert m.smape(truth, forecast) == pytest.approx(200 * (1 / 3 + 0 + 3 / 5) / 3)
    assert m.r2(truth, forecast) == pytest.approx(1 - 10 / (14 / 3))
    assert m.coverage(truth, [0, 2.5, 4], [1, 3, 4]) == pytest.approx(2 / 3)


def test_undefined_values_are_nan_rather_than_a_flattering_number():
    assert math.isnan(m.r2([1, 1], [1, 1]))
    assert math.isnan(m.wape([0, 0], [1, 1]))
    assert math.isnan(m.auc([1, 1], [0.1, 0.2]))
    assert math.isnan(m.auprc([0, 0], [0.1, 0.2]))
    assert m.smape([0, 0], [0, 0]) == 0


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="shape"):
        m.mse([1, 2], [[1, 2]])
    with pytest.raises(ValueError, match="shape"):
        m.accuracy([1, 2], [1])
    with pytest.raises(ValueError, match="positive scale"):
        m.mase([1], [1], 0.0)
    with pytest.raises(ValueError, match="NaN"):
        m.auc([0, 1], [0.5, float("nan")])


@given(labelled)
def test_auc_is_the_share_of_ordered_pairs(case):
    labels, scores = case
    pairs = [
        (1.0 if p > n else 0.5 if p == n else 0.0) for p in scores[labels == 1] for n in scores[labels == 0]
    ]
    if pairs:
        assert m.auc(labels, scores) == pytest.approx(np.mean(pairs))
    else:
        assert math.isnan(m.auc(labels, scores))


@given(labelled, st.integers(0, 9))
def test_weights_of_auc_and_logloss_act_like_repeated_rows(case, seed):
    labels, scores = case
    times = np.random.default_rng(seed).integers(0, 4, labels.size)
    repeated = np.repeat(labels, times), np.repeat(scores, times)
    if 0 < repeated[0].sum() < repeated[0].size:
        assert m.auc(labels, scores, times) == pytest.approx(m.auc(*repeated), rel=1e-12)
        chances = 1 / (1 + np.exp(-scores / 100))
        expected = m.logloss(repeated[0], np.repeat(chances, times))
        assert m.logloss(labels, chances, times) == pytest.approx(expected)
    elif times.any():
        assert math.isnan(m.auc(labels, scores, times))


@given(labelled)
def test_average_precision_is_the_sum_over_thresholds(case):
    labels, scores = case
    if not labels.any():
        return
    expected, previous = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        found = labels[chosen].sum() / labels.sum()
        expected += (found - previous) * labels[chosen].mean()
        previous = found
    assert m.auprc(labels, scores) == pytest.approx(expected)


def test_gauc_weights_groups_by_rows_and_skips_single_class_groups():
    labels = [1, 0, 1, 0, 0, 1, 1]
    scores = [0.9, 0.1, 0.2, 0.8, 0.1, 0.5, 0.4]
    groups = ["a", "a", "b", "b", "b", "c", "c"]
    assert m.gauc(labels, scores, groups) == pytest.approx((2 * 1.0 + 3 * 0.5) / 5)


def test_probability_scores_of_a_case_worked_by_hand():
    labels, chances = [1, 0, 1], [0.8, 0.4, 0.5]
    assert m.logloss(labels, chances) == pytest.approx(-(math.log(0.8) + math.log(0.6) + math.log(0.5)) / 3)
    assert m.brier(labels, chances) == pytest.approx((0.04 + 0.16 + 0.25) / 3)
    assert m.ece([1, 0, 1, 1], [0.75, 0.75, 0.75, 0.75]) == pytest.approx(0.0)
    assert m.ece([0, 0], [1.0, 1.0]) == pytest.approx(1.0)
    matrix = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    assert m.logloss([0, 1], matrix) == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    assert m.brier([0, 1], matrix) == pytest.approx((0.09 + 0.04 + 0.01 + 0.01 + 0.49 + 0.36) / 2)
    assert m.ece([0, 1], matrix) == pytest.approx((0.3 + 0.6) / 2)
    assert m.logloss([1], [0.0]) == pytest.approx(-math.log(1e-15))


def test_bins_of_equal_mass_share_out_the_sorted_rows():
    assert m.mass_bins([0.9, 0.1, 0.5, 0.3, 0.2], 2).tolist() == [1, 0, 1, 0, 0]
    assert m.mass_bins([0.5, 0.5, 0.5, 0.5], 2).tolist() == [0, 0, 1, 1]
    assert m.mass_bins([0.2, 0.1], 15).tolist() == [1, 0]


def test_calibration_errors_by_equal_mass_of_a_case_worked_by_hand():
    labels, chances = [0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.8]
    by_hand = (abs(0.6 - 1) + abs(1.4 - 2)) / 5
    assert m.ece(labels, chances, bins=2, binning="mass") == pytest.approx(by_hand)
    assert m.ece(labels, chances, bins=2, binning="width") == pytest.approx(by_hand)
    skewed = [0.01, 0.02, 0.03, 0.04]
    assert m.ece([0, 0, 0, 1], skewed, bins=2, binning="mass") == pytest.approx((0.03 + 0.93) / 4)
    assert m.ece([0, 0, 0, 1], skewed, bins=2, binning="width") == pytest.approx(0.9 / 4)
    true = [0.1, 0.1, 0.4, 0.5, 0.6]
    expected = (abs(0.6 - 0.6) / 3 + abs(1.4 - 1.1) / 2) / 2
    assert m.true_calibration_error(true, chances, bins=2) == pytest.approx(expected)
    assert m.true_calibration_error(true, true) == 0
    assert m.true_calibration_error([0.5], [0.25]) == 0.25


@given(labelled, st.integers(1, 20))
def test_the_error_by_mass_is_the_mean_gap_of_the_parts_of_the_sorted_rows(case, bins):
    labels, scores = case
    chances = 1 / (1 + np.exp(-scores / 100))
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    expected = sum(abs((chances[part] - labels[part]).sum()) for part in parts) / labels.size
    assert m.ece(labels, chances, bins, "mass") == pytest.approx(expected, abs=1e-12)


def test_class_scores_of_a_case_worked_by_hand():
    labels, predicted = ["a", "a", "b", "c"], ["a", "b", "b", "b"]
    assert m.accuracy(labels, predicted) == 0.5
    assert m.recall(labels, predicted, "a") == 0.5
    assert m.f1(labels, predicted, "a") == pytest.approx(2 / 3)
    assert m.f1(labels, predicted, "b") == pytest.approx(0.5)
    assert m.macro_f1(labels, predicted) == pytest.approx((2 / 3 + 0.5 + 0) / 3)


@given(hnp.arrays(float, st.integers(1, 30), elements=finite))
def test_a_perfect_forecast_has_no_error(values):
    assert m.mse(values, values) == m.mae(values, values) == m.smape(values, values) == 0

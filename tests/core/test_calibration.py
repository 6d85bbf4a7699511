from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from appliedpapers.core.calibration import Calibrator, calibration_line, fit_calibrator

METHODS = ("none", "platt", "isotonic", "temperature")


def clicks(rows=4_000, slope=0.5, intercept=-1.0, seed=0):
    """Return logits of an overconfident model and labels that follow ``slope * logit + intercept``."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=rows) * 3
    return logits, (random.random(rows) < expit(slope * logits + intercept)).astype(float)


def nll(labels, chances):
    return -np.mean(np.where(labels == 1, np.log(chances), np.log1p(-chances)))


@st.composite
def small_cases(draw):
    size = draw(st.integers(2, 30))
    number = st.integers(-600, 600).map(lambda x: x / 20)
    logits = draw(st.lists(number, min_size=size, max_size=size))
    labels = draw(
        st.lists(st.integers(0, 1), min_size=size, max_size=size).filter(lambda y: 0 < sum(y) < size)
    )
    weights = draw(st.none() | st.lists(st.floats(0.1, 9), min_size=size, max_size=size))
    return np.array(logits), np.array(labels), weights


@settings(deadline=None)
@given(small_cases(), st.sampled_from(METHODS))
def test_every_calibrator_rises_stays_a_probability_and_survives_json(case, method):
    found = fit_calibrator(method, *case)
    grid = np.sort(np.concatenate([np.linspace(-60, 60, 301), case[0]]))
    chances = found(grid)
    assert chances.dtype == np.float64
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.diff(chances) >= -1e-15).all()
    again = Calibrator.from_json(json.loads(json.dumps(found.to_json())))
    assert again.method == found.method == method
    assert np.array_equal(again(grid), chances)


@settings(deadline=None)
@given(small_cases())
def test_isotonic_is_that_of_scikit_learn_kept_off_the_ends(case):
    logits, labels, weights = case
    reference = IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4, out_of_bounds="clip")
    reference.fit(logits, labels, weights)
    grid = np.concatenate([np.linspace(-40, 40, 201), logits])
    ours = fit_calibrator("isotonic", logits, labels, weights)(grid)
    np.testing.assert_allclose(ours, reference.predict(grid), atol=1e-9)
    assert ours.min() >= 1e-4
    assert ours.max() <= 1 - 1e-4


def test_an_isotonic_map_is_never_so_steep_that_rounding_shows():
    logits, labels = clicks(rows=20_000)
    document = fit_calibrator("isotonic", logits, labels).to_json()
    assert np.diff(document["knots"]).min() > 0.0499
    slope = np.diff(document["probabilities"]) / np.diff(document["knots"])
    assert slope.max() < 1
    assert slope.min() >= 0


def test_isotonic_interpolates_between_knots_and_is_constant_outside():
    found = fit_calibrator("isotonic", [0.0, 0.0, 2.0, 2.0, 4.0, 4.0], [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(found([-9.0, 0.0, 1.0, 2.0, 9.0]), [1e-4, 1e-4, 0.25005, 0.5, 0.9999])
    assert found([[0.0], [2.0]]).shape == (2, 1)


def test_flat_stretches_keep_only_their_ends():
    logits = np.arange(1000.0)
    document = fit_calibrator("isotonic", logits, logits >= 500).to_json()
    assert document["knots"] == [0.0, 499.0, 500.0, 999.0]


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_is_the_unpenalised_logistic_regression(weighted):
    logits, labels = clicks()
    weights = np.random.default_rng(1).gamma(1.0, size=labels.size) if weighted else None
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels, weights)
    found = fit_calibrator("platt", logits, labels, weights).to_json()
    assert found["slope"] == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert found["intercept"] == pytest.approx(reference.intercept_[0], rel=1e-4)
    assert found["slope"] == pytest.approx(0.5, abs=0.1)


def test_temperature_minimises_the_loss():
    logits, labels = clicks(intercept=0.0)
    found = fit_calibrator("temperature", logits, labels)
    slope = found.to_json()["slope"]
    assert slope == pytest.approx(0.5, abs=0.05)
    for other in (0.99 * slope, 1.01 * slope):
        assert nll(labels, found(logits)) < nll(labels, expit(other * logits))


@pytest.mark.parametrize("method", ["platt", "isotonic", "temperature"])
def test_weights_act_like_repeated_rows(method):
    logits, labels = clicks(rows=300)
    times = np.random.default_rng(2).integers(0, 4, size=300)
    repeated = fit_calibrator(method, np.repeat(logits, times), np.repeat(labels, times))
    weighted = fit_calibrator(method, logits, labels, times)
    grid = np.linspace(-9, 9, 50)
    np.testing.assert_allclose(weighted(grid), repeated(grid), rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "positives", "method"),
    [(5_000, 500, "isotonic"), (4_999, 2_000, "platt"), (9_000, 499, "platt")],
)
def test_auto_takes_isotonic_where_there_are_rows_and_positives_enough(rows, positives, method):
    labels = np.arange(rows) < positives
    assert fit_calibrator("auto", np.sin(np.arange(rows)), labels).method == method


@pytest.mark.parametrize("method", ["auto", "platt", "isotonic", "temperature"])
def test_one_class_is_refused_in_words(method):
    with pytest.raises(ValueError, match="3 rows that all have the label 1"):
        fit_calibrator(method, [0.1, 0.2, 0.3], [1, 1, 1])


def test_constant_logits_become_the_base_rate():
    labels = [0, 0, 0, 1]
    for method in ("platt", "isotonic"):
        assert fit_calibrator(method, [7.0] * 4, labels)([7.0])[0] == pytest.approx(0.25)
    assert fit_calibrator("temperature", [0.0] * 4, labels)([0.0])[0] == 0.5
    assert fit_calibrator("temperature", [-2.0] * 4, labels)([-2.0])[0] == pytest.approx(0.25)


@pytest.mark.parametrize("gap", [0.0, 1e-6, 1.0, 1e4])
def test_separable_rows_give_a_bounded_line(gap):
    logits = np.array([-1.0, -0.5, 0.0, 0.0 + gap, 0.5 + gap, 1.0 + gap])
    found = fit_calibrator("platt", logits, [0, 0, 0, 1, 1, 1])
    chances = found(logits)
    assert found.to_json()["slope"] > 0
    assert 0.01 < chances[0] < 0.5 < chances[-1] < 0.99
    slope, intercept = calibration_line([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert 0 < slope < 10
    assert abs(intercept) < 1e-6


def test_a_model_that_ranks_backwards_is_flattened_and_not_turned_round():
    logits, labels = clicks(slope=-1.0, intercept=0.3)
    chances = fit_calibrator("platt", logits, labels)(logits)
    assert np.ptp(chances) == 0
    assert chances[0] == pytest.approx(labels.mean())
    assert fit_calibrator("temperature", logits, labels).to_json()["slope"] == 0.01


def test_huge_logits_do_not_overflow():
    logits, labels = clicks(rows=500)
    for method in METHODS:
        assert np.isfinite(fit_calibrator(method, 1e6 * logits, labels)(1e6 * logits)).all()


@pytest.mark.parametrize(
    ("logits", "labels", "weights", "said"),
    [
        ([0.0, math.nan], [0, 1], None, "finite"),
        ([0.0, 1.0], [0, 2], None, "0 or 1"),
        ([0.0, 1.0], [0], None, "shape"),
        ([0.0, 1.0], [0, 1], [1.0], "shape"),
        ([0.0, 1.0], [0, 1], [1.0, -1.0], "negative"),
        ([0.0, 1.0], [0, 1], [0.0, 0.0], "no rows"),
        ([], [], None, "no rows"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(logits, labels, weights, said):
    with pytest.raises(ValueError, match=said):
        fit_calibrator("platt", logits, labels, weights)


@pytest.mark.parametrize(
    "document",
    [
        {"method": "spline"},
        {"method": "platt", "slope": -1.0, "intercept": 0.0},
        {"method": "platt", "slope": 1.0, "intercept": math.nan},
        {"method": "isotonic", "knots": [0.0, 0.0], "probabilities": [0.1, 0.2]},
        {"method": "isotonic", "knots": [0.0, 1.0], "probabilities": [0.2, 0.1]},
        {"method": "isotonic", "knots": [0.0, 1.0], "probabilities": [0.2]},
        {"method": "isotonic", "knots": [0.0, 1.0], "probabilities": [0.2, 1.2]},
    ],
)
def test_numbers_that_are_no_calibrator_are_refused(document):
    with pytest.raises(ValueError, match=r"known|line|knots|rise"):
        Calibrator.from_json(document)


def test_the_calibration_line_finds_overconfidence():
    logits, labels = clicks(rows=100_000)
    slope, intercept = calibration_line(labels, expit(logits))
    assert (slope, intercept) == pytest.approx((0.5, -1.0), abs=0.03)
    calibrated = fit_calibrator("platt", logits, labels)(logits)
    assert calibration_line(labels, calibrated) == pytest.approx((1.0, 0.0), abs=1e-6)
    certain = np.where(labels[:9] == 1, 1.0, 0.0)
    assert all(math.isfinite(number) for number in calibration_line(1 - labels[:9], certain))


def test_the_calibration_line_of_nothing_to_compare_is_not_a_number():
    assert all(map(math.isnan, calibration_line([1, 1], [0.2, 0.7])))
    assert all(map(math.isnan, calibration_line([0, 1], [0.2, 0.2])))
    with pytest.raises(ValueError, match="probabilities"):
        calibration_line([0, 1], [0.2, 1.2])


def test_calibrating_lowers_the_loss_of_an_overconfident_model_on_fresh_rows():
    logits, labels = clicks(rows=20_000)
    fresh, outcomes = clicks(rows=20_000, seed=1)
    raw = nll(outcomes, expit(fresh))
    best = nll(outcomes, expit(0.5 * fresh - 1))
    for method in ("platt", "isotonic"):
        assert best - 0.001 < nll(outcomes, fit_calibrator(method, logits, labels)(fresh)) < best + 0.003
    assert best < nll(outcomes, fit_calibrator("temperature", logits, labels)(fresh)) < raw
    assert logit(fit_calibrator("none", logits, labels)(fresh)) == pytest.approx(fresh)

"""Tests between models agree with textbook formulas, worked by hand or by scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from appliedpapers.core.bootstrap import paired_difference
from appliedpapers.core.pooling import pooled
from appliedpapers.core.scores import MetricScores, Scored
from appliedpapers.core.significance import (
    anova,
    corrected_t,
    friedman,
    holm,
    mcnemar,
    nemenyi_difference,
)

DIFFERENCES = [0.02, 0.03, 0.01, 0.04, 0.00]


def test_the_corrected_t_is_what_the_formula_gives_by_hand():
    # mean 0.02, variance 0.00025, 1/5 + 1/4 = 0.45: t = 0.02 / sqrt(0.45 * 0.00025)
    found = corrected_t(DIFFERENCES, 0.25)
    assert found.statistic == pytest.approx(0.02 / math.sqrt(1.125e-4), abs=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(found.statistic, 4), abs=1e-9)


def test_without_correction_it_is_the_paired_t_of_the_textbook():
    found, expected = corrected_t(DIFFERENCES, 0.0), stats.ttest_1samp(DIFFERENCES, 0.0)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)


@given(arrays.arrays(np.float64, 5, elements=st.floats(-1, 1, width=16)), st.floats(0, 2))
def test_the_corrected_p_is_never_smaller_than_the_naive_one(differences, ratio):
    assert corrected_t(differences, ratio).p >= corrected_t(differences, 0.0).p - 1e-12


@pytest.mark.parametrize(("differences", "ratio"), [([0.1], 0.25), ([0.1, 0.2], -1.0)])
def test_folds_that_say_nothing_are_refused(differences, ratio):
    with pytest.raises(ValueError, match=r"folds|ratio"):
        corrected_t(differences, ratio)


def test_equal_folds_have_no_doubt():
    assert corrected_t([0.0, 0.0, 0.0], 0.5) == (0.0, 1.0)
    assert corrected_t([0.25, 0.25, 0.25], 0.5).p == 0.0


@pytest.mark.parametrize(("only_first", "only_second"), [(10, 2), (2, 10), (0, 5), (7, 7), (115, 53)])
def test_mcnemar_is_the_binomial_tail(only_first, only_second):
    first = np.array([True] * only_first + [False] * only_second + [True] * 20)
    second = np.array([False] * only_first + [True] * only_second + [True] * 20)
    found = mcnemar(first, second)
    expected = stats.binomtest(only_first, only_first + only_second).pvalue
    assert found.p == pytest.approx(expected, abs=1e-9)
    assert found.statistic == only_second - only_first


def test_models_that_are_never_apart_are_equal():
    assert mcnemar([True, False], [True, False]).p == 1.0


def test_mcnemar_wants_the_same_rows():
    with pytest.raises(ValueError, match="same rows"):
        mcnemar([True], [True, False])


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], abs=1e-12)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_friedman_agrees_with_scipy_and_ranks_the_best_first():
    scores = np.array([[0.9, 0.8, 0.7], [0.85, 0.8, 0.6], [0.7, 0.75, 0.65], [0.92, 0.9, 0.8]])
    found = friedman(scores)
    expected = stats.friedmanchisquare(*scores.T)
    assert found.chi2 == pytest.approx(expected.statistic, abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert found.ranks == pytest.approx([1.25, 1.75, 3.0])
    # Iman and Davenport: (N - 1) chi2 / (N (k - 1) - chi2)
    f = 3 * found.chi2 / (8 - found.chi2)
    assert found.f == pytest.approx(f, abs=1e-9)
    assert found.f_p == pytest.approx(stats.f.sf(f, 2, 6), abs=1e-9)


def test_friedman_of_losses_turns_the_ranks_round():
    scores = np.array([[1.0, 2.0], [1.0, 3.0], [2.0, 4.0]])
    assert friedman(scores, higher_is_better=False).ranks == pytest.approx([1.0, 2.0])
    with pytest.raises(ValueError, match="two"):
        friedman(scores[:1])


@pytest.mark.parametrize(("models", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_nemenyi_has_the_constants_of_the_table(models, q):
    # Demsar 2006, table 5a
    found = nemenyi_difference(models, 14)
    assert found == pytest.approx(q * math.sqrt(models * (models + 1) / 84), rel=3e-4)


def test_anova_is_that_of_scipy():
    scores = np.array([[0.9, 0.8, 0.7], [0.85, 0.8, 0.6], [0.7, 0.75, 0.65]])
    expected = stats.f_oneway(*scores.T)
    found = anova(scores)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)


def scored(values) -> Scored:
    return Scored({"accuracy": MetricScores.mean(values)})


def test_a_paired_test_of_right_and_wrong_rows_is_mcnemars():
    a, b = np.array([1.0, 1, 1, 0, 0, 1, 1, 1, 1, 1]), np.array([1.0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    found = paired_difference(MetricScores.mean(a), MetricScores.mean(b), test="mcnemar")
    assert (found.test, found.p) == ("mcnemar", pytest.approx(mcnemar(a, b).p))
    assert found.difference == pytest.approx(-0.4)


def test_rows_of_groups_are_not_taken_for_independent_ones():
    a, b = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 0, 0])
    groups = np.array([0, 0, 1, 1])
    found = paired_difference(MetricScores.mean(a), MetricScores.mean(b), test="mcnemar", clusters=groups)
    assert found.test == "paired-bootstrap"


def test_folds_are_compared_by_the_corrected_t():
    rng = np.random.default_rng(0)
    parts = [(rng.random(20) < 0.8, rng.random(20) < 0.6) for _ in range(5)]
    a, b = (pooled([scored(part[place].astype(float)) for part in parts]) for place in (0, 1))
    assert a.folds == (20,) * 5
    differences = [second.mean() - first.mean() for first, second in parts]
    found = paired_difference(a.metrics["accuracy"], b.metrics["accuracy"], test="corrected-t", folds=a.folds)
    assert found.p == pytest.approx(corrected_t(differences, 0.25).p, abs=1e-12)
    assert found.low < found.difference < found.high

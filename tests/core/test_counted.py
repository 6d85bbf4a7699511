from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core import metrics as m
from appliedpapers.core.bootstrap import interval, intervals, paired_difference
from appliedpapers.core.calibration import calibration_line
from appliedpapers.core.counted import auc_scores, ece_scores, gauc_scores, line_scores
from appliedpapers.core.evaluation import MetricScores
from appliedpapers.core.scores import Counted


@st.composite
def ranked(draw):
    size = draw(st.integers(1, 40))
    labels = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    scores = draw(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), min_size=size, max_size=size))
    groups = draw(st.lists(st.sampled_from("abcd"), min_size=size, max_size=size))
    drawn = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=2 * size))
    chosen = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return np.array(labels), np.array(scores), np.array(groups), np.array(drawn), np.array(chosen)


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, rel=1e-12, abs=1e-15)


def forms(labels, scores, groups):
    """Return each counted metric beside the function of indices that it must equal."""
    return [
        (auc_scores(labels, scores), lambda i: m.auc(labels[i], scores[i])),
        (gauc_scores(labels, scores, groups), lambda i: m.gauc(labels[i], scores[i], groups[i])),
    ]


@settings(deadline=None)
@given(ranked(), st.integers(0, 2**32 - 1))
def test_many_draws_at_once_are_each_alone_to_the_last_bit(found, seed):
    labels, scores, groups, _, chosen = found
    random = np.random.default_rng(seed)
    counts = random.poisson(0.7, size=(7, labels.size))
    weights = random.random(labels.size)
    made = [
        auc_scores(labels, scores),
        auc_scores(labels, scores, weights),
        gauc_scores(labels, scores, groups),
        gauc_scores(labels, scores, groups, weights),
        ece_scores(labels, scores, bins=3),
        *line_scores(labels, scores),
    ]
    for one in [*made, *(one.restrict(chosen) for one in made if chosen.any())]:
        together = one.by_counts.of_draws(counts)
        alone = [one.by_counts(row) for row in counts]
        np.testing.assert_array_equal(together, alone)


@settings(deadline=None)
@given(ranked())
def test_counted_rankings_equal_the_metric_on_every_resample_and_slice(case):
    labels, scores, groups, drawn, chosen = case
    for counted, function in forms(labels, scores, groups):
        plain = MetricScores.of(function, labels.size)
        assert same(counted.value, plain.value)
        assert same(counted.aggregate(drawn), plain.aggregate(drawn))
        part, slow = counted.restrict(chosen), plain.restrict(chosen)
        assert same(part.aggregate(drawn), slow.aggregate(drawn))
        assert part.count == slow.count
        again, slower = part.restrict(labels == scores.round()), slow.restrict(labels == scores.round())
        if slower.count:
            both = chosen & (labels == scores.round())
            expected = plain.restrict(both)
            assert same(again.aggregate(drawn), expected.aggregate(drawn))


@settings(deadline=None)
@given(ranked())
def test_weighted_rankings_act_like_repeated_units(case):
    labels, scores, groups, drawn, _ = case
    times = np.bincount(drawn, minlength=labels.size)
    for weighted, plain in (
        (auc_scores(labels, scores, times), auc_scores(labels, scores)),
        (gauc_scores(labels, scores, groups, times), gauc_scores(labels, scores, groups)),
    ):
        assert same(weighted.value, plain.aggregate(drawn))


@settings(deadline=None)
@given(ranked(), st.integers(1, 20))
def test_the_counted_calibration_error_keeps_its_bins_and_slices_have_their_own(case, bins):
    labels, chances, _, drawn, chosen = case
    found = ece_scores(labels, chances, bins)
    assert same(found.value, m.ece(labels, chances, bins, "mass"))
    number = m.mass_bins(chances, bins)
    gaps = [(chances - labels)[drawn[number[drawn] == one]].sum() for one in range(bins)]
    assert same(found.aggregate(drawn), np.abs(gaps).sum() / drawn.size)
    expected = m.ece(labels[chosen], chances[chosen], bins, "mass") if chosen.any() else math.nan
    assert same(found.restrict(chosen).value, expected)


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("clustered", [False, True])
def test_counts_and_indices_give_the_same_interval_and_the_same_test(block, clustered):
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 2, 120), random.integers(0, 9, 120)
    good, bad = labels + random.normal(size=120), labels + 3 * random.normal(size=120)
    clusters = random.integers(0, 40, 120) if clustered else None
    for (fast, slow), (other, slower) in zip(
        forms(labels, good, groups), forms(labels, bad, groups), strict=True
    ):
        plain, plainer = MetricScores.of(slow, 120), MetricScores.of(slower, 120)
        expected = interval(plain, clusters, block, n_boot=400)
        assert interval(fast, clusters, block, n_boot=400) == pytest.approx(expected, rel=1e-12)
        found = paired_difference(fast, other, clusters=clusters, block=block, n_boot=400)
        wanted = paired_difference(plain, plainer, clusters=clusters, block=block, n_boot=400)
        assert (found.low, found.high, found.p) == pytest.approx((wanted.low, wanted.high, wanted.p))


def test_a_mean_and_a_metric_that_is_none_are_compared_on_the_same_draws():
    chances = np.random.default_rng(0).random(25_000)
    mean = MetricScores.mean(chances)
    same_mean = MetricScores.of(lambda indices: float(chances[indices].mean()), chances.size)
    found = paired_difference(mean, same_mean, n_boot=200)
    assert (found.low, found.high) == pytest.approx((0, 0), abs=1e-12)


def test_metrics_beside_each_other_get_the_intervals_that_they_get_alone():
    random = np.random.default_rng(0)
    labels, chances = random.integers(0, 2, 21_000), random.random(21_000)
    scores = [MetricScores.mean((chances - labels) ** 2), auc_scores(labels, chances)]
    assert intervals(scores, n_boot=100) == [interval(one, n_boot=100) for one in scores]


def test_slices_of_a_counted_metric_are_those_of_its_rows():
    random = np.random.default_rng(3)
    labels, scores, sites = random.integers(0, 2, 60), random.random(60), random.integers(0, 3, 60)
    for site in range(3):
        rows = sites == site
        part = auc_scores(labels, scores).restrict(rows)
        assert part.value == pytest.approx(m.auc(labels[rows], scores[rows]))


def test_a_million_units_get_their_interval_from_a_hundred_draws():
    random = np.random.default_rng(0)
    labels = random.random(1_000_000) < 0.01
    found = auc_scores(labels, labels + random.normal(size=labels.size))
    calls = []

    class Watched(Counted):
        def of_draws(self, counts):
            calls.extend(counts.sum(axis=1))
            return found.by_counts.of_draws(counts)

        def restrict(self, chosen):
            return self

    watched = MetricScores(None, found.aggregate, found.units, by_counts=Watched())
    low, high = interval(watched)
    assert calls == [1_000_000] * 100
    area = found.value
    assert low < area < high
    # Hanley and McNeil (1982)
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    hits, misses = labels.sum(), (~labels).sum()
    variance = area * (1 - area) + (hits - 1) * (one - area**2) + (misses - 1) * (two - area**2)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance / hits / misses), rel=0.3)


def test_infinite_scores_tie_with_each_other():
    labels, scores = np.array([0, 1, 1, 0, 1]), np.array([-np.inf, -np.inf, np.inf, np.inf, 0.0])
    assert auc_scores(labels, scores).value == m.auc(labels, scores)


def test_the_line_of_a_resample_is_its_own_but_for_a_step():
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=3_000)
    chances = 1 / (1 + np.exp(-logits))
    labels = (random.random(3_000) < 1 / (1 + np.exp(0.5 - 0.6 * logits))).astype(int)
    drawn, chosen = random.integers(0, 3_000, 3_000), random.random(3_000) < 0.4
    for place, found in enumerate(line_scores(labels, chances)):
        plain = MetricScores.of(lambda i, p=place: calibration_line(labels[i], chances[i])[p], 3_000)
        assert found.value == pytest.approx(plain.value, abs=1e-8)
        assert found.aggregate(drawn) == pytest.approx(plain.aggregate(drawn), abs=2e-3)
        assert found.restrict(chosen).value == pytest.approx(plain.restrict(chosen).value, abs=1e-8)
        assert interval(found, n_boot=100) == pytest.approx(interval(plain, n_boot=100), abs=3e-3)


def test_there_is_no_line_where_there_is_nothing_to_fit():
    for labels, chances in (([1, 1], [0.2, 0.8]), ([0, 1], [0.5, 0.5]), ([0, 1], [0.2, 0.8])):
        assert all(math.isnan(one.value) for one in line_scores(labels, chances))
    part = line_scores([0, 1, 0], [0.2, 0.5, 0.4])[0].restrict(np.zeros(3, dtype=bool))
    assert math.isnan(part.value)


def test_numbers_that_cannot_be_ranked_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        auc_scores([0, 1], [0.1, math.nan])
    with pytest.raises(ValueError, match="labels"):
        ece_scores([0, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="groups"):
        gauc_scores([0, 1], [0.1, 0.2], ["a"])
    with pytest.raises(ValueError, match="weights"):
        auc_scores([0, 1], [0.1, 0.2], [1.0, -1.0])

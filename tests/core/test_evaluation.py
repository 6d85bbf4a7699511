from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from appliedpapers.core import metrics as m
from appliedpapers.core.bootstrap import interval, intervals, newey_west, paired_difference
from appliedpapers.core.evaluation import MetricScores, Scored


def generic(losses, *, root=False):
    def value(indices):
        mean = float(losses[indices].mean())
        return math.sqrt(mean) if root else mean

    return MetricScores.of(value, losses.size)


@given(st.integers(2, 40), st.integers(1, 7), st.booleans(), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_the_additive_path_equals_the_generic_path(units, block, root, seed):
    random = np.random.default_rng(seed)
    losses = random.gamma(1.0, size=units)
    clusters = random.integers(0, max(2, units // 2), size=units)
    fast = MetricScores.root_mean(losses) if root else MetricScores.mean(losses)
    slow = generic(losses, root=root)
    assert fast.value == pytest.approx(slow.value)
    for ids in (None, clusters):
        a = interval(fast, ids, block, n_boot=400, seed=seed)
        b = interval(slow, ids, block, n_boot=400, seed=seed)
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_weights_act_like_repeated_units():
    losses, weights = np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 0.0])
    weighted = MetricScores.mean(losses, weights)
    assert weighted.value == pytest.approx(7 / 4)
    assert weighted.count == 2
    assert MetricScores.mean([1.0, math.nan], [1.0, 0.0]).value == 1.0


@pytest.mark.parametrize(
    ("losses", "weights"), [([], None), ([[1.0]], None), ([1.0], [1.0, 2.0]), ([1.0], [-1.0])]
)
def test_unusable_losses_are_refused(losses, weights):
    with pytest.raises(ValueError, match=r"losses|weights"):
        MetricScores.mean(losses, weights)


def test_metrics_of_different_units_are_refused():
    with pytest.raises(ValueError, match="share their units"):
        Scored({"mse": MetricScores.mean([1.0]), "mae": MetricScores.mean([1.0, 2.0])})
    with pytest.raises(ValueError, match="clusters"):
        Scored({"mse": MetricScores.mean([1.0])}, clusters=np.array([1, 2]))


def test_slices_take_additive_and_other_metrics_apart():
    labels = np.array([1, 0, 1, 1, 0, 0])
    chances = np.array([0.9, 0.2, 0.6, 0.4, 0.5, 0.1])
    sites = np.array(["b", "b", "a", "a", "a", "b"])
    brier = MetricScores.mean((chances - labels) ** 2).restrict(sites == "b")
    auc = MetricScores.of(lambda i: m.auc(labels[i], chances[i]), 6).restrict(sites == "a")
    assert brier.value == pytest.approx(m.brier(labels[sites == "b"], chances[sites == "b"]))
    assert auc.value == pytest.approx(m.auc(labels[sites == "a"], chances[sites == "a"]))
    assert auc.count == brier.count == 3


def share_covered(draw, truth, runs=150):
    hits = 0
    for run in range(runs):
        low, high = draw(np.random.default_rng(run), run)
        hits += low <= truth <= high
    return hits / runs


def test_intervals_cover_the_truth_as_often_as_they_say():
    def independent(random, seed):
        return interval(MetricScores.mean(random.exponential(size=60)), n_boot=500, seed=seed)

    def clustered(random, seed):
        shared = np.repeat(random.normal(size=12), 10)
        losses = 1 + shared + 0.3 * random.normal(size=120)
        return interval(MetricScores.mean(losses), np.repeat(np.arange(12), 10), n_boot=500, seed=seed)

    def series(random, seed):
        noise = random.normal(size=407)
        losses = 1 + np.convolve(noise, np.ones(8) / 8, mode="valid")
        return interval(MetricScores.mean(losses), block=16, n_boot=500, seed=seed)

    # 150 runs at 95 %: the standard error is 1.8 points
    assert share_covered(independent, 1.0) >= 0.89
    assert share_covered(clustered, 1.0) >= 0.89
    assert share_covered(series, 1.0) >= 0.87


def test_ignoring_clusters_would_cover_far_too_rarely():
    def naive(random, seed):
        losses = 1 + np.repeat(random.normal(size=12), 10) + 0.3 * random.normal(size=120)
        return interval(MetricScores.mean(losses), n_boot=300, seed=seed)

    assert share_covered(naive, 1.0, runs=80) < 0.7


def test_few_clusters_give_a_wider_interval_than_plain_percentiles():
    losses = np.array([1.0, 2.0, 3.0, 4.0])
    low, high = interval(MetricScores.mean(losses), n_boot=2000)
    error = losses.std(ddof=1) / 2
    # Student's t on 3 degrees of freedom, cut off by the range that a bootstrap of four can reach
    assert high - low > 2 * 1.96 * error
    assert (low, high) == pytest.approx((1.0, 4.0), abs=0.3)


def test_one_cluster_or_one_block_gives_no_interval():
    scores = MetricScores.mean(np.arange(10.0))
    assert all(math.isnan(end) for end in interval(scores, np.zeros(10)))
    assert all(math.isnan(end) for end in interval(scores, block=8))
    found = paired_difference(scores, MetricScores.mean(np.ones(10)), clusters=np.zeros(10))
    assert found.difference == pytest.approx(-3.5)
    assert math.isnan(found.p)


def test_resampling_is_decided_by_the_seed():
    scores = MetricScores.mean(np.random.default_rng(0).normal(size=50))
    assert interval(scores, seed=3) == interval(scores, seed=3)
    assert interval(scores, seed=3) != interval(scores, seed=4)


def test_very_many_units_are_dealt_into_bags_without_changing_the_width():
    losses = np.random.default_rng(0).exponential(size=60_000)
    low, high = interval(MetricScores.mean(losses), n_boot=400)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(60_000), rel=0.12)


def test_several_metrics_share_one_set_of_resamples():
    random = np.random.default_rng(1)
    scores = [MetricScores.mean(random.normal(size=30)), generic(random.gamma(1.0, size=30))]
    assert intervals(scores, n_boot=400) == [interval(one, n_boot=400) for one in scores]


def test_newey_west_follows_the_formula():
    x = np.array([1.0, 4.0, 2.0, 8.0, 5.0, 7.0])
    d = x - x.mean()
    gamma = [sum(d[t] * d[t - k] for t in range(k, 6)) / 6 for k in range(3)]
    assert newey_west(x, 2) == pytest.approx(gamma[0] + 2 * (2 / 3 * gamma[1] + 1 / 3 * gamma[2]))


def test_diebold_mariano_follows_the_formula():
    random = np.random.default_rng(5)
    a, b = random.gamma(2.0, size=40), random.gamma(2.2, size=40)
    found = paired_difference(MetricScores.mean(a), MetricScores.mean(b), test="diebold-mariano", lag=3)
    d, h, n = b - a, 4, 40
    statistic = d.mean() / math.sqrt(newey_west(d, 3) / n)
    statistic *= math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    assert found.test == "diebold-mariano"
    assert found.difference == pytest.approx(d.mean())
    assert found.p == pytest.approx(2 * stats.t.sf(abs(statistic), n - 1))
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_diebold_mariano_without_lag_is_the_paired_t_test():
    random = np.random.default_rng(6)
    a, b = random.normal(size=30), random.normal(0.3, size=30)
    found = paired_difference(MetricScores.mean(a), MetricScores.mean(b), test="diebold-mariano")
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_diebold_mariano_of_roots_agrees_with_the_bootstrap():
    random = np.random.default_rng(7)
    a, b = random.gamma(1.0, size=400), random.gamma(1.2, size=400)
    first, second = MetricScores.root_mean(a), MetricScores.root_mean(b)
    dm = paired_difference(first, second, test="diebold-mariano")
    boot = paired_difference(first, second, n_boot=2000)
    assert dm.difference == boot.difference == pytest.approx(math.sqrt(b.mean()) - math.sqrt(a.mean()))
    assert (dm.low, dm.high) == pytest.approx((boot.low, boot.high), abs=0.02)


@pytest.mark.parametrize("test", ["diebold-mariano", "paired-bootstrap"])
def test_equal_models_are_not_distinguishable(test):
    scores = MetricScores.mean(np.random.default_rng(0).normal(size=25))
    found = paired_difference(scores, scores, test=test)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_test_set_shorter_than_the_lag_needs_gives_no_p():
    found = paired_difference(
        MetricScores.mean(np.arange(10.0)), MetricScores.mean(np.ones(10)), test="diebold-mariano", lag=8
    )
    assert math.isnan(found.p)
    assert found.difference == pytest.approx(-3.5)


def test_a_metric_that_is_no_mean_is_compared_by_bootstrap():
    random = np.random.default_rng(8)
    labels = random.integers(0, 2, size=200)
    good, bad = labels + random.normal(size=200), random.normal(size=200)
    a, b = (MetricScores.of(lambda i, s=s: m.auc(labels[i], s[i]), 200) for s in (good, bad))
    found = paired_difference(a, b, test="diebold-mariano", n_boot=400)
    assert found.test == "paired-bootstrap"
    assert found.difference < 0
    assert found.high < 0
    assert found.p < 0.01


@pytest.mark.parametrize("test", ["diebold-mariano", "paired-bootstrap"])
def test_p_values_are_small_about_as_often_as_they_say(test):
    rejections = 0
    for seed in range(200):
        a, b = np.random.default_rng(seed).exponential(size=(2, 20))
        found = paired_difference(
            MetricScores.mean(a), MetricScores.mean(b), test=test, n_boot=500, seed=seed
        )
        rejections += found.p < 0.05
        assert (found.low > 0 or found.high < 0) == (found.p < 0.05) or abs(found.p - 0.05) < 0.02
    assert rejections / 200 <= 0.09


def test_models_of_different_test_rows_are_not_compared():
    with pytest.raises(ValueError, match="same test rows"):
        paired_difference(MetricScores.mean([1.0]), MetricScores.mean([1.0, 2.0]))

"""Several test parts scored as one: means over all units, rankings by part, slices by label."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.bootstrap import intervals
from appliedpapers.core.counted import auc_scores
from appliedpapers.core.evaluation import MetricScores, Scored
from appliedpapers.core.metrics import auc
from appliedpapers.core.pooling import pooled


def scored_by(rng, rows, *, slices=(), clusters=None):
    """One part with a mean, a root mean, a counted metric and one that is any function."""
    losses = rng.normal(size=rows) ** 2
    labels = np.arange(rows) % 2
    metrics = {
        "mse": MetricScores.mean(losses),
        "rmse": MetricScores.root_mean(losses),
        "auc": auc_scores(labels, rng.normal(size=rows) + labels),
        "mae": MetricScores.of(lambda indices: float(np.median(losses[indices])), rows),
    }
    parts = tuple(
        ({"site": name}, {key: one.restrict(chosen) for key, one in metrics.items()})
        for name, chosen in slices
    )
    return Scored(metrics, clusters, slices=parts)


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_means_run_over_all_units_and_rankings_over_parts(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [scored_by(rng, size) for size in sizes]
    whole = pooled(parts)
    losses = np.concatenate([part.metrics["mse"].losses for part in parts])
    assert whole.size == sum(sizes)
    assert whole.metrics["mse"].value == pytest.approx(losses.mean())
    assert whole.metrics["rmse"].value == pytest.approx(math.sqrt(losses.mean()))
    for name in ("auc", "mae"):
        assert whole.metrics[name].value == pytest.approx(
            np.mean([part.metrics[name].value for part in parts])
        )


def test_one_part_is_itself():
    part = scored_by(np.random.default_rng(0), 8)
    assert pooled([part]) is part


def test_a_part_with_one_class_is_left_out_of_the_auc_alone():
    rng = np.random.default_rng(1)
    labels, scores = np.array([0, 1, 1, 0, 1]), rng.normal(size=5)
    one = Scored({"auc": auc_scores(labels, scores), "mse": MetricScores.mean(scores**2)})
    only = Scored({"auc": auc_scores(np.ones(4), scores[:4]), "mse": MetricScores.mean(scores[:4] ** 2)})
    assert math.isnan(only.metrics["auc"].value)
    whole = pooled([one, only])
    assert whole.metrics["auc"].value == pytest.approx(auc(labels, scores))
    assert whole.metrics["mse"].count == 9


def test_weights_of_some_parts_are_kept():
    weighted = Scored({"mse": MetricScores.mean([1.0, 9.0], [3.0, 0.0])})
    whole = pooled([weighted, Scored({"mse": MetricScores.mean([5.0])})])
    assert whole.metrics["mse"].value == pytest.approx((3 * 1 + 5) / 4)
    assert whole.metrics["mse"].count == 2


def test_slices_of_equal_labels_are_one_with_an_interval():
    rng = np.random.default_rng(2)
    first = scored_by(rng, 20, slices=[("a", np.arange(20) < 12), ("b", np.arange(20) >= 12)])
    second = scored_by(rng, 16, slices=[("b", np.arange(16) >= 0)])
    whole = pooled([first, second])
    assert [labels for labels, _ in whole.slices] == [{"site": "a"}, {"site": "b"}]
    only_a, both_b = (metrics for _, metrics in whole.slices)
    assert only_a["mse"].count == 12
    assert both_b["mse"].count == 8 + 16
    expected = np.concatenate([first.metrics["mse"].losses[12:], second.metrics["mse"].losses])
    assert both_b["mse"].value == pytest.approx(expected.mean())
    assert only_a["auc"].value == pytest.approx(first.slices[0][1]["auc"].value)
    assert both_b["auc"].value == pytest.approx(
        np.mean([first.slices[1][1]["auc"].value, second.slices[0][1]["auc"].value])
    )
    for metrics in (only_a, both_b):
        assert all(one.units == whole.size for one in metrics.values())
    ends = intervals([both_b[name] for name in ("mse", "rmse", "auc", "mae")], n_boot=200)
    assert all(low < high for low, high in ends)


def test_a_pooled_slice_can_be_narrowed_again():
    rng = np.random.default_rng(3)
    parts = [scored_by(rng, 12), scored_by(rng, 10)]
    chosen = np.arange(22) % 3 > 0
    narrowed = pooled(parts).metrics["auc"].restrict(chosen)
    apart = [parts[0].metrics["auc"].restrict(chosen[:12]), parts[1].metrics["auc"].restrict(chosen[12:])]
    assert narrowed.value == pytest.approx(np.mean([one.value for one in apart]))


def test_clusters_keep_their_names_across_parts():
    rng = np.random.default_rng(4)
    one = scored_by(rng, 4, clusters=np.array(["p1", "p1", "p2", "p2"]))
    two = scored_by(rng, 2, clusters=np.array(["p2", "p3"]))
    assert pooled([one, two]).clusters.tolist() == ["p1", "p1", "p2", "p2", "p2", "p3"]
    with pytest.raises(ValueError, match="clusters"):
        pooled([one, scored_by(rng, 2)])


def test_parts_must_be_scored_alike():
    with pytest.raises(ValueError, match="different metrics"):
        pooled([Scored({"mse": MetricScores.mean([1.0])}), Scored({"mae": MetricScores.mean([1.0])})])


def test_a_metric_that_a_part_lacks_rests_on_the_others():
    """Of five folds, one may give no answer at all: it has no risk of answers, and the others have."""
    right = [np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0]), np.array([1.0])]
    answered = [np.array([1.0, 1.0, 0.0]), np.zeros(2), np.array([1.0])]
    parts = []
    for number, (own, told) in enumerate(zip(right, answered, strict=True)):
        found = {"accuracy": MetricScores.mean(own)}
        if told.any():
            found["selective_risk"] = MetricScores.mean(1 - own, told)
        if number == 1:
            found["auc"] = MetricScores.of(lambda chosen: 0.75, 2)
        parts.append(Scored(found))
    whole = pooled(parts)
    assert list(whole.metrics) == ["accuracy", "selective_risk", "auc"]
    assert whole.metrics["selective_risk"].value == pytest.approx(1 / 3)
    assert whole.metrics["selective_risk"].units == whole.metrics["auc"].units == 6
    assert whole.metrics["auc"].value == 0.75
    # in whichever order the parts come
    assert pooled(parts[1:] + parts[:1]).metrics["selective_risk"].value == pytest.approx(1 / 3)

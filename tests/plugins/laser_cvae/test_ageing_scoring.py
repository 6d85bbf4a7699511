"""Scores of hand-made answers, thresholds, baselines, and the figures of a run."""

from __future__ import annotations

import numpy as np
import pytest
from small_ageing import context, fitted

from appliedpapers.core.evaluation import Material
from appliedpapers.plugins.laser_cvae.evaluation import EVALUATION
from appliedpapers.plugins.laser_cvae.scoring import (
    Answers,
    F1Counts,
    MedianCounts,
    best_threshold,
    quantile_threshold,
    score,
)


@pytest.fixture(scope="module")
def both():
    return fitted()


def test_f1_and_medians_follow_how_often_devices_count():
    truth, alert = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    counts = np.array([[1, 1, 1, 1], [2, 0, 0, 1], [0, 0, 0, 3]])
    found = F1Counts(truth, alert).of_draws(counts)
    np.testing.assert_allclose(found[:2], [0.5, 1.0])
    assert np.isnan(found[2])
    median = MedianCounts(np.array([3.0, 1.0, 2.0, 9.0]), np.array([1, 1, 1, 0], bool))
    np.testing.assert_allclose(median.of_draws(np.array([[1, 1, 1, 5], [4, 1, 0, 0]])), [2.0, 3.0])


def test_thresholds_are_the_best_f1_and_the_quantile_of_healthy_devices():
    truth, rank = np.array([0, 0, 1, 1], bool), np.array([0.1, 0.6, 0.5, 0.9])
    assert best_threshold(truth, rank) == pytest.approx(0.3)
    assert best_threshold(np.zeros(4, bool), rank) == np.inf
    values = np.arange(100.0)
    assert (values > quantile_threshold(values, 0.02)).sum() <= 2


def test_perfect_answers_score_perfectly_and_early_metrics_leave_the_failed_out(both):
    split = both[0].test
    devices = split.devices
    failed = devices.failed
    rank = np.tile(failed.astype(float), (len(split.cuts), 1))
    end = np.tile(devices.damage[np.arange(len(devices)), devices.counts - 1], (len(split.cuts), 1))
    scored = score(Answers(rank, rank > 0, rank > 0, chance=rank, end=end), split)
    for name, best in (("auc", 1.0), ("f1", 1.0), ("brier", 0.0), ("forecast_mae", 0.0), ("recall", 1.0)):
        assert scored.metrics[name].value == pytest.approx(best, abs=1e-9)
    waiting = devices.failure > split.cuts[split.main]
    assert scored.metrics["brier"].count == int(waiting.sum())
    cuts = {labels["cut"] for labels, _ in scored.slices if set(labels) == {"cut"}}
    assert cuts == {"30 %", "60 %", "100 %"}
    assert {"gradual", "sudden"} <= {labels.get("mode") for labels, _ in scored.slices}


def test_every_baseline_answers_at_every_cut(both):
    dataset, model = both
    for baseline in EVALUATION.baselines(model.config, dataset):
        answers = baseline.fit(dataset.train, dataset.valid, context()).predict(dataset.test)
        assert answers.rank.shape == (3, dataset.test.num_rows), baseline.name
        assert not np.isnan(answers.rank).any(), baseline.name
        value = score(answers, dataset.test).metrics["auc"].value
        assert 0.3 < value <= 1, baseline.name
        facts = dict(baseline.describe())
        assert baseline.name != "path" or "activation energy" in facts


def test_ours_is_drawn_with_fans_curves_reliability_and_arrhenius(both):
    dataset, model = both
    ours = EVALUATION.predict(model, dataset.test)
    material = Material(
        dataset=dataset,
        model=model,
        model_name="laser-cvae",
        predictions={"laser-cvae": ours, **EVALUATION.parts(model, dataset)},
        scored={"laser-cvae": EVALUATION.score(ours, dataset.test, dataset)},
        results={
            "rows": [
                {
                    "model": "laser-cvae",
                    "selected": True,
                    "metric": "auc",
                    "kind": "ours",
                    "slice": {},
                    "seed": None,
                    "value": 0.8,
                    "higher_is_better": True,
                }
            ],
            "tests": [],
        },
        histories={},
        config=model.config,
    )
    figures = EVALUATION.figures(material)
    assert [one.name for one in figures] == ["fans", "early-prediction", "reliability", "arrhenius"]
    assert all(one.alt and one.data for one in figures)
    assert any("failed at" in line for line in EVALUATION.failures(material))


def test_a_forecast_beats_the_condition_and_tells_failures_early(both):
    dataset, model = both
    ours = EVALUATION.score(EVALUATION.predict(model, dataset.test), dataset.test, dataset)
    assert ours.metrics["auc"].value > 0.6
    assert 0 < ours.metrics["hours_saved"].value < 3500


def test_printed_figures_are_of_other_data_and_not_verified():
    figures = EVALUATION.published(None, fitted()[0])
    assert {figure.metric for figure in figures} == {"f1", "accuracy", "rmse"}
    assert not any(figure.verified for figure in figures)

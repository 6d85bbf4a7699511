"""Targets, segments, splits: by hand, without overlap, and with windows in which nothing moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from markets import TICK, config, dataset, session

from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.plugins.volatility_images.evaluation import EVALUATION
from appliedpapers.plugins.volatility_images.market import mark_scale_changes
from appliedpapers.plugins.volatility_images.scoring import Forecast, score_forecast
from appliedpapers.plugins.volatility_images.splits import VolatilitySplit, Window
from appliedpapers.plugins.volatility_images.windows import (
    anchors_of,
    floor_of,
    history,
    realised,
    trailing,
)


def test_realised_volatility_is_the_root_of_the_sum_of_squared_log_returns():
    one = session()
    at = np.array([200], dtype=np.int64)
    steps = np.log(one.mid[200:220] / one.mid[199:219])
    assert realised(one, at, 20)[0] == pytest.approx(np.sqrt((steps**2).sum()), rel=1e-12)
    before = np.log(one.mid[140:200] / one.mid[139:199])
    assert trailing(one, at, 20, 60)[0] == pytest.approx(np.sqrt((before**2).sum() / 3), rel=1e-12)


def test_the_price_weighted_by_sizes_leans_to_the_thinner_side():
    one = replace(session(), price="wap")
    bid, ask = one.touch
    expected = (one.bid * ask + one.ask * bid) / (bid + ask)
    np.testing.assert_allclose(one.mid, expected)
    assert ((one.mid >= one.bid) & (one.mid <= one.ask)).all()


def test_windows_stay_within_their_segment():
    broken = np.zeros(700, dtype=bool)
    broken[300] = True
    one = replace(session(), broken=broken)
    anchors = anchors_of(one, 121, 20, 10)
    assert anchors.tolist() == [*range(121, 281, 10), *range(421, 681, 10)]
    assert one.returns[300] == 0


def test_a_change_of_the_price_scale_is_a_place_that_no_window_crosses():
    one = session()
    factor = np.where(np.arange(700) < 350, 1.0, 100.0)
    jumped = replace(one, bid=one.bid * factor, ask=one.ask * factor)
    marked, count = mark_scale_changes(jumped)
    assert count == 1
    assert np.flatnonzero(marked.broken).tolist() == [350]
    assert mark_scale_changes(one)[1] == 0


def test_parts_are_purged_by_image_and_target_and_the_audit_finds_nothing():
    of = config()
    made = dataset(of)
    assert leakage_audit(made) == []
    reach = 1_000_000 * (of.data.window + of.image.seconds)
    for train, valid in zip(made.train.windows, made.valid.windows, strict=True):
        apart = np.abs(
            train.session.time_us[train.anchors - 1][:, None] - valid.session.time_us[valid.anchors - 1]
        )
        assert apart.min() >= reach


def test_the_audit_finds_windows_that_were_dealt_at_random():
    made = dataset(config())
    period = made.train.period
    dealt = np.random.default_rng(0).random(period.num_rows) < 0.5
    leaky = replace(made, train=period.chosen(dealt), valid=period.chosen(~dealt))
    findings = leakage_audit(leaky)
    assert [finding.kind for finding in findings] == ["windows that overlap one"]
    assert findings[0].count >= 50


def test_an_embargo_keeps_more_free_behind_a_validation_block():
    few = dataset(config("data.embargo=60")).train.num_rows
    assert few < dataset(config()).train.num_rows


def test_walking_forward_tests_each_session_after_those_before_it():
    of = config("data.protocol=walk-forward")
    folds = dataset(of).resamples()
    assert [fold.fold for fold in folds] == ["day-1", "day-2"]
    for fold in folds:
        assert max(fold.train.time_us.max(), fold.valid.time_us.max()) < fold.test.time_us.min()
        assert leakage_audit(fold) == []


def test_a_single_session_is_cut_by_time_and_purged():
    of = config()
    made = dataset(of, [session(1500)])
    last = max(made.train.time_us.max(), made.valid.time_us.max())
    assert made.test.time_us.min() - last >= 1_000_000 * (of.data.window + of.image.seconds)


def test_sessions_that_are_too_short_are_refused_with_what_is_needed():
    with pytest.raises(DataError, match=r"the longest stretch has 130 seconds, and a window takes 141"):
        dataset(config(), [session(130, 0, "x"), session(130, 1, "y")])


def still(seconds: int = 700, name: str = "still", seed: int = 3, begin: int = 0):
    """A session whose price moves in a few seconds only."""
    one = session(seconds, seed, name, begin=begin)
    moves = np.zeros(seconds)
    moves[::90] = 1
    middle = 100 + TICK * np.cumsum(moves * np.where(np.arange(seconds) % 180 < 90, 1, -1))
    bid, ask = middle - TICK / 2, middle + TICK / 2
    return replace(one, bid=bid, ask=ask)


@pytest.mark.parametrize("rule", ["drop", "drop-all", "floor"])
def test_a_series_that_mostly_stands_still_gives_finite_numbers_a_share_and_a_warning(rule):
    of = config(f"data.zero_targets={rule}", "data.test_stride=10")
    made = dataset(of, [still(name="a"), still(name="b", begin=50_000)])
    share = np.mean(realised(still(), anchors_of(still(), history(of), 20, 10), 20) <= floor_of(20))
    assert share > 0.5
    assert "do not move" in " ".join(made.notes)
    (warning,) = made.warnings
    assert "take a larger data.window" in warning
    for baseline in EVALUATION.baselines(of, made):
        if baseline.name == "oracle":
            continue
        told = baseline.fit(made.train, made.valid, None).predict(made.test)
        metrics = score_forecast(told, made.test).metrics
        assert all(np.isfinite(metrics[name].value) for name in ("qlike", "rmspe", "log_rmse")), baseline.name


def test_rmspe_leaves_windows_without_movement_out_and_says_how_many():
    of = config("data.test_stride=10")
    made = dataset(of, [still(name="a"), still(name="b", begin=50_000)])
    scored = score_forecast(Forecast(np.full(made.test.num_rows, 1e-4)), made.test)
    assert scored.metrics["rmspe"].count == int(made.test.moving.sum()) < made.test.num_rows
    assert scored.metrics["qlike"].count == made.test.num_rows


def test_zero_scores_an_rmspe_of_exactly_one():
    made = dataset(config())
    scored = score_forecast(Forecast(np.zeros(made.test.num_rows)), made.test)
    assert scored.metrics["rmspe"].value == 1.0
    assert scored.metrics["mean_ratio"].value == 0.0


def test_the_rules_that_unmask_an_rmspe_cannot_be_left_out():
    names = config("baselines=[har]").baselines
    assert set(names) >= {"zero", "best-constant", "naive"}
    scored = score_forecast(Forecast(np.full(dataset(config()).test.num_rows, 1e-4)), dataset(config()).test)
    assert set(scored.metrics) == {"qlike", "rmspe", "r2", "log_rmse", "mean_ratio"}


def test_bad_options_are_named():
    with pytest.raises(ConfigError, match=r"data\.windows.*three rising"):
        config("data.windows=[60, 30, 10]")
    with pytest.raises(ConfigError, match=r"image\.rows.*even"):
        config("image.rows=63")
    with pytest.raises(ConfigError, match=r"data\.hours"):
        config("data.hours=['21:00', '14:30']")


def test_a_split_cut_by_rows_keeps_the_order():
    one = session()
    anchors = anchors_of(one, 121, 20, 10)
    split = VolatilitySplit([Window(one, anchors)], config(), dataset(config()).train.grid, stride=10)
    kept = np.arange(split.num_rows) % 3 == 0
    np.testing.assert_array_equal(split.chosen(kept).targets, split.targets[kept])


def test_a_model_that_minimises_rmspe_is_warned_of_beside_every_table():
    (warning,) = dataset(config("model.loss=rmspe")).warnings
    assert "far too low" in warning
    assert dataset(config()).warnings == ()

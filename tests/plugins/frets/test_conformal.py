"""Conformal intervals: the guarantee where it holds, a refusal where it cannot."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.plugins.frets.conformal import ConformalIntervals, score, windows_needed


def draws(windows, horizon=4, series=3, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((windows, horizon, series))


@given(
    windows=st.integers(9, 60),
    level=st.sampled_from([50, 80, 90]),
    method=st.sampled_from(["symmetric", "asymmetric"]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None)
def test_coverage_on_exchangeable_residuals_is_at_least_nominal_and_hardly_more(windows, level, method, seed):
    if windows < windows_needed(level, method):
        return
    # Skewed residuals; very many series, so that the mean over calibration sets is seen in one call.
    everything = np.random.default_rng(seed).exponential(size=(windows + 20, 2, 1500)) - 1
    intervals = ConformalIntervals.fit(everything[:windows], levels=[level], method=method)
    (found,) = intervals.coverage(everything[windows:])
    tails = 1 if method == "symmetric" else 2
    assert found.n == 20 * 2 * 1500
    assert level / 100 - 0.02 < found.coverage < level / 100 + tails / (windows + 1) + 0.02


def test_half_width_is_the_stated_rank_of_the_absolute_residuals():
    residuals = draws(19, horizon=1, series=1)
    low, high = ConformalIntervals.fit(residuals, levels=[80, 95]).offsets(80, 0)
    assert high[0] == np.sort(np.abs(residuals[:, 0, 0]))[15]  # ceil(20 * 0.8) = 16th
    assert low[0] == -high[0]
    widest = ConformalIntervals.fit(residuals, levels=[95]).offsets(95, 0)[1]
    assert widest[0] == np.abs(residuals).max()


def test_asymmetric_offsets_are_ranks_of_both_tails():
    residuals = draws(39, horizon=1, series=1)
    low, high = ConformalIntervals.fit(residuals, levels=[95], method="asymmetric").offsets(95, 0)
    assert (low[0], high[0]) == (residuals.min(), residuals.max())


@pytest.mark.parametrize(("level", "symmetric", "asymmetric"), [(80, 4, 9), (95, 19, 39), (99, 99, 199)])
def test_a_level_is_refused_below_the_number_of_windows_that_it_needs(level, symmetric, asymmetric):
    for method, needed in (("symmetric", symmetric), ("asymmetric", asymmetric)):
        assert windows_needed(level, method) == needed
        enough = ConformalIntervals.fit(draws(needed), levels=[level], method=method)
        assert enough.levels == (level,)
        assert np.isfinite(enough.low[level]).all()
        short = ConformalIntervals.fit(draws(needed - 1), levels=[level, 50], method=method)
        assert short.levels == (50,)
        assert short.refused == {level: needed}
        with pytest.raises(
            ValueError, match=f"needs {needed} calibration windows, and there are {needed - 1}"
        ):
            short.offsets(level, 0)
        assert any(f"{needed} calibration windows" in text for _, text in short.describe())


def test_no_calibration_window_at_all_refuses_every_level():
    for residuals in (draws(0), np.full((30, 4, 3), np.nan)):
        intervals = ConformalIntervals.fit(residuals)
        assert intervals.levels == ()
        assert intervals.refused == {80: 4, 95: 19}


def test_a_series_with_too_few_windows_has_no_interval_while_the_others_do():
    residuals = draws(30)
    residuals[5:, :, 1] = np.nan
    intervals = ConformalIntervals.fit(residuals, levels=[95])
    assert np.isnan(intervals.offsets(95, 1)[0]).all()
    assert np.isfinite(intervals.offsets(95, 0)[0]).all()
    assert np.isfinite(intervals.offsets(95, None)[0]).all()
    (found,) = intervals.coverage(draws(10, seed=1))
    assert found.n == 10 * 4 * 2


def test_missing_residuals_change_nothing_for_the_rest():
    residuals = draws(60)
    holes = np.concatenate([residuals, np.full((7, 4, 3), np.nan)])[np.random.default_rng(0).permutation(67)]
    whole, broken = ConformalIntervals.fit(residuals), ConformalIntervals.fit(holes)
    np.testing.assert_array_equal(whole.high[95], broken.high[95])
    assert whole.windows == broken.windows == 60


def test_effective_count_is_the_number_of_windows_over_the_horizon():
    intervals = ConformalIntervals.fit(draws(200, horizon=96))
    assert intervals.effective_windows == pytest.approx(200 / 96)
    assert "effectively 2.1" in dict(intervals.describe())["calibration windows"]


@pytest.mark.parametrize("method", ["symmetric", "asymmetric"])
def test_adaptive_is_closer_to_nominal_than_static_after_the_noise_grows(method):
    calibration, later = draws(300), draws(600, seed=1, scale=1.6)
    intervals = ConformalIntervals.fit(calibration, levels=[80], method=method)
    (static,) = intervals.coverage(later)
    adaptive = score(80, later, *intervals.adapt(later, 80))
    assert static.coverage < 0.65
    assert abs(adaptive.coverage - 0.8) < 0.5 * abs(static.coverage - 0.8)
    assert adaptive.width > static.width


def test_adaptive_narrows_when_the_noise_shrinks():
    intervals = ConformalIntervals.fit(draws(300), levels=[80])
    later = draws(600, seed=1, scale=0.5)
    (static,) = intervals.coverage(later)
    adaptive = score(80, later, *intervals.adapt(later, 80))
    assert abs(adaptive.coverage - 0.8) < 0.5 * abs(static.coverage - 0.8)
    assert adaptive.width < static.width


@given(changed=st.integers(0, 39), step=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_adaptive_bounds_use_only_outcomes_known_at_the_cutoff(changed, step):
    intervals = ConformalIntervals.fit(draws(50), levels=[80])
    later = draws(40, seed=1)
    other = later.copy()
    other[changed] = 100.0
    before, after = (intervals.adapt(r, 80, step=step)[1] for r in (later, other))
    for ahead in range(4):
        # The outcome of step `ahead` + 1 is observed that many rows after its cutoff.
        first_aware = changed + -(-(ahead + 1) // step)
        np.testing.assert_array_equal(before[:first_aware, ahead], after[:first_aware, ahead])
    assert first_aware >= 40 or not np.array_equal(before[first_aware:], after[first_aware:])


def test_adaptive_starts_at_the_static_bounds_and_survives_missing_outcomes():
    intervals = ConformalIntervals.fit(draws(50), levels=[80])
    low, high = intervals.adapt(np.full((20, 4, 3), np.nan), 80)
    np.testing.assert_array_equal(low, np.broadcast_to(intervals.low[80], low.shape))
    np.testing.assert_array_equal(high, np.broadcast_to(intervals.high[80], high.shape))


def test_intervals_survive_storage_as_json_and_arrays():
    intervals = ConformalIntervals.fit(draws(30), levels=[80, 95, 99], method="symmetric")
    document, arrays = intervals.to_parts()
    restored = ConformalIntervals.from_parts(
        json.loads(json.dumps(document)), {**arrays, "shift": np.ones(3)}
    )
    assert restored.levels == (80, 95)
    assert restored.refused == {99: 99}
    for column in (0, 2, None):
        for mine, theirs in zip(intervals.offsets(95, column), restored.offsets(95, column), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match="fit again"):
        restored.adapt(draws(5), 80)


def test_wrong_shapes_and_levels_are_refused():
    with pytest.raises(ValueError, match="windows, horizon, series"):
        ConformalIntervals.fit(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="from 1 to 99"):
        ConformalIntervals.fit(draws(5), levels=[100])
    with pytest.raises(ValueError, match="calibrated for"):
        ConformalIntervals.fit(draws(50)).offsets(70, 0)

"""Baselines: each does what its formula says, on whole and on broken series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.plugins.frets.config import SimulatorConfig
from appliedpapers.plugins.frets.moments import WindowMoments
from appliedpapers.plugins.frets.simulator import simulate
from appliedpapers.plugins.frets.window_models import (
    LagsLightGBM,
    LastValue,
    RidgeNLinear,
    SeasonalNaive,
    find_period,
)
from appliedpapers.plugins.frets.windows import WindowArrays


def noise(rows=200, series=3, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, series)).cumsum(axis=0)


def parts(values, lookback=12, horizon=6, train=0.6, valid=0.8, ds=None):
    a, b, end = int(train * len(values)), int(valid * len(values)), len(values)
    common = {"lookback": lookback, "horizon": horizon, "ds": ds}
    return (
        WindowArrays(values, first=lookback, last=a - horizon, **common),
        WindowArrays(values, first=a, last=b - horizon, **common),
        WindowArrays(values, first=b, last=end - horizon, **common),
    )


def broken(values, share=0.03, seed=1):
    values = values.copy()
    values[np.random.default_rng(seed).random(values.shape) < share] = np.nan
    return values


def design(windows):
    """Changes against the last input, ``(rows, L)`` and ``(rows, H)``, of all valid windows."""
    last = windows.before(1)
    x = (windows.inputs - last).transpose(0, 2, 1)[windows.valid]
    y = (windows.targets - last).transpose(0, 2, 1)[windows.valid]
    return x, y


def test_last_value_repeats_the_last_value():
    train, valid, test = parts(noise())
    forecast = LastValue().fit(train, valid, 0).forecast(test)
    for step in range(6):
        np.testing.assert_array_equal(forecast[:, step], test.values[test.cutoffs - 1])


def test_seasonal_naive_forecasts_a_periodic_series_without_error_beyond_one_season():
    values = np.tile(np.random.default_rng(0).standard_normal((7, 2)), (40, 1))
    train, valid, test = parts(values, horizon=17)
    model = SeasonalNaive().fit(train, valid, 0)
    assert model.period_ == 7
    np.testing.assert_array_equal(model.forecast(test), test.targets)


def test_seasonal_naive_falls_back_to_the_last_value():
    values = noise()
    values[150, 0] = np.nan
    windows = WindowArrays(values, first=155, last=156, lookback=3, horizon=4)
    forecast = SeasonalNaive(5).forecast(windows)
    np.testing.assert_array_equal(forecast[0, :, 0], [values[154, 0], *values[151:154, 0]])
    early = WindowArrays(values, first=3, last=3, lookback=3, horizon=4)
    np.testing.assert_array_equal(SeasonalNaive(24).forecast(early)[0], np.tile(values[2], (4, 1)))


@pytest.mark.parametrize("period", [7, 12, 24, 52, 168])
def test_period_is_found_in_a_noisy_season(period):
    rng = np.random.default_rng(period)
    values = np.tile(rng.standard_normal((period, 2)), (8, 1))
    assert find_period(broken(values + 0.3 * rng.standard_normal(values.shape))) == period


def test_no_period_is_found_in_a_trend_a_constant_or_nothing():
    assert find_period(np.arange(400.0)[:, None]) == 1
    assert find_period(np.ones((400, 2))) == 1
    assert find_period(np.full((400, 2), np.nan)) == 1


@given(
    rows=st.integers(30, 120),
    lookback=st.integers(1, 15),
    horizon=st.integers(1, 8),
    step=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.02, 0.1]),
)
@settings(max_examples=40, deadline=None)
def test_moments_equal_those_of_the_design_matrix(rows, lookback, horizon, step, share):
    values = broken(noise(rows), share)
    windows = WindowArrays(
        values, first=lookback, last=rows - horizon, lookback=lookback, horizon=horizon, step=step
    )
    moments = WindowMoments.of(windows)
    x, y = design(windows)
    assert moments.count == len(x)
    np.testing.assert_allclose(moments.inputs, x.T @ x, atol=1e-7, rtol=1e-9)
    np.testing.assert_allclose(moments.cross, x.T @ y, atol=1e-7, rtol=1e-9)
    np.testing.assert_allclose(moments.targets, (y**2).sum(0), atol=1e-7, rtol=1e-9)


def test_ridge_solves_the_normal_equations_and_chooses_on_validation():
    train, valid, test = parts(broken(noise(600), 0.003))
    model = RidgeNLinear(lookbacks=(4, 12), penalties=(0.1, 10.0, 1e3)).fit(train, valid, 0)
    errors = {}
    for lookback in (4, 12):
        x, y = design(train.with_lookback(lookback))
        xv, yv = design(valid.with_lookback(lookback))
        for penalty in (0.1, 10.0, 1e3):
            weight = np.linalg.solve(x.T @ x + penalty * np.eye(lookback), x.T @ y)
            errors[lookback, penalty] = ((yv - xv @ weight) ** 2).mean(), weight
    best = min(errors, key=lambda key: errors[key][0])
    assert (model.lookback_, model.penalty_) == best
    assert model.valid_mse_ == pytest.approx(errors[best][0])
    np.testing.assert_allclose(model.weight_, errors[best][1].T, atol=1e-8)
    last = test.before(1)
    expected = np.einsum("hl,wln->whn", model.weight_, test.before(model.lookback_) - last) + last
    np.testing.assert_allclose(model.forecast(test), expected, atol=1e-9)


def test_ridge_uses_the_windows_own_lookback_when_the_history_is_short():
    train, valid, _ = parts(noise(90))
    assert RidgeNLinear().fit(train, valid, 0).lookback_ == 12


def test_ridge_without_a_complete_window_is_refused():
    train, valid, _ = parts(np.full((90, 2), np.nan))
    with pytest.raises(ValueError, match="no window without missing values"):
        RidgeNLinear().fit(train, valid, 0)


def test_ridge_forecast_of_a_window_ignores_what_comes_after_its_cutoff():
    train, valid, test = parts(noise())
    model = RidgeNLinear(lookbacks=(12,)).fit(train, valid, 0)
    changed = test.values.copy()
    changed[170:] = 1e6
    later = WindowArrays(changed, first=test.first, last=test.last, lookback=12, horizon=6)
    known = test.cutoffs <= 170
    np.testing.assert_array_equal(model.forecast(later)[known], model.forecast(test)[known])


@pytest.fixture(scope="module")
def load():
    simulated = simulate(SimulatorConfig(series=3, steps=3_000), 2021)
    values = simulated.panel.values
    scaled = (values - values[:1800].mean(0)) / values[:1800].std(0)
    return scaled, simulated.panel.ds


def small_trees():
    return LagsLightGBM(train_rows=20_000, valid_rows=5_000, max_trees=60)


def test_trees_on_lags_beat_the_last_value_and_repeat_by_seed(load):
    train, valid, test = parts(load[0], lookback=24, horizon=12, ds=load[1])
    model = small_trees().fit(train, valid, 1)
    forecast = model.forecast(test)
    naive = LastValue().forecast(test)
    assert ((forecast - test.targets) ** 2).mean() < 0.5 * ((naive - test.targets) ** 2).mean()
    np.testing.assert_array_equal(small_trees().fit(train, valid, 1).forecast(test), forecast)
    assert not np.array_equal(small_trees().fit(train, valid, 2).forecast(test), forecast)


def test_trees_on_lags_see_nothing_after_the_cutoff_and_live_without_a_calendar(load):
    train, valid, test = parts(broken(load[0], 0.01), lookback=24, horizon=12)
    model = small_trees().fit(train, valid, 1)
    changed = test.values.copy()
    changed[test.first + 50 :] = 1e6
    later = WindowArrays(changed, first=test.first, last=test.first + 50, lookback=24, horizon=12)
    missing_last = np.isnan(later.before(1)[:, 0])
    forecast = model.forecast(later)
    np.testing.assert_array_equal(forecast, model.forecast(test)[:51])
    np.testing.assert_array_equal(np.isnan(forecast).all(1), missing_last)


def test_trees_refuse_to_forecast_before_they_are_fitted(load):
    with pytest.raises(ValueError, match="fit before forecast"):
        LagsLightGBM().forecast(parts(load[0])[2])

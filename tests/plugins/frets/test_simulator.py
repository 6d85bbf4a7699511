"""The embedded simulator: what it claims to know about its data is true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.plugins.frets.config import SimulatorConfig
from appliedpapers.plugins.frets.simulator import SENTINEL, expected_hinge, simulate

FAULTS = {"level_shift", "missing", "sentinel", "duplicated_hour", "outliers"}


def simulated(seed: int = 2021, **wanted):
    return simulate(SimulatorConfig(**wanted), seed)


@pytest.fixture(scope="module")
def clean():
    return simulated()


@pytest.fixture(scope="module")
def faulty():
    return simulated(**dict.fromkeys(FAULTS, True))


def test_default_is_eight_hourly_series_of_two_years_without_faults(clean):
    assert clean.panel.values.shape == (17_520, 8)
    assert len(set(clean.panel.unique_ids)) == 8
    assert clean.panel.freq == "h"
    assert (np.diff(clean.panel.ds) == np.timedelta64(1, "h")).all()
    assert np.isfinite(clean.panel.values).all()
    for fault in (clean.missing, clean.sentinel, clean.outlier, clean.duplicated):
        assert not fault.any()


def test_components_sum_to_the_series(clean):
    total = sum(clean.components.values())
    np.testing.assert_allclose(total, clean.panel.values, atol=1e-9, rtol=0)


def test_same_seed_gives_the_same_bytes_and_another_seed_other_data(clean):
    again = simulated()
    assert again.panel.values.tobytes() == clean.panel.values.tobytes()
    for name, component in clean.components.items():
        assert again.components[name].tobytes() == component.tobytes()
    assert not np.allclose(simulated(seed=7).panel.values, clean.panel.values)


def test_daily_weekly_and_annual_cycles_are_visible(clean):
    hour = np.arange(17_520) % 24
    y = clean.panel.values
    by_hour = np.array([y[hour == h].mean(0) for h in range(24)])
    assert (np.ptp(by_hour, axis=0) > 0.1 * clean.parameters.c).all()
    weekend = (clean.panel.ds.astype("datetime64[D]").astype(int) + 3) % 7 >= 5
    assert (y[~weekend].mean(0) > y[weekend].mean(0)).all()
    month = clean.panel.ds.astype("datetime64[M]").astype(int) % 12
    assert clean.temperature[month == 6].mean() > clean.temperature[month == 0].mean() + 10
    assert (
        clean.components["heating"][month == 6].mean(0) < clean.components["heating"][month == 0].mean(0)
    ).all()


@given(mean=st.floats(-6, 6), deviation=st.floats(0.05, 3))
@settings(max_examples=25, deadline=None)
def test_expected_hinge_equals_a_monte_carlo_mean(mean, deviation):
    draws = mean + deviation * np.random.default_rng(0).standard_normal(100_000)
    expected = np.maximum(draws, 0)
    found = expected_hinge(np.array([mean]), np.array([deviation]))[0]
    assert abs(found - expected.mean()) < 5 * deviation / np.sqrt(100_000)


def test_oracle_equals_the_mean_of_simulated_futures(clean):
    cutoff, step, draws = 2_000, 12, 20_000
    rng = np.random.default_rng(3)
    z = np.full(draws, clean.temperature_state[cutoff - 1])
    for _ in range(step):
        z = 0.97 * z + 0.7 * rng.standard_normal(draws)
    row = cutoff + step - 1
    temperature = clean.temperature[row] - clean.temperature_state[row] + z
    p = clean.parameters
    random_part = (
        np.maximum(16 - temperature, 0)[:, None] * p.u + np.maximum(temperature - 22, 0)[:, None] * p.v
    )
    known = sum(clean.components[name][row] for name in ("level", "daily", "weekly"))
    decayed = 0.9**step * clean.factor[cutoff - 1] * p.l + 0.7**step * clean.components["noise"][cutoff - 1]
    expected = known + decayed + random_part.mean(0)
    error = np.abs(clean.oracle(cutoff, step)[-1] - expected)
    assert (error < 5 * random_part.std(0) / np.sqrt(draws)).all()


def test_oracle_of_many_cutoffs_equals_one_at_a_time_and_reaches_past_the_end(clean):
    many = clean.oracles([5, 900, 17_520], 30)
    assert many.shape == (3, 30, 8)
    for forecast, cutoff in zip(many, (5, 900, 17_520), strict=True):
        np.testing.assert_array_equal(forecast, clean.oracle(cutoff, 30))
    with pytest.raises(ValueError, match="cutoffs must lie in"):
        clean.oracle(0, 3)


def test_oracle_knows_nothing_of_what_comes_after_the_cutoff():
    short, long = simulated(steps=500), simulated(steps=500)
    for array in (long.temperature_state, long.factor, *long.components.values()):
        array[300:] = 1e6
    np.testing.assert_array_equal(short.oracle(300, 48), long.oracle(300, 48))


def test_oracle_error_lies_far_below_the_seasonal_naive_and_above_zero(clean):
    cutoffs = np.arange(15_000, 17_400, 7)
    target = np.stack([clean.panel.values[c : c + 96] for c in cutoffs])
    naive = np.stack([np.tile(clean.panel.values[c - 24 : c], (4, 1)) for c in cutoffs])
    scale = clean.panel.values.std(0)
    oracle_mse = (((clean.oracles(cutoffs, 96) - target) / scale) ** 2).mean()
    naive_mse = (((naive - target) / scale) ** 2).mean()
    assert 0 < oracle_mse < 0.5 * naive_mse


def test_oracle_residuals_have_no_bias(clean):
    cutoffs = np.arange(200, 17_400, 24)
    residual = np.stack([clean.panel.values[c : c + 24] for c in cutoffs]) - clean.oracles(cutoffs, 24)
    by_series = residual.mean((0, 1))
    assert (np.abs(by_series) < 5 * residual.mean(1).std(0) / np.sqrt(len(cutoffs) / 5)).all()


def test_faults_leave_everything_else_as_it_was(clean, faulty):
    untouched = ~(faulty.missing | faulty.sentinel | faulty.outlier)
    without = faulty.panel.values - faulty.components["shift"]
    np.testing.assert_allclose(without[untouched], clean.panel.values[untouched], atol=1e-9, rtol=0)
    for name in ("level", "daily", "weekly", "heating", "cooling", "common", "noise"):
        np.testing.assert_array_equal(faulty.components[name], clean.components[name])
    alone = simulated(missing=True)
    np.testing.assert_array_equal(alone.missing, faulty.missing)


def test_missing_values_are_one_percent_and_marked(faulty):
    np.testing.assert_array_equal(np.isnan(faulty.panel.values), faulty.missing)
    assert faulty.missing.mean() == pytest.approx(0.01, rel=1e-3)


def test_sentinels_are_marked(faulty):
    np.testing.assert_array_equal(faulty.panel.values == SENTINEL, faulty.sentinel)
    assert faulty.sentinel.sum() > 100


def test_level_shift_is_one_lasting_step_in_each_series(faulty):
    shift = faulty.components["shift"]
    assert (np.count_nonzero(np.diff(shift, axis=0), axis=0) == 1).all()
    assert (shift[0] == 0).all()
    relative = np.abs(shift[-1]) / faulty.parameters.c
    assert (relative >= 0.15).all()
    assert (relative <= 0.3).all()


def test_outliers_are_eight_standard_deviations_of_the_noise(faulty):
    sigma = 0.02 * faulty.parameters.c / np.sqrt(1 - 0.7**2)
    size = np.abs(faulty.components["outliers"]) / sigma
    np.testing.assert_allclose(size[faulty.outlier], 8.0)
    assert (size[~faulty.outlier] == 0).all()
    assert faulty.outlier.sum() > 100


def test_clock_change_repeats_one_hour_each_autumn(clean, faulty):
    table = faulty.table()
    assert table.num_rows == 8 * 17_522
    assert table["y"].null_count == pytest.approx(faulty.missing.sum(), abs=8)
    ds = table["ds"].to_numpy()[:17_522]
    assert set(table["unique_id"].to_pylist()[:17_522]) == {"load-1"}
    repeated = ds[1:][ds[1:] == ds[:-1]]
    assert list(repeated.astype("datetime64[h]").astype(str)) == ["2022-10-30T02", "2023-10-29T02"]
    assert clean.table().num_rows == 8 * 17_520


def test_components_with_faults_sum_to_the_panel_where_nothing_was_lost(faulty):
    kept = ~(faulty.missing | faulty.sentinel)
    np.testing.assert_allclose(faulty.truth[kept], faulty.panel.values[kept], atol=1e-9, rtol=0)

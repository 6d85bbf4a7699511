"""Scores: by hand on small cases, in the right units, over every window and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_frets import HORIZON, LOOKBACK, configured, dataset_of, panel_of, waves

from appliedpapers.plugins.frets.scoring import (
    Forecast,
    complete_forecast,
    horizon_buckets,
    naive_scale,
    overlap,
    score_forecast,
)

PROTOCOLS = {
    "ltsf-zscore": ("mse", "mae", "rmse"),
    "authors-minmax": ("mae", "rmse", "mse"),
    "rolling": ("mase", "mae", "rmse", "smape", "wape"),
}


def made(protocol="ltsf-zscore", values=None, *assignments):
    config = configured(f"data.protocol={protocol}", *assignments)
    return dataset_of(panel_of(waves() if values is None else values), config)


def guess(split, seed=0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.5, split.windows.targets.shape)
    return split.windows.targets + noise


def score(dataset, values, split=None, **bounds):
    split = split or dataset.test
    return score_forecast(Forecast(values, **bounds), split, dataset.protocol, dataset.train)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_scores_its_metrics_in_its_order(protocol):
    dataset = made(protocol)
    scored = score(dataset, guess(dataset.test))
    assert tuple(scored.metrics) == PROTOCOLS[protocol]
    assert scored.size == dataset.test.num_rows


@pytest.mark.parametrize("protocol", ["ltsf-zscore", "authors-minmax"])
def test_benchmark_protocols_average_scaled_errors_over_windows_steps_and_series(protocol):
    dataset = made(protocol)
    values = guess(dataset.test)
    error = values - dataset.test.windows.targets
    metrics = score(dataset, values).metrics
    assert metrics["mse"].value == pytest.approx((error**2).mean())
    assert metrics["mae"].value == pytest.approx(np.abs(error).mean())
    assert metrics["rmse"].value == pytest.approx(np.sqrt((error**2).mean()))


def test_rolling_scores_are_in_the_units_of_the_data():
    dataset = made("rolling")
    split, values = dataset.test, guess(dataset.test)
    truth, forecast = split.scaler.inverse(split.windows.targets), split.scaler.inverse(values)
    error = forecast - truth
    metrics = {name: item.value for name, item in score(dataset, values).metrics.items()}
    assert metrics["mae"] == pytest.approx(np.abs(error).mean())
    assert metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert metrics["wape"] == pytest.approx(100 * np.abs(error).sum() / np.abs(truth).sum())
    symmetric = 2 * np.abs(error) / (np.abs(truth) + np.abs(forecast))
    assert metrics["smape"] == pytest.approx(100 * symmetric.mean())
    train = dataset.train.panel.values
    scale = np.abs(train[24:] - train[:-24]).mean(axis=0)
    assert metrics["mase"] == pytest.approx((np.abs(error) / scale).mean())


def test_the_mase_is_scaled_by_the_train_part_alone():
    values = waves()
    dataset = made("rolling", values)
    later = values.copy()
    later[len(dataset.train.panel.ds) :] += np.random.default_rng(0).normal(0, 50, (1, 3))
    np.testing.assert_array_equal(naive_scale(made("rolling", later).train), naive_scale(dataset.train))


def test_the_naive_scale_of_a_constant_series_is_not_zero():
    values = waves()
    values[:, 1] = 4.0
    scale = naive_scale(made("rolling", values).train)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()


def test_a_window_with_a_missing_value_counts_in_no_score():
    values = waves()
    clean = made("ltsf-zscore", values)
    hole = len(values) - 3
    values = values.copy()
    values[hole, 0] = np.nan
    dataset = made("ltsf-zscore", values)
    split, forecast = dataset.test, guess(clean.test)
    touched = (split.windows.cutoffs + HORIZON > hole) & (split.windows.cutoffs - LOOKBACK <= hole)
    error = np.where(split.windows.valid[:, None, :], forecast - np.nan_to_num(split.windows.targets), np.nan)
    assert score(dataset, forecast).metrics["mse"].value == pytest.approx(np.nanmean(error**2))
    assert not split.windows.valid[touched, 0].any()
    # nor does what a model says there
    forecast[touched, :, 0] = np.nan
    assert score(dataset, forecast).metrics["mse"].value == pytest.approx(np.nanmean(error**2))


def test_a_model_is_not_excused_from_a_window_that_others_are_scored_on():
    dataset = made()
    forecast = guess(dataset.test)
    forecast[5, 2, 1] = np.nan
    with pytest.raises(ValueError, match="forecast is missing"):
        score(dataset, forecast)
    whole = complete_forecast(forecast, dataset.test.windows)
    assert whole.filled == 1
    assert whole.values[5, 2, 1] == dataset.test.windows.inputs[5, -1, 1]
    assert np.isfinite(score(dataset, whole.values).metrics["mse"].value)
    assert complete_forecast(guess(dataset.test), dataset.test.windows).filled == 0


def test_windows_are_resampled_in_blocks_of_twice_their_overlap():
    dense, sparse = made(), made("rolling", None, "data.step=8", "data.n_windows=4")
    assert (overlap(dense.test), score(dense, guess(dense.test)).block) == (HORIZON, 2 * HORIZON)
    assert overlap(sparse.test) == 1


@given(st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_buckets_of_the_horizon_cover_every_step_once(horizon):
    steps = [step for _, part in horizon_buckets(horizon) for step in range(part.start, part.stop)]
    assert steps == list(range(horizon))
    assert 1 <= len(list(horizon_buckets(horizon))) <= 4


def test_slices_speak_of_series_steps_and_intervals():
    dataset = made()
    split, values = dataset.test, guess(dataset.test)
    narrow = {80: (values - 0.1, values + 0.1), 95: (values - 9.0, values + 9.0)}
    scored = score(dataset, values, bounds=narrow)
    by = {next(iter(where.items())): metrics for where, metrics in scored.slices}
    error = values - split.windows.targets
    assert by["series", "b"]["mse"].value == pytest.approx((error[:, :, 1] ** 2).mean())
    assert by["steps ahead", "1 to 2"]["mse"].value == pytest.approx((error[:, :2] ** 2).mean())
    assert by["level", "80"]["coverage"].value == pytest.approx((np.abs(error) <= 0.1).mean())
    assert by["level", "80"]["interval_width"].value == pytest.approx(0.2)
    assert by["level", "95"]["coverage"].value == 1.0


def test_an_interval_that_is_known_nowhere_is_left_out():
    dataset = made()
    values = guess(dataset.test)
    scored = score(dataset, values, bounds={95: (values * np.nan, values * np.nan)})
    assert not [where for where, _ in scored.slices if "level" in where]


def test_one_series_and_one_step_have_no_slices_of_their_own():
    config = configured("model.horizon=1")
    dataset = dataset_of(panel_of(waves(series=1)), config)
    assert score(dataset, guess(dataset.test)).slices == ()

"""The baselines as a run sees them, and the oracle that knows the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from small_frets import HORIZON, LOOKBACK, configured, dataset_of, panel_of, waves

from appliedpapers.core.model import FitContext
from appliedpapers.plugins.frets.baselines import LinearNetwork, Oracle, WindowBaseline, baselines
from appliedpapers.plugins.frets.config import BASELINES
from appliedpapers.plugins.frets.data import DATASETS
from appliedpapers.plugins.frets.scoring import score_forecast
from appliedpapers.plugins.frets.simulator import simulate
from appliedpapers.plugins.frets.window_models import RidgeNLinear

SIMULATED = ("data.simulator.steps=1500", "data.simulator.series=3")


def fitted(baseline, dataset, folder):
    return baseline.fit(dataset.train, dataset.valid, FitContext(folder, seed=0))


def mse(baseline, dataset) -> float:
    forecast = baseline.predict(dataset.test)
    return score_forecast(forecast, dataset.test, dataset.protocol, dataset.train).metrics["mse"].value


def test_the_configuration_names_the_baselines_and_simulated_data_add_the_oracle():
    config = configured("baselines=[last-value, ridge-nlinear]")
    own = dataset_of(panel_of(waves()), config)
    assert [item.name for item in baselines(config, own)] == ["last-value", "ridge-nlinear"]
    simulated = DATASETS.simulated(configured(*SIMULATED))
    named = baselines(configured(), simulated)
    assert [item.name for item in named] == [*BASELINES, "oracle"]
    assert [item.name for item in named if not item.attainable] == ["oracle"]


def test_every_baseline_forecasts_every_window_and_beats_nothing_by_magic(tmp_path):
    config = configured(*SIMULATED, "training.epochs=3")
    dataset = DATASETS.simulated(config)
    found = {}
    for baseline in baselines(config, dataset):
        fitted(baseline, dataset, tmp_path / baseline.name)
        forecast = baseline.predict(dataset.test)
        assert forecast.values.shape == (dataset.test.num_rows, HORIZON, 3)
        assert np.isfinite(forecast.values).all()
        assert forecast.bounds == {}
        found[baseline.name] = mse(baseline, dataset)
    # nobody who does not know the state can beat the one who does by more than chance
    assert min(found, key=found.get) == "oracle"
    assert found["ridge-nlinear"] < found["seasonal-naive"]
    assert found["lightgbm"] < found["last-value"]


def test_the_ridge_gets_our_lookback_beside_its_own(tmp_path):
    config = configured("model.lookback=48")
    (ridge,) = [
        item for item in baselines(config, dataset_of(panel_of(waves()), config)) if "ridge" in item.name
    ]
    assert ridge.inner.lookbacks == (48, 96, 336, 512, 720)


def test_a_baseline_that_looks_further_back_than_a_gap_falls_back_to_the_last_value_and_says_so(tmp_path):
    values = waves()
    hole = 330
    values[hole, 1] = np.nan
    config = configured()
    dataset = dataset_of(panel_of(values), config)
    ridge = fitted(WindowBaseline(RidgeNLinear(lookbacks=(72,))), dataset, tmp_path)
    forecast = ridge.predict(dataset.test)
    windows = dataset.test.windows
    before = (windows.cutoffs > hole) & (windows.cutoffs - 72 <= hole)
    beyond = windows.valid[:, 1] & before
    assert forecast.filled == beyond.sum() > 0
    np.testing.assert_array_equal(
        forecast.values[beyond, :, 1], np.repeat(windows.inputs[beyond, -1:, 1], HORIZON, axis=1)
    )
    assert dict(ridge.describe())["last value in place of a gap"] == f"{beyond.sum()} forecasts"
    assert np.isfinite(mse(ridge, dataset))


@pytest.mark.parametrize("name", ["nlinear", "dlinear"])
def test_linear_networks_repeat_by_seed_and_never_see_a_gap(tmp_path, name):
    values = waves()
    values[np.random.default_rng(2).random(values.shape) < 0.005] = np.nan
    config = configured()
    dataset = dataset_of(panel_of(values), config)
    first, second = (
        fitted(LinearNetwork(name, config), dataset, tmp_path / str(n)).predict(dataset.test).values
        for n in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(mse(fitted(LinearNetwork(name, config), dataset, tmp_path / "3"), dataset))


def test_baselines_describe_what_they_chose(tmp_path):
    config = configured("baselines=[seasonal-naive, ridge-nlinear]")
    dataset = dataset_of(panel_of(waves()), config)
    seasonal, ridge = (fitted(item, dataset, tmp_path) for item in baselines(config, dataset))
    assert dict(seasonal.describe()) == {"period": "24"}
    assert set(dict(ridge.describe())) == {"lookback", "penalty"}
    config = configured("baselines=[seasonal-naive]", "data.season=12")
    (given,) = baselines(config, dataset)
    assert dict(fitted(given, dataset, tmp_path).describe()) == {"period": "12"}


def test_the_oracle_is_the_simulators_own_forecast_in_scaled_space(tmp_path):
    config = configured(*SIMULATED)
    dataset = DATASETS.simulated(config)
    oracle = fitted(Oracle(config), dataset, tmp_path)
    truth = simulate(config.data.simulator, config.seed)
    split = dataset.test
    first = split.scaler.inverse(oracle.predict(split).values)[0]
    np.testing.assert_allclose(first, truth.oracle(int(split.windows.cutoffs[0]), HORIZON), rtol=1e-9)


def test_the_oracle_stays_in_step_where_the_first_hours_are_missing(tmp_path):
    # one series whose very first value is lost: its history begins an hour later
    for seed in range(400):
        faulty = ("data.simulator.steps=600", "data.simulator.series=1", "data.simulator.missing=true")
        config = configured(*faulty, f"seed={seed}", "data.impute=linear")
        dataset = DATASETS.simulated(config)
        if len(dataset.test.panel.ds) < 600:
            break
    else:
        pytest.fail("no seed loses the first value")
    oracle = fitted(Oracle(config), dataset, tmp_path)
    split = dataset.test
    forecast = split.scaler.inverse(oracle.predict(split).values)
    cutoff = np.searchsorted(oracle.truth.panel.ds, split.panel.ds[split.windows.cutoffs[0]])
    assert cutoff == split.windows.cutoffs[0] + 1
    np.testing.assert_allclose(forecast[0], oracle.truth.oracle(int(cutoff), HORIZON))
    assert cutoff > LOOKBACK

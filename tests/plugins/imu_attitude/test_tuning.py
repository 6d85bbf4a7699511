"""Tuning fits the filter's noises to trials, never for the worse there, and a bundle keeps them."""

from __future__ import annotations

import numpy as np

from appliedpapers.core.progress import SilentProgress
from appliedpapers.plugins.imu_attitude.config import FilterConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.rotations import angle_between, up_vector
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.tuning import fit_filter, tune_filter


def error(options, recordings):
    found = []
    for one in recordings:
        apart = angle_between(GravityFilter(options).batch(one).up, up_vector(one.reference))
        found.append(np.sqrt(np.mean(apart[one.judged] ** 2)))
    return float(np.mean(found))


def test_a_badly_chosen_noise_is_mended():
    recordings = simulate(SimulatorConfig(sequences=3, seconds=20.0, fs=(50.0,), taps=False), seed=11)
    bad = FilterConfig(delay=0.0, gyr_noise=0.5)
    tuned = tune_filter(bad, recordings, 0.0, SilentProgress())
    assert tuned.gyr_noise < bad.gyr_noise
    assert error(tuned, recordings) < 0.97 * error(bad, recordings)
    assert tuned.block == bad.block


def test_noises_are_fitted_only_where_that_is_asked_for():
    recordings = simulate(SimulatorConfig(sequences=3, seconds=20.0, fs=(50.0,), taps=False), seed=11)
    bad = FilterConfig(delay=0.001, sampling="instant", gyr_noise=0.5)
    assert fit_filter(bad, recordings, SilentProgress()) == (bad, 0.001)
    asked = bad.model_copy(update={"tune": True})
    tuned = tune_filter(asked, recordings, 0.001, SilentProgress())
    assert fit_filter(asked, recordings, SilentProgress()) == (tuned, 0.001)
    assert tuned != asked

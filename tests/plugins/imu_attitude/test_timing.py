"""Sampling and delay are what the references say, and what the options say where they do."""

from __future__ import annotations

import numpy as np
import pytest

from appliedpapers.plugins.imu_attitude.config import FilterConfig
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import multiply, up_vector
from appliedpapers.plugins.imu_attitude.timing import choose_timing, fit_timing, of_means
from appliedpapers.plugins.imu_attitude.trailing_mean import strapdown

STEP, FINE = 0.02, 20


def turning(averaged):
    """A sensor that turns fast, read at 50 Hz: the mean rate of each step, or the rate at its end."""
    time = np.arange(0, 30, STEP / FINE)
    pace = np.stack([np.sin(7 * time), np.cos(9 * time), np.sin(5 * time + 1)], axis=1)
    rate = 6.0 * pace * (time > 2)[:, None]
    truth = strapdown(time, rate)[FINE - 1 :: FINE]
    whole = len(truth) * FINE
    gyr = rate[:whole].reshape(-1, FINE, 3).mean(axis=1) if averaged else rate[FINE - 1 : whole : FINE]
    stamps = time[FINE - 1 : whole : FINE]
    moving = stamps > 2
    return Recording("turning", stamps, 9.81 * up_vector(truth), gyr, reference=truth, movement=moving)


@pytest.mark.parametrize(("averaged", "sampling"), [(True, "mean"), (False, "instant")])
def test_sampling_and_delay_are_found(averaged, sampling):
    settled, delay = fit_timing(FilterConfig(), [turning(averaged)])
    assert settled.sampling == sampling
    assert abs(delay) < 1e-3


def test_what_the_options_state_is_kept():
    settled, delay = fit_timing(FilterConfig(sampling="instant", delay=0.01), [turning(averaged=True)])
    assert (settled.sampling, delay) == ("instant", 0.01)


def integrated(recording):
    """An estimator that knows how it starts, and takes every rate for a mean."""
    start = recording.reference[0]
    return Estimate(multiply(start, strapdown(recording.time, recording.gyr)))


@pytest.mark.parametrize(("averaged", "sampling"), [(True, "mean"), (False, "instant")])
def test_an_estimator_that_knows_means_alone_is_told_of_moments(averaged, sampling):
    recording = turning(averaged)
    readings = {"mean": integrated, "instant": lambda one: integrated(of_means(one))}
    # half a step of delay would hide which it is
    assert choose_timing(readings, [recording], delay=0.0) == (sampling, 0.0)


def test_means_are_of_neighbours_and_nothing_else_changes():
    recording = turning(averaged=False)
    found = of_means(recording)
    np.testing.assert_allclose(found.gyr[0], recording.gyr[0])
    np.testing.assert_allclose(found.gyr[1:], (recording.gyr[1:] + recording.gyr[:-1]) / 2)
    assert found.acc is recording.acc
    assert found.time is recording.time

"""The simulator against the calculus that its formulas promise."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.plugins.imu_attitude.config import SimulatorConfig
from appliedpapers.plugins.imu_attitude.rotations import (
    conjugate,
    error_quaternion,
    multiply,
    rotate,
    total_error,
)
from appliedpapers.plugins.imu_attitude.simulator import simulate, true_motion
from appliedpapers.plugins.imu_attitude.trailing_mean import strapdown

_FAST = 2  # number of the recording that turns fast and is thrown about
_PERFECT = {"noise": 0.0, "jitter": 0.0, "drops": 0.0, "taps": False}


@pytest.mark.parametrize("number", [0, 1, _FAST])
def test_integrating_the_rate_returns_the_orientation(number):
    motion = true_motion(60.0, 3, number)
    step = 1e-3
    at = np.arange(60_001) * step
    middle, apart = at[1:] - step / 2, step * np.sqrt(3) / 6
    # Magnus' series to the fourth order: the midpoint rule alone is 2e-3 deg off in the fastest motions
    early, late = motion.at(middle - apart).rate, motion.at(middle + apart).rate
    mean = (early + late) / 2 + np.sqrt(3) / 12 * step * np.cross(early, late)
    truth = motion.at(at).quaternion
    turned = multiply(truth[0], strapdown(at, np.concatenate([np.zeros((1, 3)), mean])))
    assert np.rad2deg(total_error(error_quaternion(turned, truth))).max() < 1e-4


@pytest.mark.parametrize("number", [1, _FAST, 4, 8])
def test_the_specific_force_is_what_the_path_of_the_sensor_says(number):
    motion = true_motion(30.0, 1, number)
    at, step = np.random.default_rng(0).uniform(1, 29, 400), 1e-4

    def place(when):
        return motion.translation(motion.warp(when)[0]) + rotate(motion.at(when).quaternion, motion.lever)

    pull = (place(at + step) - 2 * place(at) + place(at - step)) / step**2
    pull[:, 2] += motion.gravity
    truth = motion.at(at)
    force = rotate(conjugate(truth.quaternion), pull)
    assert np.abs(truth.force).max() > 9
    np.testing.assert_allclose(truth.force, force, atol=2e-2, rtol=2e-3)


def test_the_motions_carry_a_lever_and_breaks_somewhere():
    motions = [true_motion(60.0, 0, number) for number in range(12)]
    assert any(np.linalg.norm(motion.lever) > 0.01 for motion in motions)
    assert any(len(motion.warp.rests) > 1 for motion in motions)
    assert any(not len(motion.warp.rests) or motion.warp.rests[0, 0] > 0 for motion in motions)


def test_the_warp_is_as_smooth_as_it_says():
    warp = next(w for n in range(9) if len((w := true_motion(60.0, 0, n).warp).rests) > 1)
    at = np.linspace(0, 60, 60_001)
    warped, rate, change = warp(at)
    np.testing.assert_allclose(np.gradient(warped, at)[1:-1], rate[1:-1], atol=1e-5)
    np.testing.assert_allclose(np.gradient(rate, at)[1:-1], change[1:-1], atol=1e-5)
    assert np.abs(np.diff(change)).max() < 0.01
    assert rate.min() == 0
    assert rate.max() == 1


def test_nothing_happens_at_rest():
    recording = simulate(SimulatorConfig(sequences=3, seconds=30, **_PERFECT), 0)[0]
    rest = np.arange(len(recording)) < np.argmax(recording.movement)
    assert rest.sum() > 100
    assert np.abs(recording.gyr[rest]).max() == 0
    np.testing.assert_allclose(recording.reference[rest], recording.reference[:1].repeat(rest.sum(), 0))
    gravity = np.linalg.norm(recording.acc[rest], axis=1)
    assert 9.78 <= gravity.min() <= gravity.max() <= 9.83
    assert np.ptp(gravity) < 1e-9
    assert (np.abs(recording.gyr[recording.movement]).max(axis=1) > 0).all()


def test_a_recording_does_not_depend_on_how_many_there_are():
    few = simulate(SimulatorConfig(sequences=3, seconds=5), 7)
    more = simulate(SimulatorConfig(sequences=5, seconds=5), 7)
    assert [one.trial for one in more] == [f"simulated-{k:04d}" for k in range(1, 6)]
    for a, b in zip(few, more, strict=False):
        for field in ("time", "acc", "gyr", "reference", "movement"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    other = simulate(SimulatorConfig(sequences=3, seconds=5), 8)
    assert not np.array_equal(few[0].reference[0], other[0].reference[0])


def test_a_perfect_sensor_reads_the_truth_and_noise_leaves_the_truth_alone():
    plain = {"sequences": 3, "seconds": 10, "fs": (100.0,), "jitter": 0.0, "drops": 0.0, "taps": False}
    perfect = simulate(SimulatorConfig(noise=0, **plain), 2)[_FAST]
    noisy = simulate(SimulatorConfig(noise=1, **plain), 2)[_FAST]
    truth = true_motion(10.0, 2, _FAST).at(perfect.time)
    np.testing.assert_array_equal(perfect.gyr, truth.rate)
    np.testing.assert_array_equal(perfect.acc, truth.force)
    np.testing.assert_array_equal(perfect.reference, noisy.reference)
    off = np.rad2deg(noisy.gyr - perfect.gyr)[~perfect.movement]
    assert 0.02 < np.abs(off.mean(axis=0)).max() < 1.5
    assert 0.02 < off.std(axis=0).max() < 0.5


def test_readings_are_counts_of_a_range():
    recording = simulate(SimulatorConfig(sequences=3, seconds=10), 0)[_FAST]
    for values, ranges in (
        (recording.gyr, np.deg2rad([250, 500, 1000, 2000])),
        (recording.acc, 9.81 * np.array([2, 4, 8, 16])),
    ):
        counts = values[..., None] / (ranges / 32768)
        whole = np.abs(counts - np.round(counts)).max(axis=(0, 1)) < 1e-6
        assert whole.any()
        assert np.abs(values).max() <= ranges[whole].max() * (1 + 1e-12)


def test_time_jitters_loses_samples_and_runs_at_its_own_rate():
    options = SimulatorConfig(sequences=12, seconds=20, fs=(100.0,), jitter=0.1, drops=0.02)
    recordings = simulate(options, 0)
    steps = [np.diff(recording.time) * 100 for recording in recordings]
    assert all(one.min() > 0.79 for one in steps)
    assert any(one.min() < 0.95 for one in steps)
    lost = np.array([1 - len(recording) / 2000 for recording in recordings])
    assert (lost < 0.035).all()
    assert lost.max() > 0.005
    rates = np.array([np.ptp(recording.time) / 19.99 for recording in recordings])
    assert np.abs(rates - 1).max() < 1.1e-4
    assert np.ptp(rates) > 1e-5


def test_hits_are_short_hard_and_only_in_motion():
    plain = {"sequences": 24, "seconds": 20, "noise": 0.0}
    tapped = simulate(SimulatorConfig(taps=True, **plain), 0)
    still = simulate(SimulatorConfig(taps=False, **plain), 0)
    pulls = [np.linalg.norm(a.acc - b.acc, axis=1) for a, b in zip(tapped, still, strict=True)]
    hit = [pull for pull in pulls if pull.max() > 0]
    assert 1 <= len(hit) <= 14
    assert 20 < max(pull.max() for pull in hit) < 160
    assert all((pull > 0).mean() < 0.02 for pull in hit)
    assert all(not pull[~one.movement].any() for pull, one in zip(pulls, tapped, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    seconds=st.floats(1.01, 12),
    fs=st.floats(20, 400),
    noise=st.floats(0, 10),
    jitter=st.floats(0, 0.49),
    drops=st.floats(0, 0.89),
    seed=st.integers(0, 2**31),
)
def test_whatever_is_asked_recordings_are_sound(seconds, fs, noise, jitter, drops, seed):
    options = SimulatorConfig(sequences=3, seconds=seconds, fs=(fs,), noise=noise, jitter=jitter, drops=drops)
    for recording in simulate(options, seed):
        count = len(recording)
        assert count >= 2
        assert (np.diff(recording.time) > 0).all()
        assert recording.acc.shape == recording.gyr.shape == (count, 3)
        assert np.isfinite(recording.acc).all()
        assert np.isfinite(recording.gyr).all()
        np.testing.assert_allclose(np.linalg.norm(recording.reference, axis=1), 1)
        assert recording.movement.dtype == bool


def test_the_default_set_is_quick():
    begin = time.process_time()
    recordings = simulate(SimulatorConfig(), 0)
    assert time.process_time() - begin < 10
    assert len(recordings) == 24
    assert all(59.5 < np.ptp(recording.time) < 60.1 for recording in recordings)

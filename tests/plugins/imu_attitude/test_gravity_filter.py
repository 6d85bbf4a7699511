"""The gravity filter: one machine for steps and recordings, compiled or plain, causal, and never NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliedpapers.plugins.imu_attitude.config import FilterConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    angle_between,
    from_rotation_vector,
    rotate,
    up_vector,
)
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.trailing_mean import strapdown, trailing_mean

OPTIONS = FilterConfig(delay=0.0)


def simulated(seconds=20.0, fs=100.0, noise=1.0, number=0, **options):
    wanted = {"sequences": number + 3, "seconds": seconds, "fs": (fs,), "taps": False, "noise": noise}
    return simulate(SimulatorConfig(**{"jitter": 0.0, "drops": 0.0, **wanted, **options}), seed=5)[number]


def error_deg(recording, options=OPTIONS, **more):
    estimate = GravityFilter(options, **more).batch(recording)
    return np.degrees(angle_between(estimate.up, up_vector(recording.reference)))


def mean_error_deg(recording):
    estimate = trailing_mean(recording, 10.0, corrected=True)
    return np.degrees(angle_between(estimate.up, up_vector(recording.reference)))


def rmse(errors, recording):
    return float(np.sqrt(np.mean(errors[recording.judged] ** 2)))


def stepped(machine, recording):
    rows = zip(recording.acc.tolist(), recording.gyr.tolist(), recording.time.tolist(), strict=True)
    return np.array([machine.step(*row).quaternion for row in rows])


def kept(recording, keep):
    return Recording(
        recording.trial,
        recording.time[keep],
        recording.acc[keep],
        recording.gyr[keep],
        reference=recording.reference[keep],
        movement=recording.movement[keep],
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_steps_equal_the_batch_also_when_moved_half_way(compiled):
    recording = simulated(seconds=8.0)
    expected = GravityFilter(OPTIONS).batch(recording).quaternion
    half = len(recording) // 2 + 3
    first = GravityFilter(OPTIONS, compiled=compiled)
    before = stepped(first, kept(recording, slice(0, half)))
    second = GravityFilter(OPTIONS, compiled=compiled).restore(first.state())
    after = stepped(second, kept(recording, slice(half, None)))
    np.testing.assert_allclose(np.vstack([before, after]), expected, rtol=0, atol=1e-12)


def test_what_follows_changes_nothing():
    recording = simulated(seconds=6.0)
    half = len(recording) // 2
    acc, gyr = recording.acc.copy(), recording.gyr.copy()
    acc[half:], gyr[half:] = 3.0, -2.0
    other = Recording("other", recording.time, acc, gyr)
    one, two = (GravityFilter(OPTIONS).batch(item).quaternion for item in (recording, other))
    np.testing.assert_array_equal(one[:half], two[:half])
    assert np.abs(one[half:] - two[half:]).max() > 0.1


def test_a_perfect_sensor_at_rest_is_level_within_a_tenth_of_a_degree():
    recording = simulated(seconds=30.0, noise=0.0)
    errors = error_deg(recording)
    assert errors[~recording.movement][50:].max() < 0.1


def test_a_rest_after_motion_is_level_long_before_it_is_taken_for_rest():
    recording = simulated(seconds=60.0, noise=0.0, number=4)
    estimate = GravityFilter(OPTIONS).batch(recording)
    errors = np.degrees(angle_between(estimate.up, up_vector(recording.reference)))
    stopped = int(np.flatnonzero(np.diff(recording.movement.astype(int)) == -1)[0]) + 1
    settled = stopped + round(0.5 / recording.step)
    assert errors[stopped] > 3 * errors[settled]
    assert errors[settled] < 0.1
    assert not estimate.at_rest[settled]


def test_it_beats_a_mean_of_ten_seconds_over_every_kind_of_motion():
    every = [simulated(seconds=60.0, number=number) for number in range(9)]
    ours = np.mean([rmse(error_deg(one), one) for one in every])
    assert ours < 0.95 * np.mean([rmse(mean_error_deg(one), one) for one in every])


def test_a_start_in_motion_is_forgotten_within_seconds():
    recording = simulated(seconds=40.0, number=8)
    first = int(np.argmax(recording.movement)) + 300
    torn = kept(recording, slice(first, None))
    errors = error_deg(torn)
    assert errors[0] > 5.0
    assert np.sqrt(np.mean(errors[800:] ** 2)) < 3.0


@given(vector=arrays.arrays(float, 3, elements=st.floats(-3.0, 3.0)))
@settings(max_examples=10, deadline=None)
def test_how_the_sensor_is_mounted_hardly_matters(vector):
    recording = simulated(seconds=15.0)
    turn = from_rotation_vector(vector)
    turned = Recording("turned", recording.time, rotate(turn, recording.acc), rotate(turn, recording.gyr))
    estimate, other = (GravityFilter(OPTIONS).batch(item) for item in (recording, turned))
    # rest is judged axis by axis
    apart = np.degrees(angle_between(rotate(turn, estimate.up), other.up))
    assert apart[recording.movement].max() < 0.02


def test_bias_is_found_at_rest_and_taken_off():
    time = np.arange(0, 30, 0.01)
    bias = np.radians([0.4, -0.3, 0.2])
    random = np.random.default_rng(0)
    gyr = bias + random.normal(0, np.radians(0.1), (len(time), 3))
    acc = np.array([0.0, 0.0, 9.81]) + random.normal(0, 0.05, (len(time), 3))
    estimate = GravityFilter(OPTIONS).batch(Recording("rest", time, acc, gyr))
    assert estimate.at_rest is not None
    assert estimate.at_rest[300:].all()
    assert np.degrees(np.abs(estimate.bias[-1] - bias)).max() < 0.02


def test_a_scale_error_is_found_while_turning():
    time = np.arange(0, 60, 0.01)
    pace = np.stack([np.sin(0.9 * time), 0.7 * np.sin(1.3 * time), 0.5 * np.cos(0.6 * time)], axis=1)
    rate = 4.0 * pace * (time > 2)[:, None]
    quaternion = strapdown(time, rate)
    acc = 9.81 * up_vector(quaternion)
    bent = Recording("bent", time, acc, rate * 1.004, reference=quaternion, movement=time > 2)
    rigid = OPTIONS.model_copy(update={"scale_error": 0.0})
    assert rmse(error_deg(bent), bent) < 0.7 * rmse(error_deg(bent, rigid), bent)


def test_jittered_stamps_cost_two_percent_and_lost_samples_five():
    whole = [simulated(seconds=40.0, number=number) for number in range(3)]
    plain = np.mean([rmse(error_deg(one), one) for one in whole])
    random = np.random.default_rng(1)
    lost = [kept(one, random.random(len(one)) > 0.01) for one in whole]
    assert np.mean([rmse(error_deg(one), one) for one in lost]) < 1.05 * plain
    shaken = [simulated(seconds=40.0, number=number, jitter=0.05) for number in range(3)]
    assert np.mean([rmse(error_deg(one), one) for one in shaken]) < 1.02 * plain + 0.01


def test_after_a_gap_gravity_is_found_anew_and_the_bias_is_kept():
    recording = simulated(seconds=30.0)
    half = len(recording) // 2
    later = recording.time + np.where(np.arange(len(recording)) >= half, 5.0, 0.0)
    # meanwhile the sensor was turned upside down
    flip = np.where(np.arange(len(recording))[:, None] >= half, [1.0, -1.0, -1.0], 1.0)
    torn = Recording("torn", later, recording.acc * flip, recording.gyr * flip)
    estimate, plain = GravityFilter(OPTIONS).batch(torn), GravityFilter(OPTIONS).batch(recording)
    apart = np.degrees(angle_between(estimate.up, plain.up * flip))
    assert apart[-500:].max() < 3.0
    np.testing.assert_allclose(estimate.bias[half], estimate.bias[half - 1], atol=1e-6)


def test_delay_carries_the_answer_on_along_the_gyroscope():
    recording = simulated(seconds=5.0, noise=0.0)
    now, later = (GravityFilter(OPTIONS, delay=delay).batch(recording) for delay in (0.0, 0.01))
    rate = recording.gyr - now.bias
    expected = rotate(from_rotation_vector(-0.01 * rate), now.up)
    # scale errors are taken off the rate, too
    np.testing.assert_allclose(later.up, expected, atol=2e-3)


def test_heading_does_not_jump_where_the_sensor_starts_upside_down():
    time = np.arange(0, 5, 0.01)
    random = np.random.default_rng(2)
    acc = np.array([0.0, 0.0, -9.81]) + random.normal(0, 0.05, (len(time), 3))
    gyr = random.normal(0, 0.002, (len(time), 3))
    quaternion = GravityFilter(OPTIONS).batch(Recording("down", time, acc, gyr)).quaternion
    turned = 2 * np.arccos(np.clip(np.abs(np.sum(quaternion[10:-1] * quaternion[11:], axis=1)), 0, 1))
    assert np.degrees(turned).max() < 0.5


@given(
    acc=arrays.arrays(float, (40, 3), elements=st.floats(-200, 200)),
    gyr=arrays.arrays(float, (40, 3), elements=st.floats(-40, 40)),
    steps=arrays.arrays(float, 40, elements=st.floats(1e-4, 3.0)),
)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_the_answer_is_a_rotation(acc, gyr, steps):
    estimate = GravityFilter(OPTIONS).batch(Recording("any", np.cumsum(steps), acc, gyr))
    np.testing.assert_allclose(np.linalg.norm(estimate.quaternion, axis=1), 1.0, atol=1e-9)
    assert np.isfinite(estimate.sd).all()
    assert (estimate.sd >= 0).all()


def test_an_hour_keeps_the_covariance_sound():
    recording = simulated(seconds=60.0, fs=50.0)
    machine = GravityFilter(OPTIONS)
    for minute in range(60):
        later = Recording("again", recording.time + 60.2 * minute, recording.acc, recording.gyr)
        machine.batch(later)
    covariance = machine.state()["covariance"]
    assert np.linalg.eigvalsh(covariance).min() > -1e-12
    assert math.isfinite(float(np.abs(covariance).max()))

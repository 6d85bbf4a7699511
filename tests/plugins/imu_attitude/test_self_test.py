"""A wrong unit, sign, frame or order is named; honest data of any kind are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from own_recordings import GRAVITY, misread, swaying

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude import rotations
from appliedpapers.plugins.imu_attitude.config import DataConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.self_test import self_test
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.splits import cut

USUAL = DataConfig()
# what a file may be, and what an error must name when it is read otherwise
SETTINGS = {
    "acc_unit": ("g", "mg"),
    "gyr_unit": ("deg/s",),
    "acc_sign": ("gravity",),
    "frame": ("NED",),
    "quat_order": ("xyzw",),
}
ONE_WRONG = [(name, value) for name, values in SETTINGS.items() for value in values]
SENSORS_ALONE = [(name, value) for name, value in ONE_WRONG if name in ("acc_unit", "gyr_unit")]


def without_reference(recording: Recording) -> Recording:
    return replace(recording, reference=None)


def test_the_right_settings_pass_without_a_note():
    assert self_test(swaying(), USUAL) == ()
    assert self_test(without_reference(swaying()), USUAL) == ()


@pytest.mark.parametrize(("name", "value"), ONE_WRONG)
def test_one_wrong_setting_is_named_with_the_option_that_mends_it(name, value):
    true = DataConfig(**{name: value})
    for written, said, right in ((true, USUAL, value), (USUAL, true, getattr(USUAL, name))):
        with pytest.raises(DataError, match=name.removesuffix("_unit")) as caught:
            self_test(misread(swaying(), written, said), said)
        assert f"--set data.{name}={right}" in caught.value.hint
        assert "--set data.self_test=false" in caught.value.hint


@pytest.mark.parametrize(("name", "value"), SENSORS_ALONE)
def test_units_are_judged_without_a_reference_too(name, value):
    true, recording = DataConfig(**{name: value}), without_reference(swaying())
    for written, said in ((true, USUAL), (USUAL, true)):
        with pytest.raises(DataError, match=f"looks like {getattr(written, name)}, read as"):
            self_test(misread(recording, written, said), said)


@pytest.mark.parametrize("fs", [20.0, 50.0, 1000.0])
def test_the_rate_makes_no_difference(fs):
    recording = swaying(fs=fs)
    assert self_test(recording, USUAL) == ()
    with pytest.raises(DataError, match="deg/s, read as rad/s"):
        self_test(misread(recording, DataConfig(gyr_unit="deg/s"), USUAL), USUAL)


def test_axes_that_turn_the_other_way_are_told_from_a_wrong_unit():
    recording = swaying()
    with pytest.raises(DataError, match="gyr turns against the reference"):
        self_test(replace(recording, gyr=-recording.gyr), USUAL)
    with pytest.raises(DataError, match="gyr turns against acc"):
        self_test(replace(without_reference(recording), gyr=-recording.gyr), USUAL)


def test_a_reference_from_earth_to_sensor_is_named():
    recording = swaying()
    with pytest.raises(DataError, match="earth to sensor"):
        self_test(replace(recording, reference=rotations.conjugate(recording.reference)), USUAL)


def test_without_a_reference_the_sign_of_the_accelerometer_cannot_be_told():
    recording = without_reference(swaying())
    assert self_test(replace(recording, acc=-recording.acc), USUAL) == ()


@pytest.mark.parametrize("seed", range(3))
def test_simulated_recordings_pass(seed):
    for recording in simulate(SimulatorConfig(sequences=9, seconds=30.0), seed):
        assert self_test(recording, USUAL) == ()
        assert self_test(without_reference(recording), USUAL) == ()


def still(seconds: float = 20.0, fs: float = 100.0) -> Recording:
    rows = round(seconds * fs)
    level = np.broadcast_to([0.0, 0.0, GRAVITY], (rows, 3)).copy()
    return Recording("still", np.arange(rows) / fs, level, np.zeros((rows, 3)))


def test_a_sensor_that_never_changes_passes():
    assert self_test(still(), USUAL) == ()


def test_a_cheap_gyroscope_that_is_off_by_ten_degrees_a_second_at_rest_passes():
    recording = still()
    assert self_test(replace(recording, gyr=recording.gyr + np.radians([10, -7, 4])), USUAL) == ()


def test_free_fall_is_not_taken_for_a_wrong_unit_but_noted():
    rng = np.random.default_rng(0)
    recording = swaying(rest=0)
    falling = np.array([0.05, -0.02, 0.04]) + rng.normal(0, 0.03, (len(recording), 3))
    for reference in (recording.reference, None):
        (note,) = self_test(replace(recording, acc=falling, reference=reference), USUAL)
        assert "could not be checked" in note


@pytest.mark.parametrize("seed", range(5))
def test_a_sensor_that_never_rests_and_is_shaken_hard_passes(seed):
    recording = swaying(rest=0, seed=seed)
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * rng.uniform(2, 5, 3) * recording.time[:, None] + rng.uniform(0, 6, 3)
    shaken = recording.acc + 25 * np.sin(phase)
    for reference in (recording.reference, None):
        notes = self_test(replace(recording, acc=shaken, reference=reference), USUAL)
        assert all("could not be checked" in note for note in notes)


def test_a_reference_of_something_else_is_noted_not_refused():
    (note,) = self_test(replace(swaying(seed=1), reference=swaying(seed=2).reference), USUAL)
    assert note.startswith("reference and sensor disagree")


def test_a_reference_that_is_never_known_is_noted():
    recording = swaying()
    (note,) = self_test(replace(recording, reference=np.full((len(recording), 4), np.nan)), USUAL)
    assert "too few samples" in note


@pytest.mark.parametrize("rows", [2, 3, 10, 60, 290])
def test_a_recording_of_less_than_three_seconds_is_judged_by_its_length_alone(rows):
    recording = cut(swaying(), slice(0, rows))
    for gyr in (recording.gyr, -recording.gyr):
        assert self_test(replace(recording, gyr=gyr), USUAL) == ()


def test_gaps_in_time_do_not_look_like_a_wrong_unit():
    recording = swaying(seconds=60)
    kept = np.flatnonzero(recording.time % 10 < 7)
    assert self_test(cut(recording, kept), USUAL) == ()


def test_a_rate_that_no_gyroscope_reads_names_the_unit():
    recording = swaying()
    fast = replace(recording, gyr=recording.gyr * np.degrees(1.0), reference=None, movement=None)
    with pytest.raises(DataError, match="gyr looks like deg/s"):
        self_test(fast, USUAL)

"""Heading from a magnetometer: close to the truth, deaf to disturbances, and absent without a field."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from attitude_machines import estimator, simulated

from appliedpapers.plugins.imu_attitude.heading import MagneticHeading
from appliedpapers.plugins.imu_attitude.rotations import (
    conjugate,
    error_quaternion,
    from_rotation_vector,
    heading_error,
    rotate,
)

# microtesla, east-north-up: as in central Europe
FIELD = np.array([0.0, 20.0, -44.0])


def magnetometer(recording, field=FIELD, noise=0.3):
    random = np.random.default_rng(4)
    seen = rotate(conjugate(recording.reference), field)
    return seen + random.normal(0, noise, (len(recording), 3))


def answered(recording, mag=None):
    columns = {"time": recording.time}
    columns |= {f"acc_{axis}": recording.acc[:, n] for n, axis in enumerate("xyz")}
    columns |= {f"gyr_{axis}": recording.gyr[:, n] for n, axis in enumerate("xyz")}
    if mag is not None:
        columns |= {f"mag_{axis}": mag[:, n] for n, axis in enumerate("xyz")}
    return estimator("model.kind=filter").predict(pa.table(columns))


def heading_deg(answer, recording):
    quaternion = np.stack([answer[f"q{part}"].to_numpy() for part in "wxyz"], axis=1)
    return np.degrees(heading_error(error_quaternion(quaternion, recording.reference)))


@pytest.mark.parametrize("number", [0, 1, 3])
def test_heading_stays_near_the_truth(number):
    recording = simulated(seconds=40.0, number=number)
    answer = answered(recording, magnetometer(recording))
    assert all(answer["heading_observable"].to_pylist())
    assert np.sqrt(np.mean(heading_deg(answer, recording)[200:] ** 2)) < 4.0


def test_without_a_field_heading_is_not_known_and_drifts():
    recording = simulated(seconds=10.0)
    answer = answered(recording)
    assert not any(answer["heading_observable"].to_pylist())
    nothing = np.full((len(recording), 3), np.nan)
    assert answered(recording, nothing).equals(answer)
    assert not any(answered(recording, np.zeros((len(recording), 3)))["heading_observable"].to_pylist())


def test_up_does_not_depend_on_the_field():
    recording = simulated(seconds=10.0)
    with_field, without = answered(recording, magnetometer(recording)), answered(recording)
    for name in ("up_x", "up_y", "up_z", "inclination_sd"):
        np.testing.assert_allclose(with_field[name].to_numpy(), without[name].to_numpy(), atol=1e-12)


def test_a_field_that_comes_late_is_used_from_then_on():
    recording = simulated(seconds=20.0)
    mag = magnetometer(recording)
    mag[:500] = np.nan
    mag[900:1000] = np.nan
    answer = answered(recording, mag)
    assert answer["heading_observable"].to_pylist() == [False] * 500 + [True] * (len(recording) - 500)
    assert heading_deg(answer, recording)[700:].max() < 8.0


def still(seconds, field, *, fs=20.0):
    """Return the angles that a compass gives to a sensor that lies still."""
    compass = MagneticHeading()
    return [
        compass.step((1.0, 0.0, 0.0, 0.0), tuple(field(n / fs)), n / fs) for n in range(round(seconds * fs))
    ]


@pytest.mark.parametrize(
    "disturbed",
    [FIELD * 1.3, rotate(from_rotation_vector([math.radians(25), 0, 0]), FIELD), np.zeros(3)],
    ids=["too strong", "too steep", "gone"],
)
def test_a_disturbed_field_is_not_followed_for_a_minute(disturbed):
    turned = rotate(from_rotation_vector([0, 0, math.radians(40)]), disturbed)
    angles = np.degrees(still(100.0, lambda time: turned if time > 30.0 else FIELD))
    assert np.abs(angles[: 85 * 20]).max() < 0.5
    if disturbed.any():
        # after a minute it is the usual one
        assert angles[-1] == pytest.approx(-40.0, abs=1.0)


def test_a_first_field_that_was_disturbed_is_forgotten_after_a_minute():
    wrong = rotate(from_rotation_vector([0, 0, math.radians(60)]), 2 * FIELD)
    angles = np.degrees(still(100.0, lambda time: wrong if time < 2.0 else FIELD))
    assert angles[20] == pytest.approx(-60.0, abs=1.0)
    assert angles[-1] == pytest.approx(0.0, abs=1.0)


def test_headings_around_south_are_averaged_the_short_way():
    random = np.random.default_rng(1)
    angles = math.pi + random.normal(0, 0.1, 400)
    fields = [rotate(from_rotation_vector([0, 0, angle]), FIELD) for angle in angles]
    found = still(20.0, lambda time: fields[round(time * 20)])[-1]
    assert abs(math.remainder(found - math.pi, 2 * math.pi)) < 0.06


def test_it_goes_on_from_its_state():
    recording = simulated(seconds=6.0)
    rows = list(
        zip(recording.reference.tolist(), magnetometer(recording).tolist(), recording.time, strict=True)
    )
    whole = MagneticHeading()
    expected = [whole.step(*row) for row in rows]
    first = MagneticHeading()
    for row in rows[:300]:
        first.step(*row)
    second = MagneticHeading().restore(first.state())
    assert [second.step(*row) for row in rows[300:]] == expected[300:]

"""Rotations, errors, the attitude layer and the paper's losses against reference values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.plugins.imu_attitude import attitude_loss, paper_metric
from appliedpapers.plugins.imu_attitude.network import AttitudeLayer, up_of
from appliedpapers.plugins.imu_attitude.rotations import (
    angle_between,
    error_quaternion,
    heading_error,
    normalise,
    roll_pitch,
    total_error,
    up_vector,
)

TOLERANCE = 1e-9
FLOAT32_DEG = 1e-3
GIMBAL = 517  # pitch 90 deg: roll is not defined there
HEADING_IS_NAN = (514, 516)  # where the reference divides 0 by 0; both orientations differ by no heading
PAIRS = {"full": ("est", "ref"), "att": ("att_est", "att_ref")}


def inclination_error(error):
    """Return the angle between both directions of up in radians (Data 6(7):72)."""
    return 2 * np.arctan2(np.hypot(error[..., 1], error[..., 2]), np.hypot(error[..., 0], error[..., 3]))


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "golden" / "imu-attitude.npz") as file:
        return {name: file[name] for name in file.files}


def tensor(values, dtype=torch.float64):
    return torch.as_tensor(values, dtype=dtype)


def away_from_gimbal(values):
    return np.delete(values, GIMBAL, axis=0)


def assert_close(actual, expected, atol=TOLERANCE):
    np.testing.assert_allclose(actual, expected, atol=atol, rtol=0)


def test_error_quaternions(golden):
    assert_close(error_quaternion(golden["est"], golden["ref"]), golden["err_quat_earth"])


@pytest.mark.parametrize(
    ("measure", "name"), [(total_error, "total_rad"), (inclination_error, "inclination_via_gravity_rad")]
)
def test_angles_of_the_error(golden, measure, name):
    # the golden total is an arccosine, good to half of its digits near no error
    assert_close(measure(golden["err_quat_earth"]), golden[name], 1e-7)
    large = golden[name] > 1e-2
    assert_close(measure(golden["err_quat_earth"])[large], golden[name][large], 1e-9)


def test_inclination_is_the_angle_between_both_directions_of_up(golden):
    ups = up_vector(normalise(golden["est"])), up_vector(golden["ref"])
    assert_close(angle_between(*ups), golden["inclination_via_gravity_rad"])
    assert_close(inclination_error(golden["err_quat_earth"]), golden["inclination_rad"], 2e-7)


def test_heading_is_never_nan(golden):
    ours, theirs = heading_error(golden["err_quat_earth"]), golden["heading_rad"]
    assert tuple(np.flatnonzero(np.isnan(theirs))) == HEADING_IS_NAN
    assert np.isfinite(ours).all()
    known = np.isfinite(theirs)
    assert_close(ours[known], theirs[known])


@pytest.mark.parametrize(
    ("measure", "name"),
    [
        (total_error, "rmse_total_deg"),
        (heading_error, "rmse_heading_deg"),
        (inclination_error, "rmse_inclination_deg"),
    ],
)
def test_root_mean_squares_over_movement(golden, measure, name):
    angles = measure(error_quaternion(golden["est"], golden["ref_nan"]))
    if measure is heading_error:
        angles[list(HEADING_IS_NAN)] = np.nan  # the reference leaves them out
    ours = np.degrees(np.sqrt(np.nanmean(angles[golden["movement"]] ** 2)))
    assert ours == pytest.approx(float(golden[name]), abs=1e-5)


@pytest.mark.parametrize("which", ["est", "ref"])
def test_roll_and_pitch(golden, which):
    roll, pitch = roll_pitch(golden[which])
    assert_close(pitch, golden[f"pitch_{which}"])
    assert_close(away_from_gimbal(roll), away_from_gimbal(golden[f"roll_{which}"]))


@pytest.mark.parametrize("which", ["est", "ref"])
def test_attitude(golden, which):
    ours, theirs = paper_metric.attitude(golden[which]), golden[f"att_{which}"]
    assert_close(away_from_gimbal(ours), away_from_gimbal(theirs))
    assert_close(up_vector(ours), up_vector(theirs))


@pytest.mark.parametrize("which", ["est", "ref"])
def test_attitude_layer(golden, which):
    unit = tensor(normalise(golden[which]))
    ours, theirs = AttitudeLayer()(unit).numpy(), golden[f"att_{which}"]
    assert_close(away_from_gimbal(ours), away_from_gimbal(theirs))
    # the clipped arcsine stops .026 deg before 90
    assert_close(up_vector(ours), up_vector(theirs), 5e-4)
    assert_close(away_from_gimbal(up_vector(ours)), away_from_gimbal(up_vector(theirs)))


@pytest.mark.parametrize("pair", PAIRS)
def test_the_papers_loss(golden, pair):
    estimate, reference = (tensor(golden[name]) for name in PAIRS[pair])
    loss = attitude_loss.truncated_l1(estimate, reference).numpy()
    assert_close(loss, golden[f"paper_loss_{pair}"])
    assert loss.mean() == pytest.approx({"full": 0.691357434, "att": 0.372915551}[pair], abs=TOLERANCE)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_papers_angle(golden, pair):
    estimate, reference = (golden[name] for name in PAIRS[pair])
    angles = paper_metric.paper_angle_deg(estimate, reference)
    assert_close(angles, golden[f"paper_angle_deg_{pair}"])
    assert_close(attitude_loss.paper_angle_deg(tensor(estimate), tensor(reference)), angles)
    assert angles.mean() == pytest.approx({"full": 26.895781045, "att": 24.654308581}[pair], abs=TOLERANCE)


@pytest.mark.parametrize("pair", PAIRS)
def test_float32_keeps_a_thousandth_of_a_degree(golden, pair):
    estimate, reference = (tensor(golden[name], torch.float32) for name in PAIRS[pair])
    angles = attitude_loss.paper_angle_deg(estimate, reference).numpy()
    assert_close(angles, golden[f"paper_angle_deg_{pair}"], FLOAT32_DEG)
    unit = torch.nn.functional.normalize(estimate, dim=-1)
    between = attitude_loss.up_angle(up_of(unit), up_of(reference))
    expected = angle_between(up_vector(normalise(golden[PAIRS[pair][0]])), up_vector(golden[PAIRS[pair][1]]))
    assert_close(np.degrees(between.numpy()), np.degrees(expected), FLOAT32_DEG)

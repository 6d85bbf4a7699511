"""The user's units, signs and frames, there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from own_recordings import reference_from_enu

from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.rotations import normalise, rotate, up_vector
from appliedpapers.plugins.imu_attitude.units import (
    acc_from_si,
    acc_to_si,
    gyr_from_si,
    gyr_to_si,
    reference_to_enu,
)

settings = st.builds(
    DataConfig,
    acc_unit=st.sampled_from(["m/s2", "g", "mg"]),
    gyr_unit=st.sampled_from(["rad/s", "deg/s"]),
    acc_sign=st.sampled_from(["specific-force", "gravity"]),
    frame=st.sampled_from(["ENU", "NED"]),
    quat_order=st.sampled_from(["wxyz", "xyzw"]),
)
readings = arrays(np.float64, (5, 3), elements=st.floats(-1e4, 1e4))
quaternions = (
    arrays(np.float64, (5, 4), elements=st.floats(-1, 1))
    .filter(lambda values: bool((np.linalg.norm(values, axis=1) > 0.1).all()))
    .map(normalise)
)


@given(readings, settings)
def test_readings_survive_the_way_there_and_back(values, data):
    np.testing.assert_allclose(acc_from_si(acc_to_si(values, data), data), values, rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(gyr_to_si(gyr_from_si(values, data), data), values, rtol=1e-14, atol=1e-300)


@given(quaternions, settings)
def test_a_reference_survives_the_way_there_and_back_as_an_orientation(quaternion, data):
    back = reference_to_enu(reference_from_enu(quaternion, data), data)
    np.testing.assert_allclose(np.abs(np.sum(back * quaternion, axis=1)), 1, atol=1e-12)


@given(quaternions, settings)
def test_up_is_the_same_whatever_the_settings_say(quaternion, data):
    acc = 9.80665 * up_vector(quaternion)
    read = acc_to_si(acc_from_si(acc, data), data)
    reference = reference_to_enu(reference_from_enu(quaternion, data), data)
    np.testing.assert_allclose(normalise(read), up_vector(reference), atol=1e-9)


def test_one_g_downward_and_half_a_turn_a_second_in_si_units():
    data = DataConfig(acc_unit="mg", acc_sign="gravity", gyr_unit="deg/s")
    np.testing.assert_allclose(acc_to_si([0, 0, -1000], data), [0, 0, 9.80665])
    np.testing.assert_allclose(gyr_to_si([180, 0, 0], data), [np.pi, 0, 0])


def test_a_ned_reference_without_a_turn_looks_north_and_down():
    """In NED the identity has x to the north and z down: in ENU x maps to y, y to x and z to -z."""
    enu = reference_to_enu([1, 0, 0, 0], DataConfig(frame="NED"))
    np.testing.assert_allclose(rotate(enu, np.eye(3)), [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-15)


def test_the_last_number_of_xyzw_is_w():
    np.testing.assert_allclose(
        reference_to_enu([0.1, 0.2, 0.3, 0.4], DataConfig(quat_order="xyzw")),
        normalise([0.4, 0.1, 0.2, 0.3]),
    )


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
@pytest.mark.parametrize("frame", ["ENU", "NED"])
def test_a_reference_that_is_no_orientation_is_unknown(row, frame):
    assert np.isnan(reference_to_enu([row], DataConfig(frame=frame))).all()

"""Attitudes of orientations and the paper's measure of its error, without torch (arXiv 2302.06037)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from appliedpapers.plugins.imu_attitude.rotations import Floats, conjugate, multiply, normalise, roll_pitch

_LARGEST_COSINE = 1 - 1e-11


def attitude(quaternion: ArrayLike) -> Floats:
    """Return quaternions ``(..., 4)`` with the roll and pitch of the input and no yaw (order z, y, x)."""
    roll, pitch = (angle / 2 for angle in roll_pitch(quaternion))
    return np.stack(
        [
            np.cos(roll) * np.cos(pitch),
            np.sin(roll) * np.cos(pitch),
            np.cos(roll) * np.sin(pitch),
            -np.sin(roll) * np.sin(pitch),
        ],
        axis=-1,
    )


def paper_angle_deg(estimate: ArrayLike, reference: ArrayLike) -> Floats:
    """Return ``Quat_error_angle`` in degrees, 5.1e-4 to 180.

    The paper's measure is its mean over all samples, rest included, of :func:`attitude` of both. It is kept
    with the arccosine that is published; use it on float64 only.

    Args:
        estimate: ``(..., 4)`` quaternions of any length but zero.
        reference: ``(..., 4)`` unit quaternions.
    """
    error = multiply(conjugate(normalise(estimate)), reference)
    return np.asarray(np.degrees(2 * np.arccos(np.minimum(np.abs(error[..., 0]), _LARGEST_COSINE))))

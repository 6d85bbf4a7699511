"""Quaternions ``(w, x, y, z)`` that map vectors of the sensor frame to the earth frame, whose z axis is up.

Every function takes arrays of any leading shape and computes in float64. Angles are in radians and come from
``atan2``: ``acos`` loses half of the digits near no error at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# earth axes east-north-up to north-east-down: half a turn about (1, 1, 0)
_ENU_TO_NED = np.array([0.0, np.sqrt(0.5), np.sqrt(0.5), 0.0])


def multiply(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the Hamilton product of quaternions ``(..., 4)``."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(quaternion: ArrayLike) -> Floats:
    """Return the conjugate, for unit quaternions the inverse rotation."""
    return np.asarray(np.asarray(quaternion, dtype=np.float64) * np.array([1.0, -1.0, -1.0, -1.0]))


def normalise(values: ArrayLike) -> Floats:
    """Return vectors or quaternions at unit length; NaN where the length is zero."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True))


def rotate(quaternion: ArrayLike, vector: ArrayLike) -> Floats:
    """Return vectors ``(..., 3)`` rotated by unit quaternions ``(..., 4)``, sensor to earth."""
    q, v = np.asarray(quaternion, dtype=np.float64), np.asarray(vector, dtype=np.float64)
    twice = 2 * np.cross(q[..., 1:], v)
    return np.asarray(v + q[..., :1] * twice + np.cross(q[..., 1:], twice))


def matrix(quaternion: ArrayLike) -> Floats:
    """Return rotation matrices ``(..., 3, 3)`` of unit quaternions, sensor to earth."""
    axes = np.eye(3)
    q = np.asarray(quaternion, dtype=np.float64)[..., None, :]
    return np.swapaxes(rotate(q, axes), -1, -2)


def up_vector(quaternion: ArrayLike) -> Floats:
    """Return where up is in the sensor frame, ``(..., 3)``: the third row of the rotation matrix."""
    w, x, y, z = np.moveaxis(np.asarray(quaternion, dtype=np.float64), -1, 0)
    return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=-1)


def from_rotation_vector(vector: ArrayLike) -> Floats:
    """Return the unit quaternions ``(..., 4)`` of rotation vectors ``(..., 3)`` in radians."""
    v = np.asarray(vector, dtype=np.float64)
    half = np.linalg.norm(v, axis=-1, keepdims=True) / 2
    # sin(half) / (2 half), which numpy's sinc knows at zero, too
    return np.concatenate([np.cos(half), np.sinc(half / np.pi) / 2 * v], axis=-1)


def between(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the smallest rotations that take unit vectors ``first`` to ``second``, as quaternions.

    Opposite vectors turn about an axis that is normal to both.
    """
    a, b = np.broadcast_arrays(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    raw = np.concatenate([1 + np.sum(a * b, axis=-1, keepdims=True), np.cross(a, b)], axis=-1)
    opposite = raw[..., 0] < 1e-12
    if opposite.any():
        axis = np.zeros_like(a)
        np.put_along_axis(axis, np.argmin(np.abs(a), axis=-1)[..., None], 1.0, axis=-1)
        raw[opposite] = np.concatenate([np.zeros_like(a[..., :1]), np.cross(a, axis)], axis=-1)[opposite]
    return normalise(raw)


def angle_between(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the angle between vectors ``(..., 3)`` in radians, 0 to pi."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1)))


def error_quaternion(estimate: ArrayLike, reference: ArrayLike) -> Floats:
    """Return the error in the earth frame, ``estimate / |estimate|`` times the conjugate of ``reference``."""
    return multiply(normalise(estimate), conjugate(reference))


def total_error(error: ArrayLike) -> Floats:
    """Return the angle of error quaternions in radians, 0 to pi."""
    e = np.asarray(error, dtype=np.float64)
    return np.asarray(2 * np.arctan2(np.linalg.norm(e[..., 1:], axis=-1), np.abs(e[..., 0])))


def heading_error(error: ArrayLike) -> Floats:
    """Return the part of an earth-frame error that turns about up, in radians, 0 to pi (Data 6(7):72)."""
    e = np.asarray(error, dtype=np.float64)
    return 2 * np.arctan2(np.abs(e[..., 3]), np.abs(e[..., 0]))


def enu_to_ned(quaternion: ArrayLike) -> Floats:
    """Return orientations against north-east-down for orientations against east-north-up, and back."""
    return multiply(_ENU_TO_NED, quaternion)


def roll_pitch(quaternion: ArrayLike) -> tuple[Floats, Floats]:
    """Return roll and pitch in radians, rotations about z, y, x in this order.

    Pitch is within +-pi/2; at +-pi/2 roll is not defined, and what is returned there is arbitrary but finite.
    """
    w, x, y, z = np.moveaxis(normalise(quaternion), -1, 0)
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = np.arcsin(np.clip(2 * (w * y - x * z), -1.0, 1.0))
    return roll, pitch

"""What the user's numbers mean, and the same numbers in SI units, against east-north-up.

Each function works on one sample or on many. Nothing is rounded: there and back differs by a few units in the
last place.
"""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.plugins.imu_attitude.config import AccUnit, DataConfig, GyrUnit
from appliedpapers.plugins.imu_attitude.rotations import enu_to_ned, normalise

Floats = NDArray[np.float64]

STANDARD_GRAVITY = 9.80665
"""What sensors mean by g, in m/s^2."""

ACC_UNITS: MappingProxyType[AccUnit, float] = MappingProxyType(
    {"m/s2": 1.0, "g": STANDARD_GRAVITY, "mg": STANDARD_GRAVITY / 1000}
)
"""m/s^2 in one unit of an accelerometer."""

GYR_UNITS: MappingProxyType[GyrUnit, float] = MappingProxyType({"rad/s": 1.0, "deg/s": math.pi / 180})
"""rad/s in one unit of a gyroscope."""


def acc_scale(data: DataConfig) -> float:
    """Return m/s^2 of specific force in one unit of the user's accelerometer; negative for ``gravity``."""
    sign = 1.0 if data.acc_sign == "specific-force" else -1.0
    return sign * ACC_UNITS[data.acc_unit]


def gyr_scale(data: DataConfig) -> float:
    """Return rad/s in one unit of the user's gyroscope."""
    return GYR_UNITS[data.gyr_unit]


def acc_to_si(acc: ArrayLike, data: DataConfig) -> Floats:
    """Return specific force in m/s^2, ``(..., 3)``, of the user's accelerometer readings."""
    return np.asarray(acc, dtype=np.float64) * acc_scale(data)


def acc_from_si(acc: ArrayLike, data: DataConfig) -> Floats:
    """Return what the user's accelerometer would read, ``(..., 3)``, for specific force in m/s^2."""
    return np.asarray(acc, dtype=np.float64) / acc_scale(data)


def gyr_to_si(gyr: ArrayLike, data: DataConfig) -> Floats:
    """Return angular rates in rad/s, ``(..., 3)``, of the user's gyroscope readings."""
    return np.asarray(gyr, dtype=np.float64) * gyr_scale(data)


def gyr_from_si(gyr: ArrayLike, data: DataConfig) -> Floats:
    """Return what the user's gyroscope would read, ``(..., 3)``, for angular rates in rad/s."""
    return np.asarray(gyr, dtype=np.float64) / gyr_scale(data)


def reference_to_enu(quaternion: ArrayLike, data: DataConfig) -> Floats:
    """Return unit quaternions (w, x, y, z) to ENU, ``(..., 4)``, of the user's reference.

    A row that holds a NaN, an infinity or only zeros becomes NaN: the reference is not known there.
    """
    values = np.asarray(quaternion, dtype=np.float64)
    values = np.where(np.isfinite(values).all(axis=-1, keepdims=True), values, np.nan)
    ordered = np.roll(values, 1, axis=-1) if data.quat_order == "xyzw" else values
    unit = normalise(ordered)
    return enu_to_ned(unit) if data.frame == "NED" else unit

"""What a sensor does at each sample, read off its own signals: errors mean different things in each phase."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import Floats

Phase = Literal["rest", "slow", "fast", "tap"]

PHASES: tuple[Phase, ...] = ("rest", "slow", "fast", "tap")
"""In the order of the codes that :func:`phases` returns."""

FAST_DEG_S = 120.0
BANDS_M_S2 = (0.5, 2.0, 8.0)
"""Where the distance of ``|acc|`` from gravity is cut into bands."""

_LOOK_S = 0.5
_REST_DEG_S, _REST_M_S2 = 3.0, 0.5
_TAP_S, _TAP_M_S2, _TAP_AROUND_S = 0.04, 12.0, 0.25
_GRAVITY = 9.81


def phases(recording: Recording) -> NDArray[np.int8]:
    """Return the phase of each sample as a place in :data:`PHASES`, shape ``(N,)``.

    A tap is a reading that leaves the mean of the 40 ms around it by more than 12 m/s^2, and a quarter of a
    second on both sides. Means over half a second say the rest: the sensor rests below 3 deg/s and 0.5 m/s^2
    off its usual length of acceleration, and is fast above 120 deg/s.
    """
    time, acc = recording.time, recording.acc
    rate = np.rad2deg(around(time, np.linalg.norm(recording.gyr, axis=1), _LOOK_S))
    length = np.linalg.norm(acc, axis=1)
    # an accelerometer's length at rest is its own: it may be off by some 0.1 m/s^2
    off = around(time, np.abs(length - np.median(length)), _LOOK_S)
    found = np.where(rate > FAST_DEG_S, PHASES.index("fast"), PHASES.index("slow")).astype(np.int8)
    found[(rate < _REST_DEG_S) & (off < _REST_M_S2)] = PHASES.index("rest")
    spike = np.linalg.norm(acc - around(time, acc, _TAP_S), axis=1) > _TAP_M_S2
    found[around(time, spike.astype(np.float64), 2 * _TAP_AROUND_S) > 0] = PHASES.index("tap")
    return found


def acceleration_band(recording: Recording) -> NDArray[np.int8]:
    """Return between which of :data:`BANDS_M_S2` the distance of ``|acc|`` from gravity lies, ``(N,)``."""
    off = np.abs(np.linalg.norm(recording.acc, axis=1) - _GRAVITY)
    return np.asarray(np.searchsorted(BANDS_M_S2, off, side="right"), dtype=np.int8)


def band_names() -> tuple[str, ...]:
    """Return what the bands are called, from the lowest."""
    inner = [f"{low:g} to {high:g} m/s²" for low, high in itertools.pairwise(BANDS_M_S2)]
    return (f"below {BANDS_M_S2[0]:g} m/s²", *inner, f"above {BANDS_M_S2[-1]:g} m/s²")


def around(time: Floats, values: Floats, seconds: float) -> Floats:
    """Return the mean of the values within half of ``seconds`` of each sample, by time stamps."""
    half = seconds / 2 + 1e-9
    first = np.searchsorted(time, time - half, side="left")
    last = np.searchsorted(time, time + half, side="right")
    zero = np.zeros((1, *values.shape[1:]))
    total = np.concatenate([zero, np.cumsum(values, axis=0)])
    count = (last - first).reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray((total[last] - total[first]) / count)

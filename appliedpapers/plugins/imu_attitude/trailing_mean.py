"""Attitude from a trailing mean of the accelerometer in a frame that the gyroscope holds still.

The simplest estimator that works: gravity is what remains of the specific force when motion averages out, and
the gyroscope says how to average it in one frame. Ours has to beat it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    between,
    from_rotation_vector,
    multiply,
    normalise,
    rotate,
)

Floats = NDArray[np.float64]

_UP = np.array([0.0, 0.0, 1.0])
_BLOCK = 32
_SHORT_S = 0.05
_LOOK_S = 0.5  # readings that later ones are held against to find the first motion
_MOVES_GYR, _MOVES_ACC = np.deg2rad(2.0), 0.5  # rad/s and m/s^2: arXiv 2203.17024's limits for rest
_MARGIN_S, _LEAST_S, _MOST_S = 1.0, 1.0, 10.0


def strapdown(time: Floats, gyr: Floats) -> Floats:
    """Integrate angular rates, each held since the sample before.

    Args:
        time: ``(N,)`` seconds, increasing.
        gyr: ``(N, 3)`` rad/s.

    Returns:
        ``(N, 4)`` unit quaternions, sensor to the frame in which the sensor started.
    """
    steps = np.diff(time, prepend=time[:1])
    return _products(from_rotation_vector(gyr * steps[:, None]))


def _products(factors: Floats) -> Floats:
    """Return all products ``q_0 q_1 .. q_k``, ``(N, 4)``: within blocks, and over their ends likewise."""
    count = len(factors)
    padded = np.zeros((-(-count // _BLOCK) * _BLOCK, 4))
    padded[:, 0] = 1.0
    padded[:count] = factors
    # one row for each place in a block, so that a step of the loop reads and writes whole rows
    rows = np.ascontiguousarray(padded.reshape(-1, _BLOCK, 4).swapaxes(0, 1))
    for place in range(1, _BLOCK):
        rows[place] = multiply(rows[place - 1], rows[place])
    if rows.shape[1] > 1:
        rows[:, 1:] = multiply(_products(rows[-1, :-1]), rows[:, 1:])
    return normalise(rows.swapaxes(0, 1).reshape(-1, 4)[:count])


def initial_rest(recording: Recording) -> slice | None:
    """Return the samples of the rest at the start, at most 10 s and at least 1 s before the first motion.

    Motion is where means of 50 ms, so that one noisy reading is none, leave the mean of the first half
    second by more than 2 deg/s or 0.5 m/s^2 on any axis; the reference is not asked. None where less than 1 s
    is left.
    """
    since = recording.time - recording.time[0]
    moves = _leaves(since, recording.gyr, _MOVES_GYR) | _leaves(since, recording.acc, _MOVES_ACC)
    start = float(since[np.argmax(moves)]) if moves.any() else np.inf
    seconds = min(start - _MARGIN_S, _MOST_S)
    if seconds < _LEAST_S or since[-1] < _LEAST_S:
        return None
    return slice(0, int(np.searchsorted(since, seconds, side="right")))


def _leaves(since: Floats, values: Floats, limit: float) -> NDArray[np.bool_]:
    away = _trailing(since, values, _SHORT_S) - values[since <= _LOOK_S].mean(axis=0)
    return np.asarray((np.abs(away) > limit).any(axis=1))


def _trailing(time: Floats, values: Floats, seconds: float) -> Floats:
    """Return the mean of each row and those before it that are less than ``seconds`` older, ``(N, 3)``."""
    total = np.concatenate([np.zeros((1, 3)), np.cumsum(values, axis=0)])
    # a nanosecond, so that a sample just as old as the mean is long stays out whatever its last digit
    first = np.searchsorted(time, time - seconds + 1e-9, side="left")
    return np.asarray((total[1:] - total[first]) / (np.arange(1, len(time) + 1) - first)[:, None])


def trailing_mean(recording: Recording, seconds: float, *, corrected: bool) -> Estimate:
    """Estimate up as the mean specific force of the last ``seconds``, fewer at the start.

    Args:
        recording: Any recording.
        seconds: Length of the mean by time stamps.
        corrected: Take off the gyroscope's bias, its mean over :func:`initial_rest`.
    """
    bias = np.zeros(3)
    notes: tuple[str, ...] = ()
    rest = initial_rest(recording) if corrected else None
    if rest is not None:
        bias = recording.gyr[rest].mean(axis=0)
    elif corrected:
        notes = ("no rest at the start: the gyroscope's bias was not taken off",)
    held = strapdown(recording.time, recording.gyr - bias)
    up = normalise(_trailing(recording.time, rotate(held, recording.acc), seconds))
    up = np.where(np.isfinite(up), up, _UP)  # a mean of nothing but zeros has no direction
    estimate = Estimate(quaternion=normalise(multiply(between(up, _UP), held)), notes=notes)
    if not corrected:
        return estimate
    return replace(estimate, bias=np.broadcast_to(bias, recording.gyr.shape).copy())

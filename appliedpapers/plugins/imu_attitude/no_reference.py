"""Judging attitude without a reference, by the accelerometer readings that come after an answer.

What follows is new to every causal estimator, so that none gains by echoing the accelerometer: the specific
force of the next seconds, carried back along the gyroscope and averaged, points up but for the motion that
does not average out. That remainder is the judge's, not the estimator's: it adds to all alike, so scores
rank estimators and overstate their errors. On eleven trials of BROAD the ranks of twelve estimators by this
score correlate with those by the true error by 0.74 to 0.99. A lag of the readings cannot be seen this way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.phases import PHASES, phases
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import Floats, conjugate, normalise, rotate
from appliedpapers.plugins.imu_attitude.trailing_mean import initial_rest, strapdown

AHEAD_S = 5.0
"""Seconds after an answer that judge it in motion."""
REST_AHEAD_S = 1.5
"""Seconds of a rest that judge the answer before it."""
BEFORE_REST_S = 0.5
"""How long before a rest that answer was given."""

_SETTLED_S = 0.25


def gravity_ahead(recording: Recording, seconds: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Return where the next samples say that up is.

    Args:
        recording: Any recording; its reference is not asked.
        seconds: How far they reach.

    Returns:
        ``(N, 3)`` unit vectors in the sensor frame of each sample, and ``(N,)`` where there are that many
        seconds left and the vector has a direction.
    """
    held, total = _held_still(recording)
    last = np.searchsorted(recording.time, recording.time + seconds + 1e-9, side="right")
    following = np.arange(1, len(recording) + 1)
    up = rotate(conjugate(held), normalise(total[last] - total[following]))
    known = (recording.time + seconds <= recording.time[-1]) & np.isfinite(up).all(axis=1)
    return np.where(known[:, None], up, 0.0), known


def moving(recording: Recording) -> NDArray[np.bool_]:
    """Return where the sensor moves by its own signals, or everywhere if it never does; ``(N,)``."""
    found = phases(recording) != PHASES.index("rest")
    return np.asarray(found if found.any() else np.ones(len(recording), dtype=bool))


def before_rests(recording: Recording) -> tuple[NDArray[np.intp], Floats]:
    """Return the samples half a second before each rest that ends a motion, and where up was there.

    The rest says it, carried back along the gyroscope: no answer from before it has seen it.

    Returns:
        ``(K,)`` samples and ``(K, 3)`` unit vectors in their sensor frames; rests that are too short or begin
        too early to judge anything are left out.
    """
    time, resting = recording.time, phases(recording) == PHASES.index("rest")
    change = np.diff(resting.astype(np.int8), prepend=1, append=0)
    begins = np.flatnonzero(change[:-1] == 1)
    ends = np.flatnonzero(change == -1)
    ends = ends[np.searchsorted(ends, begins, side="right")] - 1
    long_enough = time[ends] - time[begins] >= _SETTLED_S + REST_AHEAD_S
    begins = begins[long_enough & (time[begins] - time[0] > BEFORE_REST_S)]
    samples = np.searchsorted(time, time[begins] - BEFORE_REST_S)
    held, total = _held_still(recording)
    first = np.searchsorted(time, time[begins] + _SETTLED_S)
    last = np.searchsorted(time, time[begins] + _SETTLED_S + REST_AHEAD_S)
    return samples, rotate(conjugate(held[samples]), normalise(total[last] - total[first]))


def _held_still(recording: Recording) -> tuple[Floats, Floats]:
    """Return orientations by the gyroscope alone, and sums of the force in their frame, ``(N + 1, 3)``."""
    rest = initial_rest(recording)
    bias = np.zeros(3) if rest is None else recording.gyr[rest].mean(axis=0)
    held = strapdown(recording.time, recording.gyr - bias)
    force = np.cumsum(rotate(held, recording.acc), axis=0)
    return held, np.concatenate([np.zeros((1, 3)), force])

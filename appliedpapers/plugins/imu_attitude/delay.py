"""The lag of inertial readings behind the motion, fitted to references, and answers carried on by it.

A sensor's own filter and the clock of a reference shift readings by milliseconds; at 700 deg/s a millisecond
is 0.7 deg. Whoever estimates attitude may carry the answer on along the gyroscope, so everybody here may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    Floats,
    angle_between,
    conjugate,
    from_rotation_vector,
    multiply,
    rotate,
    up_vector,
)

_LONGEST_S = 0.05
_SAMPLES = 20_000  # a trial: plenty for one number
_PRECISION_S = 1e-5


def carry_on(estimate: Estimate, recording: Recording, delay: float) -> Estimate:
    """Turn an answer by the bias-corrected rate of its sample times ``delay`` seconds."""
    if delay == 0:
        return estimate
    turn = from_rotation_vector(delay * _rate(estimate, recording))
    return replace(estimate, quaternion=multiply(estimate.quaternion, turn))


def fit_delay(estimates: Sequence[Estimate], recordings: Sequence[Recording]) -> float:
    """Return the delay in seconds that minimises the inclination RMSE, averaged over recordings.

    Args:
        estimates: Answers without any delay.
        recordings: What they are about; those without a reference do not count.

    Returns:
        -0.05 to 0.05; 0 where there is nothing to fit it to.
    """
    from scipy.optimize import minimize_scalar

    parts = [
        _judged(estimate, recording)
        for estimate, recording in zip(estimates, recordings, strict=True)
        if recording.judged.any()
    ]
    if not parts:
        return 0.0

    def error(delay: float) -> float:
        return float(np.mean([_rmse(up, rate, truth, delay) for up, rate, truth in parts]))

    found = minimize_scalar(
        error, bounds=(-_LONGEST_S, _LONGEST_S), method="bounded", options={"xatol": _PRECISION_S}
    )
    return round(float(found.x), 6) if found.fun < error(0.0) else 0.0


def _rate(estimate: Estimate, recording: Recording) -> Floats:
    return recording.gyr if estimate.bias is None else recording.gyr - estimate.bias


def _judged(estimate: Estimate, recording: Recording) -> tuple[Floats, Floats, Floats]:
    assert recording.reference is not None
    rows = np.flatnonzero(recording.judged)
    rows = rows[:: -(-len(rows) // _SAMPLES)]
    return estimate.up[rows], _rate(estimate, recording)[rows], up_vector(recording.reference[rows])


def _rmse(up: Floats, rate: Floats, truth: Floats, delay: float) -> float:
    carried = rotate(conjugate(from_rotation_vector(delay * rate)), up)
    return float(np.sqrt(np.mean(angle_between(carried, truth) ** 2)))

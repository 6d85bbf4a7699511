"""A recording without any error that the paper's models are tried on, and a small window for it."""

from __future__ import annotations

import numpy as np

from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import conjugate, from_rotation_vector, multiply, rotate

SMALL = {"window": 20, "stride": 4, "width": 0.1}


def turning(rows=400, fs=100.0, seed=0, trial="turning") -> Recording:
    """A sensor that turns about slowly changing axes without being accelerated, read without error."""
    random = np.random.default_rng(seed)
    time = np.arange(rows) / fs
    phase = random.uniform(0, 6, 3)
    gyr = 2 * np.sin(2 * time[:, None] + phase)
    quaternion = np.empty((rows, 4))
    quaternion[0] = from_rotation_vector(random.normal(size=3))
    for row, step in enumerate(from_rotation_vector(gyr[1:] / fs)):
        quaternion[row + 1] = multiply(quaternion[row], step)
    acc = rotate(conjugate(quaternion), np.array([0.0, 0.0, 9.81]))
    return Recording(trial, time, acc, gyr, None, quaternion, np.ones(rows, dtype=bool))

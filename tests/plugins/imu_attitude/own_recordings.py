"""Recordings as users have them: a sensor that sways, in any units, signs and frames, and files of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from appliedpapers.plugins.imu_attitude import rotations
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.units import (
    acc_from_si,
    acc_to_si,
    gyr_from_si,
    gyr_to_si,
    reference_to_enu,
)

GRAVITY = 9.81


def swaying(
    seconds: float = 20.0, fs: float = 100.0, *, trial: str = "sway", rest: float = 3.0, seed: int = 0
) -> Recording:
    """Return a sensor that rests and then turns about all axes, up to about 100 deg/s, noise included."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * fs)) / fs
    moving = time >= rest
    phases, pace = rng.uniform(0, 2 * np.pi, 3), np.array([0.9, 1.3, 0.7])
    rate = 1.6 * np.sin(pace * time[:, None] + phases) * moving[:, None]
    quaternion = np.empty((len(time), 4))
    quaternion[0] = rotations.normalise(rng.normal(size=4))
    for number, step in enumerate(rotations.from_rotation_vector(rate[:-1] / fs)):
        quaternion[number + 1] = rotations.multiply(quaternion[number], step)
    acc = GRAVITY * rotations.up_vector(quaternion) + rng.normal(0, 0.03, (len(time), 3))
    gyr = rate + rng.normal(0, 0.002, (len(time), 3))
    return Recording(trial, time, acc, gyr, reference=quaternion, movement=moving)


def reference_from_enu(quaternion: np.ndarray, data: DataConfig) -> np.ndarray:
    """Return quaternions to ENU, ``(..., 4)``, as a user with the settings ``data`` writes them."""
    framed = rotations.enu_to_ned(quaternion) if data.frame == "NED" else quaternion
    return np.roll(framed, -1, axis=-1) if data.quat_order == "xyzw" else framed


def misread(recording: Recording, true: DataConfig, said: DataConfig) -> Recording:
    """Return what is read with the settings ``said`` of a file that was written with ``true``."""
    reference = recording.reference
    return replace(
        recording,
        acc=acc_to_si(acc_from_si(recording.acc, true), said),
        gyr=gyr_to_si(gyr_from_si(recording.gyr, true), said),
        reference=None if reference is None else reference_to_enu(reference_from_enu(reference, true), said),
    )


def frame_of(recording: Recording, data: DataConfig | None = None) -> pd.DataFrame:
    """Return a recording as the table that a user with the settings ``data`` has."""
    data = data or DataConfig()
    columns = {
        data.columns.time: recording.time,
        **dict(zip(data.columns.acc, acc_from_si(recording.acc, data).T, strict=True)),
        **dict(zip(data.columns.gyr, gyr_from_si(recording.gyr, data).T, strict=True)),
    }
    if recording.reference is not None:
        quat = reference_from_enu(recording.reference, data)
        columns |= dict(zip(data.columns.quat, quat.T, strict=True))
    if recording.movement is not None:
        columns[data.columns.movement] = recording.movement
    return pd.DataFrame(columns)


def write_csv(folder: Path, recording: Recording, data: DataConfig | None = None) -> Path:
    path = folder / f"{recording.trial}.csv"
    frame_of(recording, data).to_csv(path, index=False)
    return path

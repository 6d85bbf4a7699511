"""Rows of a table as samples of a sensor: what is usable, in SI units, and what each row is flagged with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.model import GroupProblem
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.recording import Floats, Recording
from appliedpapers.plugins.imu_attitude.units import acc_to_si, gyr_to_si

if TYPE_CHECKING:
    import pyarrow as pa

AXES = ("x", "y", "z")
CLIP_ACC, CLIP_GYR = 1.9 * 9.81, 4.3
"""Smallest range that a sensor is sold with, a little inside: m/s^2 and rad/s."""
MOST_TIME, MOST_ACC, MOST_GYR = 1e11, 1e6, 1e4
"""What no clock and no sensor shows, in s, m/s^2 and rad/s: beyond, a unit is wrong or a byte was lost."""


@dataclass(frozen=True)
class Samples:
    """The rows of one trial.

    Attributes:
        trial: Its name, or None.
        rows: ``(N,)`` rows of the table.
        time: ``(N,)`` seconds.
        acc: ``(N, 3)`` m/s^2; NaN where a reading is missing.
        gyr: ``(N, 3)`` rad/s.
        mag: ``(N, 3)``, or None.
        good: ``(N,)`` complete, possible, and later than the good row before.
    """

    trial: str | None
    rows: NDArray[np.int64]
    time: Floats
    acc: Floats
    gyr: Floats
    mag: Floats | None
    good: NDArray[np.bool_]

    def recording(self) -> Recording:
        """Return the good rows as a recording."""
        keep = self.good
        mag = None if self.mag is None else self.mag[keep]
        return Recording(self.trial or "", self.time[keep], self.acc[keep], self.gyr[keep], mag=mag)

    def held(self) -> NDArray[np.int64]:
        """Return for each row the number of the good row at or before it; -1 before the first."""
        return np.cumsum(self.good) - 1


def read_samples(table: pa.Table, data: DataConfig) -> list[Samples]:
    """Return the trials of a table in order of first appearance."""
    columns = set(table.column_names)
    names = table.column("trial").to_pylist() if "trial" in columns else [None] * table.num_rows
    places: dict[str | None, list[int]] = {}
    for row, name in enumerate(names):
        places.setdefault(name, []).append(row)
    acc, gyr, mag = (_three(table, kind) for kind in ("acc", "gyr", "mag"))
    assert acc is not None
    assert gyr is not None
    time = _numbers(table, "time") if "time" in columns else np.full(table.num_rows, np.nan)
    found = []
    for name, rows in places.items():
        index = np.asarray(rows, dtype=np.int64)
        own = time[index]
        if data.fs is not None and np.isnan(own).all():
            own = np.arange(len(index)) / data.fs
        si_acc, si_gyr = acc_to_si(acc[index], data), gyr_to_si(gyr[index], data)
        field = None if mag is None or np.isnan(mag[index]).all() else mag[index]
        found.append(Samples(name, index, own, si_acc, si_gyr, field, _good(own, si_acc, si_gyr)))
    return found


def problems_of(samples: Sequence[Samples], data: DataConfig) -> list[GroupProblem]:
    """Name the trials that cannot be answered for, each with its first reason."""
    problems = []
    for one in samples:
        if rule := _problem(one, data):
            problems.append(GroupProblem((one.trial,), f"trial '{one.trial or ''}': {rule}"))
    return problems


def _problem(one: Samples, data: DataConfig) -> str | None:
    if np.isnan(one.time).all():
        return "no time column, and no --fs; expected either"
    good = int(one.good.sum())
    if good < 2:
        return f"{good} usable sample{'s' * (good != 1)}; expected 2 or more"
    if data.on_bad == "error" and not one.good.all():
        row = int(np.argmin(one.good))
        column, said = fault_of(one.time[row], one.time[row - 1], one.acc[row], one.gyr[row])
        expected = "increasing times" if column == "time" else "readings within the range of a sensor"
        return (
            f"row {one.rows[row] + 1}, column '{column}': {said}; expected {expected}, or --set "
            "data.on_bad=skip"
        )
    if not one.acc[one.good].any():
        return "every accelerometer reading is 0; expected gravity at rest"
    return None


def fault_of(time: float, before: float, acc: Sequence[float], gyr: Sequence[float]) -> tuple[str, str]:
    """Return the column that makes a sample unusable, and what is wrong with it.

    Args:
        time: Its time in s, NaN where it has none.
        before: Time of the usable sample before.
        acc: Readings of the accelerometer in m/s2.
        gyr: Readings of the gyroscope in rad/s.
    """
    if math.isnan(time):
        return "time", "no time"
    if abs(time) > MOST_TIME:
        return "time", f"time {time:.15g} s is beyond {MOST_TIME:g} s"
    for kind, values, most, unit in (("acc", acc, MOST_ACC, "m/s2"), ("gyr", gyr, MOST_GYR, "rad/s")):
        for axis, value in zip(AXES, values, strict=True):
            if math.isnan(value):
                return f"{kind}_{axis}", "the reading is missing"
            if abs(value) > most:
                return f"{kind}_{axis}", f"a reading of {value:.3g} {unit} is beyond {most:g} {unit}"
    return "time", f"time {time:.15g} s is not after {before:.15g} s"


def clipped(values: Floats, limit: float) -> NDArray[np.bool_]:
    """Return ``(N,)`` where a reading beyond ``limit`` stands at the largest value so far twice in a row."""
    size = np.abs(values)
    most = np.maximum.accumulate(size, axis=0)
    again = np.zeros(size.shape, dtype=bool)
    again[1:] = values[1:] == values[:-1]
    return np.asarray(((size == most) & again & (size > limit)).any(axis=1))


def _good(time: Floats, acc: Floats, gyr: Floats) -> NDArray[np.bool_]:
    within = ((time[:, None], MOST_TIME), (acc, MOST_ACC), (gyr, MOST_GYR))
    # false for NaN, too
    complete = np.all([(np.abs(values) <= most).all(axis=1) for values, most in within], axis=0)
    good = complete.copy()
    index = np.flatnonzero(complete)
    before = np.maximum.accumulate(time[index])
    good[index[1:]] = time[index[1:]] > before[:-1]
    return np.asarray(good)


def _three(table: pa.Table, kind: str) -> Floats | None:
    names = [f"{kind}_{axis}" for axis in AXES]
    if not set(names) <= set(table.column_names):
        return None
    return np.stack([_numbers(table, name) for name in names], axis=1)


def _numbers(table: pa.Table, name: str) -> Floats:
    column: Any = table.column(name).combine_chunks()
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

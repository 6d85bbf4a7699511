"""Trials in the user's units, between files and recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.units import acc_to_si, gyr_to_si, reference_to_enu

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class RawTrial:
    """One trial in the user's units, signs and frame, with nothing missing in time, acc and gyr.

    Attributes:
        trial: Its name.
        time: ``(N,)`` seconds, increasing strictly.
        acc: ``(N, 3)`` readings.
        gyr: ``(N, 3)`` readings.
        mag: ``(N, 3)`` readings, or None.
        quat: ``(N, 4)`` reference as the file has it, NaN where unknown, or None.
        movement: ``(N,)``, or None.
        notes: What was mended.
    """

    trial: str
    time: Floats
    acc: Floats
    gyr: Floats
    mag: Floats | None = None
    quat: Floats | None = None
    movement: Bools | None = None
    notes: tuple[str, ...] = field(default=())

    def to_recording(self, data: DataConfig) -> Recording:
        """Return the trial in SI units and ENU."""
        return Recording(
            self.trial,
            self.time,
            acc_to_si(self.acc, data),
            gyr_to_si(self.gyr, data),
            mag=self.mag,
            reference=None if self.quat is None else reference_to_enu(self.quat, data),
            movement=self.movement,
            notes=self.notes,
        )


def raw_table(trials: Sequence[RawTrial]) -> pa.Table:
    """Return trials as ``predict`` takes them: one row a sample, in the user's units, without references."""
    import pyarrow as pa

    with_mag = all(trial.mag is not None for trial in trials)
    parts = []
    for trial in trials:
        groups = {"acc": trial.acc, "gyr": trial.gyr} | ({"mag": trial.mag} if with_mag else {})
        zeros = np.zeros(len(trial.time), np.int32)
        columns: dict[str, Any] = {
            "trial": pa.DictionaryArray.from_arrays(zeros, [trial.trial]).cast(pa.string()),
            "time": trial.time,
        }
        for group, values in groups.items():
            assert values is not None
            columns |= {f"{group}_{axis}": values[:, number] for number, axis in enumerate("xyz")}
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)

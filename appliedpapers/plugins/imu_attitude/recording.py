"""One recording of one sensor: time, accelerometer, gyroscope and, where there is one, a reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """Samples in SI units and in the conventions of :mod:`appliedpapers.plugins.imu_attitude.rotations`.

    Attributes:
        trial: Name; windows never cross it and splits never cut it.
        time: ``(N,)`` seconds, increasing strictly.
        acc: ``(N, 3)`` specific force in m/s^2: at rest it points up and is as long as gravity.
        gyr: ``(N, 3)`` angular rate in rad/s.
        mag: ``(N, 3)`` magnetic field in any unit, or None.
        reference: ``(N, 4)`` unit quaternions (w, x, y, z), sensor to ENU; NaN where unknown; or None.
        movement: ``(N,)`` whether the sensor moved, which is where errors count; or None.
        notes: What was found and mended while it was read.
    """

    trial: str
    time: Floats
    acc: Floats
    gyr: Floats
    mag: Floats | None = None
    reference: Floats | None = None
    movement: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.time)

    @property
    def step(self) -> float:
        """Median time between samples in seconds."""
        return float(np.median(np.diff(self.time)))

    @property
    def judged(self) -> NDArray[np.bool_]:
        """``(N,)`` where errors count: movement with a reference that is known."""
        if self.reference is None:
            return np.zeros(len(self), dtype=bool)
        known = np.asarray(np.isfinite(self.reference).all(axis=1))
        return known if self.movement is None else known & self.movement


def with_reference(recordings: Iterable[Recording]) -> list[Recording]:
    """Return the recordings in which errors count anywhere."""
    return [recording for recording in recordings if recording.judged.any()]

"""Heading from a magnetometer, where there is one (arXiv 2203.17024, section on magnetic disturbance)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TAU_S = 9.0
_FIELD_TAU_S = 20.0
_NORM_SHARE, _DIP_RAD = 0.1, math.radians(10.0)
_PATIENCE_S = 60.0
_START_S = 1.0


class MagneticHeading:
    """The angle about up that turns magnetic north to the earth frame's y axis.

    A field whose length or dip differs from the usual by more than 10 % or 10 degrees is held for disturbed
    and not used, unless it stays so for a minute: then it is the usual one.
    """

    def __init__(self) -> None:
        self._angle, self._norm, self._dip = 0.0, math.nan, 0.0
        self._seconds, self._disturbed, self._time = 0.0, 0.0, math.nan

    @property
    def observable(self) -> bool:
        """Whether a field has been seen."""
        return not math.isnan(self._norm)

    def step(self, quaternion: tuple[float, ...], mag: tuple[float, ...], time: float) -> float:
        """Take one reading and return the angle in radians.

        Args:
            quaternion: ``(w, x, y, z)`` of a 6-axis filter, whose heading is arbitrary.
            mag: Reading in the sensor frame, any unit; NaN where there is none.
            time: Seconds.
        """
        x, y, z = _rotated(quaternion, mag)
        step = 0.0 if math.isnan(self._time) else time - self._time
        self._time = time
        norm = math.hypot(x, y, z)
        if not 0.0 < norm < math.inf:
            return self._angle
        dip = -math.asin(max(-1.0, min(1.0, z / norm)))
        if self._usual(norm, dip, step):
            self._seconds += step
            gain = _gain(step, _TAU_S, self._seconds)
            self._angle += gain * _wrapped(0.5 * math.pi - math.atan2(y, x) - self._angle)
        return self._angle

    def turn(self, quaternion: tuple[float, ...], angle: float) -> tuple[float, float, float, float]:
        """Return the orientation against magnetic north."""
        w, x, y, z = quaternion
        cosine, sine = math.cos(0.5 * angle), math.sin(0.5 * angle)
        return (
            cosine * w - sine * z,
            cosine * x - sine * y,
            cosine * y + sine * x,
            cosine * z + sine * w,
        )

    def state(self) -> dict[str, Floats]:
        """Return everything needed to go on."""
        values = (self._angle, self._norm, self._dip, self._seconds, self._disturbed, self._time)
        return {"heading": np.array(values)}

    def restore(self, state: Mapping[str, Floats]) -> Self:
        """Go on from :meth:`state`."""
        values = np.asarray(state["heading"]).tolist()
        self._angle, self._norm, self._dip, self._seconds, self._disturbed, self._time = values
        return self

    def _usual(self, norm: float, dip: float, step: float) -> bool:
        """Return whether the field is the usual one, and learn what is usual."""
        if not self.observable:
            self._norm, self._dip = norm, dip
        near = abs(norm / self._norm - 1) < _NORM_SHARE and abs(dip - self._dip) < _DIP_RAD
        self._disturbed = 0.0 if near else self._disturbed + step
        if self._disturbed > _PATIENCE_S:
            self._norm, self._dip, self._disturbed, near = norm, dip, 0.0, True
            # as at the start: the old heading may be far off
            self._seconds = 0.0
        if near:
            gain = _gain(step, _FIELD_TAU_S, self._seconds + step)
            self._norm += gain * (norm - self._norm)
            self._dip += gain * (dip - self._dip)
        return near


def _gain(step: float, tau: float, seconds: float) -> float:
    """Return the share of a low-pass that is a plain mean while it is young."""
    if seconds <= _START_S and step == 0.0:
        return 1.0
    return max(1 - math.exp(-step / tau), min(step / seconds, 1.0) if seconds > 0 else 1.0)


def _wrapped(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


def _rotated(quaternion: tuple[float, ...], vector: tuple[float, ...]) -> tuple[float, float, float]:
    w, x, y, z = quaternion
    vx, vy, vz = vector
    cx, cy, cz = 2 * (y * vz - z * vy), 2 * (z * vx - x * vz), 2 * (x * vy - y * vx)
    return (
        vx + w * cx + y * cz - z * cy,
        vy + w * cy + z * cx - x * cz,
        vz + w * cz + x * cy - y * cx,
    )

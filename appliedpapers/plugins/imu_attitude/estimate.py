"""What any estimator, ours, a paper's or a baseline, says about one recording."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.rotations import up_vector

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Orientation at every sample of a recording.

    Attributes:
        quaternion: ``(N, 4)`` unit quaternions (w, x, y, z), sensor to ENU; never NaN.
        latency: How far behind the newest sample that was used the answer stands, in seconds; 0 is causal.
        sd: ``(N,)`` expected inclination error (root mean square) in radians, or None.
        bias: ``(N, 3)`` gyroscope bias in rad/s that was taken off, or None.
        at_rest: ``(N,)`` whether the sensor was held for resting, or None.
        notes: Sentences for people.
    """

    quaternion: Floats
    latency: float = 0.0
    sd: Floats | None = None
    bias: Floats | None = None
    at_rest: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def up(self) -> Floats:
        """``(N, 3)`` up in the sensor frame."""
        return up_vector(self.quaternion)

"""Split conformal intervals of a volatility forecast, on windows that do not overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.volatility_images.market import SECOND_US, Floats
from appliedpapers.plugins.volatility_images.splits import VolatilitySplit


@dataclass(frozen=True)
class Interval:
    """Split conformal bounds of ``ln(truth / forecast)``.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        windows: Windows that it was fitted on, none overlapping another.
    """

    low: float
    high: float
    windows: int

    @classmethod
    def fit(cls, apart: Floats, level: int) -> Interval:
        """Fit both tails; beyond the sample the extremes stand."""
        ordered = np.sort(apart)
        count, tail = len(ordered), (1 - level / 100) / 2
        reach = min(math.ceil((count + 1) * (1 - tail)), count)
        return cls(float(ordered[count - reach]), float(ordered[reach - 1]), count)

    def around(self, forecast: Floats) -> tuple[Floats, Floats]:
        """Return both ends around forecasts."""
        return forecast * math.exp(self.low), forecast * math.exp(self.high)


def not_overlapping(split: VolatilitySplit) -> NDArray[np.intp]:
    """Return anchors of a split whose targets do not overlap, the first of each run of them."""
    kept: list[int] = []
    free: dict[str, int] = {}
    width = split.config.data.window * SECOND_US
    for row, (name, time) in enumerate(zip(split.session_names, split.time_us.tolist(), strict=True)):
        if time >= free.get(name, time):
            kept.append(row)
            free[name] = time + width
    return np.array(kept, dtype=np.intp)

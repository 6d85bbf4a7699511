"""Conformal intervals (Vovk et al. 2005; Lei et al. 2018) from errors on rows that were not learned from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMALLEST_SCALE = 0.1


@dataclass(frozen=True)
class Interval:
    """How wide an interval is around a prediction.

    Attributes:
        radius: In units of the scale.
        slope: Of the logarithm of the scale on the prediction; 0 where every interval is as wide.
        level: Of that logarithm.
        floor: Smallest scale.
    """

    radius: float
    slope: float = 0.0
    level: float = 0.0
    floor: float = 1.0

    @classmethod
    def fit(cls, predicted: Floats, truth: Floats, alpha: float, *, normalised: bool) -> Self:
        """Take the ceil((m + 1)(1 - alpha))-th smallest error; infinite where there are too few rows.

        Args:
            predicted: Of rows not learned from, ``(rows,)``.
            truth: ``(rows,)``.
            alpha: Share of true values that may lie outside.
            normalised: Divide errors by how large they usually are for such predictions.
        """
        errors = np.abs(truth - predicted)
        slope = level = 0.0
        floor = 1.0
        if normalised and len(errors) > 10 and float(np.ptp(predicted)) > 0:
            typical = max(float(np.median(errors)), 1e-12)
            slope, level = (float(one) for one in np.polyfit(predicted, np.log(errors + 0.1 * typical), 1))
            floor = _SMALLEST_SCALE * typical
        scale = _scale(predicted, slope, level, floor) if slope or level else np.ones(len(errors))
        ordered = np.sort(errors / scale)
        rank = math.ceil((len(ordered) + 1) * (1 - alpha))
        radius = float(ordered[rank - 1]) if rank <= len(ordered) else math.inf
        return cls(radius, slope, level, floor)

    def __call__(self, predicted: Floats) -> tuple[Floats, Floats]:
        """Return the ends of the intervals, ``(rows,)`` each."""
        scale = (
            1.0 if not (self.slope or self.level) else _scale(predicted, self.slope, self.level, self.floor)
        )
        return predicted - self.radius * scale, predicted + self.radius * scale

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that keeps every bit; an infinite radius is null."""
        radius = self.radius if math.isfinite(self.radius) else None
        return {"radius": radius, "slope": self.slope, "level": self.level, "floor": self.floor}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild it from :meth:`to_json`."""
        values = dict(document)
        return cls(**{**values, "radius": math.inf if values["radius"] is None else values["radius"]})


def _scale(predicted: Floats, slope: float, level: float, floor: float) -> Floats:
    return np.asarray(np.maximum(np.exp(slope * predicted + level), floor))

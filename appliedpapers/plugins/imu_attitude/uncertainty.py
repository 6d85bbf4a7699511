"""How far off an answer may be: the filter's own standard deviation, held against references.

A Kalman filter knows the noise that it was told of, and nothing of an accelerometer that is off by a tenth of
a m/s^2, or of a gyroscope that is bent when it turns fast: on BROAD it says a fraction of the true error. Two
numbers mend that: what it leaves out adds a floor, what it understates a factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import Floats, angle_between, up_vector

LEVEL = 0.95

# a tilt with two equal normal parts and root mean square s stays below x with 1 - exp(-x^2 / s^2)
_NORMAL = math.sqrt(-math.log(1 - LEVEL))
_SAMPLES = 5_000  # a trial: neighbours say the same
_TINY = np.deg2rad(0.01)


@dataclass(frozen=True)
class Calibration:
    """What makes a filter's standard deviation an expected error.

    Attributes:
        floor: Error in radians, root mean square, that the filter knows nothing of.
        scale: Factor on its own standard deviation.
        tail: The 95 % bound over the expected error.
        trials: Trials with a reference that it was fitted to; 0: nothing was fitted.
    """

    floor: float = 0.0
    scale: float = 1.0
    tail: float = _NORMAL
    trials: int = 0

    @classmethod
    def fit(cls, estimates: Sequence[Estimate], recordings: Sequence[Recording]) -> Self:
        """Fit floor and scale by maximum likelihood, and the tail to trials that were left out.

        Each trial counts alike. For the tail, floor and scale are fitted to the other trials in turn, so that
        it holds what differs between trials (one trial is judged by itself); errors are then ranked over all.

        Args:
            estimates: Answers with the filter's own ``sd``.
            recordings: What they are about; those without a reference do not count.

        Returns:
            The identity where there is no reference or no ``sd``.
        """
        parts = [
            _errors(estimate, recording)
            for estimate, recording in zip(estimates, recordings, strict=True)
            if estimate.sd is not None and recording.judged.any()
        ]
        if not parts:
            return cls()
        floor, scale = _likeliest(parts)
        ratios, shares = [], []
        for number, (error, sd) in enumerate(parts):
            others = [part for place, part in enumerate(parts) if place != number] or parts
            floor_of_others, scale_of_others = _likeliest(others)
            ratios.append(error / np.hypot(floor_of_others, scale_of_others * sd))
            shares.append(np.full(len(error), 1 / len(error)))
        tail = _quantile(np.concatenate(ratios), np.concatenate(shares))
        return cls(floor, scale, tail, len(parts))

    def expected(self, sd: Any) -> Any:
        """Return the expected error, root mean square in radians, for the filter's own ``sd``."""
        return np.hypot(self.floor, self.scale * sd)

    def apply(self, estimate: Estimate) -> Estimate:
        """Return the estimate with the expected error in place of the filter's own ``sd``."""
        return estimate if estimate.sd is None else replace(estimate, sd=self.expected(estimate.sd))

    def bound95(self, expected: Any) -> Any:
        """Return what 95 % of the errors stay below, in radians, for an expected error."""
        return self.tail * expected

    def describe(self) -> tuple[tuple[str, str], ...]:
        """Return facts for a report."""
        if not self.trials:
            return (("expected error", "the filter's own: no reference to hold it against"),)
        return (
            (
                "expected error",
                f"{np.rad2deg(self.floor):.2f}° and {self.scale:.3g} times the filter's own, 95 % bound "
                f"{self.tail:.2f} times that; from {self.trials} trial{'s' * (self.trials != 1)}",
            ),
        )

    def to_json(self) -> dict[str, float]:
        """Return what :meth:`from_json` takes."""
        return {"floor": self.floor, "scale": self.scale, "tail": self.tail, "trials": self.trials}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the calibration that :meth:`to_json` wrote."""
        return cls(
            float(values["floor"]), float(values["scale"]), float(values["tail"]), int(values["trials"])
        )


def _errors(estimate: Estimate, recording: Recording) -> tuple[Floats, Floats]:
    assert recording.reference is not None
    assert estimate.sd is not None
    rows = np.flatnonzero(recording.judged)
    rows = rows[:: -(-len(rows) // _SAMPLES)]
    return angle_between(estimate.up[rows], up_vector(recording.reference[rows])), estimate.sd[rows]


def _likeliest(parts: Sequence[tuple[Floats, Floats]]) -> tuple[float, float]:
    """Return floor and scale; the tilt error is taken for two equal normal parts."""
    from scipy.optimize import minimize

    def unlikely(logs: Floats) -> float:
        floor, scale = np.exp(logs)
        return float(np.mean([_deviance(error, floor**2 + (scale * sd) ** 2) for error, sd in parts]))

    usual = float(np.sqrt(np.mean([np.mean(error**2) for error, _ in parts])))
    start = np.log([max(0.7 * usual, _TINY), 2.0])
    # beyond these ends one of the two no longer matters
    ends = [(math.log(_TINY), math.log(max(2 * usual, 2 * _TINY))), (math.log(1e-2), math.log(1e2))]
    found = minimize(
        unlikely, start, method="Nelder-Mead", bounds=ends, options={"xatol": 1e-3, "fatol": 1e-7}
    )
    floor, scale = np.exp(found.x)
    return float(floor), float(scale)


def _deviance(error: Floats, variance: Floats) -> float:
    return float(np.mean(np.log(variance) + error**2 / variance))


def _quantile(values: Floats, shares: Floats) -> float:
    order = np.argsort(values)
    reached = np.cumsum(shares[order])
    place = int(np.searchsorted(reached, LEVEL * reached[-1]))
    return float(values[order][min(place, len(values) - 1)])

"""How nitrogen is judged: errors, and intervals by how often they hold the truth and how wide they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.metrics import register_metric
from appliedpapers.core.scores import MetricScores, Scored
from appliedpapers.plugins.agrosense.nitrogen.data import NitrogenSplit

Floats = NDArray[np.float64]

PRIMARY = "rmse"

register_metric(
    "rpd",
    unit="",
    higher_is_better=True,
    description="standard deviation of the true values over the rmse; 2 is fair",
)


@dataclass(frozen=True)
class Estimate:
    """What a model says of rows.

    Attributes:
        value: ``(rows,)``.
        low: Lower end of the interval, ``(rows,)``; None without intervals.
        high: Upper end, likewise.
    """

    value: Floats
    low: Floats | None = None
    high: Floats | None = None


def score(told: Estimate, split: NitrogenSplit, groups: NDArray[np.str_] | None) -> Scored:
    """Score rows; groups are resampled together.

    Args:
        told: What a model says.
        split: The rows.
        groups: Of the rows, ``(rows,)``.
    """
    truth = split.nitrogen
    errors = told.value - truth
    found = {
        PRIMARY: MetricScores.root_mean(errors**2),
        "mae": MetricScores.mean(np.abs(errors)),
        "r2": _r2(errors, truth, split.variance),
    }
    if split.variance is None:
        found["rpd"] = MetricScores.of(lambda chosen: _rpd(errors[chosen], truth[chosen]), len(truth))
    if told.low is not None and told.high is not None and np.isfinite(told.high).all():
        found["coverage"] = MetricScores.mean((truth >= told.low) & (truth <= told.high))
        found["interval_width"] = MetricScores.mean(told.high - told.low)
    units: dict[str, str] = {name: split.unit for name in ("rmse", "mae", "interval_width") if name in found}
    return Scored(found, groups, units=units)


def _r2(errors: Floats, truth: Floats, variance: float | None) -> MetricScores:
    if variance is not None:
        # parts of three rows have no variance worth the name: that of the whole table stands for it
        return MetricScores.mean(1 - errors**2 / variance)

    def r2(chosen: NDArray[np.intp]) -> float:
        spread = float(truth[chosen].var())
        return 1 - float((errors[chosen] ** 2).mean()) / spread if spread > 0 else float("nan")

    return MetricScores.of(r2, len(truth))


def _rpd(errors: Floats, truth: Floats) -> float:
    rmse = float(np.sqrt((errors**2).mean()))
    return float(truth.std(ddof=1)) / rmse if rmse > 0 and len(truth) > 1 else float("nan")

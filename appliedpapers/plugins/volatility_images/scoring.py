"""From forecasts of volatility to scores: QLIKE first, and RMSPE never without what unmasks it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.metrics import register_metric
from appliedpapers.core.scores import MetricScores, Scored, Slices
from appliedpapers.plugins.volatility_images.linear import qlike_losses
from appliedpapers.plugins.volatility_images.market import Floats
from appliedpapers.plugins.volatility_images.splits import VolatilitySplit
from appliedpapers.plugins.volatility_images.windows import LEAST_FORECAST, floor_of

MEAN_RATIO = register_metric(
    "mean_ratio",
    unit="",
    higher_is_better=None,
    description="mean forecast over mean true value; 1 is without bias",
)
_DECILES = 10
_PARTS_OF_DAY = ("first third", "middle third", "last third")
_LEAST_SLICE = 20


@dataclass(frozen=True)
class Forecast:
    """Forecasts of all anchors of a split.

    Attributes:
        values: Volatility, ``(anchors,)``, in return units; NaN where a model gives none.
        low: Lower ends of the interval; None without one.
        high: Upper ends.
        level: Nominal coverage in percent.
        members: Forecasts of the networks that ``values`` is the mean of.
    """

    values: Floats
    low: Floats | None = None
    high: Floats | None = None
    level: int = 0
    members: tuple[Floats, ...] = field(default=())


def score_forecast(forecast: Forecast, split: VolatilitySplit) -> Scored:
    """Score forecasts; a unit is an anchor, neighbouring anchors overlap.

    QLIKE and log-RMSE hold truths at the floor and forecasts at 1e-6 from below. RMSPE leaves windows
    without movement out, unless the floor is asked for; how many those are stands in its ``n``.
    """
    truth, told = split.targets, forecast.values
    if not np.isfinite(told).all():
        raise ValueError("a forecast is missing")
    data = split.config.data
    least = floor_of(data.window)
    held, safe = np.maximum(truth, least), np.maximum(told, LEAST_FORECAST)
    counted = np.ones(len(truth)) if data.zero_targets == "floor" else split.moving.astype(np.float64)
    relative = (told - held) / held
    metrics = {
        "qlike": MetricScores.mean(qlike_losses(held, safe)),
        # where nothing moves at all no relative error is defined: then every window counts at the floor
        "rmspe": MetricScores.root_mean(relative**2, counted if counted.any() else None),
        "r2": MetricScores.of(_r2_of(truth, told), len(truth)),
        "log_rmse": MetricScores.root_mean(np.log(held / safe) ** 2),
        MEAN_RATIO.name: _mean_ratio(truth, told),
    }
    return Scored(
        metrics, block=block_of(split), slices=(*_slices(metrics, split), *_coverage(forecast, held, split))
    )


def block_of(split: VolatilitySplit) -> int:
    """Return the anchors of a bootstrap block: ten windows, at least ten minutes; fewer for few anchors."""
    wanted = -(-max(10 * split.config.data.window, 600) // split.stride)
    return max(min(wanted, split.num_rows // 4), 1)


def overlap(split: VolatilitySplit) -> int:
    """Return how many neighbouring anchors share seconds of their targets."""
    return max(-(-split.config.data.window // split.stride), 1)


def _mean_ratio(truth: Floats, told: Floats) -> MetricScores:
    weights = truth if truth.any() else np.ones(len(truth))
    ratio = np.divide(told, truth, out=np.zeros_like(told), where=truth > 0)
    zero = (truth <= 0) & (told > 0)
    if not zero.any():
        return MetricScores.mean(ratio, weights)

    def value(chosen: NDArray[np.intp]) -> float:
        total = float(truth[chosen].sum())
        return float(told[chosen].sum()) / total if total > 0 else float("nan")

    return MetricScores.of(value, len(truth))


class _R2:
    """One less the squared errors over those of the mean of the chosen units."""

    def __init__(self, truth: Floats, told: Floats) -> None:
        self._truth, self._squares = truth, (truth - told) ** 2

    def __call__(self, chosen: NDArray[np.intp]) -> float:
        truth = self._truth[chosen]
        spread = float(((truth - truth.mean()) ** 2).sum())
        return 1.0 - float(self._squares[chosen].sum()) / spread if spread > 0 else float("nan")


def _r2_of(truth: Floats, told: Floats) -> _R2:
    return _R2(truth, told)


def _slices(metrics: dict[str, MetricScores], split: VolatilitySplit) -> Slices:
    """Return scores by how volatile the last window was, by time of day, and by session."""
    shown = {name: metrics[name] for name in ("qlike", "rmspe", MEAN_RATIO.name)}
    found: list[tuple[dict[str, str], NDArray[np.bool_]]] = []
    past = split.naive
    edges = np.quantile(past, (1 / 3, 2 / 3)) if len(past) else np.zeros(2)
    third = np.searchsorted(edges, past, side="right")
    names = ("calm", "normal", "stressed")
    found += [({"last window": name}, third == number) for number, name in enumerate(names)]
    angle = split.grid.clock.angle(split.time_us) / (2 * np.pi)
    part = np.minimum((3 * angle).astype(np.int64), 2)
    found += [({"time of day": name}, part == number) for number, name in enumerate(_PARTS_OF_DAY)]
    sessions = dict.fromkeys(split.session_names)
    if 1 < len(sessions) <= _DECILES:
        own = np.array(split.session_names)
        found += [({"session": name}, own == name) for name in sessions]
    made = []
    for labels, chosen in found:
        if int(chosen.sum()) >= _LEAST_SLICE and not chosen.all() and split.moving[chosen].any():
            made.append((labels, {name: one.restrict(chosen) for name, one in shown.items()}))
    return tuple(made)


def _coverage(forecast: Forecast, held: Floats, split: VolatilitySplit) -> Slices:
    if forecast.low is None or forecast.high is None:
        return ()
    inside = ((held >= forecast.low) & (held <= forecast.high)).astype(np.float64)
    scores = {
        "coverage": MetricScores.mean(inside),
        "interval_width": MetricScores.mean(forecast.high - forecast.low),
    }
    return (({"level": str(forecast.level)}, scores),)


def zero_share(split: VolatilitySplit) -> float:
    """Return the share of anchors after which nothing moves."""
    return float(np.mean(~split.moving)) if split.num_rows else 0.0

"""From forecasts of windows to scores: scaled under the benchmark protocols, in original units elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.scores import MetricScores, Scored, Slices
from appliedpapers.plugins.frets.observations import season_of
from appliedpapers.plugins.frets.splits import ForecastSplit
from appliedpapers.plugins.frets.windows import WindowArrays

Floats = NDArray[np.float64]

_MOST_SERIES_SLICES = 60
_HORIZON_BUCKETS = 4


@dataclass(frozen=True)
class Forecast:
    """Forecasts of all windows of a split, in scaled space.

    Attributes:
        values: ``(W, H, N)``; NaN where a window's inputs are incomplete.
        bounds: Lower and upper ends by level in percent, each ``(W, H, N)``; empty for baselines.
        filled: Windows and series in which the last value stands in, see :func:`complete_forecast`.
    """

    values: Floats
    bounds: Mapping[int, tuple[Floats, Floats]] = field(default_factory=dict)
    filled: int = 0


def complete_forecast(values: Floats, windows: WindowArrays) -> Forecast:
    """Let the last value stand in where a model could not forecast a window that others can.

    Such a model needs more of the past than the split's windows hold, or all series at once, and finds a
    gap there. All models of a run are scored on the same windows, so it is not excused from them.

    Args:
        values: ``(W, H, N)``; NaN where the model could not forecast.
        windows: The windows of the split, which every model is scored on.
    """
    unknown = np.isnan(values)
    filled = int((unknown.any(axis=1) & windows.valid).sum())
    return Forecast(np.where(unknown, windows.before(1), values) if filled else values, filled=filled)


def score_forecast(forecast: Forecast, split: ForecastSplit, protocol: str, train: ForecastSplit) -> Scored:
    """Score forecasts; a unit is a window, and neighbouring windows overlap.

    Args:
        forecast: Forecasts of every window of the split.
        split: The windows.
        protocol: ``ltsf-zscore`` and ``authors-minmax`` are scored in scaled space, ``rolling`` in the
            units of the data.
        train: The train part, whose seasonal differences are the unit of the MASE.
    """
    errors = _Errors(forecast.values, split, protocol, naive_scale(train))
    return Scored(
        metrics=errors.metrics(slice(None), slice(None)),
        # twice the overlap: intervals of shorter blocks were measured to be too narrow
        block=2 * overlap(split),
        slices=(*_by_series(errors, split), *_by_horizon(errors, split), *_coverage(forecast, split)),
    )


def overlap(split: ForecastSplit) -> int:
    """Return how many consecutive windows share target rows."""
    return max(-(-split.horizon // split.step), 1)


class _Errors:
    """Errors of every window, step and series, and the metrics over any part of them."""

    def __init__(self, values: Floats, split: ForecastSplit, protocol: str, scale: Floats) -> None:
        truth = split.windows.targets
        self.original_units = protocol.startswith("rolling")
        if self.original_units:
            values, truth = split.scaler.inverse(values), split.scaler.inverse(truth)
        self.protocol = protocol
        self.truth = truth
        self.forecast = values
        self.error = values - truth
        # a model that cannot forecast an observed target is not excused from it
        observed = np.broadcast_to(split.windows.valid[:, None, :], truth.shape)
        if np.isnan(self.error[observed]).any():
            raise ValueError("a forecast is missing where the target and the inputs are observed")
        self.observed = observed
        self.naive_scale = scale

    def metrics(self, steps: Any, series: Any) -> dict[str, MetricScores]:
        """Return the metrics over some steps and some series."""
        seen = self.observed[:, steps, series]
        error = np.where(seen, self.error[:, steps, series], 0.0)
        squared, absolute = _over_window(error**2, seen), _over_window(np.abs(error), seen)
        weights = seen.sum(axis=(1, 2)).astype(float)
        if not self.original_units:
            metrics = {
                "mse": MetricScores.mean(squared, weights),
                "mae": MetricScores.mean(absolute, weights),
                "rmse": MetricScores.root_mean(squared, weights),
            }
            if self.protocol.startswith("authors"):
                return {name: metrics[name] for name in ("mae", "rmse", "mse")}
            return metrics
        truth = np.where(seen, self.truth[:, steps, series], 0.0)
        forecast = np.where(seen, self.forecast[:, steps, series], 0.0)
        size = np.abs(truth) + np.abs(forecast)
        symmetric = np.divide(2 * np.abs(error), size, out=np.zeros_like(error), where=size > 0)
        total = np.abs(truth).sum(axis=(1, 2))
        shares = np.divide(np.abs(error).sum(axis=(1, 2)), total, out=np.zeros_like(total), where=total > 0)
        scaled = np.abs(error) / self.naive_scale[series]
        return {
            "mase": MetricScores.mean(_over_window(scaled, seen), weights),
            "mae": MetricScores.mean(absolute, weights),
            "rmse": MetricScores.root_mean(squared, weights),
            "smape": MetricScores.mean(100 * _over_window(symmetric, seen), weights),
            "wape": MetricScores.mean(100 * shares, total),
        }


def _over_window(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    counts = seen.sum(axis=(1, 2))
    sums = np.where(seen, values, 0.0).sum(axis=(1, 2))
    mean: Floats = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return mean


def naive_scale(train: ForecastSplit) -> Floats:
    """Return the mean absolute seasonal difference of each series in the train part, ``(N,)``."""
    past = train.panel.values
    season = min(season_of(train.panel.freq), max(len(past) - 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scale = np.nanmean(np.abs(past[season:] - past[:-season]), axis=0)
    floor = np.maximum(np.abs(train.scaler.scale) * 1e-6, 1e-12)
    return np.where(np.isfinite(scale), np.maximum(scale, floor), train.scaler.scale)


def _by_series(errors: _Errors, split: ForecastSplit) -> Slices:
    names = split.panel.unique_ids[:_MOST_SERIES_SLICES]
    if len(split.panel.unique_ids) == 1:
        return ()
    return tuple(
        ({"series": name}, errors.metrics(slice(None), slice(column, column + 1)))
        for column, name in enumerate(names)
        if errors.observed[:, :, column].any()
    )


def horizon_buckets(horizon: int) -> Iterator[tuple[str, slice]]:
    """Yield up to four ranges of steps and their names."""
    edges = np.unique(np.linspace(0, horizon, _HORIZON_BUCKETS + 1).astype(int))
    for first, end in pairwise(edges):
        yield (f"{first + 1} to {end}" if end - first > 1 else f"{end}"), slice(int(first), int(end))


def _by_horizon(errors: _Errors, split: ForecastSplit) -> Slices:
    if split.horizon == 1:
        return ()
    buckets = horizon_buckets(split.horizon)
    return tuple(({"steps ahead": name}, errors.metrics(steps, slice(None))) for name, steps in buckets)


def _coverage(forecast: Forecast, split: ForecastSplit) -> Slices:
    """Return share of targets inside each interval and its mean width, in scaled units."""
    truth = split.windows.targets
    found = []
    for level, (low, high) in forecast.bounds.items():
        seen = split.windows.valid[:, None, :] & ~np.isnan(low)
        inside = ((truth >= low) & (truth <= high)).astype(float)
        weights = seen.sum(axis=(1, 2)).astype(float)
        if not weights.any():
            continue
        scores = {
            "coverage": MetricScores.mean(_over_window(inside, seen), weights),
            "interval_width": MetricScores.mean(_over_window(high - low, seen), weights),
        }
        found.append(({"level": str(level)}, scores))
    return tuple(found)

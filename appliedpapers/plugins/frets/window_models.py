"""Simple rules and strong classical models that every network has to stand beside.

All of them work on scaled values and forecast every window of a :class:`WindowArrays`. A model may look
further back than the network's lookback, never past a cutoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from appliedpapers.plugins.frets.lags import LagsLightGBM
from appliedpapers.plugins.frets.moments import WindowMoments
from appliedpapers.plugins.frets.windows import Floats, WindowArrays

__all__ = ["LagsLightGBM", "LastValue", "RidgeNLinear", "SeasonalNaive", "WindowModel", "find_period"]

PERIODS = (24, 168, 7, 12, 52)
"""Hours a day, hours a week, days a week, months a year, weeks a year."""

_WINDOWS_PER_BLOCK = 4096


class WindowModel(Protocol):
    """What every one of them does."""

    name: str

    def fit(self, train: WindowArrays, valid: WindowArrays, seed: int) -> Self:
        """Learn from ``train``, choose on ``valid``."""
        ...

    def forecast(self, windows: WindowArrays) -> Floats:
        """Forecast every window, ``(W, horizon, N)``; NaN where the history it needs is missing."""
        ...


class LastValue:
    """Every step equals the last observed value."""

    name = "last-value"

    def fit(self, train: WindowArrays, valid: WindowArrays, seed: int) -> Self:
        """Learn nothing."""
        del train, valid, seed
        return self

    def forecast(self, windows: WindowArrays) -> Floats:
        """Forecast ``(W, horizon, N)``."""
        return np.repeat(windows.before(1), windows.horizon, axis=1)


class SeasonalNaive:
    """Every step equals the value a whole number of seasons before it.

    Where that value is missing, or lies before the first row, the last value stands in.

    Args:
        period: Steps of a season; found on the train part by :func:`find_period` when left out.
    """

    name = "seasonal-naive"

    def __init__(self, period: int | None = None) -> None:
        self.period = period
        self.period_ = period or 1

    def fit(self, train: WindowArrays, valid: WindowArrays, seed: int) -> Self:
        """Find the period, unless it was given."""
        self.period_ = self.period or find_period(train.values[: train.last + train.horizon])
        return self

    def forecast(self, windows: WindowArrays) -> Floats:
        """Forecast ``(W, horizon, N)``."""
        step = np.arange(windows.horizon)
        rows = windows.cutoffs[:, None] + step % self.period_ - self.period_
        season = windows.values[np.maximum(rows, 0)]
        unknown = np.isnan(season) | (rows < 0)[..., None]
        return np.where(unknown, windows.before(1), season)


def find_period(train: Floats) -> int:
    """Return the season with the highest autocorrelation peak among 24, 168, 7, 12 and 52 steps.

    A peak is higher than its two neighbours, so that a smooth series does not pass for a seasonal one.

    Args:
        train: ``(T, N)``; NaN is left out, pair by pair. The series' autocorrelations are averaged.

    Returns:
        The period, or 1 when there is no peak.
    """
    centred = train - np.nansum(train, axis=0) / np.maximum(np.isfinite(train).sum(0), 1)
    variance = np.nansum(centred**2, axis=0) / np.maximum(np.isfinite(centred).sum(0), 1)
    alive = variance > 0

    def correlation(lag: int) -> float:
        products = centred[lag:, alive] * centred[:-lag, alive]
        covariance = np.nansum(products, axis=0) / np.maximum(np.isfinite(products).sum(0), 1)
        return float(np.mean(covariance / variance[alive]))

    best, period = 0.0, 1
    for candidate in PERIODS if alive.any() else ():
        # Three seasons, so that the peak is more than one coincidence.
        if 3 * candidate > len(train):
            continue
        peak = correlation(candidate)
        if peak > best and peak > max(correlation(candidate - 1), correlation(candidate + 1)):
            best, period = peak, candidate
    return period


class RidgeNLinear:
    """The linear map of NLinear in closed form: ``forecast = last + W (x - last)``, shared by the series.

    ``W = argmin sum |y - last - W (x - last)|^2 + penalty |W|^2`` without an intercept. Penalty and
    lookback are those with the least validation error; everything is computed from second moments, so no
    design matrix is ever built.

    Args:
        lookbacks: Lookbacks to choose from; those for which the history is too short are left out, and when
            none remains it is that of the windows.
        penalties: Ridge penalties to choose from.

    Attributes:
        weight_: ``(horizon, lookback_)`` float64.
        lookback_: The chosen lookback.
        penalty_: The chosen penalty.
        valid_mse_: Its mean squared error on the validation windows.
    """

    name = "ridge-nlinear"

    def __init__(
        self,
        lookbacks: Sequence[int] = (96, 336, 512, 720),
        penalties: Sequence[float] = (1e1, 1e2, 1e3, 1e4, 1e5),
    ) -> None:
        self.lookbacks, self.penalties = tuple(lookbacks), tuple(penalties)
        self.weight_: Floats = np.zeros((0, 0))
        self.lookback_, self.penalty_, self.valid_mse_ = 0, 0.0, np.inf

    def fit(self, train: WindowArrays, valid: WindowArrays, seed: int) -> Self:
        """Solve for every lookback and penalty and keep the best; ``seed`` is not needed.

        Raises:
            ValueError: No lookback leaves a complete window in both parts.
        """
        self.valid_mse_ = np.inf
        longest = min(train.last, valid.first)
        for lookback in [rows for rows in self.lookbacks if rows <= longest] or [train.lookback]:
            self._fit_lookback(train.with_lookback(lookback), valid.with_lookback(lookback))
        if not np.isfinite(self.valid_mse_):
            raise ValueError("ridge-nlinear: no window without missing values in the train and valid parts")
        return self

    def forecast(self, windows: WindowArrays) -> Floats:
        """Forecast ``(W, horizon, N)``.

        Raises:
            ValueError: A window has fewer than ``lookback_`` rows before it.
        """
        last = windows.before(1)
        inputs = windows.before(self.lookback_)
        out = np.empty((len(windows), windows.horizon, windows.n_series))
        weight = self.weight_[: windows.horizon].T
        for begin in range(0, len(windows), _WINDOWS_PER_BLOCK):
            block = slice(begin, begin + _WINDOWS_PER_BLOCK)
            for series in range(windows.n_series):
                base = last[block, :, series]
                out[block, :, series] = (inputs[block, :, series] - base) @ weight + base
        return out

    def _fit_lookback(self, train: WindowArrays, valid: WindowArrays) -> None:
        fitted, checked = WindowMoments.of(train), WindowMoments.of(valid)
        if not (fitted.count and checked.count):
            return
        values, vectors = np.linalg.eigh(fitted.inputs)
        rotated = vectors.T @ fitted.cross
        for penalty in self.penalties:
            weight = vectors @ (rotated / (np.maximum(values, 0.0) + penalty)[:, None])
            mse = checked.mean_squared_error(weight)
            if mse < self.valid_mse_:
                self.weight_, self.lookback_ = np.ascontiguousarray(weight.T), train.lookback
                self.penalty_, self.valid_mse_ = float(penalty), mse

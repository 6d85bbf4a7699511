"""Split conformal intervals per step ahead and series, fixed or adapted along a backtest.

Residuals are observed minus forecast, in scaled space, of windows that the model was not fitted on. Sources:
split conformal prediction (arXiv 1604.04173) and adaptive conformal inference (arXiv 2106.00170).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["symmetric", "asymmetric"]

# Guards the rank against products such as 20 * 0.95 = 19.000000000000004.
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Coverage:
    """How an interval did on windows that it was not calibrated on.

    Attributes:
        level: Nominal coverage in percent.
        coverage: Share of observed values inside, 0 to 1; NaN when nothing was scored.
        width: Mean width, in the unit of the offsets.
        n: Number of scored points.
    """

    level: int
    coverage: float
    width: float
    n: int


@dataclass(frozen=True)
class ConformalIntervals:
    """Offsets to add to a forecast, by level, step ahead and series.

    Attributes:
        levels: Nominal coverages in percent that the calibration windows suffice for.
        method: ``"symmetric"`` (quantile of absolute residuals) or ``"asymmetric"`` (both tails).
        low: ``(H, N)`` by level, in scaled space; NaN for a series with too few windows.
        high: Likewise.
        pooled_low: ``(H,)`` by level, over the residuals of all series: for a series never seen.
        pooled_high: Likewise.
        windows: Largest number m of calibration windows of a series.
        horizon: Steps H.
        refused: Levels in percent that were refused, with the number of windows they need.
        calibration: the ``(m, H, N)`` residuals; None after loading.
    """

    levels: tuple[int, ...]
    method: Method
    low: Mapping[int, Floats]
    high: Mapping[int, Floats]
    pooled_low: Mapping[int, Floats]
    pooled_high: Mapping[int, Floats]
    windows: int
    horizon: int
    refused: Mapping[int, int]
    calibration: Floats | None = field(default=None, repr=False, compare=False)

    @classmethod
    def fit(
        cls,
        residuals: NDArray[np.floating[Any]],
        *,
        levels: Sequence[int] = (80, 95),
        method: Method = "symmetric",
    ) -> Self:
        """Take the conformal quantiles of calibration residuals.

        A level for which no series has enough windows is refused: it is left out of ``levels`` and its
        need is in ``refused``. A series that alone has too few gets NaN at that level.

        Args:
            residuals: ``(m, H, N)`` observed minus forecast; NaN is left out.
            levels: Nominal coverages, whole percentages from 1 to 99.
            method: Quantiles of absolute residuals, or of both tails.

        Raises:
            ValueError: The residuals are not three-dimensional, or a level is not from 1 to 99.
        """
        if residuals.ndim != 3:
            raise ValueError(f"residuals must be (windows, horizon, series), not {residuals.shape}")
        for level in levels:
            if not 1 <= level <= 99:
                raise ValueError(f"a level is a whole percentage from 1 to 99, not {level}")
        known = np.asarray(residuals, dtype=np.float64)
        horizon = known.shape[1]
        most = int(np.isfinite(known).sum(axis=0).max(initial=0))
        granted = tuple(level for level in sorted(levels) if most >= windows_needed(level, method))
        own = _by_level(_Tails(known, method), granted)
        pooled = known.transpose(0, 2, 1).reshape(-1, horizon, 1)
        shared = _by_level(_Tails(pooled, method), granted)
        return cls(
            levels=granted,
            method=method,
            low={level: bounds[0] for level, bounds in own.items()},
            high={level: bounds[1] for level, bounds in own.items()},
            pooled_low={level: bounds[0][:, 0] for level, bounds in shared.items()},
            pooled_high={level: bounds[1][:, 0] for level, bounds in shared.items()},
            windows=most,
            horizon=horizon,
            refused={level: windows_needed(level, method) for level in sorted(set(levels) - set(granted))},
            calibration=known,
        )

    @property
    def effective_windows(self) -> float:
        """Number of windows that do not overlap, ``m / H``: overlapping ones repeat each other's errors."""
        return self.windows / self.horizon

    def offsets(self, level: int, column: int | None = None) -> tuple[Floats, Floats]:
        """Return what to add to the forecast of a series, ``(H,)`` each; of no known series for None.

        Raises:
            ValueError: The level was refused or never asked for; the message says what it needs.
        """
        if level not in self.levels:
            raise ValueError(self._no_such_level(level))
        if column is None:
            return self.pooled_low[level], self.pooled_high[level]
        return self.low[level][:, column], self.high[level][:, column]

    def coverage(self, residuals: NDArray[np.floating[Any]]) -> list[Coverage]:
        """Score the intervals on ``(W, H, N)`` residuals of later windows, one entry a level."""
        return [
            score(level, residuals, self.low[level][None], self.high[level][None]) for level in self.levels
        ]

    def adapt(
        self, residuals: NDArray[np.floating[Any]], level: int, *, step: int = 1, gamma: float = 0.02
    ) -> tuple[Floats, Floats]:
        """Walk along a backtest and correct the miscoverage a of each step and series as it shows.

        After each outcome ``a <- a + gamma (nominal - miss)``, kept within 0 and 1. An outcome h steps ahead
        is known h rows after its cutoff, and not used before. At a = 0 the widest calibration residual is the
        bound, since no finite sample gives a wider one.

        Args:
            residuals: ``(W, H, N)`` of consecutive windows in the order of time; NaN teaches nothing.
            level: Nominal coverage in percent.
            step: Rows between the cutoffs of neighbouring windows.
            gamma: Rate of the correction.

        Returns:
            Offsets ``low, high``, each ``(W, H, N)``, that were in force for each window.

        Raises:
            ValueError: The level is not available, or the intervals were loaded without their residuals.
        """
        if level not in self.levels:
            raise ValueError(self._no_such_level(level))
        if self.calibration is None:
            raise ValueError(
                "adaptive intervals need the calibration residuals: fit again, they are not stored"
            )
        nominal = 1 - level / 100
        horizon = residuals.shape[1]
        alpha = np.full(residuals.shape[1:], nominal)
        # The window whose outcome at each step ahead becomes known with the window at hand.
        delay = -(-np.arange(1, horizon + 1) // step)
        lows, highs = np.empty(residuals.shape), np.empty(residuals.shape)
        steps = np.arange(horizon)
        tails = _Tails(self.calibration, self.method)
        for window in range(len(residuals)):
            source = window - delay
            known = steps[source >= 0]
            past = source[known]
            error = residuals[past, known]
            miss = (error < lows[past, known]) | (error > highs[past, known])
            usable = np.isfinite(error) & np.isfinite(lows[past, known])
            alpha[known] += np.where(usable, gamma * (nominal - miss), 0.0)
            np.clip(alpha, 0.0, 1.0, out=alpha)
            lows[window], highs[window] = tails.offsets(alpha, widest=True)
        return lows, highs

    def describe(self) -> Iterator[tuple[str, str]]:
        """Yield the facts of the model card."""
        shown = " and ".join(f"{level} %" for level in self.levels) or "none"
        yield "intervals", f"{self.method} split conformal, {shown}"
        yield (
            "calibration windows",
            f"{self.windows:,}, effectively {self.effective_windows:.1f} (overlapping {self.horizon} steps)",
        )
        for level, needed in self.refused.items():
            yield f"{level} % interval", f"refused: {needed:,} calibration windows are needed"

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Floats]]:
        """Return a JSON document and named arrays that :meth:`from_parts` reads."""
        document = {
            "levels": list(self.levels),
            "method": self.method,
            "windows": self.windows,
            "horizon": self.horizon,
            "refused": {str(level): needed for level, needed in self.refused.items()},
        }
        arrays = {
            f"{name}-{level}": values for name in _ARRAYS for level, values in getattr(self, name).items()
        }
        return document, arrays

    @classmethod
    def from_parts(cls, document: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Self:
        """Rebuild the intervals from :meth:`to_parts`; other arrays are left alone."""
        levels = tuple(int(level) for level in document["levels"])
        low, high, pooled_low, pooled_high = (
            {level: arrays[f"{name}-{level}"] for level in levels} for name in _ARRAYS
        )
        return cls(
            levels=levels,
            method=document["method"],
            low=low,
            high=high,
            pooled_low=pooled_low,
            pooled_high=pooled_high,
            windows=int(document["windows"]),
            horizon=int(document["horizon"]),
            refused={int(level): int(needed) for level, needed in document["refused"].items()},
        )

    def _no_such_level(self, level: int) -> str:
        if level in self.refused:
            return (
                f"the {level} % interval needs {self.refused[level]} calibration windows, "
                f"and there are {self.windows}"
            )
        return f"the intervals were calibrated for {list(self.levels)} %, not for {level} %"


_ARRAYS = ("low", "high", "pooled_low", "pooled_high")


def windows_needed(level: int, method: Method) -> int:
    """Return the least number m of windows for a level in percent: ``(m + 1) a >= 1`` for each tail used."""
    tails = 1 if method == "symmetric" else 2
    return -(-100 * tails // (100 - level)) - 1


def score(level: int, residuals: NDArray[np.floating[Any]], low: Floats, high: Floats) -> Coverage:
    """Compare ``(W, H, N)`` residuals with offsets that broadcast to them; NaN on either side is left out."""
    low, high = np.broadcast_to(low, residuals.shape), np.broadcast_to(high, residuals.shape)
    scored = np.isfinite(residuals) & np.isfinite(low) & np.isfinite(high)
    count = int(scored.sum())
    if not count:
        return Coverage(level, float("nan"), float("nan"), 0)
    inside = (residuals >= low) & (residuals <= high)
    return Coverage(level, float(inside[scored].mean()), float((high - low)[scored].mean()), count)


def _by_level(tails: _Tails, levels: Sequence[int]) -> dict[int, tuple[Floats, Floats]]:
    return {level: tails.offsets(1 - level / 100) for level in levels}


class _Tails:
    """Calibration residuals sorted outwards, ready for any miscoverage."""

    def __init__(self, residuals: Floats, method: Method) -> None:
        sides = (np.abs(residuals),) if method == "symmetric" else (-residuals, residuals)
        self.sides = [np.sort(side, axis=0) for side in sides]  # NaN goes last
        self.count = np.isfinite(residuals).sum(axis=0)

    def offsets(self, alpha: float | Floats, *, widest: bool = False) -> tuple[Floats, Floats]:
        """Return low and high offsets ``(H, N)`` at miscoverage ``alpha``.

        A rank beyond the sample gives NaN, or with ``widest`` the most extreme residual.
        """
        share = np.asarray(alpha) / len(self.sides)
        rank = np.ceil((self.count + 1) * (1 - share) - _RANK_TOLERANCE).astype(np.int64)
        known = (self.count > 0) & (widest | (rank <= self.count))
        index = np.clip(rank, 1, np.maximum(self.count, 1)) - 1
        found = [
            np.where(known, np.take_along_axis(side, index[None], axis=0)[0], np.nan) for side in self.sides
        ]
        return -found[0], found[-1]

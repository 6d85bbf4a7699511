"""Windows over scaled series: views, never copies, and a mask instead of filled-in values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class WindowArrays:
    """Every window of one part of a history, in scaled space.

    A window is named by its cutoff: the row of its first target, whose inputs are the ``lookback`` rows
    before. All series share the calendar; missing values are NaN.

    Attributes:
        values: ``(T, N)`` float64, scaled.
        first: Smallest cutoff.
        last: Largest cutoff, inclusive.
        lookback: Input rows L.
        horizon: Target rows H.
        step: Rows between cutoffs.
        ds: ``(T,)`` timestamps, where a calendar is known.

    Raises:
        ValueError: A window would reach before the first or past the last row, or there is none.
    """

    values: Floats
    first: int
    last: int
    lookback: int
    horizon: int
    step: int = 1
    ds: NDArray[np.datetime64] | None = None

    def __post_init__(self) -> None:
        if min(self.lookback, self.horizon, self.step) < 1:
            raise ValueError("lookback, horizon and step must be at least 1")
        if not self.lookback <= self.first <= self.last <= len(self.values) - self.horizon:
            raise ValueError(
                f"cutoffs {self.first}..{self.last} with lookback {self.lookback} and horizon {self.horizon} "
                f"do not fit into {len(self.values)} rows"
            )
        if self.ds is not None and len(self.ds) != len(self.values):
            raise ValueError(f"{len(self.ds)} timestamps for {len(self.values)} rows")

    @property
    def cutoffs(self) -> Ints:
        """Row of the first target of each window, ``(W,)``."""
        return np.arange(self.first, self.last + 1, self.step, dtype=np.int64)

    @property
    def n_series(self) -> int:
        """Number of series N."""
        return int(self.values.shape[1])

    def __len__(self) -> int:
        return (self.last - self.first) // self.step + 1

    @property
    def inputs(self) -> Floats:
        """All inputs, a read-only view ``(W, lookback, N)``."""
        return self.before(self.lookback)

    @property
    def targets(self) -> Floats:
        """All targets, a read-only view ``(W, horizon, N)``."""
        return _view(self.values, self.cutoffs, self.horizon, self.step)

    def before(self, rows: int) -> Floats:
        """Return the ``rows`` values before each cutoff, a read-only view ``(W, rows, N)``.

        Raises:
            ValueError: The first cutoff has not that many rows before it.
        """
        if rows > self.first:
            raise ValueError(f"{rows} rows are needed before cutoff {self.first}")
        return _view(self.values, self.cutoffs - rows, rows, self.step)

    @cached_property
    def valid(self) -> Bools:
        """Mask ``(W, N)`` of windows without a missing value in input and target."""
        missing = np.zeros((len(self.values) + 1, self.n_series), dtype=np.int64)
        np.cumsum(np.isnan(self.values), axis=0, out=missing[1:])
        cutoffs = self.cutoffs
        return np.asarray(missing[cutoffs + self.horizon] == missing[cutoffs - self.lookback])

    def with_lookback(self, lookback: int) -> WindowArrays:
        """Return the windows with another lookback.

        Windows that start as early as their lookback allows, those of a train part, move their first cutoff
        along. All others, whose first cutoff is where a part begins, keep every target.

        Raises:
            ValueError: A kept window has not enough rows before it, or none is left.
        """
        first = lookback if self.first == self.lookback else self.first
        return replace(self, lookback=lookback, first=first)


def _view(values: Floats, starts: Ints, length: int, step: int) -> Floats:
    windows = sliding_window_view(values, length, axis=0)[starts[0] : starts[-1] + 1 : step]
    return windows.transpose(0, 2, 1)

"""A panel of regularly sampled series on one calendar, and the scaling fitted on its train part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scaling = Literal["zscore", "minmax", "none"]
_SCALE_FLOOR = 1e-8


@dataclass(frozen=True)
class SeriesPanel:
    """Related series on a shared calendar.

    Attributes:
        unique_ids: Names of the N series, in column order.
        ds: Timestamps, ``(T,)`` datetime64[us], strictly increasing and regular.
        values: ``(T, N)`` float64 in original units; NaN where a value is missing.
        freq: pandas offset alias of the calendar, for example ``"h"``, ``"D"``, ``"W-TUE"``.
        notes: Sentences for the report: gaps, imputations, sentinels, series left out.
    """

    unique_ids: tuple[str, ...]
    ds: NDArray[np.datetime64]
    values: NDArray[np.float64]
    freq: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scaler:
    """Per-series affine scaling, fitted once on the train part and stored in the bundle.

    ``scaled = (value - shift) / scale``; ``shift`` and ``scale`` are ``(N,)`` float64.
    """

    kind: Scaling
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, train: NDArray[np.float64], kind: Scaling) -> Scaler:
        """Fit on ``(T, N)`` train values, ignoring NaN; a constant series gets the floor 1e-8 as scale."""
        n = train.shape[1]
        if kind == "none":
            return cls(kind, np.zeros(n), np.ones(n))
        if kind == "zscore":
            shift, scale = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
        else:
            low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
            shift, scale = low, high - low
        return cls(kind, shift, np.maximum(scale, _SCALE_FLOOR))

    def transform(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale ``(..., N)`` values."""
        return (values - self.shift) / self.scale

    def inverse(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Undo :meth:`transform` with the constants of the train part, never refitted."""
        return scaled * self.scale + self.shift

"""Values that are not values: sentinels become missing, gaps are filled on request, both are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Imputation = Literal["ffill", "linear", "seasonal"]
Array = NDArray[np.float64]

# what loggers and archives write for "no reading"
_NEGATIVE = (-9999.0, -999.0, -99.0, -9999.9, -999.9, -99.9, -99999.0, -999999.0, -32768.0, -1e30, -1e34)
_POSITIVE = (9999.0, 999.0, 9999.9, 999.9, 99999.0, 999999.0, 32767.0, 1e20, 1e30, 1e36)
SENTINELS = _NEGATIVE + _POSITIVE
_REPEATED = 2


@dataclass(frozen=True)
class Sentinel:
    """A value that stands for a missing one.

    Attributes:
        value: The value as it stands in the data.
        column: Index of the series.
        count: How often it occurs there.
    """

    value: float
    column: int
    count: int


def find_sentinels(values: Array, repeated: int = _REPEATED) -> list[Sentinel]:
    """Find the usual sentinels in ``(T, N)`` values.

    One is believed where it is repeated and farther from the nearest other value than all other values of
    its series are from each other, so that a load that really reads 999 is left alone.

    Args:
        values: ``(T, N)``.
        repeated: How often it must occur in a series.
    """
    found = []
    for column in range(values.shape[1]):
        series = values[:, column]
        present = [
            (value, int(count)) for value in SENTINELS if (count := (series == value).sum()) >= repeated
        ]
        if not present:
            continue
        others = series[np.isfinite(series) & ~np.isin(series, [value for value, _ in present])]
        for value, count in present:
            if _far_outside(value, others):
                found.append(Sentinel(value, column, count))
    return found


def _far_outside(value: float, others: Array) -> bool:
    if not others.size:
        return value < 0
    low, high = float(others.min()), float(others.max())
    return max(low - value, value - high) > high - low


def remove_sentinels(
    values: Array, policy: Literal["auto", "keep"] | Sequence[float]
) -> tuple[Array, str | None]:
    """Make sentinels missing.

    Args:
        values: ``(T, N)``; not changed.
        policy: ``"auto"`` detects them, a list names them, ``"keep"`` leaves every value.

    Returns:
        The values with NaN in place of sentinels, and a sentence for the report; None when nothing was found.
    """
    found = find_sentinels(values) if isinstance(policy, str) else _named(values, policy)
    if not found:
        return values, None
    listed = ", ".join(f"{value:g}" for value in dict.fromkeys(item.value for item in found))
    count, series = sum(item.count for item in found), len({item.column for item in found})
    counted = f"{count:,} values in {series} series that look like a sentinel ({listed})"
    if policy == "keep":
        return values, f"sentinels kept as values on request: {counted}"
    cleaned = values.copy()
    for item in found:
        column = cleaned[:, item.column]
        column[column == item.value] = np.nan
    how = "found automatically" if policy == "auto" else "as configured"
    return cleaned, f"sentinels made missing ({how}): {listed}, {count:,} values in {series} series"


def _named(values: Array, policy: Sequence[float]) -> list[Sentinel]:
    return [
        Sentinel(float(value), int(column), int(count))
        for value in policy
        for column, count in enumerate((values == value).sum(axis=0))
        if count
    ]


def inner_gaps(values: Array) -> NDArray[np.bool_]:
    """Return ``(T, N)`` True where a value is missing between the first and the last value of its series."""
    present = ~np.isnan(values)
    started = np.maximum.accumulate(present, axis=0)
    unfinished = np.maximum.accumulate(present[::-1], axis=0)[::-1]
    return ~present & started & unfinished


def longest_run(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the length and the column of the longest run of True down the columns of ``(T, N)``."""
    padded = np.pad(mask, ((1, 1), (0, 0)))
    edges = np.diff(padded.astype(np.int8), axis=0).T
    columns, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    if not len(starts):
        return 0, 0
    longest = int((ends - starts).argmax())
    return int(ends[longest] - starts[longest]), int(columns[longest])


def impute(values: Array, method: Imputation, season: int) -> Array:
    """Fill the inner gaps of ``(T, N)`` values; leading and trailing absence stays.

    Args:
        values: NaN where a value is missing; not changed.
        method: ``"ffill"`` repeats the last value, ``"linear"`` draws a line across the gap, ``"seasonal"``
            repeats the value of one season before (else after, else a line).
        season: Steps of a season, for ``"seasonal"``.
    """
    gaps = inner_gaps(values)
    if method == "seasonal":
        filled = np.where(gaps, _by_season(values, season), values)
        return np.where(gaps & np.isnan(filled), _by_line(filled), filled)
    filled = _forward(values) if method == "ffill" else _by_line(values)
    return np.where(gaps, filled, values)


def _forward(values: Array) -> Array:
    steps = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), 0, steps), axis=0)
    return np.take_along_axis(values, last, axis=0)


def _by_season(values: Array, season: int) -> Array:
    length, series = values.shape
    cycles = -(-length // season)
    padded = np.full((cycles * season, series), np.nan)
    padded[:length] = values
    folded = padded.reshape(cycles, season * series)
    before = _forward(folded)
    after = _forward(folded[::-1])[::-1]
    return np.where(np.isnan(before), after, before).reshape(-1, series)[:length]


def _by_line(values: Array) -> Array:
    filled = values.copy()
    steps = np.arange(len(values))
    for column in filled.T:
        absent = np.isnan(column)
        if absent.any() and not absent.all():
            column[absent] = np.interp(steps[absent], steps[~absent], column[~absent])
    return filled

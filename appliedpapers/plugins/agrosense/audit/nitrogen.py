"""Remarks on tables of nitrogen: ladders of replicates, codes of dates, index columns that deviate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from appliedpapers.core.data import Dataset
    from appliedpapers.plugins.agrosense.nitrogen.data import NitrogenSplit

Floats = NDArray[np.float64]

_LADDER_SPREAD = 5e-4
_LADDER_SHARE = 0.5
_DEVIATES = 0.05


@dataclass(frozen=True)
class Ladder:
    """Replicates that are a fixed multiple of one another.

    Attributes:
        ratio: Of a replicate and the one before.
        samples: Samples in which it holds.
        of: Samples with replicates.
        spread: Largest distance from the ratio among them.
    """

    ratio: float
    samples: int
    of: int
    spread: float


def replicate_ladder(values: Floats, groups: NDArray[Any]) -> Ladder | None:
    """Return the ladder of replicates, where most samples have one.

    Args:
        values: The target, in the order of the replicates, ``(rows,)``.
        groups: Sample of each row, ``(rows,)``.
    """
    first = []
    for name in dict.fromkeys(groups):
        own = values[groups == name]
        if len(own) >= 2 and own[0] != 0:
            first.append(own[1] / own[0])
    if len(first) < 3:
        return None
    ratios = np.array(first)
    # the commonest ratio, by how many stand within the spread
    near = np.array([(np.abs(ratios - one) <= _LADDER_SPREAD).sum() for one in ratios])
    centre = float(np.median(ratios[np.abs(ratios - ratios[near.argmax()]) <= _LADDER_SPREAD]))
    on = np.abs(ratios - centre) <= _LADDER_SPREAD
    if on.mean() < _LADDER_SHARE or abs(centre - 1) < 1e-6:
        return None
    return Ladder(centre, int(on.sum()), len(ratios), float(np.abs(ratios[on] - centre).max()))


def date_codes(columns: dict[str, Floats], dates: NDArray[Any] | None) -> dict[str, int]:
    """Return columns that have a handful of values, one a date, with how many: they say the date, no weather.

    Args:
        columns: By name, ``(rows,)``.
        dates: Date of each row where it is known; None takes few repeated values for a code.
    """
    found = {}
    for name, values in columns.items():
        different = len(np.unique(values[~np.isnan(values)]))
        if different < 2 or different > max(2, len(values) // 10):
            continue
        if dates is None:
            found[name] = different
            continue
        pairs = {(date, value) for date, value in zip(dates, values, strict=True)}
        if len(pairs) == len(set(dates)):
            found[name] = different
    return found


def index_deviation(columns: dict[str, Floats]) -> tuple[float, Floats] | None:
    """Return how far a column ndvi is from (nir - red) / (nir + red): at most, and row by row."""
    if not {"ndvi", "nir", "red"} <= set(columns):
        return None
    near, red = columns["nir"], columns["red"]
    gaps = np.abs(columns["ndvi"] - (near - red) / (near + red))
    return float(np.nanmax(gaps)), gaps


def remarks_on_nitrogen(dataset: Dataset) -> list[str]:
    """Say what looks wrong with a table of bands or spectra."""
    rows = _all_rows(dataset)
    found = []
    groups, values = rows.groups, rows.nitrogen
    if groups is not None:
        order = np.argsort(np.array(rows.table.column("id").to_pylist(), dtype=str), kind="stable")
        ladder = replicate_ladder(values[order], groups[order])
        if ladder is not None:
            found.append(
                f"replicate ladder: the second replicate is {ladder.ratio:.3f} times the first (within "
                f"{ladder.spread:.4f}) in {ladder.samples} of {ladder.of} samples; the number of "
                "independent rows is "
                f"{len(np.unique(groups))}, not {len(values)}"
            )
    columns = {
        one.name: np.array(rows.table.column(one.name).to_pylist(), dtype=np.float64) for one in rows.features
    }
    for name, count in date_codes(columns, rows.dates).items():
        found.append(f"column '{name}' has {count} values, one a date: it is a code of the date")
    deviation = index_deviation(columns)
    if deviation is not None and deviation[0] > _DEVIATES:
        found.append(_deviates(deviation, rows))
    signatures = rows.signatures()
    repeated = 0 if signatures is None else len(signatures) - len(signatures.unique())
    found.append(f"{repeated} rows repeat the inputs of another" if repeated else "no row repeats another")
    return [*found, *dataset.notes]


def _deviates(deviation: tuple[float, Floats], rows: NitrogenSplit) -> str:
    worst, gaps = deviation
    where = ""
    if rows.dates is not None:
        where = f", at {rows.dates[int(np.nanargmax(gaps))]}"
    return f"column 'ndvi' deviates from (nir - red) / (nir + red) by up to {worst:.3f}{where}"


def _all_rows(dataset: Dataset) -> NitrogenSplit:
    from appliedpapers.plugins.agrosense.nitrogen.model import joined

    rows = joined(cast("NitrogenSplit", dataset.train), cast("NitrogenSplit", dataset.valid))
    return rows if dataset.folds else joined(rows, cast("NitrogenSplit", dataset.test))

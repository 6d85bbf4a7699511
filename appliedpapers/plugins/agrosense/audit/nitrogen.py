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
_LEAST_SAMPLES = 4
_NO_LADDER = 1e-3
_DEVIATES = 0.05


@dataclass(frozen=True)
class Ladder:
    """Replicates that are a fixed multiple of one another.

    Attributes:
        ratio: Of a replicate and the one before, both less the offset.
        offset: What the laboratory's line adds to what it measured; 0 where values are multiples themselves.
        samples: Samples in which it holds.
        of: Samples with replicates.
        spread: Largest distance from the ratio among them.
    """

    ratio: float
    offset: float
    samples: int
    of: int
    spread: float


def replicate_ladder(values: Floats, groups: NDArray[Any]) -> Ladder | None:
    """Return the ladder of replicates, where most samples have one.

    Args:
        values: The target, in the order of the replicates, ``(rows,)``.
        groups: Sample of each row, ``(rows,)``.
    """
    pairs = [values[groups == name][:2] for name in dict.fromkeys(groups)]
    whole = np.array([pair for pair in pairs if len(pair) == 2])
    if len(whole) < _LEAST_SAMPLES:
        return None
    one, two = whole.T
    found: Ladder | None = None
    for a in range(len(whole)):
        for b in range(a):
            if one[a] == one[b]:
                continue
            ratio = (two[a] - two[b]) / (one[a] - one[b])
            if abs(ratio - 1) < _NO_LADDER:
                continue
            ladder = _ladder(one, two, ratio, (two[a] - ratio * one[a]) / (1 - ratio))
            if found is None or (ladder.samples, -ladder.spread) > (found.samples, -found.spread):
                found = ladder
    if found is None or found.samples < max(_LEAST_SAMPLES, _LADDER_SHARE * found.of):
        return None
    return found


def _ladder(one: Floats, two: Floats, ratio: float, offset: float) -> Ladder:
    """Count the samples on the line through two of them, with the ratio that most of those have."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (two - offset) / (one - offset)
    on = np.abs(ratios - ratio) <= _LADDER_SPREAD
    centre = float(np.median(ratios[on])) if on.any() else ratio
    spread = float(np.abs(ratios[on] - centre).max()) if on.any() else np.inf
    return Ladder(centre, float(offset), int(on.sum()), len(ratios), spread)


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
                f"replicate ladder: less {ladder.offset:.4g}, the second replicate is "
                f"{ladder.ratio:.3f} times "
                f"the first (within "
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

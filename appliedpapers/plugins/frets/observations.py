"""Values with their series and time, in any order, arranged as a panel: checked, cleaned and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Violation, violations_table
from appliedpapers.plugins.frets.cleaning import Imputation, impute, inner_gaps, longest_run, remove_sentinels
from appliedpapers.plugins.frets.panel import SeriesPanel
from appliedpapers.plugins.frets.timestamps import Calendar, find_calendar, fixed_step, moment

if TYPE_CHECKING:
    import pyarrow as pa

Sentinels = Literal["auto", "keep"] | Sequence[float]

_NOTED = 5
_SEASONS = {"B": 5, "W": 52, "MS": 12, "ME": 12, "QS": 4, "QE": 4, "YS": 1, "YE": 1}
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Observations:
    """Values of several series in any order.

    Attributes:
        names: Names of the N series, sorted.
        code: ``(n,)`` index into ``names``.
        stamps: ``(n,)`` datetime64[us], none of them NaT.
        y: ``(n,)`` float64, NaN where a value is missing.
        files: Names of the files they were read from.
        file: ``(n,)`` index into ``files``.
        line: ``(n,)`` line of the file.
        ds_name: Name of the date column, for messages.
        notes: Sentences that the panel inherits.
    """

    names: tuple[str, ...]
    code: NDArray[np.int64]
    stamps: NDArray[np.datetime64]
    y: NDArray[np.float64]
    files: tuple[str, ...]
    file: NDArray[np.int64]
    line: NDArray[np.int64]
    ds_name: str = "ds"
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """What to call the data in a message about all of it."""
        return self.files[0] if len(self.files) == 1 else f"{len(self.files)} files"


def assemble(
    seen: Observations,
    *,
    freq: str | None,
    sentinels: Sentinels,
    method: Imputation | None,
    season: int | None,
) -> SeriesPanel:
    """Arrange observations on their calendar.

    Raises:
        DataError: Timestamps off the calendar or given twice, or nothing but missing values.
        ConfigError: ``freq`` is not an offset alias.
    """
    unique = np.unique(seen.stamps)
    try:
        calendar = find_calendar(unique, freq)
    except DataError as error:
        raise DataError(f"{seen.source}: {error.message}", hint=error.hint) from None
    _require_on_grid(seen, unique, calendar, given=freq is not None)
    length, count = len(calendar.ds), len(seen.names)
    cell = np.searchsorted(calendar.ds, seen.stamps) * count + seen.code
    taken = np.zeros(length * count, bool)
    taken[cell] = True
    if int(taken.sum()) != len(cell):
        raise _duplicates(seen, cell)
    values = np.full(length * count, np.nan)
    values[cell] = seen.y
    panel = SeriesPanel(
        seen.names,
        calendar.ds,
        values.reshape(length, count),
        calendar.freq,
        tuple(dict.fromkeys(seen.notes)),
    )
    return clean_panel(panel, sentinels=sentinels, method=method, season=season, source=seen.source)


def clean_panel(
    panel: SeriesPanel,
    *,
    sentinels: Sentinels = "auto",
    method: Imputation | None = None,
    season: int | None = None,
    source: str = "input",
) -> SeriesPanel:
    """Make sentinels missing, leave out series without values, fill gaps on request, and note all of it.

    Raises:
        DataError: Every value is missing.
    """
    values, sentence = remove_sentinels(panel.values, sentinels)
    notes = [*panel.notes, *([sentence] if sentence else [])]
    kept = np.asarray(~np.isnan(values).all(axis=0))
    if not kept.any():
        raise DataError(f"{source}: every value is missing.", hint="Expected numbers in at least one series.")
    left_out = [name for name, keep in zip(panel.unique_ids, kept, strict=True) if not keep]
    notes += _listed([f"series '{name}' left out: every value is missing" for name in left_out])
    names = tuple(name for name, keep in zip(panel.unique_ids, kept, strict=True) if keep)
    used = np.flatnonzero(~np.isnan(values).all(axis=1))
    span = slice(int(used[0]), int(used[-1]) + 1)
    values, ds = values[span][:, kept], panel.ds[span]
    notes += _gap_notes(values, names, ds)
    if method is not None and (gaps := int(inner_gaps(values).sum())):
        values = impute(values, method, season or season_of(panel.freq))
        notes.append(f"{gaps:,} missing steps imputed ({method})")
    return SeriesPanel(names, ds, np.ascontiguousarray(values), panel.freq, tuple(notes))


def season_of(freq: str) -> int:
    """Return the natural season of a frequency in steps: a day below it, then a week, a year, else 1."""
    step = fixed_step(freq)
    if step is None:
        return _SEASONS.get(freq.split("-")[0].lstrip("0123456789"), 1)
    if step < _DAY_US:
        return max(_DAY_US // step, 1)
    return {1: 7, 7: 52}.get(step // _DAY_US, 1)


def _gap_notes(values: NDArray[np.float64], names: tuple[str, ...], ds: NDArray[np.datetime64]) -> list[str]:
    notes = []
    gaps = inner_gaps(values)
    if gaps.any():
        longest, column = longest_run(gaps)
        series = int(gaps.any(axis=0).sum())
        notes.append(
            f"{int(gaps.sum()):,} missing steps in {series} series; the longest gap is {longest:,} steps "
            f"in series '{names[column]}'"
        )
    ragged = []
    for part in np.flatnonzero(np.isnan(values[0]) | np.isnan(values[-1])):
        present = np.flatnonzero(~np.isnan(values[:, part]))
        ragged.append(
            f"series '{names[part]}' runs from {moment(ds[present[0]])} to {moment(ds[present[-1]])} only"
        )
    return notes + _listed(ragged)


def _listed(sentences: list[str]) -> list[str]:
    if len(sentences) <= _NOTED:
        return sentences
    return [*sentences[:_NOTED], f"{len(sentences) - _NOTED} more series like this"]


def _require_on_grid(
    seen: Observations, unique: NDArray[np.datetime64], calendar: Calendar, *, given: bool
) -> None:
    stray = unique[calendar.off_grid]
    if not len(stray):
        return
    rows = np.flatnonzero(np.isin(seen.stamps, stray))
    rule = f"is not on the calendar with step {calendar.freq}"
    first = min(rows.tolist(), key=lambda row: (seen.file[row], seen.line[row]))
    irregular = len(stray) * 10 > len(unique)
    how = "as given" if given else "the commonest step"
    raise DataError(
        f"{seen.files[seen.file[first]]}, column '{seen.ds_name}', row {seen.line[first]}: "
        f"'{moment(seen.stamps[first])}' {rule}.",
        hint=f"{len(stray):,} of {len(unique):,} timestamps are off it ({how}). "
        + (
            "The series are irregular: resample them first, or give the right --freq."
            if irregular
            else "Correct them, or give the right --freq."
        ),
        violations=_where(seen, rows, rule),
    )


def _duplicates(seen: Observations, cell: NDArray[np.int64]) -> DataError:
    _, inverse, counts = np.unique(cell, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[inverse] > 1)
    order = np.lexsort((seen.line[rows], seen.file[rows], cell[rows]))
    rows = rows[order]
    extra = int((counts - 1).sum())
    first, second = rows[:2].tolist()
    moments = np.unique(seen.stamps[rows])
    places = [f"{seen.files[seen.file[row]]} row {seen.line[row]}" for row in (first, second)]
    return DataError(
        f"{seen.source}: {extra:,} duplicate timestamps at {len(moments):,} moments; first: series "
        f"'{seen.names[seen.code[first]]}' has {moment(seen.stamps[first])} in {places[0]} and {places[1]}.",
        hint="This is the hour that repeats when clocks go back: write the timestamps in UTC or with their "
        "offset, such as 2024-10-27T02:00+01:00."
        if _repeats_an_hour(moments)
        else "Keep one row for each series and timestamp; aggregate repeated ones first.",
        violations=_where(seen, rows, "duplicate timestamp"),
    )


def _repeats_an_hour(moments: NDArray[np.datetime64]) -> bool:
    days = moments.astype("M8[D]")
    hours = (moments - days).astype("m8[m]").astype(np.int64)
    sundays = (days.astype(np.int64) + 3) % 7 == 6
    one_hour = all(np.ptp(hours[days == day]) < 60 for day in np.unique(days))
    return bool(sundays.all() and (hours < 4 * 60).all() and one_hour)


def _where(seen: Observations, rows: NDArray[np.int64], rule: str) -> pa.Table:
    found = {
        (int(seen.file[row]), int(seen.line[row])): Violation(
            seen.files[seen.file[row]], int(seen.line[row]), seen.ds_name, moment(seen.stamps[row]), rule
        )
        for row in rows
    }
    return violations_table([found[place] for place in sorted(found)])

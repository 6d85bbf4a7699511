"""Timestamps as people write them, and the regular calendar that they lie on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

ISO_HINT = "Expected ISO 8601 (2024-01-31 or 2024-01-31T14:00)"

_ISO = "ISO 8601"
_ISO_SHAPE = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}(?:[T ].*)?|\d{8}(?:[T ].*)?|\d{4}[-/]\d{1,2}"
_OFFSET = r"\d:\d{2}.*(?:Z|[+-]\d{2}:?\d{2})$"
_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y.%m.%d")
_TIMES = ("", " %H:%M", " %H:%M:%S")
_SAMPLE = 200
_DAY_US = 86_400_000_000
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
# a calendar much longer than its data means a stray timestamp, not a long history
_MAX_STRETCH = 50
_STRETCH_GRACE = 10_000


@dataclass(frozen=True)
class ParsedStamps:
    """Timestamps of one column.

    Attributes:
        stamps: ``(n,)`` datetime64[us], NaT where a cell could not be read.
        bad: ``(n,)`` bool, True where a cell is missing or could not be read.
        zoned: Whether the cells carried an offset; the stamps are then UTC.
    """

    stamps: NDArray[np.datetime64]
    bad: NDArray[np.bool_]
    zoned: bool = False


class MixedFormatsError(ValueError):
    """Timestamps of one column are written in several formats, or in one that has two meanings.

    Args:
        reason: What was found, to follow the name of the column.
        rows: ``(n,)`` bool of the rows in question.
    """

    def __init__(self, reason: str, rows: NDArray[np.bool_]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.rows = rows


def parse_timestamps(column: pd.Series[Any], date_format: str | None = None) -> ParsedStamps:
    """Read a column of text, dates or timestamps; only distinct texts are parsed.

    Args:
        column: ``(n,)`` cells.
        date_format: strptime format; without it ISO 8601 and the usual day-month-year forms are tried, and
            one of them must fit every cell.

    Raises:
        MixedFormatsError: Several formats, or day and month cannot be told apart.
        ConfigError: ``date_format`` is not a strptime format.
    """
    import pandas as pd

    if isinstance(column.dtype, pd.DatetimeTZDtype):
        naive = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return ParsedStamps(_as_us(naive), naive.isna().to_numpy(), zoned=True)
    if column.dtype.kind == "M":
        return ParsedStamps(_as_us(column), column.isna().to_numpy())
    codes, texts = pd.factorize(column.astype("str").where(column.notna()).str.strip())
    unique = pd.Series(texts, dtype="str")
    if not len(unique):
        return ParsedStamps(np.full(len(column), "NaT", "M8[us]"), np.ones(len(column), bool))
    try:
        parsed, zoned = _parse_unique(unique, date_format)
    except MixedFormatsError as error:
        raise MixedFormatsError(error.reason, np.append(error.rows, False)[codes]) from None
    stamps = np.append(parsed, np.datetime64("NaT", "us"))[codes]
    return ParsedStamps(stamps, np.isnat(stamps), zoned)


def _parse_unique(texts: pd.Series[str], date_format: str | None) -> tuple[NDArray[np.datetime64], bool]:
    import pandas as pd

    zoned = texts.str.contains(_OFFSET, regex=True).to_numpy(bool)
    if date_format is not None:
        try:
            parsed = pd.to_datetime(texts, format=date_format, errors="coerce", utc=bool(zoned.any()))
        except ValueError as error:
            raise ConfigError(
                f"option 'data.date_format': {date_format!r} is not a date format ({error}).",
                hint="Expected strptime directives, such as '%d.%m.%Y %H:%M'.",
            ) from None
        return _as_us(parsed), bool(zoned.any())
    if zoned.any() and not zoned.all():
        raise MixedFormatsError("some timestamps carry an offset from UTC and others do not", ~zoned)
    iso = _parse_iso(texts, utc=bool(zoned.any()))
    if not np.isnat(iso).any():
        _require_one_separator(texts)
        return iso, bool(zoned.any())
    return _parse_guessing(texts, iso), False


def _parse_iso(texts: pd.Series[str], utc: bool) -> NDArray[np.datetime64]:
    import pandas as pd

    shaped = texts.where(texts.str.fullmatch(_ISO_SHAPE))
    return _as_us(pd.to_datetime(shaped, format="ISO8601", errors="coerce", utc=utc))


def _require_one_separator(texts: pd.Series[str]) -> None:
    separators = texts.str.slice(4, 5).to_numpy(object)
    known, counts = np.unique(separators.astype(str), return_counts=True)
    if len(known) > 1:
        rare = known[counts.argmin()]
        raise MixedFormatsError("dates are written in more than one way", separators == rare)


def _parse_guessing(texts: pd.Series[str], iso: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    parsed = {_ISO: iso, **_candidates(texts)}
    missing = {name: np.isnat(stamps) for name, stamps in parsed.items()}
    complete = [name for name, absent in missing.items() if not absent.any()]
    if len(complete) > 1:
        first, second = complete[:2]
        differ = parsed[first] != parsed[second]
        if differ.any():
            raise MixedFormatsError(f"dates could be {first} or {second}", differ)
    if complete:
        return parsed[complete[0]]
    best = min(missing, key=lambda name: int(missing[name].sum()))
    for name, absent in missing.items():
        elsewhere = missing[best] & ~absent
        if elsewhere.any():
            raise MixedFormatsError(f"dates are written in more than one way ({best} and {name})", elsewhere)
    return parsed[best]


def _candidates(texts: pd.Series[str]) -> dict[str, NDArray[np.datetime64]]:
    import pandas as pd

    found = {}
    for form in (date + time for date in _DATES for time in _TIMES):
        sample = pd.to_datetime(texts.iloc[:_SAMPLE], format=form, errors="coerce")
        if sample.notna().any():
            found[form] = _as_us(pd.to_datetime(texts, format=form, errors="coerce"))
    return found


def _as_us(column: pd.Series[Any]) -> NDArray[np.datetime64]:
    naive = column.dt.tz_localize(None) if getattr(column.dtype, "tz", None) is not None else column
    return naive.to_numpy("M8[us]")


def moment(stamp: np.datetime64) -> str:
    """Return a timestamp as ISO 8601 text without needless digits."""
    seconds = stamp.astype("M8[s]")
    return str(seconds if seconds == stamp else stamp)


@dataclass(frozen=True)
class Calendar:
    """The regular calendar under a set of timestamps.

    Attributes:
        ds: ``(T,)`` datetime64[us] from the first to the last timestamp.
        freq: pandas offset alias.
        off_grid: ``(n,)`` bool over the given timestamps: True where one is not on the calendar.
    """

    ds: NDArray[np.datetime64]
    freq: str
    off_grid: NDArray[np.bool_]


def find_calendar(stamps: NDArray[np.datetime64], freq: str | None = None) -> Calendar:
    """Lay a regular calendar under ``stamps``.

    Args:
        stamps: ``(n,)`` datetime64[us], sorted and distinct.
        freq: pandas offset alias; inferred from the commonest step when None.

    Raises:
        ConfigError: ``freq`` is not an offset alias.
        DataError: The step cannot be inferred, or the timestamps are too far apart for a calendar.
    """
    if freq is None:
        if len(stamps) < 2:
            raise DataError(
                "one timestamp alone does not tell the step between rows.",
                hint="Give it, such as --freq h, D, B (business days), W-TUE or MS (month start).",
            )
        freq = _infer(stamps)
    step = fixed_step(freq)
    if step is not None:
        return _fixed_calendar(stamps, freq, step)
    import pandas as pd

    offset = _offset(freq)
    first, second = pd.date_range(stamps[0], periods=2, freq=offset, unit="us").to_numpy()
    _require_dense(stamps, int((stamps[-1] - stamps[0]) / (second - first)))
    ds = pd.date_range(stamps[0], stamps[-1], freq=offset, unit="us").to_numpy()
    return Calendar(ds, offset.freqstr, ~np.isin(stamps, ds))


def fixed_step(freq: str) -> int | None:
    """Return the step of ``freq`` in microseconds, or None for calendar steps (B, MS, W-TUE with a gap).

    Raises:
        ConfigError: ``freq`` is not an offset alias.
    """
    import pandas as pd

    offset = _offset(freq)
    if isinstance(offset, pd.offsets.Day):
        return int(offset.n) * _DAY_US
    if isinstance(offset, pd.offsets.Tick):
        nanos = int(offset.nanos)
        if nanos < 1000:
            raise ConfigError(f"option 'data.freq': '{freq}' is finer than a microsecond.")
        return nanos // 1000
    return None


def _offset(freq: str) -> Any:
    from pandas.tseries.frequencies import to_offset

    try:
        offset = to_offset(freq)
    except ValueError as error:
        reason = str(error).rstrip(".").rpartition("Did you mean ")[2]
        known = f"Did you mean '{reason.strip('?')}'?" if "Did you mean" in str(error) else None
        raise ConfigError(
            f"option 'data.freq': '{freq}' is not a frequency.",
            hint=known or "Expected a pandas offset alias: 15min, h, D, B, W-TUE, MS, QS, YS.",
        ) from None
    if offset is None or offset.n < 1:
        raise ConfigError(
            f"option 'data.freq': '{freq}' does not step forward.", hint="Expected such as 'h'."
        )
    return offset


def _fixed_calendar(stamps: NDArray[np.datetime64], freq: str, step: int) -> Calendar:
    ticks = stamps.astype(np.int64)
    _require_dense(stamps, int(ticks[-1] - ticks[0]) // step)
    # the commonest phase, so that one stray first row does not put all others off the grid
    phases, counts = np.unique(ticks % step, return_counts=True)
    off_grid = ticks % step != phases[counts.argmax()]
    inside = ticks[~off_grid]
    ds = np.arange(inside[0], inside[-1] + step, step).view("M8[us]")
    return Calendar(ds, _offset(freq).freqstr, off_grid)


def _require_dense(stamps: NDArray[np.datetime64], steps: int) -> None:
    if steps > _MAX_STRETCH * len(stamps) + _STRETCH_GRACE:
        wide = int(np.argmax(np.diff(stamps.astype(np.int64))))
        raise DataError(
            f"{len(stamps):,} timestamps are spread over {steps:,} steps; "
            f"the longest gap is from {moment(stamps[wide])} to {moment(stamps[wide + 1])}.",
            hint="Look for a mistyped date there, give the right --freq, or cut the file.",
        )


def _infer(stamps: NDArray[np.datetime64]) -> str:
    import pandas as pd

    steps, counts = np.unique(np.diff(stamps.astype(np.int64)), return_counts=True)
    step = int(steps[counts.argmax()])
    index = pd.DatetimeIndex(stamps)
    days = step / _DAY_US
    if step == _DAY_US and len(stamps) > 5 and (index.day_of_week < 5).all() and _spans_weekend(stamps):
        return "B"
    month = index[0].strftime("%b").upper()
    for low, high, prefix, anchored in ((28, 31, "M", False), (89, 92, "Q", True), (365, 366, "Y", True)):
        if low <= days <= high:
            suffix = f"-{month}" if anchored else ""
            if (index.day == 1).all():
                return f"{prefix}S{suffix}"
            if index.is_month_end.all():
                return f"{prefix}E{suffix}"
    if step == 7 * _DAY_US and (index.day_of_week == index.day_of_week[0]).all():
        return f"W-{_WEEKDAYS[index.day_of_week[0]]}"
    return str(_alias(step))


def _spans_weekend(stamps: NDArray[np.datetime64]) -> bool:
    return int((stamps[-1] - stamps[0]).astype(np.int64)) >= 7 * _DAY_US


def _alias(step: int) -> str:
    for unit, size in (
        ("D", _DAY_US),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1000),
    ):
        if step % size == 0:
            return unit if step == size else f"{step // size}{unit}"
    return f"{step}us"

"""Times of rows: timestamps, dates, texts and Unix times as microseconds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError

Times = NDArray[np.int64]

# Unix times beyond the year 5138 in seconds are milliseconds, and so on
_MILLI, _MICRO, _NANO = 10**11, 10**14, 10**17


def microseconds(values: pa.Array, column: str, text_format: str | None = None) -> pa.Array:
    """Return times as microseconds since 1970, in UTC or in the clock that the text shows.

    Args:
        values: Timestamps, dates, ISO 8601 text, text or integers of ``text_format``, or Unix times
            (numbers in seconds, milliseconds, microseconds or nanoseconds, told apart by their size).
        column: Its name, for messages.
        text_format: strptime format, such as ``%y%m%d%H``; None for ISO 8601 or Unix times.

    Returns:
        int64 of the same length; null where the value is missing.

    Raises:
        DataError: A text does not have the format, or the type holds no times.
    """
    kind = values.type
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.int64())
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.cast(pc.cast(values, pa.timestamp("us"), safe=False), pa.int64())
    if text_format is not None and pa.types.is_integer(kind):
        # a reader of CSV takes 14102100 for a number
        values, kind = pc.cast(values, pa.string()), pa.string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parsed(values, column, text_format)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _unix(values)
    raise DataError(
        f"column '{column}' holds {kind}, not times.",
        hint="Expected timestamps, dates, ISO 8601 text or Unix times.",
    )


def _parsed(values: pa.Array, column: str, text_format: str | None) -> pa.Array:
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, values.type), values)
    if text_format is None:
        parsed = _iso(values)
    else:
        parsed = pc.strptime(pc.cast(values, pa.string()), format=text_format, unit="us", error_is_null=True)
    bad = pc.and_(pc.is_valid(values), pc.is_null(parsed))
    if pc.any(bad).as_py():
        shown = str(values.filter(bad)[0].as_py())[:40]
        wanted = f"the format {text_format}" if text_format else "ISO 8601, such as 2024-05-17 10:30:00"
        raise DataError(
            f"column '{column}': '{shown}' is not a time in {wanted}.",
            hint=f"Say how times are written: {column}: {{role: timestamp, format: '%d.%m.%Y %H:%M'}}.",
        )
    return pc.cast(parsed, pa.int64())


def _iso(values: pa.Array) -> pa.Array:
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return pc.cast(pc.cast(values, kind), pa.timestamp("us"), safe=False)
        except pa.ArrowInvalid:
            continue
    # one of them is wrong: find out which
    return pa.array([_one(value.as_py()) for value in values], pa.timestamp("us"))


def _one(text: str | None) -> object:
    import datetime as dt

    if text is None:
        return None
    try:
        time = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return time.astimezone(dt.UTC).replace(tzinfo=None) if time.tzinfo else time


def _unix(values: pa.Array) -> pa.Array:
    numbers = np.asarray(pc.fill_null(pc.cast(values, pa.float64()), np.nan))
    size = np.abs(numbers)
    factor = np.select([size < _MILLI, size < _MICRO, size < _NANO], [1e6, 1e3, 1.0], 1e-3)
    # not via double where microseconds would be rounded
    missing = ~np.isfinite(numbers)
    times = np.where(missing, 0, numbers * factor).astype(np.int64)
    return pa.array(times, pa.int64(), mask=missing)

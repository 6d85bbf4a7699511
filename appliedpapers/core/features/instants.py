"""Moments in time from columns of many types, and the parts of the calendar that models learn from."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.fields import Part
from appliedpapers.core.features.tokens import is_text

_WIDTHS = {"y": 2, "Y": 4, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "j": 3, "%": 1}
_MICRO = pa.timestamp("us")


def instants(values: pa.Array, column: str, *, format: str | None = None, first_row: int = 1) -> pa.Array:
    """Return the moments of a column, ``(rows,)`` timestamp[us] without a zone; null and empty text are null.

    Arrow timestamps with a zone give their local time. Text is ISO 8601 or of ``format``; an offset in it is
    turned into UTC. Numbers with a ``format`` are read as text, padded with zeros to its length; without one
    they are seconds, milliseconds, microseconds or nanoseconds since 1970, by the magnitude of each value
    (below 1e11, 1e14, 1e17).

    Args:
        values: ``(rows,)`` of any scalar type.
        column: Its name, for errors.
        format: strptime format of text or of integers.
        first_row: Number of the first row, for errors.

    Raises:
        DataError: A value is not a moment, or the type cannot hold any; column, value and row are named.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_null(kind):
        return pa.nulls(len(values), _MICRO)
    if pa.types.is_timestamp(kind):
        values = pc.local_timestamp(values) if kind.tz is not None else values
        return pc.cast(values, _MICRO, safe=False)
    if pa.types.is_date(kind):
        return pc.cast(pc.cast(values, pa.timestamp("s")), _MICRO, safe=False)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if format is None:
            return _epochs(values, column, first_row)
        # floats are integers that became floats for the sake of a missing one
        whole = pc.cast(pc.floor(values) if pa.types.is_floating(kind) else values, pa.int64(), safe=False)
        if pa.types.is_floating(kind):
            whole = pc.if_else(pc.is_finite(values), whole, pa.scalar(None, pa.int64()))
        width = _width(format)
        text = pc.cast(whole, pa.string())
        values = text if width is None else pc.utf8_lpad(text, width, "0")
        kind = values.type
    if not is_text(kind):
        raise DataError(
            f"column '{column}' holds {kind}, not moments in time.",
            hint="Expected timestamps, dates, ISO 8601 text or numbers since 1970.",
        )
    values = pc.utf8_trim_whitespace(pc.cast(values, pa.large_string()))
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.large_string()), values)
    found = _of_format(values, format) if format is not None else _iso(values)
    bad = pc.and_(pc.is_null(found), pc.is_valid(values))
    if pc.any(bad).as_py():
        at = pc.index(bad, True).as_py()
        expected = f"the format {format}" if format else "ISO 8601 (2024-01-31 or 2024-01-31T14:00)"
        raise DataError(
            f"column '{column}', row {first_row + at}: {values[at].as_py()[:80]!r} is not a timestamp.",
            hint=f"Expected {expected}; another one is told by the option format of the column.",
        )
    return found


def part_of(moments: pa.Array, part: Part) -> pa.Array:
    """Return one part of the calendar of moments, ``(rows,)``, null where they are.

    ``hour`` is 0 to 23, ``weekday`` 0 (Monday) to 6, ``month`` 1 to 12, ``weekend`` a boolean.
    """
    if part == "hour":
        return pc.hour(moments)
    if part == "month":
        return pc.month(moments)
    days = pc.day_of_week(moments)
    return days if part == "weekday" else pc.greater_equal(days, 5)


def _epochs(values: pa.Array, column: str, first_row: int) -> pa.Array:
    whole = pa.types.is_integer(values.type)
    absent = values.is_null().to_numpy(zero_copy_only=False)
    if whole:
        numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        numbers = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
        absent = absent | ~np.isfinite(numbers)
        numbers = np.where(absent, 0, numbers)
    size = np.abs(numbers.astype(np.float64))
    if (size >= 1e19).any():
        at = int(np.argmax(size >= 1e19))
        raise DataError(
            f"column '{column}', row {first_row + at}: {numbers[at]} is not a moment in time.",
            hint="Expected seconds, milliseconds, microseconds or nanoseconds since 1970.",
        )
    up = np.select([size < 1e11, size < 1e14], [1_000_000, 1_000], 1)
    # the product of the larger ones would overflow before it is thrown away
    micro = np.where(size < 1e17, np.where(size < 1e17, numbers, 0) * up, numbers // 1_000)
    return pa.array(micro.astype(np.int64), _MICRO, mask=absent)


def _iso(text: pa.Array) -> pa.Array:
    for zone in (None, "UTC"):
        try:
            return pc.cast(pc.cast(text, pa.timestamp("us", zone)), _MICRO, safe=False)
        except pa.ArrowInvalid:
            continue
    return _one_by_one(text, datetime.fromisoformat)


def _of_format(text: pa.Array, format: str) -> pa.Array:
    # fractions and offsets are unknown to the fast parser
    if "%f" in format or "%z" in format:
        return _one_by_one(text, lambda value: datetime.strptime(value, format))
    found = pc.strptime(text, format=format, unit="s", error_is_null=True)
    return pc.cast(found, _MICRO, safe=False)


def _one_by_one(text: pa.Array, read: object) -> pa.Array:
    assert callable(read)
    encoded = text.dictionary_encode()
    moments: list[datetime | None] = []
    for value in encoded.dictionary.to_pylist():
        try:
            moment = read(value)
        except ValueError:
            moments.append(None)
            continue
        moments.append(moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment)
    return pa.array(moments, _MICRO).take(encoded.indices)


def _width(format: str) -> int | None:
    """Return how many characters a format takes, or None where that depends on the value."""
    width, rest = 0, iter(format)
    for letter in rest:
        if letter != "%":
            width += 1
            continue
        directive = _WIDTHS.get(next(rest, ""))
        if directive is None:
            return None
        width += directive
    return width

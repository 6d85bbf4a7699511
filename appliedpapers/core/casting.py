"""Casting columns of scalars: at once where Arrow can, else cell by cell to name the bad ones."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.schema import Column

Rows = np.ndarray[Any, np.dtype[np.int64]]
_PART = 4_096
NO_VALUE = b"<a value that Python does not know>"
"""What stands for a cell that Arrow can hold and Python cannot."""
_NOT_PYTHON = (ValueError, OverflowError, LookupError, pa.ArrowException)
# bits of a float: whole numbers below are told apart, so that no two ids have become one
_EXACT = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
_NONE = np.empty(0, dtype=np.int64)
# microseconds of the years 1 to 9999, which Python and ISO 8601 know; Arrow goes further
_FIRST_TIME, _LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999


def one_array(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return a column as one array of a plain type: chunks joined, dictionaries decoded, one kind of text."""
    if isinstance(values, pa.ChunkedArray):
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        joined = values.combine_chunks()
        values = pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    return values


def cast_scalars(values: pa.Array, column: Column) -> tuple[pa.Array, Rows]:
    """Cast to the column's type.

    Args:
        values: What :func:`one_array` returned.
        column: A column of scalars.

    A column of text takes whole numbers and truth, too, as files give them where every id is a number:
    ``3`` and ``3.0`` (which a column of whole numbers becomes once it has gaps) are ``"3"``.

    Returns:
        The cast values, with null for what counts as missing and for what cannot be cast, and the rows that
        cannot be cast.
    """
    cast, bad = _cast_scalars(values, column)
    return _within_years(cast, bad) if column.dtype == "timestamp" else (cast, bad)


def cell_value(cell: pa.Scalar) -> Any:
    """Return a cell as Python's own value, :data:`NO_VALUE` where it has none, as for the year 300,000."""
    try:
        return cell.as_py()
    except _NOT_PYTHON:
        return NO_VALUE


def _python_cells(values: pa.Array) -> list[Any]:
    try:
        return list(values.to_pylist())
    except _NOT_PYTHON:
        return [cell_value(cell) for cell in values]


def _cast_scalars(values: pa.Array, column: Column) -> tuple[pa.Array, Rows]:
    values = _without_missing(values, column)
    target = column.arrow_type()
    if values.type == target:
        return values, _NONE
    if column.dtype == "string" and pa.types.is_floating(values.type):
        return _texts_of_floats(values)
    cast = _whole_column(values, column, target)
    if cast is not None:
        return _without_missing(cast, column), _NONE
    # one bad cell must not make a million others go the slow way
    parts, bad = [], [_NONE]
    for start in range(0, len(values), _PART):
        part = values.slice(start, _PART)
        whole = _whole_column(part, column, target)
        if whole is None:
            cells = [_cell(value, column) for value in _python_cells(part)]
            whole = pa.array([value for value, _ in cells], target)
            bad.append(np.flatnonzero([not ok for _, ok in cells]) + start)
        parts.append(whole)
    return _without_missing(pa.concat_arrays(parts), column), np.concatenate(bad)


def _within_years(times: pa.Array, bad: Rows) -> tuple[pa.Array, Rows]:
    numbers = times.cast(pa.int64()).fill_null(0).to_numpy()
    outside = (numbers < _FIRST_TIME) | (numbers > _LAST_TIME)
    if not outside.any():
        return times, bad
    return pc.if_else(pa.array(outside), None, times), np.union1d(bad, np.flatnonzero(outside))


def text_of_number(value: float) -> str | None:
    """Return a whole number as text without a point; None where fractions or lost digits make it none."""
    return str(int(value)) if abs(value) < _EXACT[64] and float(value).is_integer() else None


def text_meant(value: Any) -> str | None:
    """Return a cell of JSON as text where it is text, truth or a whole number; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return text_of_number(value)
    return str(value) if isinstance(value, str | int) else None


def _texts_of_floats(values: pa.Array) -> tuple[pa.Array, Rows]:
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    whole = (np.floor(numbers) == numbers) & (np.abs(numbers) < _EXACT[values.type.bit_width])
    texts = pa.array(np.where(whole, numbers, 0).astype(np.int64)).cast(pa.string())
    there = values.is_valid().to_numpy(zero_copy_only=False)
    return pc.if_else(pa.array(whole & there), texts, None), np.flatnonzero(~whole & there)


def _without_missing(values: pa.Array, column: Column) -> pa.Array:
    if not pa.types.is_floating(values.type):
        return values
    # numpy first: on the few rows of a request each Arrow kernel costs more than this
    if not values.null_count and np.isfinite(values.to_numpy()).all():
        return values
    missing = pc.invert(pc.is_finite(values)) if column.infinity == "missing" else pc.is_nan(values)
    return pc.if_else(missing, None, values) if pc.any(missing).as_py() else values


def _whole_column(values: pa.Array, column: Column, target: pa.DataType) -> pa.Array | None:
    found = values.type
    try:
        if pa.types.is_null(found):
            return values.cast(target)
        if column.dtype == "timestamp":
            return _timestamps(values, target)
        if column.dtype == "string":
            named = pa.types.is_integer(found) or pa.types.is_boolean(found)
            return values.cast(target) if named else None
        numeric = pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found)
        if column.dtype != "bool" and (numeric or pa.types.is_string(found)):
            return values.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    return None


def _timestamps(values: pa.Array, target: pa.DataType) -> pa.Array | None:
    found = values.type
    if pa.types.is_timestamp(found):
        # the cast takes a zone away by going to UTC; nanoseconds are cut, which cannot overflow
        return values.cast(target, safe=found.unit != "ns")
    if pa.types.is_date(found):
        return values.cast(target)
    if not pa.types.is_string(found):
        return None
    return values.cast(pa.timestamp("us", tz="UTC") if _zoned(values) else target).cast(target)


def _zoned(texts: pa.Array) -> bool:
    # judged by the first cell: a cast that fails in every row takes seconds a million
    first = next((text for text in texts.slice(0, _PART).to_pylist() if text), "")
    try:
        return dt.datetime.fromisoformat(first).tzinfo is not None
    except ValueError:
        return False


def _cell(value: Any, column: Column) -> tuple[Any, bool]:
    if value is None:
        return None, True
    try:
        return _convert(value, column), True
    except (TypeError, ValueError, OverflowError):
        return None, False


def _convert(value: Any, column: Column) -> Any:
    if column.dtype == "timestamp":
        return _timestamp(value)
    if column.dtype == "string":
        return _text(value)
    if column.dtype == "bool":
        return _truth(value)
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise TypeError(value)
    if column.dtype.startswith("float"):
        return float(value)
    whole = _whole(value)
    pa.scalar(whole, column.arrow_type())
    return whole


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            # not through float, which rounds above 2^53
            return int(value)
        except ValueError:
            pass
    number = float(value)
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise TypeError(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _timestamp(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        parsed = value
    elif isinstance(value, dt.date):
        parsed = dt.datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        parsed = dt.datetime.fromisoformat(value.strip())
    else:
        raise TypeError(value)
    if parsed.tzinfo is not None:
        parsed = parsed.astimezone(dt.UTC).replace(tzinfo=None)
    return parsed

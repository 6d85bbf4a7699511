"""Checking tables against a schema: cast what can be cast, name every cell that cannot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.schema import Column, TableSchema, Violation, violations_error

_MAX_LISTED = 10_000
_WORDS = {
    "float64": "a number",
    "float32": "a number",
    "int64": "a whole number",
    "int32": "a whole number",
    "bool": "true or false",
    "string": "text",
    "timestamp": "a timestamp (ISO 8601, such as 2024-01-31T14:00)",
}


@dataclass(frozen=True)
class Validated:
    """What came of a check.

    Attributes:
        table: The rows that keep the contract, cast to the schema; whole groups are left out where one
            of their rows is bad.
        violations: Every broken value, at most 10,000.
        rejected: Row numbers (from 0) that are not in ``table``.
    """

    table: pa.Table
    violations: tuple[Violation, ...]
    rejected: np.ndarray[Any, np.dtype[np.int64]]

    def require_clean(self) -> pa.Table:
        """Return the table, or raise when any value broke the contract.

        Raises:
            DataError: At least one violation; file, row and column are named.
        """
        if self.violations:
            raise violations_error(self.violations)
        return self.table


def check(table: pa.Table, schema: TableSchema, *, source: str = "input", first_row: int = 1) -> Validated:
    """Check ``table`` against ``schema``.

    Args:
        table: Any Arrow table.
        schema: The contract.
        source: Name of the file or request, for messages.
        first_row: Number of the first row in messages.

    Raises:
        DataError: A required column is absent, or an unknown one is present where that is forbidden.
    """
    _check_names(table.column_names, schema, source)
    if table.num_rows == 0:
        raise DataError(f"{source}: no rows.", hint="Expected at least one row below the column names.")
    bad = np.zeros(table.num_rows, dtype=bool)
    violations: list[Violation] = []
    arrays: dict[str, Any] = {}
    for column in schema.columns:
        if column.name not in table.column_names:
            arrays[column.name] = pa.nulls(table.num_rows, column.arrow_type())
            continue
        values, problems = _check_column(table.column(column.name), column)
        arrays[column.name] = values
        for rule, rows in problems:
            bad[rows] = True
            raw = table.column(column.name)
            room = max(_MAX_LISTED - len(violations), 0)
            violations += [
                Violation(
                    source,
                    int(row) + first_row,
                    column.name,
                    str(raw[int(row)].as_py()),
                    _say(rule, raw, row),
                )
                for row in rows[:room]
            ]
    for name in table.column_names:
        if name not in arrays:
            arrays[name] = table.column(name)
    checked = pa.table(arrays)
    if bad.any() and schema.group_by:
        bad = _whole_groups(checked, schema.group_by, bad)
    kept = checked.filter(pa.array(~bad)) if bad.any() else checked
    ordered = tuple(sorted(violations, key=lambda item: item.row or 0))
    return Validated(kept, ordered, np.flatnonzero(bad))


def from_records(
    records: Sequence[Mapping[str, Any]], schema: TableSchema, *, source: str = "request"
) -> pa.Table:
    """Build a loosely typed table from JSON records; :func:`check` then casts and judges it.

    Raises:
        DataError: A record is not an object.
    """
    names: dict[str, None] = {}
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping):
            raise DataError(
                f"{source}, row {number}: not an object.", hint='Expected {"column": value, ...}.'
            )
        names.update(dict.fromkeys(record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return from_columns(columns, schema, source=source)


def from_columns(
    columns: Mapping[str, Sequence[Any]], schema: TableSchema, *, source: str = "request"
) -> pa.Table:
    """Build a loosely typed table from JSON columns.

    Raises:
        DataError: Columns differ in length.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{source}: columns differ in length.", hint=f"Found {lengths}.")
    known = set(schema.names)
    return pa.table(
        {
            name: _loose_array(values, schema.column(name) if name in known else None)
            for name, values in columns.items()
        }
    )


def _loose_array(values: Sequence[Any], column: Column | None) -> pa.Array:
    # typed construction is for text and booleans alone: Arrow would turn 3.7 into 3 and true into 1.0
    if column is not None and column.shape is None and column.dtype in ("string", "bool"):
        try:
            return pa.array(values, column.arrow_type(), from_pandas=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    try:
        return pa.array(values, from_pandas=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        # mixed types: text keeps every cell, so that the check can name the bad ones
        return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _check_names(present: Sequence[str], schema: TableSchema, source: str) -> None:
    duplicated = sorted({name for name in present if list(present).count(name) > 1})
    if duplicated:
        raise DataError(
            f"{source}: column '{duplicated[0]}' stands twice.", hint="Give each column its own name."
        )
    unknown = [name for name in present if name not in schema.names]
    for column in schema.columns:
        if column.required and column.name not in present:
            hint = f"Expected {', '.join(schema.names)}; found {', '.join(present) or 'no columns'}."
            close = did_you_mean(column.name, unknown) if unknown else ""
            if close.startswith("Did you mean"):
                hint += f" Rename {close.removeprefix('Did you mean ').removesuffix('?')}?"
            raise DataError(f"{source}: column '{column.name}' is missing.", hint=hint)
    carried = {f"{column.name}_shape" for column in schema.columns if column.ragged}
    refused = [name for name in unknown if name not in carried]
    if refused and schema.extra == "forbid":
        raise DataError(
            f"{source}: unknown column '{refused[0]}'.", hint=did_you_mean(refused[0], schema.names)
        )


Problems = list[tuple[str, np.ndarray[Any, np.dtype[np.int64]]]]


def _check_column(raw: pa.ChunkedArray, column: Column) -> tuple[pa.Array, Problems]:
    flat = raw.combine_chunks() if isinstance(raw, pa.ChunkedArray) else raw
    if isinstance(flat, pa.ChunkedArray):
        flat = flat.chunk(0) if flat.num_chunks else pa.array([], flat.type)
    if column.file is not None:
        return _check_file(flat, column)
    if column.shape is not None:
        return _check_arrays(flat, column)
    if pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_decode()
    values, uncast = _cast(flat, column)
    problems: Problems = []
    if len(uncast):
        problems.append((f"{{value}} is not {_WORDS[column.dtype]}", uncast))
    return values, problems + _check_values(values, column, uncast)


def _check_values(values: pa.Array, column: Column, uncast: np.ndarray[Any, Any]) -> Problems:
    problems: Problems = []
    missing = pc.is_null(values, nan_is_null=True)
    if not column.nullable:
        absent = np.setdiff1d(_true_rows(missing), uncast)
        if len(absent):
            problems.append(("the value is missing", absent))
    if column.dtype in ("float64", "float32"):
        infinite = _true_rows(pc.is_inf(values))
        if len(infinite):
            problems.append(("infinity is not a number that can be used", infinite))
    if column.minimum is not None:
        problems += _some(f"{{value}} is below {column.minimum:g}", pc.less(values, column.minimum))
    if column.maximum is not None:
        problems += _some(f"{{value}} is above {column.maximum:g}", pc.greater(values, column.maximum))
    if column.categories is not None:
        known = pc.or_(pc.is_in(values, pa.array(column.categories)), pc.is_null(values))
        problems += _some(f"{{value}} is not one of {', '.join(column.categories)}", pc.invert(known))
    return problems


def _cast(values: pa.Array, column: Column) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    target = column.arrow_type()
    none = np.empty(0, dtype=np.int64)
    if values.type == target:
        return values, none
    if _castable(values.type, column):
        try:
            return values.cast(target), none
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    cells = [_cell(value, column) for value in values.to_pylist()]
    bad = np.array([row for row, (_, ok) in enumerate(cells) if not ok], dtype=np.int64)
    return pa.array([value for value, _ in cells], target), bad


def _castable(found: pa.DataType, column: Column) -> bool:
    if pa.types.is_null(found):
        return True
    if column.dtype in ("float64", "float32", "int64", "int32"):
        return bool(pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_string(found))
    if column.dtype == "timestamp":
        return bool(pa.types.is_timestamp(found) and found.tz is None) or bool(pa.types.is_date(found))
    if column.dtype == "string":
        return bool(
            pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_integer(found)
        )
    return bool(pa.types.is_boolean(found))


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
    if isinstance(value, bool) is not (column.dtype == "bool"):
        raise TypeError(value)
    if column.dtype == "bool":
        return value
    number = float(value)
    if column.dtype.startswith("int"):
        if not number.is_integer():
            raise ValueError(value)
        whole = int(value) if isinstance(value, int) else int(number)
        pa.scalar(whole, column.arrow_type())
        return whole
    return number


def _timestamp(value: Any) -> Any:
    import datetime as dt

    if isinstance(value, dt.datetime):
        parsed = value
    elif isinstance(value, dt.date):
        parsed = dt.datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        parsed = dt.datetime.fromisoformat(value)
    else:
        raise TypeError(value)
    if parsed.tzinfo is not None:
        parsed = parsed.astimezone(dt.UTC).replace(tzinfo=None)
    return parsed


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _check_file(values: pa.Array, column: Column) -> tuple[pa.Array, Problems]:
    kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values, ([] if column.nullable else _some("the value is missing", pc.is_null(values)))
    rows = np.arange(len(values), dtype=np.int64)
    return pa.nulls(len(values), pa.string()), [("{value} is neither a path nor bytes", rows)]


def _check_arrays(values: pa.Array, column: Column) -> tuple[pa.Array, Problems]:
    target = column.arrow_type()
    if values.type == target:
        return values, _array_values(values, column)
    if isinstance(values.type, pa.FixedShapeTensorType):
        values = pa.array([cell.tolist() for cell in values.to_numpy_ndarray()])
    rows: list[Any] = []
    bad: list[int] = []
    for number, cell in enumerate(values.to_pylist()):
        array = _array_cell(cell, column)
        if array is None and (cell is not None or not column.nullable):
            bad.append(number)
        rows.append(array)
    wanted = " x ".join("any" if axis is None else str(axis) for axis in column.shape or ())
    problems: Problems = [(f"not an array of {wanted} numbers", np.array(bad, dtype=np.int64))] if bad else []
    storage = target if column.ragged else target.storage_type
    filler = None if column.ragged or column.nullable else [0] * column.size
    cast = pa.array([filler if row is None else row.ravel().tolist() for row in rows], storage)
    return (cast if column.ragged else pa.ExtensionArray.from_storage(target, cast)), problems


def _array_values(values: pa.Array, column: Column) -> Problems:
    if column.ragged or column.nullable or not column.dtype.startswith("float"):
        return []
    cells = np.asarray(values.storage.flatten()).reshape(len(values), -1)
    rows = np.flatnonzero(~np.isfinite(cells).all(axis=1))
    return [("the array holds values that are not finite", rows)] if len(rows) else []


def _array_cell(cell: Any, column: Column) -> np.ndarray[Any, Any] | None:
    if cell is None:
        return None
    try:
        array = np.asarray(cell, dtype=column.dtype)
    except (TypeError, ValueError):
        return None
    shape = column.shape or ()
    if not column.ragged and array.shape == (math.prod(axis or 0 for axis in shape),):
        array = array.reshape([axis or 0 for axis in shape])
    fits = array.ndim == len(shape) and all(
        axis in (None, size) for axis, size in zip(shape, array.shape, strict=True)
    )
    finite = not column.dtype.startswith("float") or bool(np.isfinite(array).all())
    return array if fits and finite else None


def _some(rule: str, mask: pa.Array) -> Problems:
    rows = _true_rows(mask)
    return [(rule, rows)] if len(rows) else []


def _true_rows(mask: pa.Array) -> np.ndarray[Any, Any]:
    return np.flatnonzero(np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False)))


def _say(rule: str, raw: pa.ChunkedArray, row: Any) -> str:
    return rule.replace("{value}", repr(raw[int(row)].as_py())) if "{value}" in rule else rule


def _whole_groups(
    table: pa.Table, group_by: tuple[str, ...], bad: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    keys = list(zip(*(table.column(name).to_pylist() for name in group_by), strict=True))
    broken = {keys[int(row)] for row in np.flatnonzero(bad)}
    return np.fromiter((key in broken for key in keys), dtype=bool, count=len(keys))

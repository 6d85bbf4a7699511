"""Checking tables against a schema: cast what can be cast, name every cell that cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.arrays import Problems, check_arrays
from appliedpapers.core.casting import Rows, cast_scalars, cell_value, one_array, text_meant
from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.schema import Column, TableSchema, Violation, violations_error

_MAX_LISTED = 10_000
_MAX_SHOWN = 80
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
        violations: Every broken value, at most as many as were asked for.
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


def check(
    table: pa.Table,
    schema: TableSchema,
    *,
    source: str = "input",
    first_row: int = 1,
    listed: int = _MAX_LISTED,
) -> Validated:
    """Check ``table`` against ``schema``.

    Args:
        table: Any Arrow table.
        schema: The contract.
        source: Name of the file or request, for messages.
        first_row: Number of the first row in messages.
        listed: Most violations that are listed; all are counted in ``rejected``.

    Raises:
        DataError: A required column is absent, one stands twice, or there is no row.
    """
    # asked for once: Arrow makes the list of names anew each time
    places = {name: place for place, name in enumerate(table.column_names)}
    check_names(table.column_names, schema, source)
    if table.num_rows == 0:
        raise DataError(f"{source}: no rows.", hint="Expected at least one row below the column names.")
    bad = np.zeros(table.num_rows, dtype=bool)
    violations: list[Violation] = []
    arrays: dict[str, Any] = {}
    for column in schema.columns:
        if column.name not in places:
            arrays |= _absent(column, table.num_rows)
            continue
        given = table.column(places[column.name])
        raw = one_array(given)
        known = column.categories is not None and _lists_categories(given, column.categories)
        checked_column, problems = _checked(raw, replace(column, categories=None) if known else column, table)
        arrays |= checked_column
        for rule, rows in problems:
            bad[rows] = True
            room = max(listed - len(violations), 0)
            violations += [
                _violation(cell_value(raw[int(row)]), rule, source, int(row) + first_row, column.name)
                for row in rows[:room]
            ]
    for name, place in places.items():
        if name not in arrays:
            arrays[name] = table.column(place)
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
    texts = {column.name for column in schema.columns if column.dtype == "string" and column.shape is None}
    return pa.table({name: _loose_array(values, name in texts) for name, values in columns.items()})


def _loose_array(values: Sequence[Any], text: bool) -> pa.Array:
    # the type is left open: told that whole numbers come, Arrow would turn 3.7 into 3
    try:
        array = pa.array(values, from_pandas=False)
        # among fractions, and there alone, Arrow takes true for 1.0
        if not (pa.types.is_floating(array.type) and bool in set(map(type, values))):
            return array
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        pass
    if text:
        return _texts_and_others(values)
    # mixed types: text keeps every cell, so that the check can name the bad ones
    return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _texts_and_others(values: Sequence[Any]) -> pa.Array:
    # a fraction or a list must not become the text that was asked for only because a neighbour is text
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    texts = [text_meant(value) for value in values]
    others = [
        None if value is None or text is not None else _as_text(value).encode()
        for value, text in zip(values, texts, strict=True)
    ]
    kinds = pa.array([int(other is not None) for other in others], pa.int8())
    return pa.UnionArray.from_sparse(kinds, [pa.array(texts, pa.string()), pa.array(others, pa.binary())])


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def check_names(present: Sequence[str], schema: TableSchema, source: str) -> None:
    """Check the column names of a table alone.

    Raises:
        DataError: A required column is absent, one stands twice, or there are columns and none is known.
    """
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
    # where each column may be absent, a model would answer from nothing, and look as if it knew
    if present and len(unknown) == len(present):
        hint = f"Expected some of {', '.join(schema.names)}; found {', '.join(present)}."
        raise DataError(f"{source}: none of its columns is known.", hint=hint)


def _absent(column: Column, rows: int) -> dict[str, pa.Array]:
    nulls = {column.name: pa.nulls(rows, column.arrow_type())}
    return nulls | ({_shape_name(column): pa.nulls(rows, pa.list_(pa.int32()))} if column.ragged else {})


def _shape_name(column: Column) -> str:
    return f"{column.name}_shape"


def _checked(raw: pa.Array, column: Column, table: pa.Table) -> tuple[dict[str, pa.Array], Problems]:
    if column.shape is None:
        values, problems = _check_column(raw, column)
        return {column.name: values}, problems
    carried = column.ragged and _shape_name(column) in table.column_names
    shapes = table.column(_shape_name(column)).to_pylist() if carried else None
    cells = check_arrays(raw, column, shapes)
    arrays = {column.name: cells.values}
    return (arrays if cells.shapes is None else {**arrays, _shape_name(column): cells.shapes}), cells.problems


def _check_column(raw: pa.Array, column: Column) -> tuple[pa.Array, Problems]:
    if column.file is not None:
        return _check_file(raw, column)
    values, uncast = cast_scalars(raw, column)
    problems: Problems = []
    if len(uncast):
        problems.append((f"{{value}} is not {_WORDS[column.dtype]}", uncast))
    return values, problems + _check_values(values, column, uncast)


def _check_values(values: pa.Array, column: Column, uncast: Rows) -> Problems:
    problems: Problems = []
    if not column.nullable and values.null_count:
        absent = np.setdiff1d(_true_rows(pc.is_null(values)), uncast)
        if len(absent):
            problems.append(("the value is missing", absent))
    if column.dtype in ("float64", "float32", "int64", "int32"):
        problems += _check_numbers(values, column)
    if column.categories is not None:
        known = pc.or_(pc.is_in(values, pa.array(column.categories)), pc.is_null(values))
        problems += _some(f"{{value}} is not one of {', '.join(column.categories)}", pc.invert(known))
    return problems


def _check_numbers(values: pa.Array, column: Column) -> Problems:
    # numpy here: on the few rows of a request each Arrow kernel costs more than all of this
    known = values.fill_null(0) if values.null_count else values
    numbers = known.to_numpy()
    there = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else True
    problems: Problems = []
    unit = f" {column.unit}" if column.unit else ""
    if column.dtype.startswith("float"):
        infinite = np.isinf(numbers)
        if infinite.any():
            problems.append(("infinity is not a number that can be used", np.flatnonzero(infinite)))
            there = there & ~infinite
    if column.minimum is not None:
        below = np.flatnonzero((numbers < column.minimum) & there)
        problems += [(f"{{value}} is below {column.minimum:g}{unit}", below)] if len(below) else []
    if column.maximum is not None:
        above = np.flatnonzero((numbers > column.maximum) & there)
        problems += [(f"{{value}} is above {column.maximum:g}{unit}", above)] if len(above) else []
    return problems


def _lists_categories(values: pa.ChunkedArray, categories: Sequence[str]) -> bool:
    """Whether a column comes with dictionaries of legal values alone: its rows need no look then."""
    if not pa.types.is_dictionary(values.type):
        return False
    known = {*categories, None}
    return all(known.issuperset(chunk.dictionary.to_pylist()) for chunk in values.chunks)


def _check_file(values: pa.Array, column: Column) -> tuple[pa.Array, Problems]:
    kind = values.type
    if pa.types.is_null(kind):
        values, kind = values.cast(pa.string()), pa.string()
    if pa.types.is_large_binary(kind):
        values, kind = values.cast(pa.binary()), pa.binary()
    if pa.types.is_binary(kind) or pa.types.is_string(kind):
        return values, ([] if column.nullable else _some("the value is missing", pc.is_null(values)))
    rows = np.arange(len(values), dtype=np.int64)
    return pa.nulls(len(values), pa.string()), [("{value} is neither a path nor bytes", rows)]


def _some(rule: str, mask: pa.Array) -> Problems:
    rows = _true_rows(mask)
    return [(rule, rows)] if len(rows) else []


def _true_rows(mask: pa.Array) -> np.ndarray[Any, Any]:
    known = mask.fill_null(False) if mask.null_count else mask
    return np.flatnonzero(known.to_numpy(zero_copy_only=False))


def _violation(cell: Any, rule: str, source: str, row: int, column: str) -> Violation:
    text = cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
    said = rule.replace("{value}", _short(text if isinstance(cell, bytes) else repr(cell)))
    return Violation(source, row, column, _short(text), said)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _whole_groups(
    table: pa.Table, group_by: tuple[str, ...], bad: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for name in group_by:
        keys = pc.dictionary_encode(one_array(table.column(name)), null_encoding="encode")
        # renumbered after each column, so that the product of two numberings cannot overflow
        codes = codes * len(keys.dictionary) + keys.indices.to_numpy()
        codes = np.unique(codes, return_inverse=True)[1] if len(group_by) > 1 else codes
    broken = np.zeros(int(codes.max()) + 1, dtype=bool)
    broken[codes[bad]] = True
    return broken[codes]

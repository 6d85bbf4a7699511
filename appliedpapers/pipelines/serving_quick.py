"""The short way from a JSON body to a checked table and back, for requests of which nothing needs to be said.

The check of :mod:`appliedpapers.core.validation` names every broken cell of any table, which costs half a
millisecond however few the rows are. Requests are a few rows of plain scalars, and nearly all of them keep
the contract: that is proved here in a few microseconds a column. Where it is not, nothing is said, and the
long way judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa

from appliedpapers.core.json_rows import plain, to_json
from appliedpapers.core.schema import Column, TableSchema

_JSON = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})
_RECORDS = frozenset({"dataframe_records", "instances", "inputs"})
Cells = Sequence[Any]
_LARGEST_FLOAT32 = 3.4e38
_RANGES = {"int64": 2**53, "int32": 2**31}
_Make = Callable[[Cells, type | None], pa.Array | None]


class QuickCheck:
    """Turns rows of JSON into the table that the long way would make of them.

    Args:
        schema: The contract.
        max_rows: Most rows of one request.

    Attributes:
        able: Whether every column is one of scalars that this knows.
    """

    def __init__(self, schema: TableSchema, max_rows: int) -> None:
        makers = [_maker(column) for column in schema.columns]
        self._makers = [(column, make) for column, make in zip(schema.columns, makers, strict=True) if make]
        self.able = len(self._makers) == len(makers)
        self._names = frozenset(schema.names)
        self._max_rows = max_rows
        self._schema = pa.schema([(column.name, column.arrow_type()) for column in schema.columns])

    def read(self, body: bytes, content_type: str | None) -> tuple[tuple[str, ...], list[Cells]] | None:
        """Return the names of the columns and the rows; None for what takes the long way."""
        if content_type not in _JSON:
            return None
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(document) is not dict or len(document) != 1:
            return None
        shape, content = next(iter(document.items()))
        if shape in _RECORDS:
            found = _records(content)
        else:
            found = _split(content) if shape == "dataframe_split" else None
        return found if found and len(found[1]) <= self._max_rows else None

    def table(self, names: tuple[str, ...], rows: Sequence[Cells]) -> pa.Table | None:
        """Return the rows as a table, checked and typed; None where that takes the long way."""
        if not self._names.issuperset(names):
            return None
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        arrays = []
        for column, make in self._makers:
            cells = columns.get(column.name)
            array = pa.nulls(len(rows), column.arrow_type()) if cells is None else _array(make, cells)
            if array is None or (cells is None and (column.required or not column.nullable)):
                return None
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self._schema)


def answer_json(rows: list[dict[str, Any]]) -> bytes:
    """Return the answer to a request; what is not finite becomes null."""
    document = {"predictions": rows}
    try:
        return orjson.dumps(document, default=plain)
    except orjson.JSONEncodeError:
        return to_json(document)


def _records(content: Any) -> tuple[tuple[str, ...], list[Cells]] | None:
    if type(content) is not list or not content or type(content[0]) is not dict or not content[0]:
        return None
    names = tuple(content[0])
    rows: list[Cells] = []
    for record in content:
        if type(record) is not dict or tuple(record) != names:
            return None
        rows.append(tuple(record.values()))
    return names, rows


def _split(content: Any) -> tuple[tuple[str, ...], list[Cells]] | None:
    if type(content) is not dict or content.keys() != {"columns", "data"}:
        return None
    names, rows = content["columns"], content["data"]
    if type(names) is not list or type(rows) is not list or not names or not rows:
        return None
    if any(type(name) is not str for name in names) or len(set(names)) < len(names):
        return None
    if any(type(row) is not list or len(row) != len(names) for row in rows):
        return None
    return tuple(names), rows


def _array(make: _Make, cells: Cells) -> pa.Array | None:
    kinds = set(map(type, cells))
    kinds.discard(type(None))
    return make(cells, next(iter(kinds), None)) if len(kinds) <= 1 else None


def _maker(column: Column) -> _Make | None:
    """Return what makes the array of a column; None for columns that always take the long way."""
    if column.shape is not None or column.file is not None or column.dtype == "timestamp":
        return None
    if column.dtype == "string":
        return _texts(column)
    return _truths(column) if column.dtype == "bool" else _numbers(column)


def _texts(column: Column) -> _Make:
    target, nullable = column.arrow_type(), column.nullable
    known = None if column.categories is None else frozenset(column.categories) | {None}

    def make(cells: Cells, kind: type | None) -> pa.Array | None:
        if kind not in (str, None) or (not nullable and None in cells):
            return None
        if known is not None and not known.issuperset(cells):
            return None
        return pa.array(cells, target)

    return make


def _truths(column: Column) -> _Make:
    target, nullable = column.arrow_type(), column.nullable

    def make(cells: Cells, kind: type | None) -> pa.Array | None:
        if kind not in (bool, None) or (not nullable and None in cells):
            return None
        return pa.array(cells, target)

    return make


def _numbers(column: Column) -> _Make:
    target, nullable = column.arrow_type(), column.nullable
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    kinds: tuple[type | None, ...] = (int, None) if column.dtype.startswith("int") else (float, int, None)
    if column.dtype == "float32":
        kinds, low, high = (float, None), max(low, -_LARGEST_FLOAT32), min(high, _LARGEST_FLOAT32)
    most = _RANGES.get(column.dtype, 2**53)
    low, high = (max(low, -most), min(high, most - 1)) if kinds == (int, None) else (low, high)

    def make(cells: Cells, kind: type | None) -> pa.Array | None:
        if kind not in kinds:
            return None
        there = cells
        if None in cells:
            if not nullable:
                return None
            there = [cell for cell in cells if cell is not None]
        # an overflowing sum is rare and merely goes the long way, as infinity has to
        if there and not (low <= min(there) and max(there) <= high and math.isfinite(sum(there))):
            return None
        return pa.array(cells, target)

    return make

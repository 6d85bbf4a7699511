"""Single records against a schema, without a table around each.

A table of one row costs many times what a stream's step does. Nearly every record keeps the contract with
the types that JSON gives it: that is seen here cell by cell. Where it is not, nothing is said, and
:func:`appliedpapers.core.validation.check` judges and names what is wrong.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from appliedpapers.core.schema import Column, TableSchema

_WHOLE = 2**53
_RANGES = {"int64": 2**63, "int32": 2**31}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")
_Read = Callable[[Any], Any]


class _Unsure(Exception):
    """Raised for a cell that has to be looked at in a table."""


class RecordCheck:
    """Reads records that keep a schema.

    Args:
        schema: The contract.
    """

    def __init__(self, schema: TableSchema) -> None:
        self._names = frozenset(schema.names)
        found = [(column, _reader(column)) for column in schema.columns]
        self._readers = [(column, read) for column, read in found if read is not None]
        self._able = len(self._readers) == len(found)

    def row(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a record as the schema types it, in the order of its columns; None leaves it to a table.

        The values are those of :func:`appliedpapers.core.json_rows.records` after a check.
        """
        if not self._able or not self._names.issuperset(record):
            return None
        row: dict[str, Any] = {}
        try:
            for column, read in self._readers:
                value = record.get(column.name)
                if value is not None:
                    row[column.name] = read(value)
                elif column.nullable and (column.name in record or not column.required):
                    row[column.name] = None
                else:
                    return None
        except (_Unsure, ValueError):
            return None
        return row


def _reader(column: Column) -> _Read | None:
    """Return what reads the cells of a column; None for columns of which a table has to tell."""
    if column.shape is not None or column.file is not None:
        return None
    kinds = {"string": _text, "bool": _truth, "timestamp": _time, "float64": _number}
    if column.dtype in _RANGES:
        return _whole(column)
    make = kinds.get(column.dtype)
    return None if make is None else make(column)


def _text(column: Column) -> _Read:
    known = None if column.categories is None else frozenset(column.categories)

    def read(value: Any) -> str:
        if type(value) is not str or (known is not None and value not in known):
            raise _Unsure
        # half a surrogate pair has no UTF-8
        value.encode()
        return value

    return read


def _truth(column: Column) -> _Read:
    def read(value: Any) -> bool:
        if type(value) is not bool:
            raise _Unsure
        return value

    return read


def _time(column: Column) -> _Read:
    def read(value: Any) -> dt.datetime:
        if type(value) is not str or _TIME.fullmatch(value) is None:
            raise _Unsure
        return dt.datetime.fromisoformat(value)

    return read


def _number(column: Column) -> _Read:
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum

    def read(value: Any) -> float:
        if type(value) is int and abs(value) <= _WHOLE:
            value = float(value)
        if type(value) is not float or not math.isfinite(value) or not low <= value <= high:
            raise _Unsure
        return value

    return read


def _whole(column: Column) -> _Read:
    most = _RANGES[column.dtype]
    low = -most if column.minimum is None else max(column.minimum, -most)
    high = most - 1 if column.maximum is None else min(column.maximum, most - 1)

    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _Unsure
        return value

    return read

"""Rows as JSON, in one form on the command line, in files, in streams and from servers.

Arrays of fixed shape are nested lists, timestamps ISO 8601, bytes ``{"b64": "..."}``, NaN and infinity null.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows with Python's own values, which :func:`plain` and :func:`to_json` turn into JSON's."""
    names, columns = table.column_names, [cells(column) for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def cells(column: pa.ChunkedArray) -> list[Any]:
    """Return the cells of a column as Python's own values; arrays of fixed shape are nested lists."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        return [cell for chunk in column.chunks for cell in _tensor_cells(chunk)]
    return list(column.to_pylist())


def plain(value: Any) -> Any:
    """Return a value, or everything in it, as JSON has it."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return plain(value.tolist()) if isinstance(value, np.ndarray | np.generic) else str(value)


def to_json(document: Any) -> bytes:
    """Return compact JSON of whatever :func:`plain` takes."""
    try:
        return _dumped(document)
    except ValueError:
        # NaN or infinity, which are rare and cost a walk through the whole document
        return _dumped(plain(document))


# json.dumps would make a writer for each document
_WRITER = json.JSONEncoder(allow_nan=False, default=plain, separators=(",", ":"))


def _dumped(document: Any) -> bytes:
    return _WRITER.encode(document).encode()


def _tensor_cells(chunk: pa.FixedShapeTensorArray) -> list[Any]:
    if chunk.null_count:
        shape = chunk.type.shape
        return [cell and np.reshape(cell, shape).tolist() for cell in chunk.storage.to_pylist()]
    return list(chunk.to_numpy_ndarray().tolist())

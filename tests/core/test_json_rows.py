from __future__ import annotations

import base64
import datetime as dt
import json
import math

import numpy as np
import pyarrow as pa

from appliedpapers.core.json_rows import plain, records, to_json
from appliedpapers.core.tables import csv_bytes, json_lines

GRIDS = pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[[1.0, math.nan]], [[3.0, 4.0]]]))
TABLE = pa.table(
    {
        "x": [1.5, math.inf],
        "when": pa.array([dt.datetime(2024, 1, 31, 14), None], pa.timestamp("us")),
        "grid": GRIDS,
        "file": [b"\x00", None],
    }
)
ROWS = [
    {
        "x": 1.5,
        "when": "2024-01-31T14:00:00",
        "grid": [[1.0, None]],
        "file": {"b64": base64.b64encode(b"\x00").decode()},
    },
    {"x": None, "when": None, "grid": [[3.0, 4.0]], "file": None},
]


def test_rows_are_the_same_json_from_a_command_a_file_and_a_server():
    assert plain(records(TABLE)) == ROWS
    assert [json.loads(line) for line in json_lines(TABLE)] == ROWS
    assert json.loads(to_json(records(TABLE))) == ROWS


def test_arrays_are_nested_in_csv_too():
    lines = csv_bytes(TABLE.select(["grid"])).decode().splitlines()
    assert [json.loads(line.strip('"')) for line in lines[1:]] == [row["grid"] for row in ROWS]


def test_absent_arrays_of_fixed_shape_are_null():
    storage = pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2))
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float64(), [1, 2]), storage)
    assert records(pa.table({"grid": column})) == [{"grid": [[1.0, 2.0]]}, {"grid": None}]


def test_values_of_numpy_are_plain():
    record = {"a": np.float32(1.5), "b": np.float32("nan"), "c": np.array([1, 2]), "d": (np.int64(3),)}
    expected = {"a": 1.5, "b": None, "c": [1, 2], "d": [3]}
    assert plain(record) == json.loads(to_json(record)) == expected

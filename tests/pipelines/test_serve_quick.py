"""The short way to a checked table says what the long way says, or nothing."""

from __future__ import annotations

import json
import math

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.validation import check
from appliedpapers.pipelines.serving_codec import Decoder
from appliedpapers.pipelines.serving_quick import QuickCheck, answer_json

SCHEMA = TableSchema(
    (
        Column("f", "float64", minimum=-5.0, maximum=1e6, nullable=True),
        Column("g", "float32", infinity="missing", nullable=True),
        Column("i", "int64", minimum=0),
        Column("j", "int32", nullable=True),
        Column("s", "string"),
        Column("c", "string", categories=("a", "b"), nullable=True),
        Column("b", "bool", nullable=True, required=False),
    )
)
QUICK = QuickCheck(SCHEMA, 100)
DECODER = Decoder(SCHEMA, max_rows=100)
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from([2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**63, 2**70, -(2**31), -(2**31) - 1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["a", "b", "ü", "1", "2.5", "true", "", 3.5e38, -0.0, 1e-320]),
    st.lists(st.integers(), max_size=1),
)
GOOD = st.fixed_dictionaries(
    {
        "f": st.one_of(st.none(), st.floats(-5, 1e6), st.integers(-5, 100)),
        "g": st.one_of(st.none(), st.floats(-1e30, 1e30)),
        "i": st.integers(0, 2**40),
        "j": st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        "s": st.text(max_size=3).filter(lambda text: text.isprintable()),
        "c": st.sampled_from(["a", "b", None]),
    },
    optional={"b": st.one_of(st.none(), st.booleans())},
)


def short_way(body: bytes):
    read = QUICK.read(body, "application/json")
    return None if read is None else QUICK.table(*read)


def long_way(body: bytes):
    return check(DECODER.table(body, "application/json"), SCHEMA)


@settings(max_examples=300, deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=4), st.data())
def test_what_the_short_way_returns_the_long_way_returns(rows, data):
    for row in rows:
        if data.draw(st.integers(0, 3)) == 0:
            row[data.draw(st.sampled_from([*SCHEMA.names, "extra"]))] = data.draw(CELLS)
    body = json.dumps({"dataframe_records": rows}).encode()
    table = short_way(body)
    if table is not None:
        judged = long_way(body)
        assert judged.violations == ()
        assert judged.table.equals(table)


@given(st.lists(GOOD, min_size=1, max_size=3))
def test_the_shapes_are_read_alike(rows):
    rows = [{**row, "b": True} for row in rows]
    records = json.dumps({"instances": rows}).encode()
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    first = short_way(records)
    second = short_way(json.dumps({"dataframe_split": split}).encode())
    assert (first is None) == (second is None)
    assert first is None or first.equals(second)


def test_rows_that_keep_the_contract_do_take_the_short_way():
    row = {"f": 1, "g": 0.5, "i": 3, "j": None, "s": "x", "c": "a"}
    for rows in ([row], [row, {**row, "f": 2, "c": None}]):
        table = short_way(orjson.dumps({"dataframe_records": rows}))
        assert table.num_rows == len(rows)
        assert table.column_names == list(SCHEMA.names)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"dataframe_records": []}',
        b'{"dataframe_records": [{}]}',
        b'{"dataframe_records": [1]}',
        b'{"dataframe_records": [{"f": NaN}]}',
        b'{"dataframe_records": [{"i": 1}, {"s": "a"}]}',
        b'{"dataframe_split": {"columns": ["i", "i"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": ["i"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": [1], "data": [[1]]}}',
        b'{"instances": [], "inputs": []}',
        b'{"rows": [{"i": 1}]}',
    ],
)
def test_what_needs_an_explanation_takes_the_long_way(body):
    assert short_way(body) is None


def test_other_media_types_and_too_many_rows_take_the_long_way():
    assert QUICK.read(b'{"instances": [{"i": 1}]}', "text/csv") is None
    assert QUICK.read(orjson.dumps({"instances": [{"i": 1}] * 101}), "application/json") is None


@pytest.mark.parametrize("column", [Column("x", "timestamp"), Column("x", "float64", shape=(2,))])
def test_columns_that_are_no_plain_scalars_always_take_the_long_way(column):
    assert not QuickCheck(TableSchema((column,)), 10).able


def test_an_answer_never_holds_nan():
    text = answer_json([{"x": math.nan, "y": [math.inf, 1.0], "b": b"\x00"}])
    assert json.loads(text, parse_constant=pytest.fail) == {
        "predictions": [{"x": None, "y": [None, 1.0], "b": {"b64": "AA=="}}]
    }
    assert json.loads(answer_json([{"x": 2**70}])) == {"predictions": [{"x": 2**70}]}


def test_a_table_has_one_chunk_a_column():
    table = short_way(b'{"instances": [{"f": null, "i": 1, "j": 2, "s": "a", "c": "b", "g": 1.5}]}')
    assert all(column.num_chunks == 1 for column in table.columns)
    assert table.schema.field("g").type == pa.float32()

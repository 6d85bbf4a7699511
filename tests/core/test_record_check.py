"""A record that is read without a table is read as in a table, or not at all."""

from __future__ import annotations

import datetime as dt

from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.json_rows import records
from appliedpapers.core.record_check import RecordCheck
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.validation import check, from_records

SCHEMA = TableSchema(
    (
        Column("f", "float64", minimum=-5.0, maximum=1e6, nullable=True),
        Column("g", "float64", infinity="missing", nullable=True, required=False),
        Column("i", "int64", minimum=-3),
        Column("j", "int32", nullable=True),
        Column("s", "string"),
        Column("c", "string", categories=("a", "b"), nullable=True),
        Column("b", "bool", nullable=True, required=False),
        Column("t", "timestamp", nullable=True),
    )
)
CHECK = RecordCheck(SCHEMA)
GOOD = {"f": 1.5, "g": 2, "i": 3, "j": None, "s": "x", "c": "a", "b": True, "t": "2024-01-31T14:00:00.25"}
TIMES = st.one_of(
    st.datetimes().map(dt.datetime.isoformat),
    st.datetimes().map(str),
    st.sampled_from(["2024-02-30T00:00:00", "0000-01-01T00:00:00", "2024-01-01T24:00:00"]),
    st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,7})?", fullmatch=True
    ),
)
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**66), 2**66),
    st.floats(),
    st.text(st.characters()),
    st.sampled_from(["a", "b", "", "NaN", "1", "true", 2**53, 2**53 + 1, 2**63, -(2**31), 0.1, -0.0]),
    TIMES,
    st.lists(st.integers(), max_size=2),
)
RECORDS = st.dictionaries(st.sampled_from([*SCHEMA.names, "extra"]), CELLS).map(lambda some: GOOD | some)


def by_table(record):
    return records(check(from_records([record], SCHEMA), SCHEMA).require_clean())[0]


def test_a_plain_record_needs_no_table():
    assert CHECK.row(GOOD) == by_table(GOOD)
    assert list(CHECK.row(GOOD)) == list(by_table(GOOD))
    assert CHECK.row({name: GOOD[name] for name in "fijsct"})["b"] is None


@given(RECORDS)
@example(GOOD | {"s": "\ud800"})
@example(GOOD | {"t": "2024-01-01T00:00:60"})
@example(GOOD | {"f": float("nan")})
@settings(max_examples=500, deadline=None)
def test_what_is_read_at_once_is_what_a_table_gives(record):
    row = CHECK.row(record)
    if row is not None:
        expected = by_table(record)
        assert row == expected
        assert [type(cell) for cell in row.values()] == [type(cell) for cell in expected.values()]


@given(RECORDS)
@settings(max_examples=200, deadline=None)
def test_what_a_table_refuses_is_never_read_at_once(record):
    try:
        by_table(record)
    except (DataError, UnicodeEncodeError):
        assert CHECK.row(record) is None


def test_columns_of_arrays_and_files_are_left_to_tables():
    for column in (Column("a", "float64", shape=(2,)), Column("a", "string", file="image")):
        assert RecordCheck(TableSchema((column,))).row({"a": "x"}) is None

from __future__ import annotations

import json

import jsonschema
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliedpapers.core.schema import (
    Column,
    OutputSchema,
    TableSchema,
    Violation,
    violations_error,
    violations_table,
)

DTYPES = ("float64", "float32", "int64", "int32", "bool", "string", "timestamp")


@st.composite
def columns(draw, name: str):
    shape = draw(st.none() | st.lists(st.none() | st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    return Column(
        name,
        draw(st.sampled_from(DTYPES)),
        description=draw(st.text(max_size=5)),
        unit=draw(st.none() | st.just("m/s")),
        nullable=draw(st.booleans()),
        required=draw(st.booleans()),
        minimum=draw(st.none() | st.integers(-5, 0)),
        maximum=draw(st.none() | st.floats(0, 5)),
        shape=shape,
        file=draw(st.none() | st.just("raster")),
        example=draw(st.none() | st.integers() | st.text(max_size=3)),
        infinity=draw(st.sampled_from(["refuse", "missing"])),
    )


@given(columns("a"), columns("b"))
def test_a_schema_survives_json(first, second):
    schema = TableSchema((first, second), group_by=("b",), order_by="a")
    assert TableSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    output = OutputSchema((first, second), group_by=("a",), rows="many", keys=("a",))
    assert OutputSchema.from_json(json.loads(json.dumps(output.to_json()))) == output


def test_a_schema_written_before_an_option_was_added_is_read():
    document = {"columns": [{"name": "x", "dtype": "float64", "nullable": True}], "group_by": []}
    assert TableSchema.from_json(document) == TableSchema((Column("x", "float64", nullable=True),))
    assert TableSchema.from_json(document).column("x").infinity == "refuse"
    assert TableSchema.from_json(document | {"extra": "carry"}) == TableSchema.from_json(document)


@given(columns("a"))
def test_json_schema_and_arrow_schema_are_well_formed(column):
    schema = TableSchema((column,))
    jsonschema.Draft202012Validator.check_schema(schema.json_schema())
    names = schema.arrow_schema().names
    assert names == (["a", "a_shape"] if column.ragged else ["a"])


def test_fixed_arrays_are_tensors_and_ragged_ones_lists():
    assert Column("a", "float32", shape=(2, 3)).arrow_type() == pa.fixed_shape_tensor(pa.float32(), [2, 3])
    assert Column("a", "float32", shape=(None, 3)).arrow_type() == pa.list_(pa.float32())
    assert Column("a", "timestamp").arrow_type() == pa.timestamp("us")
    assert Column("a", "float32", shape=(2, 3)).size == 6


def test_json_schema_says_what_is_legal():
    column = Column("a", "float64", "height", unit="m", minimum=0, nullable=True)
    cell = column.json_schema()
    assert cell["description"] == "height; unit: m"
    for value, legal in ((1.5, True), (None, True), (-1, False), ("x", False)):
        assert jsonschema.Draft202012Validator(cell).is_valid(value) is legal
    array = Column("a", "float64", shape=(None, 2)).json_schema()
    for value, legal in (([[1, 2]], True), ([], True), ([[1]], False), ([1, 2], False)):
        assert jsonschema.Draft202012Validator(array).is_valid(value) is legal


def test_markdown_has_one_line_a_column():
    schema = TableSchema(
        (
            Column("soil", "string", categories=("clay", "sand")),
            Column("x", "float64", "height", unit="m", minimum=0, nullable=True),
            Column("map", "string", file="raster"),
        )
    )
    lines = schema.markdown().splitlines()
    assert lines[2:] == [
        "| soil | string |  | clay \\| sand | no |  |",
        "| x | float64 | m | 0 to ∞ | allowed | height |",
        "| map | raster |  |  | no |  |",
    ]


@pytest.mark.parametrize("options", [{"group_by": ("b",)}, {"order_by": "b"}])
def test_a_schema_that_names_no_column_of_its_own_is_refused(options):
    with pytest.raises(ValueError, match="'b' is not a column"):
        TableSchema((Column("a", "int64"),), **options)


def test_a_column_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="stands twice"):
        TableSchema((Column("a", "int64"), Column("a", "string")))


def test_twenty_violations_are_shown_and_all_are_kept():
    violations = [Violation("f.csv", row, "x", "bad", "'bad' is not a number") for row in range(1, 31)]
    error = violations_error(violations)
    assert error.message == "f.csv, column 'x', row 1: 'bad' is not a number."
    assert error.hint.startswith("30 values break the contract.")
    assert len(error.hint.splitlines()) == 20
    assert error.violations.num_rows == 30
    assert violations_table(violations[:1]).to_pylist() == [
        {"file": "f.csv", "row": 1, "column": "x", "value": "bad", "rule": "'bad' is not a number"}
    ]


def test_a_violation_without_a_row_says_none():
    assert Violation("f", None, "x", "", "too short").sentence() == "f, column 'x': too short"

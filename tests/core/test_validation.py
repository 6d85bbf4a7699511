from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.tables import read_table, write_table
from appliedpapers.core.validation import check, from_columns, from_records

NOON = dt.datetime(2024, 1, 31, 12)


def one(values, dtype="float64", **options):
    """Check one column; return its cells and the rows (from 1) with their rules."""
    name = options.pop("name", "x")
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    checked = check(pa.table({name: array}), TableSchema((Column(name, dtype, **options),)))
    rows = [item.row for item in checked.violations]
    assert len(rows) == len(set(rows)), "a bad cell is reported once"
    return checked.table.column(name).to_pylist(), {item.row: item.rule for item in checked.violations}


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2], "float64", [1.0, 2.0]),
        (["1.5", " 2 "], "float64", [1.5, 2.0]),
        ([1.0, 2.0], "int64", [1, 2]),
        (["3", "4.0"], "int64", [3, 4]),
        (["9007199254740993"], "int64", [9007199254740993]),
        ([1, 2], "string", ["1", "2"]),
        ([1.0, -2.0, 2.0**53 - 1], "string", ["1", "-2", "9007199254740991"]),
        ([-0.0, 0.0], "string", ["0", "0"]),
        ([True, False], "string", ["true", "false"]),
        (["true", "False "], "bool", [True, False]),
        ([dt.date(2024, 1, 31)], "timestamp", [dt.datetime(2024, 1, 31)]),
        (["2024-01-31T12:00", "2024-01-31"], "timestamp", [NOON, dt.datetime(2024, 1, 31)]),
        (["2024-01-31T12:00Z", "2024-01-31T13:00+01:00"], "timestamp", [NOON, NOON]),
        (["2024-01-31T12:00Z", "2024-01-31T12:00"], "timestamp", [NOON, NOON]),
        (["2024-01-31T12:00", "2024-01-31T12:00Z"], "timestamp", [NOON, NOON]),
    ],
)
def test_what_people_write_is_cast(values, dtype, expected):
    assert one(values, dtype) == (expected, {})


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("us", tz="UTC"),
        pa.timestamp("us", tz="America/New_York"),
        pa.timestamp("ns"),
        pa.timestamp("ns", tz="+02:00"),
        pa.timestamp("s"),
    ],
)
def test_timestamps_of_every_zone_and_unit_become_utc_microseconds(kind):
    instant = pa.array([NOON], pa.timestamp("us")).cast(pa.timestamp(kind.unit)).cast(pa.int64())
    assert one(instant.cast(kind), "timestamp") == ([NOON], {})


def test_fractions_of_a_microsecond_are_cut():
    assert one(pa.array([1_500], pa.timestamp("ns")), "timestamp")[0] == [dt.datetime(1970, 1, 1, 0, 0, 0, 1)]


@pytest.mark.parametrize(
    ("values", "dtype", "row", "rule"),
    [
        (["1", "abc", "3"], "float64", 2, "'abc' is not a number"),
        (["1", "1_000"], "float64", 2, "'1_000' is not a number"),
        (["1", ""], "int64", 2, "'' is not a whole number"),
        ([1.0, 2.5], "int64", 2, "2.5 is not a whole number"),
        ([1, 2**40], "int32", 2, f"{2**40} is not a whole number"),
        (["1", "1e300"], "int64", 2, "'1e300' is not a whole number"),
        ([True, False], "float64", 1, "True is not a number"),
        ([1.5], "string", 1, "1.5 is not text"),
        ([1.0, 3.7], "string", 2, "3.7 is not text"),
        ([1.0, 2.0**53], "string", 2, "9007199254740992.0 is not text"),
        ([1.0, float("inf")], "string", 2, "inf is not text"),
        ([1.0, float("nan")], "string", 2, "the value is missing"),
        (["yes"], "bool", 1, "'yes' is not true or false"),
        ([1], "bool", 1, "1 is not true or false"),
        (["2024-01-31", "2024-13-01"], "timestamp", 2, "'2024-13-01' is not a timestamp"),
        ([1700000000], "timestamp", 1, "1700000000 is not a timestamp"),
        ([1.0, float("inf")], "float64", 2, "infinity"),
        (["-inf", "1"], "float64", 1, "infinity"),
        ([1.0, 1e300], "float32", 2, "infinity"),
        ([1.0, None], "float64", 2, "the value is missing"),
        ([1.0, float("nan")], "float64", 2, "the value is missing"),
        ([1.0, float("nan")], "int64", 2, "the value is missing"),
        (["1", "nan"], "float64", 2, "the value is missing"),
        (["a", None], "string", 2, "the value is missing"),
        ([None], "timestamp", 1, "the value is missing"),
    ],
)
def test_a_bad_cell_is_named_and_its_row_left_out(values, dtype, row, rule):
    kept, problems = one(values, dtype)
    assert rule in problems[row]
    assert len(kept) == len(values) - len(problems)


def test_ranges_and_categories_hold_and_missing_is_legal_where_it_is_declared():
    options = {"minimum": 0, "maximum": 10, "nullable": True}
    kept, problems = one([0, 10, -0.1, 10.1, None, float("nan"), float("inf")], **options)
    assert kept == [0, 10, None, None]
    assert problems == {
        3: "-0.1 is below 0",
        4: "10.1 is above 10",
        7: "infinity is not a number that can be used",
    }
    kept, problems = one(["a", "c", None], "string", categories=("a", "b"), nullable=True)
    assert kept == ["a", None]
    assert problems == {2: "'c' is not one of a, b"}


def test_one_bad_cell_among_many_parts_is_found_where_it_stands():
    texts = [str(number) for number in range(10_000)]
    texts[7_777] = "7,777"
    kept, problems = one(texts, "int64")
    assert list(problems) == [7_778]
    assert kept == [number for number in range(10_000) if number != 7_777]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", "b", None]).dictionary_encode(),
        pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b", None]).dictionary_encode()]),
        pa.chunked_array([["a", "b"], [None]]),
        pa.array(["a", "b", None], pa.large_string()),
        pa.array(["z", "a", "b", None]).slice(1),
    ],
    ids=["dictionary", "two dictionaries", "chunks", "large", "slice"],
)
def test_text_is_text_however_it_is_held(array):
    assert one(array, "string", categories=("a", "b"), nullable=True) == (["a", "b", None], {})


def test_whole_numbers_with_gaps_are_text_as_pandas_writes_them():
    gaps = pa.array([3.0, None, float("nan"), 12.0])
    kept, problems = one(gaps, "string", nullable=True)
    assert (kept, problems) == (["3", None, None, "12"], {})
    assert one(gaps.dictionary_encode(), "string", nullable=True)[0] == kept
    assert one(pa.chunked_array([gaps.slice(0, 1), gaps.slice(1)]), "string", nullable=True)[0] == kept
    assert one(gaps.slice(1), "string", categories=("12",), nullable=True)[0] == [None, None, "12"]


@pytest.mark.parametrize(("kind", "limit"), [(pa.float32(), 2.0**24), (pa.float64(), 2.0**53)])
def test_floats_that_no_longer_tell_whole_numbers_apart_are_not_text(kind, limit):
    kept, problems = one(pa.array([limit - 1, limit, -limit], kind), "string")
    assert kept == [str(int(limit - 1))]
    assert list(problems) == [2, 3]


@pytest.mark.parametrize(
    "array",
    [pa.array([7, None, 8]).dictionary_encode(), pa.array([True, None]), pa.array([7, None, 8], pa.uint8())],
    ids=["dictionary of numbers", "truth", "bytes"],
)
def test_numbers_and_truth_are_text_however_they_are_held(array):
    kept, problems = one(array, "string", nullable=True)
    assert problems == {}
    assert kept == [None if cell is None else str(cell).lower() for cell in array.to_pylist()]


def test_a_million_ids_become_text_in_columns_not_cell_by_cell(monkeypatch):
    monkeypatch.setattr("appliedpapers.core.casting._cell", lambda *_: pytest.fail("cell by cell"))
    numbers = np.arange(1_000_000, dtype=np.float64)
    numbers[7] = 0.5
    kept, problems = one(pa.array(numbers), "string")
    assert problems == {8: "0.5 is not text"}
    assert (len(kept), kept[-1]) == (999_999, "999999")


def test_infinity_is_missing_where_the_schema_says_so():
    infinite = [1.0, float("inf"), float("-inf"), float("nan")]
    options = {"infinity": "missing", "minimum": 0, "maximum": 5}
    assert one(infinite, nullable=True, **options) == ([1.0, None, None, None], {})
    kept, problems = one(infinite, **options)
    assert kept == [1.0]
    assert set(problems.values()) == {"the value is missing"}
    assert one(["1", "inf", "-Infinity"], nullable=True, **options)[0] == [1.0, None, None]
    assert one([1.0, 1e300], "float32", nullable=True, **options)[0] == [1.0, None]
    assert one([1.0, float("inf")], "int64", nullable=True, **options)[0] == [1, None]
    assert "infinity" in one(infinite[:2], nullable=True)[1][2]


def test_infinite_json_numbers_are_missing_where_the_schema_says_so():
    schema = TableSchema((Column("x", "float64", nullable=True, infinity="missing"),))
    for cells in ([1, float("inf"), None], [1.5, float("-inf"), "inf"]):
        checked = check(from_columns({"x": cells}, schema), schema)
        assert checked.violations == ()
        assert checked.table.column("x").to_pylist() == [cells[0], None, None]


def test_numbers_may_come_dictionary_encoded_or_as_decimals():
    assert one(pa.array(["1", "2", "1"]).dictionary_encode(), "int64") == ([1, 2, 1], {})
    assert one(pa.array([1.5, 2.5]).cast(pa.decimal128(5, 2))) == ([1.5, 2.5], {})


def test_names_are_checked_before_values():
    schema = TableSchema((Column("time", "timestamp"), Column("x", "float64", required=False)))
    with pytest.raises(DataError, match="'time' is missing") as caught:
        check(pa.table({"tme": ["2024-01-01"]}), schema, source="a.csv")
    assert "Rename 'tme'?" in caught.value.hint
    with pytest.raises(DataError, match="'x' stands twice"):
        check(pa.table([[1], [2]], names=["x", "x"]), schema)
    with pytest.raises(DataError, match="no rows"):
        check(pa.table({"time": pa.array([], pa.string())}), schema)


def test_an_absent_optional_column_is_filled_and_unknown_ones_are_carried():
    schema = TableSchema((Column("a", "int64"), Column("b", "float32", required=False)))
    table = check(pa.table({"c": ["kept"], "a": [1]}), schema).table
    assert table.to_pylist() == [{"a": 1, "b": None, "c": "kept"}]
    assert table.schema.field("b").type == pa.float32()


def test_a_bad_row_takes_its_whole_group_along():
    schema = TableSchema((Column("g", "string"), Column("h", "int64"), Column("x", "int64")), ("g", "h"))
    table = pa.table({"g": ["a", "b", "a", "a"], "h": [1, 1, 1, 2], "x": ["1", "2", "bad", "4"]})
    checked = check(table, schema, first_row=10)
    assert checked.table.column("x").to_pylist() == [2, 4]
    assert checked.rejected.tolist() == [0, 2]
    assert [(item.row, item.column, item.value) for item in checked.violations] == [(12, "x", "bad")]
    with pytest.raises(DataError, match="column 'x', row 12") as caught:
        checked.require_clean()
    assert caught.value.violations.num_rows == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), min_size=1, max_size=30))
def test_whole_groups_are_kept_or_left_out(rows):
    schema = TableSchema((Column("g", "string"), Column("h", "int64"), Column("x", "int64")), ("g", "h"))
    table = pa.table(
        {
            "g": pa.array([g for g, _, _ in rows]),
            "h": pa.array([h for _, h, _ in rows]),
            "x": pa.array([None if bad else 1 for _, _, bad in rows], pa.int64()),
        }
    )
    broken = {(g, h) for g, h, bad in rows if bad}
    checked = check(table, schema)
    assert checked.rejected.tolist() == [n for n, (g, h, _) in enumerate(rows) if (g, h) in broken]
    assert checked.table.num_rows == len(rows) - len(checked.rejected)


def test_only_so_many_violations_are_listed_but_every_row_is_rejected():
    table = pa.table({"x": ["bad"] * 10_050})
    checked = check(table, TableSchema((Column("x", "int64"),)))
    assert len(checked.violations) == 10_000
    assert len(checked.rejected) == 10_050


def test_a_long_value_is_cut_in_the_message():
    _, problems = one(["x" * 500])
    assert len(problems[1]) < 120


# files


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.large_string(), pa.large_binary()])
def test_a_file_is_a_path_or_bytes(kind):
    kept, problems = one(pa.array(["a.tif", None], kind), "string", file="raster")
    assert len(kept) == 1
    assert problems == {2: "the value is missing"}


def test_a_number_is_no_file_and_nothing_is_missing():
    assert "neither a path nor bytes" in one([3], "string", file="raster")[1][1]
    assert one([None], "string", file="raster")[1] == {1: "the value is missing"}
    assert one([None], "string", file="raster", nullable=True) == ([None], {})


# arrays


def tensors(values):
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values, dtype=np.float64))


@pytest.mark.parametrize(
    "array",
    [
        tensors([[[1, 2, 3], [4, 5, 6]]]),
        pa.array([[[1, 2, 3], [4, 5, 6]]]),
        pa.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], pa.list_(pa.list_(pa.float32(), 3), 2)),
        pa.array(["[[1, 2, 3], [4, 5, 6]]"]),
    ],
    ids=["tensor", "lists", "fixed lists", "JSON text"],
)
def test_a_fixed_array_becomes_a_tensor(array):
    schema = TableSchema((Column("x", "float64", shape=(2, 3)),))
    checked = check(pa.table({"x": array}), schema)
    assert checked.violations == ()
    assert checked.table.schema.field("x").type == pa.fixed_shape_tensor(pa.float64(), [2, 3])
    assert checked.table.column("x").chunk(0).to_numpy_ndarray().tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ([1, 2], "not an array of 3 numbers"),
        ([1, 2, "x"], "not an array of 3 numbers"),
        ([1, 2, None], "not an array of 3 numbers"),
        ([[1, 2, 3]], "not an array of 3 numbers"),
        (5, "not an array of 3 numbers"),
        ("text", "not an array of 3 numbers"),
        ({"a": 1}, "not an array of 3 numbers"),
        ([True, True, True], "not an array of 3 numbers"),
        ([1, 2, float("nan")], "not finite"),
        ([1, 2, float("inf")], "not finite"),
        ([1, 2, -1], "below 0"),
        ([1, 2, 11], "above 10"),
        (None, "the value is missing"),
    ],
)
def test_one_bad_array_is_named_and_the_others_are_kept(cell, rule):
    schema = TableSchema((Column("x", "float64", shape=(3,), minimum=0, maximum=10),))
    table = from_records([{"x": [1, 2, 3]}, {"x": cell}, {"x": [4, 5, 6]}], schema)
    checked = check(table, schema)
    assert [item.row for item in checked.violations] == [2]
    assert rule in checked.violations[0].rule
    assert checked.table.column("x").combine_chunks().to_numpy_ndarray().tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_tensor_of_another_shape_with_as_many_numbers_is_refused():
    schema = TableSchema((Column("x", "float64", shape=(3, 2)),))
    checked = check(pa.table({"x": tensors(np.zeros((2, 2, 3)))}), schema)
    assert checked.rejected.tolist() == [0, 1]


def test_a_missing_tensor_is_reported_or_kept_as_missing():
    kind = pa.fixed_shape_tensor(pa.float64(), [2])
    array = pa.ExtensionArray.from_storage(kind, pa.array([[1.0, 2.0], None], kind.storage_type))
    for nullable, kept in ((False, 1), (True, 2)):
        checked = check(
            pa.table({"x": array}), TableSchema((Column("x", "float64", shape=(2,), nullable=nullable),))
        )
        assert checked.table.num_rows == kept
    assert checked.table.column("x").to_pylist()[1] is None


def test_whole_number_arrays_refuse_fractions():
    schema = TableSchema((Column("x", "int64", shape=(2,)),))
    checked = check(pa.table({"x": [[1.0, 2.0], [1.5, 2.0]]}), schema)
    assert checked.rejected.tolist() == [1]


def test_a_ragged_array_keeps_its_shape_beside_it():
    schema = TableSchema((Column("x", "float64", shape=(None, 2), nullable=True),))
    checked = check(from_records([{"x": [[1, 2], [3, 4]]}, {"x": None}, {"x": [[5, 6]]}], schema), schema)
    assert checked.violations == ()
    assert checked.table.to_pylist() == [
        {"x": [1, 2, 3, 4], "x_shape": [2, 2]},
        {"x": None, "x_shape": None},
        {"x": [5, 6], "x_shape": [1, 2]},
    ]


@pytest.mark.parametrize("cell", [[[1, 2], [3]], [1, 2], [[1, float("nan")]], None])
def test_a_ragged_array_that_does_not_fit_is_named(cell):
    schema = TableSchema((Column("x", "float64", shape=(None, 2)),))
    checked = check(from_records([{"x": [[1, 2]]}, {"x": cell}], schema), schema)
    assert checked.rejected.tolist() == [1]


TAGS = TableSchema((Column("tags", "string", shape=(None,), nullable=True),))


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
@pytest.mark.parametrize(
    ("cells", "element", "expected"),
    [
        ([["a", None], None, [], ["b"]], pa.string(), [["a", None], None, [], ["b"]]),
        ([["a", None], None, [], ["b"]], pa.large_string(), [["a", None], None, [], ["b"]]),
        ([[1, 20], None, []], pa.int64(), [["1", "20"], None, []]),
        ([[3.0, None], []], pa.float64(), [["3", None], []]),
        ([[], None], pa.null(), [[], None]),
    ],
)
def test_lists_of_texts_take_what_single_texts_take(kind, cells, element, expected):
    checked = check(pa.table({"tags": pa.array(cells, kind(element))}), TAGS)
    assert checked.violations == ()
    assert checked.table.column("tags").to_pylist() == expected
    sizes = [None if cell is None else [len(cell)] for cell in expected]
    assert checked.table.column("tags_shape").to_pylist() == sizes


def test_a_slice_of_lists_of_texts_has_the_texts_of_its_own_rows():
    table = pa.table({"tags": [["a"], ["b", "c"], None, ["d"]]})
    assert check(table.slice(1), TAGS).table.column("tags").to_pylist() == [["b", "c"], None, ["d"]]


def test_lists_of_texts_are_read_from_requests_and_from_cells_of_json():
    records = [{"tags": ["a", 1, True]}, {"tags": None}, {"tags": '["b", null]'}, {"tags": []}]
    checked = check(from_records(records, TAGS), TAGS)
    assert checked.violations == ()
    assert checked.table.column("tags").to_pylist() == [["a", "1", "true"], None, ["b", None], []]


@pytest.mark.parametrize("cell", ["a", "[", 3, [["a"]], [1.5], {"a": "b"}])
def test_what_is_no_list_of_texts_is_named(cell):
    checked = check(from_records([{"tags": ["a"]}, {"tags": cell}], TAGS), TAGS)
    assert checked.rejected.tolist() == [1]
    assert [item.rule for item in checked.violations] == ["not a list of texts"]


def test_fractions_in_lists_are_no_texts_and_missing_lists_may_be_refused():
    assert check(pa.table({"tags": [[1.0], [2.5, 3.0]]}), TAGS).rejected.tolist() == [1]
    strict = TableSchema((Column("tags", "string", shape=(None,)),))
    checked = check(pa.table({"tags": [["a"], None]}), strict)
    assert [item.rule for item in checked.violations] == ["the value is missing"]


def test_a_ragged_array_survives_a_csv(tmp_path):
    schema = TableSchema((Column("x", "float64", shape=(None, 2)),))
    checked = check(pa.table({"x": [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]]}), schema).require_clean()
    write_table(checked, tmp_path / "x.csv")
    assert check(read_table(tmp_path / "x.csv"), schema).require_clean() == checked


def test_a_shape_that_does_not_fit_its_list_is_named():
    schema = TableSchema((Column("x", "float64", shape=(None, 2)),))
    checked = check(pa.table({"x": [[1.0, 2.0], [3.0, 4.0]], "x_shape": [[1, 2], [2, 2]]}), schema)
    assert checked.rejected.tolist() == [1]


# JSON


def test_mixed_types_in_json_name_the_one_bad_cell():
    schema = TableSchema(
        (
            Column("x", "float64"),
            Column("n", "int64"),
            Column("b", "bool"),
            Column("t", "timestamp"),
            Column("s", "string"),
        )
    )
    good = {"x": 1.5, "n": 2, "b": True, "t": "2024-01-31T12:00", "s": "a"}
    for name, value in {"x": "abc", "n": 2.5, "b": "maybe", "t": 5, "s": 1.5}.items():
        checked = check(from_records([good, good | {name: value}, good], schema), schema)
        assert [(item.row, item.column) for item in checked.violations] == [(2, name)], name
        assert checked.table.to_pylist() == [good | {"t": NOON}] * 2


@pytest.mark.parametrize("cell", [1.5, 1e300, ["a"], {"a": 1}])
def test_what_is_not_text_does_not_become_text_beside_text(cell):
    schema = TableSchema((Column("s", "string"),))
    checked = check(from_columns({"s": ["a", cell, "b", 7]}, schema), schema)
    assert [(item.row, item.value) for item in checked.violations] == [(2, json.dumps(cell))]
    assert checked.table.column("s").to_pylist() == ["a", "b", "7"]


@pytest.mark.parametrize(
    ("cells", "texts"),
    [
        (["a", 3.0, True, None, False, 7], ["a", "3", "true", None, "false", "7"]),
        ([1, 3.0, None], ["1", "3", None]),
        ([1.0, True], ["1", "true"]),
        ([1, True], ["1", "true"]),
        ([True, None], ["true", None]),
        (["a", float("nan")], ["a", None]),
        ([2**70, "a"], [str(2**70), "a"]),
    ],
)
def test_whole_numbers_and_truth_in_json_are_text_where_text_is_asked_for(cells, texts):
    schema = TableSchema((Column("s", "string", nullable=True),))
    for table in (from_columns({"s": cells}, schema), from_records([{"s": cell} for cell in cells], schema)):
        checked = check(table, schema)
        assert checked.violations == ()
        assert checked.table.column("s").to_pylist() == texts


def test_json_numbers_are_not_cut_or_taken_for_truth():
    schema = TableSchema((Column("n", "int64"), Column("x", "float64")))
    checked = check(from_columns({"n": [1, 3.7], "x": [1.0, True]}, schema), schema)
    assert {(item.row, item.column) for item in checked.violations} == {(2, "n"), (2, "x")}


def test_records_may_leave_keys_out_and_must_be_objects():
    schema = TableSchema((Column("a", "int64"), Column("b", "int64", nullable=True)))
    assert check(from_records([{"a": 1}, {"b": 2, "a": 3}], schema), schema).table.to_pylist() == [
        {"a": 1, "b": None},
        {"a": 3, "b": 2},
    ]
    with pytest.raises(DataError, match="row 2: not an object"):
        from_records([{"a": 1}, [1]], schema)
    with pytest.raises(DataError, match="differ in length"):
        from_columns({"a": [1], "b": [1, 2]}, schema)


# properties

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(0, 3) | st.none() | st.text(max_size=1), max_size=3),
    st.sampled_from(["2024-01-31", "1", "1.5", "nan", "true"]),
)
COLUMNS = st.builds(
    lambda dtype, nullable, bounded, shape: Column(
        "x",
        dtype,
        nullable=nullable,
        minimum=0 if bounded and dtype in ("float64", "int32") else None,
        shape=shape if dtype in ("float64", "int32") else None,
    ),
    st.sampled_from(["float64", "int32", "bool", "string", "timestamp"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, (2,), (None,), (1, 2)]),
)


@settings(max_examples=300, deadline=None)
@given(COLUMNS, st.lists(CELLS, min_size=1, max_size=6))
def test_any_json_is_judged_row_by_row_without_a_traceback(column, cells):
    schema = TableSchema((column,))
    checked = check(from_records([{"x": cell} for cell in cells], schema), schema)
    rows = {item.row - 1 for item in checked.violations}
    assert rows == set(checked.rejected.tolist())
    assert checked.table.num_rows == len(cells) - len(rows)
    assert checked.table.schema.field("x").type == column.arrow_type()
    if not column.nullable:
        assert checked.table.column("x").null_count == 0


@settings(max_examples=200, deadline=None)
@given(COLUMNS, st.lists(CELLS, min_size=1, max_size=6))
def test_what_was_checked_passes_again_unchanged(column, cells):
    schema = TableSchema((column,))
    once = check(from_records([{"x": cell} for cell in cells], schema), schema).table
    if once.num_rows:
        again = check(once, schema)
        assert again.violations == ()
        assert again.table.to_pylist() == once.to_pylist()


@pytest.mark.parametrize("required", [False, True])
def test_a_table_without_any_known_column_is_refused(required):
    """Where each column may be absent, a model would answer from nothing, and look as if it knew."""
    columns = tuple(Column(name, "float64", nullable=True, required=required) for name in ("ph", "rain"))
    with pytest.raises(DataError, match=r"own\.csv: ") as caught:
        check(pa.table({"pH (H2O)": [6.5], "Rain": [3.0]}), TableSchema(columns), source="own.csv")
    assert caught.value.message.endswith(
        "column 'ph' is missing." if required else "none of its columns is known."
    )
    assert "ph, rain" in caught.value.hint
    assert "pH (H2O), Rain" in caught.value.hint


def test_one_known_column_of_those_that_may_be_absent_is_enough():
    columns = tuple(Column(name, "float64", nullable=True, required=False) for name in ("ph", "rain"))
    table = check(pa.table({"ph": [6.5], "farm": ["a"]}), TableSchema(columns), source="own.csv").table
    assert table.column("rain").to_pylist() == [None]

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core import audit, row_hashes
from appliedpapers.core.audit import RowSet, common_rows
from appliedpapers.core.data import (
    PARTS,
    Dataset,
    Provenance,
    TableSplit,
    leakage_audit,
    part_named,
)
from appliedpapers.core.fingerprint import table_fingerprint

PROVENANCE = Provenance("here", "CC0-1.0", synthetic=False)


def split(rows, **columns) -> TableSplit:
    table = pa.table({"id": rows, "site": [f"s{row}" for row in rows], "x": [float(row) for row in rows]})
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return TableSplit(table, key=("id", "site"), targets=())


def dataset(**parts) -> Dataset:
    splits = {"train": split([1, 2]), "valid": split([3]), "test": split([4, 5])} | parts
    return Dataset("d", "p", PROVENANCE, **splits)


def test_a_clean_dataset_has_no_finding():
    assert leakage_audit(dataset()) == []
    assert leakage_audit(replace(dataset(), disjoint=("site",))) == []


def test_a_row_in_two_splits_is_found():
    findings = leakage_audit(dataset(test=split([2, 5], x=[7.0, 8.0])))
    assert [(item.kind, item.splits, item.count) for item in findings] == [("rows", ("train", "test"), 1)]
    assert findings[0].sentence() == "1 rows in both train and test (for example (2, 's2'))"


class Windows(TableSplit):
    """A split whose rows are windows of a series."""

    def spans(self) -> pa.Table:
        first = self.table.column("id").to_numpy() * 10
        groups = self.table.column("site")
        return pa.table({"group": groups, "first": first, "stop": first + 12})


def test_windows_of_two_splits_that_overlap_are_found_within_their_series():
    def windows(rows, sites) -> Windows:
        return Windows(split(rows, site=sites).table, key=("id", "site"))

    parts = {"train": windows([1, 5], ["a", "a"]), "valid": windows([3], ["a"]), "test": windows([2], ["b"])}
    assert leakage_audit(dataset(**parts)) == []
    findings = leakage_audit(dataset(**parts | {"test": windows([2, 9], ["a", "a"])}))
    told = [(item.kind, item.splits, item.count, item.examples) for item in findings]
    kind = "windows that overlap one"
    assert told == [
        (kind, ("train", "test"), 1, ("a 10 to 22",)),
        (kind, ("valid", "test"), 1, ("a 30 to 42",)),
    ]


def test_a_window_within_a_longer_one_is_found():
    long = pa.table({"group": ["a", "a"], "first": [0, 10], "stop": [100, 12]})
    short = pa.table({"group": ["a"], "first": [50], "stop": [60]})
    assert audit.overlapping(long, short, 5) == (1, ("a 0 to 100",))
    assert audit.overlapping(short, long, 5) == (1, ("a 50 to 60",))
    assert audit.overlapping(pa.table({"group": ["a"], "first": [100], "stop": [101]}), long, 5) == (0, ())


def test_a_group_in_two_splits_is_found_only_where_it_may_not_be():
    mixed = dataset(test=split([4, 5], site=["s1", "s5"]))
    assert leakage_audit(mixed) == []
    findings = leakage_audit(replace(mixed, disjoint=("site",)))
    assert [(item.kind, item.splits, item.examples) for item in findings] == [
        ("values of 'site'", ("train", "test"), ("s1",))
    ]


def test_equal_contents_under_other_keys_are_found():
    findings = leakage_audit(dataset(valid=split([3], x=[1.0])))
    assert [(item.kind, item.splits) for item in findings] == [("identical contents", ("train", "valid"))]


def test_rows_without_any_content_are_not_duplicates():
    empty = {"x": pa.array([None, None], pa.float64())}
    assert leakage_audit(dataset(train=split([1, 2], **empty), test=split([4, 5], **empty))) == []


def test_an_example_is_of_train_or_else_of_a_part_that_has_rows():
    assert dataset().example().column("id").to_pylist() == [1]
    assert dataset(train=split([])).example(2).column("id").to_pylist() == [4, 5]
    assert dataset(train=split([]), test=split([])).example().column("id").to_pylist() == [3]
    assert dataset(train=split([]), test=split([]), valid=split([])).example().num_rows == 0


@pytest.mark.parametrize(
    "words", [("train", " Training", "0"), ("Val", "validation", "dev", "1"), ("TEST", "2")]
)
def test_a_part_has_many_names(words):
    assert len({part_named(word) for word in words}) == 1
    assert part_named(words[0]) in PARTS
    assert part_named(f"{words[0]}s") is None


def test_a_users_files_are_named_below_what_was_given(tmp_path):
    (tmp_path / "lab" / "deep").mkdir(parents=True)
    files = [tmp_path / "lab" / "a.csv", tmp_path / "lab" / "deep" / "a.csv"]
    for number, file in enumerate(files):
        file.write_text(f"{number}\n")
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    of_folder = Provenance.of_user(tmp_path / "lab", files)
    assert of_folder.sha256 == dict(zip(("a.csv", "deep/a.csv"), sums, strict=True))
    assert (of_folder.source, of_folder.synthetic) == ("lab", False)
    assert Provenance.of_user(files[0]).sha256 == {"a.csv": sums[0]}
    assert Provenance.of_user(files[0], sha256={"all": "0"}).sha256 == {"all": "0"}


def test_every_resample_is_audited():
    first = Dataset("d", "p", PROVENANCE, split([1]), split([2]), split([3]), fold="first")
    second = replace(first, train=split([1, 4]), test=split([4], x=[9.0]), fold="second")
    found = leakage_audit(replace(first, folds=(first, second), fold=""))
    assert [item.splits for item in found] == [("train of second", "test of second")]


def test_the_test_fingerprint_is_of_keys_and_protocol_alone():
    base = dataset()
    assert dataset(test=split([5, 4])).test_fingerprint() == base.test_fingerprint()
    assert dataset(test=split([4, 5], x=[0.0, 0.0])).test_fingerprint() == base.test_fingerprint()
    assert dataset(train=split([9])).test_fingerprint() == base.test_fingerprint()
    assert dataset(test=split([4, 6])).test_fingerprint() != base.test_fingerprint()
    assert replace(base, protocol="q").test_fingerprint() != base.test_fingerprint()


def test_the_test_fingerprint_of_a_simulator_is_of_its_contents_too():
    made = Provenance("simulator", "CC0-1.0", synthetic=True)
    base = replace(dataset(), provenance=made)
    other = replace(dataset(test=split([4, 5], x=[0.0, 0.0])), provenance=made)
    assert replace(dataset(), provenance=made).test_fingerprint() == base.test_fingerprint()
    assert other.test_fingerprint() != base.test_fingerprint()


def test_the_fingerprint_is_of_all_contents():
    base = dataset()
    assert dataset().fingerprint() == base.fingerprint()
    assert dataset(train=split([1, 2], x=[1.0, 2.5])).fingerprint() != base.fingerprint()
    assert dataset(train=split([3]), valid=split([1, 2])).fingerprint() != base.fingerprint()


def test_a_table_split_keeps_its_targets_to_itself():
    table = pa.table({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0], "y": [0, 1, 0]})
    part = TableSplit(table, key=("id",), targets=("y",))
    assert part.inputs().column_names == ["id", "x"]
    assert part.example(2).to_pylist() == [{"id": 1, "x": 1.0}, {"id": 2, "x": 2.0}]
    assert [batch.num_rows for batch in part.batches(2)] == [2, 1]
    assert part.keys().column_names == ["id"]
    relabelled = TableSplit(table.set_column(2, "y", pa.array([1, 1, 1])), key=("id",), targets=("y",))
    assert relabelled.signatures() == part.signatures()


KEYS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 3),
        st.none() | st.text(max_size=2),
        st.none() | st.floats(allow_nan=False),
    ),
    max_size=40,
)


def key_table(rows) -> pa.Table:
    kinds = pa.schema({"n": pa.int64(), "s": pa.string(), "x": pa.float64()})
    return pa.table([list(column) for column in zip(*rows, strict=True)] or [[], [], []], schema=kinds)


@settings(deadline=None)
@given(KEYS, KEYS, st.integers(1, 9))
def test_the_test_fingerprint_is_that_of_one_long_json_list(first, second, at_once):
    hashes = sorted(hashlib.sha256(repr(row).encode()).hexdigest() for row in [*first, *second])
    expected = hashlib.sha256(json.dumps(["p", *hashes]).encode()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "_CONFIRMED", at_once)
        patch.setattr(row_hashes, "_ROWS", at_once + 1)
        whole = Dataset("d", "p", PROVENANCE, split([1]), split([2]), split([3]))
        tests = [TableSplit(key_table(rows), key=("n", "s", "x")) for rows in (first, second)]
        folds = tuple(replace(whole, test=test) for test in tests)
        assert replace(whole, folds=folds).test_fingerprint() == expected


def test_the_test_fingerprint_sorts_sums_that_hold_zero_bytes():
    rows = [(number, None, None) for number in range(3_000)]
    hashes = sorted(hashlib.sha256(repr(row).encode()).hexdigest() for row in rows)
    assert any(one.endswith("00") for one in hashes)
    keyed = TableSplit(key_table(rows), key=("n", "s", "x"))
    expected = hashlib.sha256(json.dumps(["p", *hashes]).encode()).hexdigest()
    assert dataset(test=keyed).test_fingerprint() == expected


@settings(deadline=None)
@given(KEYS, KEYS, st.integers(1, 9))
def test_common_rows_are_those_of_two_sets(first, second, at_once):
    expected = set(first) & set(second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "_CONFIRMED", at_once)
        patch.setattr(row_hashes, "_ROWS", at_once + 1)
        found = common_rows(RowSet(key_table(first)), RowSet(key_table(second)), 5)
    assert found == (len(expected), tuple(sorted(map(str, expected))[:5]))


def test_rows_that_only_seem_equal_are_not_reported(monkeypatch):
    monkeypatch.setattr(audit, "row_hashes", lambda table: np.zeros(table.num_rows, dtype=np.uint64))
    first, second = pa.table({"x": [1, 2, 3]}), pa.table({"x": [3, 4]})
    assert common_rows(RowSet(first), RowSet(second), 5) == (1, ("(3,)",))


def test_a_row_of_one_key_is_named_as_a_row_and_a_value_as_a_value():
    first = TableSplit(pa.table({"id": ["a", "b"]}), key=("id",))
    second = TableSplit(pa.table({"id": ["b"]}), key=("id",))
    findings = leakage_audit(replace(dataset(train=first, test=second), valid=first, disjoint=("id",)))
    assert [item.examples for item in findings if item.splits == ("train", "test")] == [("('b',)",), ("b",)]


def test_signatures_may_be_text_or_numbers_and_leave_missing_ones_out():
    class Signed(TableSplit):
        def signatures(self):
            return pa.array(self.table["x"].to_pylist())

    parts = {name: Signed(pa.table({"id": [name], "x": ["same"]}), key=("id",)) for name in ("train", "test")}
    valid = Signed(pa.table({"id": ["valid"], "x": pa.array([None], pa.string())}), key=("id",))
    findings = leakage_audit(dataset(**parts, valid=valid))
    assert [(item.kind, item.count, item.examples) for item in findings] == [
        ("identical contents", 1, ("same",))
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 2, None]), pa.array([1.0, 2.0, None])),
        (pa.array([1, 2], pa.int8()), pa.array([1, 2], pa.uint64())),
        (pa.array([0.5, 0.25], pa.float32()), pa.array([0.5, 0.25])),
        (pa.array(["a", None, "b"]).dictionary_encode(), pa.array(["a", None, "b"], pa.large_string())),
        (pa.array([10**6], pa.timestamp("us")), pa.array([1], pa.timestamp("s"))),
        (pa.array([10**9], pa.timestamp("ns", tz="UTC")), pa.array([1], pa.timestamp("s"))),
        (pa.array([[1, 2], None, []]), pa.array([[0], [1, 2], None, []], pa.large_list(pa.int32())).slice(1)),
        (pa.array([{"a": 1, "b": None}]), pa.array([{"a": 1.0, "b": None}])),
        (pa.array([True, False, None]), pa.array([1, 0, None])),
    ],
    ids=["whole floats", "widths", "halves", "texts", "units", "zones", "lists", "structs", "truth"],
)
def test_equal_values_have_equal_hashes_however_they_are_held(first, second):
    ours = [row_hashes.row_hashes(pa.table({"x": values})) for values in (first, second)]
    assert ours[0].tolist() == ours[1].tolist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([None, 0, 1, -1, 2**62]),
        pa.array([None, 0.0, 0.5, 1e300, float("nan"), float("inf"), -float("inf"), 1.0]),
        pa.array([None, "", "a", "b", "ab", "ba"]),
        pa.array([None, [], [1], [2], [1, 2], [2, 1], [None], [None, None]]),
        pa.array([1, 2, 1001], pa.timestamp("ns")),
        pa.array([[("a", 1)], [("a", 2)]], pa.map_(pa.string(), pa.int64())),
        pa.array([{"a": 1, "b": 2}, {"a": 2, "b": 1}, None]),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[1.0, 2.0], [2.0, 1.0]])),
    ],
    ids=["whole", "fractions", "texts", "lists", "nanoseconds", "maps", "structs", "tensors"],
)
def test_different_values_have_different_hashes(values):
    assert len(set(row_hashes.row_hashes(pa.table({"x": values})).tolist())) == len(values)


def test_the_place_of_a_value_among_the_columns_counts():
    one, two = pa.table({"x": [1], "y": [2]}), pa.table({"x": [2], "y": [1]})
    assert row_hashes.row_hashes(one) != row_hashes.row_hashes(two)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 2, 3]).slice(1), pa.array([2, 3])),
        (pa.array(np.array([1.0, 2.0]), mask=np.array([False, True])), pa.array([1.0, None])),
        (pa.array(["a", "bb", None]).slice(1), pa.array(["bb", None])),
        (pa.chunked_array([["a"], ["b", "a"]]), pa.array(["a", "b", "a"])),
        (pa.array(["a", "b", "a"]).dictionary_encode(), pa.array(["a", "b", "a"])),
        (pa.array([[1], [2, 3], None, []]).slice(1), pa.array([[2, 3], None, []])),
        (pa.array([True, False, None]).slice(1), pa.array([False, None])),
        (pa.array([{"a": 1}, {"a": 2}]).slice(1), pa.array([{"a": 2}])),
    ],
    ids=["slice", "masked", "text", "chunks", "dictionary", "lists", "bools", "structs"],
)
def test_a_fingerprint_does_not_depend_on_how_values_are_held(first, second):
    assert table_fingerprint(pa.table({"x": first})) == table_fingerprint(pa.table({"x": second}))


VALUES = st.one_of(
    st.lists(st.none() | st.integers(-5, 5), min_size=2).map(lambda cells: pa.array(cells, pa.int64())),
    st.lists(st.none() | st.floats(allow_nan=False), min_size=2).map(
        lambda cells: pa.array(cells, pa.float64())
    ),
    st.lists(st.none() | st.text(max_size=3), min_size=2).map(lambda cells: pa.array(cells, pa.string())),
    st.lists(st.none() | st.binary(max_size=3), min_size=2).map(lambda cells: pa.array(cells, pa.binary())),
    st.lists(st.none() | st.booleans(), min_size=2).map(lambda cells: pa.array(cells, pa.bool_())),
    st.lists(st.none() | st.datetimes(dt.datetime(1900, 1, 1)), min_size=2).map(
        lambda cells: pa.array(cells, pa.timestamp("us"))
    ),
    st.lists(st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3), min_size=2).map(
        lambda cells: pa.array(cells, pa.list_(pa.string()))
    ),
)


@settings(deadline=None)
@given(VALUES, st.data())
def test_fingerprints_are_equal_exactly_where_values_are(values, data):
    cut = data.draw(st.integers(0, len(values)))
    whole = table_fingerprint(pa.table({"x": values}))
    parts = pa.chunked_array([values.slice(0, cut), values.slice(cut)])
    assert table_fingerprint(pa.table({"x": parts})) == whole
    reversed_values = values.take(pa.array(range(len(values))[::-1]))
    same = reversed_values.to_pylist() == values.to_pylist()
    assert (table_fingerprint(pa.table({"x": reversed_values})) == whole) is same
    assert table_fingerprint(pa.table({"y": values})) != whole


def test_where_one_cell_ends_makes_a_difference():
    prints = {
        table_fingerprint(pa.table({"x": cells}))
        for cells in (
            ["ab", "c"],
            ["a", "bc"],
            ["abc", ""],
            [b"ab", b"c"],
            [["ab"], ["c"]],
            [["ab", "c"], []],
        )
    }
    assert len(prints) == 6

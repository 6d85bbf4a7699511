"""Readers of published click logs, on files made up here; of real rows only shapes and counts."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.fields import check_fields, column_of
from appliedpapers.plugins.finalmlp.frappe import (
    LOG,
    SIZES,
    SPLITS,
    frappe_table,
    prepare_frappe,
    read_libsvm,
    read_names,
)
from appliedpapers.plugins.finalmlp.published_data import DEFINITIONS, PUBLISHED, RESAMPLED, open_published
from appliedpapers.plugins.finalmlp.published_readers import (
    AVAZU_TOKENS,
    AVAZU_TYPES,
    CRITEO_TYPES,
    avazu_batches,
    criteo_batches,
    movielens_batches,
    write_batches,
)

FIRST = dict(zip(SIZES, [0, 957, 5039, 5046, 5053, 5055, 5058, 5060, 5069, 5149], strict=True))
FILES = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def line(label: int, codes: list[int]) -> str:
    return " ".join([str(label), *(f"{c + first}:1" for c, first in zip(codes, FIRST.values(), strict=True))])


def some_rows(count: int, seed: int) -> list[tuple[int, list[int]]]:
    rng = np.random.default_rng(seed)
    return [
        (int(rng.choice([1, -1, 0])), [int(rng.integers(size)) for size in SIZES.values()])
        for _ in range(count)
    ]


def write_lines(path: Path, rows: list[tuple[int, list[int]]]) -> Path:
    path.write_text("".join(line(*row) + "\n" for row in rows))
    return path


def write_log(path: Path, sizes: dict[str, int], columns: tuple[str, ...] = tuple(SIZES)) -> Path:
    """A log whose values are numbered in the order of their first occurrence."""
    rows = range(max(sizes.values()))
    header = "\t".join(["cnt", *columns])
    body = ["\t".join(["1", *(f"{name}-{min(row, sizes[name] - 1)}" for name in SIZES)]) for row in rows]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Mobile/README.txt", "a log\n")
        archive.writestr("Mobile/log.csv", "\n".join([header, *body]) + "\n")
    return path


@pytest.fixture
def frappe(tmp_path):
    folder = tmp_path / "frappe"
    folder.mkdir()
    for seed, name in enumerate(SPLITS):
        write_lines(folder / name, some_rows(5 + seed, seed))
    write_log(folder / LOG, dict(SIZES))
    return folder


def test_fields_of_frappe_start_where_the_published_files_start():
    assert np.cumsum([0, *SIZES.values()])[:-1].tolist() == list(FIRST.values())


@given(rows=st.lists(st.tuples(st.sampled_from([1, -1, 0]), st.integers(0, 2**31)), min_size=1, max_size=30))
@FILES
def test_reading_libsvm_gives_back_what_was_written(tmp_path, rows):
    wanted = [(label, some_rows(1, seed)[0][1]) for label, seed in rows]
    table = read_libsvm(write_lines(tmp_path / "rows.libsvm", wanted), SIZES)
    assert table["label"].to_pylist() == [int(label > 0) for label, _ in wanted]
    assert [list(row) for row in zip(*(table[name].to_pylist() for name in SIZES), strict=True)] == [
        codes for _, codes in wanted
    ]


def test_prepared_frappe_has_the_layout_of_the_given_file(frappe):
    path = prepare_frappe(frappe)
    table = pq.read_table(path)
    assert table.schema == pa.schema(
        [("label", pa.int8()), *((name, pa.int16()) for name in SIZES), ("split", pa.int8())]
    )
    assert np.bincount(table["split"].to_numpy()).tolist() == [5, 6, 7]
    assert path.name == "frappe_x1.parquet"
    names = json.loads((frappe / "frappe_vocab.json").read_text())
    assert {name: len(values) for name, values in names.items()} == dict(SIZES)


def test_codes_stand_for_the_values_of_the_log_by_first_occurrence(frappe):
    names = read_names(frappe / LOG)
    for name, size in SIZES.items():
        assert names[name] == [f"{name}-{code}" for code in range(size)]


def test_a_log_with_another_number_of_values_is_refused(tmp_path):
    path = write_log(tmp_path / LOG, {**SIZES, "cost": 3})
    with pytest.raises(DataError, match="column 'cost' has 3 different values, expected 2"):
        read_names(path)


def test_an_archive_without_the_columns_or_that_is_none_is_refused(tmp_path):
    renamed = ("account", *tuple(SIZES)[1:])
    with pytest.raises(DataError, match="no table in it has the columns"):
        read_names(write_log(tmp_path / "a.zip", dict(SIZES), renamed))
    (tmp_path / "b.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"b\.zip: cannot be read"):
        read_names(tmp_path / "b.zip")
    with pytest.raises(DataError, match=r"c\.zip: cannot be read"):
        read_names(tmp_path / "c.zip")


GOOD = line(1, [0] * 10)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("1 0:1 957:1", "line 3: 3 words"),
        ("", "line 3, column 'label': ''"),
        (GOOD + " 7:1", "line 3: 12 words"),
        ("2" + GOOD[1:], "line 3, column 'label': '2'"),
        (GOOD.replace(" 0:1", " 0:2"), "line 3, column 'user': '0:2'"),
        (GOOD.replace(" 0:1", " -1:1"), "line 3, column 'user'"),
        (GOOD.replace(" 0:1", " 99999999999999:1"), "line 3, column 'user'"),
        (
            GOOD.replace(" 957:1", " 5039:1"),
            "line 3, column 'item': '5039:1', expected an id from 957 to 5038",
        ),
        (GOOD.replace(" 957:1", " 956:1"), "line 3, column 'item'"),
        (GOOD.replace(" 5149:1", " 5382:1"), "line 3, column 'city'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, bad, said):
    path = tmp_path / "rows.libsvm"
    path.write_text("\n".join([GOOD, GOOD, bad, GOOD]) + "\n")
    with pytest.raises(DataError) as caught:
        read_libsvm(path, SIZES)
    assert said in caught.value.message
    assert "rows.libsvm" in caught.value.message
    assert "\n" not in caught.value.message


def test_spaces_at_the_end_of_a_line_and_windows_line_ends_are_no_fault(tmp_path):
    path = tmp_path / "rows.libsvm"
    path.write_bytes(f"{GOOD} \r\n{GOOD}\r\n{GOOD} ".encode())
    assert read_libsvm(path, SIZES).num_rows == 3


def test_absent_and_empty_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        frappe_table(tmp_path)
    (tmp_path / SPLITS[0]).write_text("")
    with pytest.raises(DataError, match="cannot be read"):
        frappe_table(tmp_path)


def impossible_costs(item, cost, label):
    """Return the share of negatives whose item never has that cost among positives."""
    seen = np.zeros((SIZES["item"], SIZES["cost"]), np.bool_)
    seen[item[label == 1], cost[label == 1]] = True
    return float(1 - seen[item[label == 0], cost[label == 0]].mean())


def test_impossible_costs_counts_negatives_whose_item_never_has_that_cost():
    item = np.array([0, 1, 0, 0, 1, 2], np.int16)
    cost = np.array([0, 1, 0, 1, 1, 0], np.int16)
    label = np.array([1, 1, 0, 0, 0, 0], np.int8)
    assert impossible_costs(item, cost, label) == 0.5


def test_frappe_is_read_from_its_own_files_or_else_from_the_prepared_one(frappe):
    opened = open_published("frappe", frappe.parent)
    assert opened.protocol == "frappe-x1"
    assert opened.table.num_rows == 18
    (frappe / SPLITS[1]).unlink()
    pq.write_table(opened.table.slice(0, 4), frappe.parent / "frappe_x1_rebuilt.parquet")
    again = open_published("frappe", frappe.parent)
    assert again.protocol == RESAMPLED
    assert again.files == (frappe.parent / "frappe_x1_rebuilt.parquet",)
    assert again.table.equals(opened.table.slice(0, 4))


def criteo_cells(label: int) -> list[str]:
    return [str(label), "3", "", "-1", *["7"] * 10, "05db9164", "", "null", *["a"] * 23]


def test_criteo_reads_alike_with_tabs_and_as_a_sample_with_header(tmp_path):
    raw = tmp_path / "train.txt"
    raw.write_text("".join("\t".join(criteo_cells(label)) + "\n" for label in (1, 0)))
    sample = tmp_path / "sample.csv"
    rows = [",".join(["r1", *criteo_cells(1)]), ",".join(["r2", *criteo_cells(0)])]
    sample.write_text("\n".join([",".join(CRITEO_TYPES), *rows]) + "\n")
    packed = tmp_path / "train.txt.gz"
    packed.write_bytes(gzip.compress(raw.read_bytes()))
    tables = [pa.Table.from_batches(criteo_batches(path)) for path in (raw, sample, packed)]
    assert tables[1]["Id"].to_pylist() == ["r1", "r2"]
    assert tables[0].equals(tables[1].drop_columns(["Id"]))
    assert tables[0].equals(tables[2])
    first = tables[0].to_pylist()[0]
    assert (first["Label"], first["I1"], first["I2"], first["I3"]) == (1, 3.0, None, -1.0)
    # an empty text is missing, and words are words
    assert (first["C1"], first["C2"], first["C3"]) == ("05db9164", None, "null")


def test_made_up_labels_of_the_criteo_sample_are_never_opened(tmp_path):
    folder = tmp_path / "criteo-tiny"
    folder.mkdir()
    header = list(CRITEO_TYPES)
    (folder / "train.tiny.csv").write_text(
        "\n".join([",".join(header), ",".join(["r1", *criteo_cells(1)]), ",".join(["r2", *criteo_cells(0)])])
    )
    for with_label in (True, False):
        names = [name for name in header if with_label or name != "Label"]
        cells = ["r3", *criteo_cells(0)[0 if with_label else 1 :]]
        (folder / "test.tiny.csv").write_text("\n".join([",".join(names), ",".join(cells)]))
        table = open_published("criteo-tiny", tmp_path).table
        assert table["Id"].to_pylist() == ["r1", "r2"]
        assert set(table["split"].to_pylist()) == {0}


def avazu_text(rows: int) -> str:
    # the columns of the raw file stand in another order, and one more is there
    names = ["extra", *reversed(list(AVAZU_TYPES))]
    cells = [{"id": f"r{i}", "click": str(i % 2), "hour": "14102100", "C1": "1005"} for i in range(rows)]
    body = [",".join(row.get(name, "x") for name in names) for row in cells]
    return "\n".join([",".join(names), *body]) + "\n"


def test_avazu_reads_codes_as_text_whatever_the_order_of_the_columns(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text(avazu_text(3))
    table = pa.Table.from_batches(avazu_batches(path))
    assert table.column_names == ["id", "click", "hour", *AVAZU_TOKENS]
    assert table["click"].to_pylist() == [0, 1, 0]
    assert table["hour"].to_pylist() == ["14102100"] * 3
    assert table["C1"].to_pylist() == ["1005"] * 3


def test_movielens_reads_csv_and_libsvm_alike(tmp_path):
    (tmp_path / "train.csv").write_text("label,user_id,item_id,tag_id\n1,5,7,9\n-1,6,7,10\n")
    (tmp_path / "train.libsvm").write_text("1 5:1 7:1 9:1\n-1 6:1 7:1 10:1\n")
    tables = [
        pa.Table.from_batches(movielens_batches(tmp_path / name)) for name in ("train.csv", "train.libsvm")
    ]
    assert tables[0].equals(tables[1])
    assert tables[0]["label"].to_pylist() == [1, 0]
    assert tables[0]["tag_id"].to_pylist() == ["9", "10"]


@pytest.mark.parametrize("read", [criteo_batches, avazu_batches, movielens_batches])
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "1\tx\n", "label,user_id,item_id,tag_id\nyes,1,2,3\n"])
def test_files_that_are_something_else_are_refused_in_one_line(tmp_path, read, content):
    path = tmp_path / "train.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        list(read(path))
    assert "train.csv" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    with pytest.raises(DataError, match="no such file"):
        list(read(tmp_path / "absent.csv"))


def test_a_libsvm_value_that_is_not_one_is_refused(tmp_path):
    (tmp_path / "train.libsvm").write_text("1 5:1 7:3 9:1\n")
    with pytest.raises(DataError, match="column 'item_id': '7:3'"):
        list(movielens_batches(tmp_path / "train.libsvm"))


def test_batches_become_one_file_or_none(tmp_path):
    (tmp_path / "train.csv").write_text(avazu_text(4))
    path = write_batches(avazu_batches(tmp_path / "train.csv"), tmp_path / "rows.parquet")
    assert pq.read_table(path).num_rows == 4
    with pytest.raises(DataError, match="no rows"):
        write_batches(iter(()), tmp_path / "none.parquet")
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_roles_of_every_definition_agree_with_one_another(name):
    definition = DEFINITIONS[name]
    check_fields(definition.fields)
    assert set(definition.suspects) <= set(definition.fields)
    assert (definition.obtain is None) == (name in {entry.id for entry in PUBLISHED})


def test_nothing_is_downloaded_from_the_owners_without_their_terms():
    for entry in PUBLISHED:
        assert entry.terms
        assert entry.citation
        for file in entry.files:
            assert file.url is not None
            assert file.url.startswith("https://raw.githubusercontent.com/")
            # a commit, not a branch that moves
            assert len(file.url.split("/")[5]) == 40
            assert bool(file.sha256) != bool(file.git_blob)
        assert entry.prepared is not None
        assert entry.prepared.url is None


def prepared(shared: Path, name: str) -> Path:
    folder = shared / "data" / "finalmlp"
    if not (folder / name).is_file():
        pytest.skip(f"{folder / name} is absent: it is for research on this machine and never committed")
    return folder


@pytest.mark.shared
def test_prepared_frappe_has_the_published_counts_and_the_known_artefact(shared):
    opened = open_published("frappe", prepared(shared, "frappe_x1_rebuilt.parquet"))
    assert opened.protocol == RESAMPLED
    table = opened.table
    split, label = table["split"].to_numpy(), table["label"].to_numpy()
    assert np.bincount(split).tolist() == [202_027, 57_722, 28_860]
    assert np.bincount(split, label).tolist() == [67_604, 19_063, 9_536]
    assert {name: len(table[name].unique()) for name in SIZES} == dict(SIZES)
    assert set(table.column_names) == set(DEFINITIONS["frappe"].fields)
    share = impossible_costs(table["item"].to_numpy(), table["cost"].to_numpy(), label)
    assert share == pytest.approx(0.126, abs=0.0005)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "rows", "positives"),
    [("criteo-tiny", "criteo_tiny.parquet", 1_999, 418), ("avazu-tiny", "avazu_tiny.parquet", 2_994, 522)],
)
def test_prepared_samples_open_with_the_types_of_our_readers(shared, name, file, rows, positives):
    table = open_published(name, prepared(shared, file)).table
    fields = DEFINITIONS[name].fields
    assert set(table.column_names) == set(fields)
    assert table.num_rows == rows
    assert sum(table[column_of(fields, "label")].to_pylist()) == positives
    for column, field in fields.items():
        wanted = {"categorical": pa.string(), "numeric": pa.float64(), "label": pa.int8()}.get(field.role)
        assert wanted is None or table.schema.field(column).type == wanted


@pytest.mark.shared
def test_the_avazu_sample_is_499_rows_six_times(shared):
    table = open_published("avazu-tiny", prepared(shared, "avazu_tiny.parquet")).table
    copies = table.group_by(table.column_names).aggregate([([], "count_all")])
    assert set(copies["count_all"].to_pylist()) == {6}
    assert copies.num_rows == 499
    assert DEFINITIONS["avazu-tiny"].fields["id"].role == "group"

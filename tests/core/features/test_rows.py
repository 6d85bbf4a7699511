"""Rows of files: what is read, in which order, and what is refused in one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.rows import TableRows, open_rows


def table_of(source, columns=None, max_rows=65_536):
    return pa.Table.from_batches(list(source.batches(columns, max_rows)))


def some(rows, start=0):
    numbers = range(start, start + rows)
    return pa.table(
        {
            "label": pa.array([n % 2 for n in numbers], pa.int8()),
            "user": [f"u{n}" for n in numbers],
            "price": [n / 4 for n in numbers],
        }
    )


def refused(path):
    with pytest.raises(DataError) as found:
        list(open_rows(path).batches())
    assert "\n" not in found.value.message
    return found.value.render()


def test_parquet_rows_come_in_the_order_of_paths_and_row_groups(tmp_path):
    pq.write_table(some(10), tmp_path / "b.parquet", row_group_size=3)
    pq.write_table(some(5, 100), tmp_path / "a.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "notes.txt").write_text("not data")
    source = open_rows(tmp_path)
    assert source.num_rows == 15
    expected = [*range(100, 105), *range(10)]
    for size in (2, 65_536):
        read = table_of(source, ["price", "user"], size)
        assert read.column_names == ["price", "user"]
        assert read["user"].to_pylist() == [f"u{n}" for n in expected]
    assert max(batch.num_rows for batch in source.batches(max_rows=2)) == 2


def test_hive_partitions_are_columns_typed_by_their_values(tmp_path):
    for day, part, missing in ((1, "a", "01"), (2, "b c", "02")):
        folder = tmp_path / f"day={day}" / f"shop={part.replace(' ', '%20')}" / f"month={missing}"
        folder.mkdir(parents=True)
        pq.write_table(some(2), folder / "x.parquet")
    source = open_rows(tmp_path)
    assert source.schema.names == ["label", "user", "price", "day", "shop", "month"]
    assert table_of(source)["day"].to_pylist() == [1, 1, 2, 2]
    # a partition alone still has a length
    assert table_of(source, ["shop"])["shop"].to_pylist() == ["a", "a", "b c", "b c"]
    assert set(table_of(source, ["month"])["month"].to_pylist()) == {"01", "02"}


def test_dictionaries_are_decoded_and_the_index_of_pandas_is_dropped(tmp_path):
    table = pa.table(
        {"user": pa.array(["a", "b", "a", None]).dictionary_encode(), "__index_level_0__": [1, 2, 3, 4]}
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    for source in (open_rows(tmp_path / "x.parquet"), TableRows(table)):
        assert source.schema == pa.schema([("user", pa.string())])
        assert table_of(source)["user"].to_pylist() == ["a", "b", "a", None]


def test_files_whose_numbers_differ_in_width_are_read_as_the_wider(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1, 2], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": pa.array([1.5], pa.float64())}), tmp_path / "2.parquet")
    assert table_of(open_rows(tmp_path))["a"].to_pylist() == [1.0, 2.0, 1.5]


def test_what_is_not_a_table_is_refused_in_one_line(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.csv")
    (tmp_path / "x.xlsx").write_bytes(b"x")
    assert "unknown format" in refused(tmp_path / "x.xlsx")
    (tmp_path / "empty.csv").touch()
    assert "the file is empty" in refused(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text("a,b\n")
    assert "no rows" in refused(tmp_path / "header.csv")
    pq.write_table(some(0), tmp_path / "none.parquet")
    assert "no rows" in refused(tmp_path / "none.parquet")
    pq.write_table(some(1000), tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-100])
    assert "cut.parquet: cannot be read" in refused(tmp_path / "cut.parquet")
    (tmp_path / "folder").mkdir()
    assert "no data file" in refused(tmp_path / "folder")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    assert "column 'a' occurs twice" in refused(tmp_path / "twice.csv")
    (tmp_path / "raw.csv").write_text("1,0.5,3\n0,0.1,4\n")
    assert "where a column's name should stand" in refused(tmp_path / "raw.csv")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    assert "ragged.csv, row 2: 3 cells, expected 2" in refused(tmp_path / "ragged.csv")
    (tmp_path / "latin.csv").write_bytes("a,b\nM\xfcnchen,2\n".encode("latin-1"))
    assert "latin.csv" in refused(tmp_path / "latin.csv")
    with pytest.raises(DataError, match="'a' occurs twice"):
        TableRows(pa.table([[1], [2]], names=["a", "a"]))


def test_parquet_with_a_broken_page_is_refused_while_it_is_read(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(some(1000), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[10:200] = bytes(190)
    path.write_bytes(content)
    assert "cannot be read" in refused(path)


def test_files_with_different_columns_name_both_files_and_the_column(tmp_path):
    for ending, write in ((".parquet", pq.write_table), (".csv", pacsv.write_csv)):
        folder = tmp_path / ending[1:]
        folder.mkdir()
        write(some(2), folder / f"a{ending}")
        write(some(2).append_column("extra", pa.array([1, 2])), folder / f"b{ending}")
        said = refused(folder)
        assert "column 'extra'" in said
        assert f"a{ending}" in said
        assert f"b{ending}" in said
    pq.write_table(pa.table({"a": [1]}), tmp_path / "parquet" / "a.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "parquet" / "b.parquet")
    assert "column 'a' holds string" in refused(tmp_path / "parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "csv" / "c.parquet")
    assert "different formats" in refused(tmp_path / "csv")


def test_a_column_that_does_not_exist_is_named_with_the_closest(tmp_path):
    with pytest.raises(DataError) as found:
        list(TableRows(some(3)).batches(["prise"]))
    assert "Did you mean 'price'?" in found.value.render()


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
def test_text_reads_as_what_was_written(tmp_path, ending):
    separator = "\t" if ".tsv" in ending else ","
    text = (
        separator.join("abc") + "\n" + "".join(separator.join((str(n), f"t{n}", "")) + "\n" for n in range(9))
    )
    raw = text.encode()
    path = tmp_path / f"x{ending}"
    path.write_bytes(gzip.compress(raw) if ending.endswith(".gz") else raw)
    source = open_rows(path)
    assert source.num_rows == 9
    assert table_of(source, ["b", "a"]).to_pylist()[3] == {"b": "t3", "a": 3}
    assert source.schema.field("c").type == pa.null()


def test_a_truncated_gzip_is_refused(tmp_path):
    content = gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)
    (tmp_path / "x.csv.gz").write_bytes(content[: len(content) // 2])
    assert "x.csv.gz" in refused(tmp_path / "x.csv.gz")


def test_semicolons_are_seen_where_no_comma_stands_in_the_header(tmp_path):
    (tmp_path / "x.csv").write_text("label;user\n1;a,b\n0;c\n")
    assert table_of(open_rows(tmp_path / "x.csv"))["user"].to_pylist() == ["a,b", "c"]


def test_a_column_takes_the_type_that_all_of_its_values_have(tmp_path):
    filler = "1,2,3,,2024-01-01,5,true,x\n" * 200_000
    late = 'b7,2.5,123456789012345678901,word,2024-01-01 10:00:00,NA,maybe,"two\nlines, NA"\n'
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f,g,h\n" + filler + late)
    source = open_rows(tmp_path / "x.csv")
    types = {field.name: str(field.type) for field in source.schema}
    assert types == {
        "a": "string",
        "b": "double",
        "c": "string",
        "d": "string",
        "e": "timestamp[s]",
        "f": "int64",
        "g": "string",
        "h": "string",
    }
    assert source.num_rows == 200_001
    last = list(source.batches())[-1].to_pylist()[-1]
    assert (last["a"], last["b"], last["d"], last["f"]) == ("b7", 2.5, "word", None)
    assert last["h"] == "two\nlines, NA"
    first = next(source.batches()).to_pylist()[0]
    # what looked like a number in the beginning keeps the letters that were written
    assert (first["a"], first["d"], first["g"]) == ("1", None, "true")


def test_leading_zeros_and_the_word_na_survive_in_text(tmp_path):
    (tmp_path / "x.csv").write_text("zip,country,n\n01234,NA,NA\n99999,DE,3\n,,\n")
    assert table_of(open_rows(tmp_path / "x.csv")).to_pylist() == [
        {"zip": "01234", "country": "NA", "n": None},
        {"zip": "99999", "country": "DE", "n": 3},
        {"zip": None, "country": None, "n": None},
    ]


def test_a_cell_of_ten_megabytes_is_read(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,x\n2," + "y" * 10_000_000 + "\n3,z\n")
    read = table_of(open_rows(tmp_path / "x.csv"))
    assert [len(text) for text in read["b"].to_pylist()] == [1, 10_000_000, 1]


def test_files_of_a_folder_may_order_their_columns_differently(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("b,a\ny,word\n")
    assert table_of(open_rows(tmp_path)).to_pylist() == [{"a": "1", "b": "x"}, {"a": "word", "b": "y"}]


def test_json_lines_are_read_in_blocks_with_one_type(tmp_path):
    rows = [{"a": n, "tags": ["x", "y"][: n % 3]} for n in range(1000)] + [{"a": 1.5, "late": "z"}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows).rstrip())
    source = open_rows(tmp_path / "x.jsonl")
    assert source.num_rows == 1001
    assert source.schema.field("tags").type == pa.list_(pa.string())
    assert table_of(source)["a"].to_pylist()[-1] == 1.5
    assert table_of(source, ["late"])["late"].to_pylist()[-1] == "z"


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    pq.write_table(some(10), tmp_path / "x.parquet")
    first = open_rows(tmp_path / "x.parquet").fingerprint()
    assert open_rows(tmp_path / "x.parquet").fingerprint() == first
    pq.write_table(some(10, 1), tmp_path / "x.parquet")
    assert open_rows(tmp_path / "x.parquet").fingerprint() != first
    assert TableRows(some(4)).fingerprint() == TableRows(some(4)).fingerprint()


def test_files_are_hashed_once_however_many_ask(tmp_path, monkeypatch):
    pq.write_table(some(10), tmp_path / "x.parquet")
    source = open_rows(tmp_path / "x.parquet")
    first = source.fingerprint()
    monkeypatch.setattr(Path, "open", lambda *given: pytest.fail("opened again"))
    assert source.fingerprint() == first


@pytest.mark.parametrize("group", [100, 7000])
def test_a_sample_comes_from_all_over_the_rows(tmp_path, group):
    pq.write_table(pa.table({"n": np.arange(7000)}), tmp_path / "x.parquet", row_group_size=group)
    for source in (open_rows(tmp_path / "x.parquet"), TableRows(pa.table({"n": np.arange(7000)}))):
        sampled = np.asarray(source.sample(800)["n"])
        assert 700 <= len(sampled) <= 900
        assert (np.diff(sampled) > 0).all()
        assert np.histogram(sampled, bins=7, range=(0, 7000))[0].min() > 0
    assert TableRows(some(7)).sample(100).num_rows == 7


def test_one_large_row_group_is_read_with_little_memory(tmp_path):
    rows = 1_000_000
    rng = np.random.default_rng(0)
    table = pa.table({f"c{i}": rng.integers(0, 2**60, rows) for i in range(4)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=rows, use_dictionary=False)
    size = table.nbytes
    del table
    source = open_rows(tmp_path / "x.parquet")
    assert 0.9 * size < source.estimated_bytes < 1.5 * size
    before = pa.total_allocated_bytes()
    most = 0
    for _ in source.batches(max_rows=10_000):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < size / 4


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1) | st.none(),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_csv_returns_any_text_and_any_whole_number(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    table = pa.table({"n": pa.array([n for n, _ in rows], pa.int64()), "t": ["x" + t for _, t in rows]})
    pacsv.write_csv(table, path)
    read = table_of(open_rows(path))
    assert read["t"].to_pylist() == table["t"].to_pylist()
    assert read["n"].to_pylist() == table["n"].to_pylist()


@pytest.mark.parametrize("max_rows", [2, 100])
def test_row_groups_that_are_not_wanted_are_not_read_and_rows_keep_their_numbers(tmp_path, max_rows):
    pq.write_table(some(10), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(some(8, 10), tmp_path / "b.parquet", row_group_size=4)
    wanted = {4, 9, 15}
    for source, widest in ((open_rows(tmp_path), 4), (TableRows(some(18)), 18)):
        seen = {}
        for row, batch in source.numbered(
            ["user"], max_rows, lambda start, stop: any(start <= row < stop for row in wanted)
        ):
            assert batch.num_rows <= max_rows
            seen |= {row + i: user for i, user in enumerate(batch["user"].to_pylist())}
        assert wanted <= seen.keys()
        assert seen == {row: f"u{row}" for row in seen}
        assert all(any(abs(row - one) < widest for one in wanted) for row in seen)


def test_numbered_rows_without_a_column_are_refused(tmp_path):
    pq.write_table(some(10), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column is called 'prize'"):
        next(open_rows(tmp_path).numbered(["prize"], 10, lambda start, stop: True))

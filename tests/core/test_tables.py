"""Tables of every format that training, prediction and scoring take: one list, one guess of the separator."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from appliedpapers.core.delimited import separator_of
from appliedpapers.core.errors import DataError
from appliedpapers.core.features.rows import open_rows
from appliedpapers.core.tables import (
    KINDS,
    csv_bytes,
    json_lines,
    kind_of,
    read_table,
    write_table,
)

TABLE = pa.table({"name": ["a", "b;c", 'd "e"'], "value, in mm": [1.5, None, 3.0], "count": [1, 2, 3]})


def write(path: Path, table: pa.Table) -> Path:
    kind = kind_of(path)
    if kind == "parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrows":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind == "arrow":
        feather.write_feather(table, path, compression="uncompressed")
    else:
        lines = "".join(f"{line}\n" for line in json_lines(table)).encode()
        content = lines if kind == "jsonl" else csv_bytes(table)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("suffix", KINDS)
def test_every_format_is_read_for_prediction_and_for_training(tmp_path, suffix):
    path = write(tmp_path / f"x{suffix}", TABLE)
    assert read_table(path).to_pylist() == TABLE.to_pylist()
    rows = open_rows(path)
    assert [row for batch in rows.batches() for row in batch.to_pylist()] == TABLE.to_pylist()


@pytest.mark.parametrize("blank", ["", "\ufeff", "\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_the_separator_of_a_text_table_is_recognised(tmp_path, separator, suffix, blank):
    path = tmp_path / f"x{suffix}"
    text = blank + separator.join(("name", '"a, b; c"', "n")) + "\nx" + separator + "1.5" + separator + "2\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    assert read_table(path).to_pylist() == [{"name": "x", "a, b; c": 1.5, "n": 2}]


@pytest.mark.parametrize(
    ("header", "name", "separator"),
    [
        ("a", "x.csv", ","),
        ("a", "x.tsv", "\t"),
        ("a, b, c\td", "x.tsv", "\t"),
        ("a;b", "x.tsv", ";"),
        ("a (x, y);b;c", "x.csv", ";"),
    ],
)
def test_a_separator_is_what_stands_most_often_and_in_tsv_a_tab(header, name, separator):
    assert separator_of(header, Path(name)) == separator


def test_a_text_of_another_name_is_read_as_what_it_is_said_to_be(tmp_path):
    (tmp_path / "x.dat").write_text("a;b\n1;2\n")
    assert read_table(tmp_path / "x.dat", "csv").to_pylist() == [{"a": 1, "b": 2}]
    with pytest.raises(DataError, match="unknown format"):
        read_table(tmp_path / "x.dat")


def test_arrays_of_one_shape_that_may_be_missing_come_back_from_parquet(tmp_path):
    kind = pa.fixed_shape_tensor(pa.float64(), [2])
    storage = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float64(), 2))
    table = pa.table({"path": pa.ExtensionArray.from_storage(kind, storage)})
    write_table(table, tmp_path / "paths.parquet")
    assert pq.read_table(tmp_path / "paths.parquet").column("path").to_pylist() == [
        [1.0, 2.0],
        None,
        [3.0, 4.0],
    ]
    assert read_table(tmp_path / "paths.parquet").column("path").to_pylist() == [[1.0, 2.0], None, [3.0, 4.0]]

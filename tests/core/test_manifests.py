"""Manifests: cells stay texts in every format, and what is wrong is named by file, row and column."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pytest

from appliedpapers.core.errors import DataError
from appliedpapers.core.manifests import read_manifest
from appliedpapers.core.tables import write_table

TEXT = "\ufeff\nName;Path ;split\n007; a.png ;Val\n\n1e3;;\n"


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.csv.gz"])
def test_cells_are_the_texts_that_they_are(tmp_path, name):
    content = (TEXT.replace(";", "\t") if ".tsv" in name else TEXT).replace("\n", "\r\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    first, second = read_manifest(tmp_path / name, ("name", "path"), ("split",))
    assert dict(first.cells) == {"name": "007", "path": "a.png", "split": "Val"}
    assert (first.number, first.part()) == (1, "valid")
    assert dict(second.cells) == {"name": "1e3", "path": "", "split": ""}
    assert (second.number, second.part()) == (2, None)
    assert second.place("path") == f"{tmp_path / name}, column 'path', row 2"


def test_numbers_of_a_typed_table_are_texts_without_a_fraction(tmp_path):
    table = pa.table({"Name": [7.0, None, 0.5], "n": [1, 2, 3], "split": [0, 1, 2]})
    write_table(table, tmp_path / "m.parquet")
    rows = read_manifest(tmp_path / "m.parquet", ("name",))
    assert [row.cells["name"] for row in rows] == ["7", "", "0.5"]
    assert [row.part() for row in rows] == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("", "the file is empty", "column names"),
        ("name,path\n", "no rows", "at least one row"),
        ("nane,path\na,b\n", "column 'name' is missing; found: nane, path", "Did you mean 'nane'?"),
        ("name,path,Name\na,b,c\n", "column 'name' stands twice", "Remove or rename"),
        ("name,path\na,b\n\nc\n", "row 2: 1 cells, expected 2", "comma"),
        ("name,path\na,b,c\n", "row 1: 3 cells, expected 2", "quote"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said, hint):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_manifest(path, ("name", "path"), ("split",))
    assert caught.value.message == f"{path}: {said}." or caught.value.message == f"{path}, {said}."
    assert hint in caught.value.hint


def test_a_word_that_names_no_part_is_refused_with_its_place(tmp_path):
    (tmp_path / "m.csv").write_text("name,split\na,train\nb,best\n")
    rows = read_manifest(tmp_path / "m.csv")
    with pytest.raises(DataError, match=r"column 'split', row 2: 'best' is not train, valid or test"):
        rows[1].part()

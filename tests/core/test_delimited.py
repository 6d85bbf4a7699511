"""Text tables as programs save them: encodings, separators and decimal commas."""

import pyarrow as pa
import pytest

from appliedpapers.core.delimited import decimal_of
from appliedpapers.core.errors import DataError
from appliedpapers.core.features.rows import open_rows
from appliedpapers.core.tables import notes_of, read_table

GERMAN = "Schlag;Höhe;pH-Wert\nS-1;120;6,5\nS-2;98;\nS-3;101;5,85\n"


@pytest.mark.parametrize(
    ("text", "separator", "mark"),
    [
        ("a;b\n1,5;2\n", ";", ","),
        ("a;b\n1.5;2\n", ";", "."),
        ("a,b\n1,5\n", ",", "."),
        ("a;b\n1,5;2.5\n", ";", "."),
        ("a;b\n1,5;1.234\n", ";", ","),
        ("a;b\n01.02.2023;7,5\n", ";", ","),
        ("a\tb\n-3,5e-4\t2\n", "\t", ","),
        ("a b\n1,5 2\n", r"\s+", ","),
        ("a;b\nx;y, z\n", ";", "."),
    ],
)
def test_a_comma_is_a_decimal_mark_where_no_cell_has_a_point(text, separator, mark):
    assert decimal_of(text, separator) == mark


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_spreadsheet_saved_in_german_is_read(tmp_path, encoding):
    path = tmp_path / "fields.csv"
    path.write_bytes(GERMAN.encode(encoding))
    table = read_table(path)
    assert table.column_names == ["Schlag", "Höhe", "pH-Wert"]
    assert table["pH-Wert"].to_pylist() == [6.5, None, 5.85]
    assert any("decimal points" in note for note in notes_of(table))
    assert any("Windows-1252" in note for note in notes_of(table)) == (encoding == "cp1252")


def test_a_text_of_windows_below_a_plain_header_is_read(tmp_path):
    path = tmp_path / "fields.csv"
    path.write_bytes(b"a,b\n" + b"x,1\n" * 40_000 + "Köln,2\n".encode("cp1252"))
    assert read_table(path)["a"][-1].as_py() == "Köln"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n3,4,5\n6,7\n", "row 2: 3 cells, expected 2"),
        ("a;b;c\n1;2;3\n4;5;6\n7;8", "row 3: 2 cells, expected 3"),
    ],
)
def test_a_row_of_another_width_is_named(tmp_path, content, words):
    path = tmp_path / "cut.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_table(path)
    assert "cut short" in caught.value.hint
    with pytest.raises(DataError, match=words):
        list(open_rows(path).batches())


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"a,b\n\x81\x8d,1\n"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "picture.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="it is not text"):
        read_table(path)


def test_a_spreadsheet_is_read_as_a_table(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (("Tc [°C]", "P"), (80, 1.5), (85, 2)):
        book.active.append(row)
    book.save(tmp_path / "test.xlsx")
    assert read_table(tmp_path / "test.xlsx")["Tc [°C]"].to_pylist() == [80, 85]


def test_rows_from_disk_have_decimal_commas_too(tmp_path):
    path = tmp_path / "log.csv"
    # the comma comes late, in a column that began with whole numbers
    path.write_text("user;bid;click\n" + "u1;2;0\n" * 50 + "u2;0,25;1\n")
    rows = open_rows(path)
    assert pa.types.is_floating(rows.schema.field("bid").type)
    assert rows.sample(51)["bid"].to_pylist()[-1] == 0.25

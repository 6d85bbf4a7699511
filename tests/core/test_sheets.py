"""Spreadsheets of laboratories become tables."""

from __future__ import annotations

import pytest

from appliedpapers.core.errors import DataError
from appliedpapers.core.sheets import is_sheet, read_sheet

openpyxl = pytest.importorskip("openpyxl")


def written(path, *sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"s{number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_first_sheet_with_rows_is_read(tmp_path):
    path = written(tmp_path / "lab.xlsx", [], [["pH", "crop", "n"], [6.5, "rice", 3], [7, None, 4]])
    table = read_sheet(path)
    assert is_sheet(path)
    assert table.to_pylist() == [{"pH": 6.5, "crop": "rice", "n": 3}, {"pH": 7.0, "crop": None, "n": 4}]


def test_a_text_among_numbers_makes_a_column_of_texts(tmp_path):
    path = written(tmp_path / "lab.xlsx", [["pH", "x"], [6.5, 1], ["acid", 2], [None, 3]])
    assert read_sheet(path).column("pH").to_pylist() == ["6.5", "acid", None]


@pytest.mark.parametrize("content", [b"", b"no sheet at all"])
def test_a_damaged_sheet_is_refused_with_a_hint(tmp_path, content):
    path = tmp_path / "lab.xlsx"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_sheet(path)
    assert "lab.xlsx" in caught.value.message
    assert caught.value.hint


def test_an_empty_or_absent_sheet_is_refused(tmp_path):
    with pytest.raises(DataError, match="empty"):
        read_sheet(written(tmp_path / "empty.xlsx", []))
    with pytest.raises(DataError, match="no such file"):
        read_sheet(tmp_path / "absent.xlsx")

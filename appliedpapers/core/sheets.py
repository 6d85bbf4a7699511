"""Tables from the spreadsheets that laboratories send: the first sheet with rows of an XLSX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".xlsx"


def is_sheet(path: Path) -> bool:
    """Whether a file is a spreadsheet by its name."""
    return path.name.lower().endswith(SUFFIX)


def read_sheet(path: Path) -> pa.Table:
    """Read the first sheet of an XLSX file that holds anything; its first row names the columns.

    A column of numbers with a text among them becomes a column of texts, so that who checks it can name the
    cell. Formulas count by their stored value.

    Raises:
        DataError: The file is absent, damaged, empty, or the library that reads it is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{path}: XLSX needs openpyxl.", hint="pip install openpyxl, or save the sheet as CSV."
        ) from None
    if not path.is_file():
        raise DataError(f"{path}: no such file.", hint="Check the path.")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = [[list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets]
        book.close()
    # openpyxl and zipfile raise many kinds
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}).", hint="Is it complete, and XLSX?") from None
    filled = [rows for rows in sheets if any(cell is not None for row in rows for cell in row)]
    if not filled:
        raise DataError(f"{path}: the file is empty.", hint="Expected column names and rows.")
    return _table(filled[0])


def _table(rows: list[list[Any]]) -> pa.Table:
    import pyarrow as pa

    rows = [row for row in rows if any(cell is not None for cell in row)]
    names = [(place, str(cell).strip()) for place, cell in enumerate(rows[0]) if cell is not None]
    cells = {name: [row[place] if place < len(row) else None for row in rows[1:]] for place, name in names}
    return pa.table({name: _column(values) for name, values in cells.items()})


def _column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        whole = all(isinstance(value, int) for value in known)
        return pa.array(values, pa.int64() if whole and known else pa.float64())
    if all(isinstance(value, bool) for value in known):
        return pa.array(values, pa.bool_())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

"""Tables from the spreadsheets that laboratories send: the first sheet with rows of an XLSX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.archives import require_unpacked
from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".xlsx"
_MOST_CELLS = 20_000_000
_MOST_BYTES = 1 << 30


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
        require_unpacked(path, _MOST_BYTES)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            rows = next(filter(None, (_filled(path, sheet) for sheet in book.worksheets)), None)
        finally:
            book.close()
    except DataError:
        raise
    # openpyxl and zipfile raise many kinds
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}).", hint="Is it complete, and XLSX?") from None
    if rows is None:
        raise DataError(f"{path}: the file is empty.", hint="Expected column names and rows.")
    try:
        return _table(rows)
    # a number that no column of numbers holds
    except (OverflowError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}).", hint="Save the sheet as CSV.") from None


def _filled(path: Path, sheet: Any) -> list[list[Any]]:
    """Return the rows of a sheet that hold anything, and refuse one that says it is larger than memory."""
    rows, cells = [], 0
    for row in sheet.iter_rows(values_only=True):
        # a single cell in the last column and row of a sheet makes 17 billion; empty rows count, too
        cells += len(row) + 1
        if cells > _MOST_CELLS:
            raise DataError(
                f"{path}: more than {_MOST_CELLS:,} cells.",
                hint="Save the sheet as CSV, without empty columns.",
            )
        if any(cell is not None for cell in row):
            rows.append(list(row))
    return rows


def _table(rows: list[list[Any]]) -> pa.Table:
    import pyarrow as pa

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

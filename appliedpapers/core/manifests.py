"""Manifests: tables with one row an item, whose cells are texts and whose paths start at their own folder."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliedpapers.core.archives import gunzipped
from appliedpapers.core.data import part_named
from appliedpapers.core.delimited import separator_of
from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.tables import kind_of, read_table

_LISTED = 8
_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class ManifestRow:
    """One row of a manifest.

    Attributes:
        file: The manifest.
        number: The first row below the names of the columns is 1.
        cells: Text by column, without blanks around it; empty where nothing stands.
    """

    file: Path
    number: int
    cells: Mapping[str, str]

    def place(self, column: str) -> str:
        """Return where a cell stands, for messages."""
        return f"{self.file}, column '{column}', row {self.number}"

    def part(self) -> str | None:
        """Return the part of the data that the cell of ``split`` means; None where it is empty or absent.

        Raises:
            DataError: It means none.
        """
        text = self.cells.get("split", "")
        part = part_named(text)
        if text and part is None:
            raise DataError(
                f"{self.place('split')}: '{text}' is not train, valid or test.",
                hint="Expected train, valid or test.",
            )
        return part


def read_manifest(
    path: Path, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> list[ManifestRow]:
    """Read a manifest in any format of :mod:`appliedpapers.core.tables`; ``007`` stays a name in all.

    Names of columns are read in lower case, blank lines are passed over.

    Args:
        path: The file.
        required: Columns that must be there.
        optional: Columns that may be there; none of the two kinds may stand twice.

    Returns:
        At least one row.

    Raises:
        DataError: The file cannot be read, has no rows, lacks a column, or a row is cut; file and row or
            column are named.
    """
    names, lines = _texts(path) if kind_of(path) == "csv" else _cells(path)
    columns = [name.strip().lower() for name in names]
    twice = next((name for name in (*required, *optional) if columns.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: column '{twice}' stands twice.", hint="Remove or rename one of them.")
    missing = next((name for name in required if name not in columns), None)
    if missing is not None:
        found = ", ".join(repr(name)[1:-1] for name in columns[:_LISTED]) or "none"
        close = did_you_mean(missing, columns)
        raise DataError(
            f"{path}: column '{missing}' is missing; found: {found}.",
            hint=f"Expected {', '.join(required)}, and if wanted {', '.join(optional) or 'others'}."
            + (f" {close}" if close.startswith("Did you mean") else ""),
        )
    rows = [
        ManifestRow(path, number, dict(zip(columns, line, strict=True)))
        for number, line in enumerate(lines, start=1)
    ]
    if not rows:
        raise DataError(f"{path}: no rows.", hint="Expected at least one row below the column names.")
    _refuse_nul(rows)
    return rows


def _refuse_nul(rows: Sequence[ManifestRow]) -> None:
    # no name of a file can hold one, and what asks the system for such a name ends in an error of its own
    for row in rows:
        column = next((column for column, cell in row.cells.items() if "\0" in cell), None)
        if column is not None:
            raise DataError(
                f"{row.place(column)}: it holds a NUL character.", hint="Is the file damaged? Save it again."
            )


def _texts(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        packed = path.read_bytes()
        zipped = path.name.lower().endswith(".gz")
        content = gunzipped(packed, str(path), _MOST_BYTES) if zipped else packed
        text = content.decode("utf-8-sig").lstrip("\r\n")
        separator = separator_of(text.partition("\n")[0], path)
        lines = [line for line in csv.reader(io.StringIO(text, newline=None), delimiter=separator) if line]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: it is not UTF-8.", hint="Save it as CSV in UTF-8.") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}).", hint="Is it complete, and a CSV?") from None
    if not lines:
        raise DataError(f"{path}: the file is empty.", hint="Expected column names and rows.")
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(lines[0]):
            raise DataError(
                f"{path}, row {number}: {len(line)} cells, expected {len(lines[0])}.",
                hint="Each row needs a cell for each column; is a comma missing, or a quote?",
            )
    return lines[0], [[cell.strip() for cell in line] for line in lines[1:]]


def _cells(path: Path) -> tuple[list[str], Iterable[Sequence[str]]]:
    table = read_table(path)
    return table.column_names, zip(*(map(_text, column.to_pylist()) for column in table.columns), strict=True)


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        # a column of whole numbers with gaps comes as fractions
        return str(int(value))
    return str(value).strip()

"""Text tables as programs save them: their encoding, what separates the cells, and the decimal mark."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.schema import TableSchema

_LOOKED_AT = 1 << 16
_START_BYTES = 2 * _LOOKED_AT
_BLOCK_BYTES = 1 << 20
_DECODED_BYTES = 1 << 26
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_8, UTF_16, WINDOWS = "utf-8-sig", "utf-16", "cp1252"
"""Python's names of the encodings that text tables are read in."""
READ_AS = {WINDOWS: "it is not UTF-8 and was read as Windows-1252"}
"""What a person should know of how a text was read, by its encoding."""
DECIMAL_COMMAS = "commas were read as decimal points"
_OTHER_WIDTH = re.compile(r"(?:Row #(?P<row>\d+): )?Expected (?P<expected>\d+) columns, got (?P<got>\d+)")
_WITH_COMMA = re.compile(r"[+-]?(\d+,\d+|,\d+)([eE][+-]?\d+)?")
_WITH_POINT = re.compile(r"[+-]?(\d+\.\d+|\.\d+)([eE][+-]?\d+)?")
# 1.234 may be a number of thousands as well
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+")


def separator_of(header: str, path: Path) -> str:
    """Return what stands between the names in the first line of a text table: ``,`` ``;`` ``|`` or a tab.

    Args:
        header: The line.
        path: The file; one that is called TSV has tabs, if there is any in the line.
    """
    bare = re.sub(r'"[^"]*"', "", header)
    tabs = ".tsv" in path.name.lower()
    return "\t" if tabs and "\t" in bare else max("\t,;|" if tabs else ",;\t|", key=bare.count)


def encoding_of(stream: IO[bytes], name: str) -> str:
    """Return the encoding of a text table that is too large to be read at once.

    UTF-16 says so by its mark. A text whose first 64 MB are UTF-8 is UTF-8, and any other one Windows-1252.

    Args:
        stream: Its bytes, from the start.
        name: The file, for the message.

    Raises:
        DataError: It is not text.
    """
    block = stream.read(_BLOCK_BYTES)
    if block.startswith(_UTF_16):
        return UTF_16
    if b"\0" in block:
        raise _no_text(name)
    decoder, seen = codecs.getincrementaldecoder("utf-8")(), 0
    while block and seen < _DECODED_BYTES:
        try:
            decoder.decode(block)
        except UnicodeDecodeError:
            return WINDOWS
        seen += len(block)
        block = stream.read(_BLOCK_BYTES)
    return UTF_8


def decimal_of(text: str, separator: str) -> str:
    """Return the decimal mark of a text table, ``.`` or ``,``.

    It is a comma where commas separate nothing, some cell is a number with a comma, and none is one with a
    point.

    Args:
        text: Lines of the table; the first 64 K are looked at.
        separator: What stands between its cells; blanks where it is a pattern of them.
    """
    if separator == ",":
        return "."
    if len(text) > _LOOKED_AT:
        # its last line may be cut
        text = text[:_LOOKED_AT].rpartition("\n")[0]
    split = str.split if separator == r"\s+" else (lambda line: line.split(separator))
    cells = [cell.strip().strip('"') for line in text.splitlines() for cell in split(line)]
    if any(_WITH_POINT.fullmatch(cell) and not _THOUSANDS.fullmatch(cell) for cell in cells):
        return "."
    return "," if any(_WITH_COMMA.fullmatch(cell) for cell in cells) else "."


def with_points(table: pa.Table, schema: TableSchema) -> pa.Table:
    """Write the decimal commas of columns of numbers, which are still texts, as points."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in schema.columns:
        if column.name not in table.column_names or column.shape or not column.dtype.startswith("float"):
            continue
        place = table.column_names.index(column.name)
        if pa.types.is_string(table.schema.field(place).type):
            points = pc.replace_substring(table.column(place), ",", ".")
            table = table.set_column(place, column.name, points)
    return table


def read_delimited(path: Path) -> tuple[pa.Table, list[str]]:
    """Read a text table; errors of the file and of Arrow pass through.

    UTF-8, UTF-16 with its mark, and Windows-1252, which spreadsheets of Western Europe save, are read.

    Returns:
        The table, and what a person should know of how it was read.

    Raises:
        DataError: It is not text.
    """
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        start = bytes(stream.read(_START_BYTES))
    if start.startswith(_UTF_16):
        return _read(path, start, UTF_16)
    if b"\0" in start:
        raise _no_text(str(path))
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
        table, notes = _read(path, start, UTF_8)
        if not any(pa.types.is_binary(kind) for kind in table.schema.types):
            return table, notes
    except UnicodeDecodeError:
        pass
    table, notes = _read(path, start, WINDOWS)
    return table, [READ_AS[WINDOWS], *notes]


def _read(path: Path, start: bytes, encoding: str) -> tuple[pa.Table, list[str]]:
    import pyarrow as pa

    text = codecs.getincrementaldecoder(encoding)("replace").decode(start).lstrip("\r\n")
    separator = separator_of(re.split(r"[\r\n]", text, maxsplit=1)[0], path)
    decimal = decimal_of(text, separator)
    try:
        table = _parse(path, encoding, separator, decimal)
    except UnicodeError:
        raise _no_text(str(path)) from None
    except pa.ArrowInvalid as error:
        if not _OTHER_WIDTH.search(str(error)):
            raise
        raise _told_row(path, encoding, separator, decimal) or error from None
    return table, [DECIMAL_COMMAS] if decimal == "," else []


def _parse(path: Path, encoding: str, separator: str, decimal: str, *, threads: bool = True) -> pa.Table:
    from pyarrow import csv

    table = csv.read_csv(
        path,
        # Arrow takes a mark at the start away itself
        csv.ReadOptions(encoding="utf8" if encoding == UTF_8 else encoding, use_threads=threads),
        csv.ParseOptions(delimiter=separator),
        csv.ConvertOptions(decimal_point=decimal),
    )
    # a name that is no text fails only here
    _ = table.column_names
    return table


def _told_row(path: Path, encoding: str, separator: str, decimal: str) -> DataError | None:
    """Read again without threads, which do not know the row that they read."""
    import pyarrow as pa

    try:
        _parse(path, encoding, separator, decimal, threads=False)
    except (UnicodeError, pa.ArrowInvalid) as error:
        return torn_row(path, error)
    return None


def torn_row(path: Path, error: BaseException) -> DataError | None:
    """Return what Arrow says of a row of another width in our words; None where it says something else.

    Arrow counts the line of names, we do not.
    """
    found = _OTHER_WIDTH.search(str(error))
    if found is None or found["row"] is None:
        return None
    return DataError(
        f"{path}, row {int(found['row']) - 1}: {found['got']} cells, expected {found['expected']}.",
        hint="The file was cut short, a separator is missing, or a cell that holds one needs double quotes.",
    )


def _no_text(name: str) -> DataError:
    return DataError(f"{name}: it is not text in UTF-8 or Windows-1252.", hint="Save it as CSV in UTF-8.")

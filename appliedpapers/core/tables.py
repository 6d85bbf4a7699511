"""Reading and writing whole tables by the file's name: CSV, Parquet, JSON lines, Arrow; XLSX is only read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from appliedpapers.core.delimited import read_delimited
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.files import whole_file
from appliedpapers.core.json_lines import read_json_lines
from appliedpapers.core.json_rows import cells, plain, records
from appliedpapers.core.sheets import SUFFIX, is_sheet, read_sheet

_NOTES = b"applied-papers.notes"
KINDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".csv", ".csv.gz", ".tsv", ".tsv.gz"), "csv"),
        **dict.fromkeys((".parquet", ".pq"), "parquet"),
        **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"), "jsonl"),
        **dict.fromkeys((".arrow", ".arrows", ".ipc", ".feather"), "arrow"),
    }
)
"""What a file of rows is, by the end of its name: for training, prediction and scoring alike."""

FORMATS = tuple(KINDS)


def kind_of(path: Path) -> str | None:
    """Return ``csv``, ``parquet``, ``jsonl`` or ``arrow`` by the name of a file, None if it is none."""
    name = path.name.lower()
    return next((kind for suffix, kind in KINDS.items() if name.endswith(suffix)), None)


def read_table(path: Path, kind: str | None = None) -> pa.Table:
    """Read a table; text columns of a CSV that hold numbers or timestamps become such.

    The table carries notes (:func:`notes_of`) where its encoding or its decimal mark was inferred.

    Args:
        path: The file.
        kind: What it is, where its name does not say so; see :func:`kind_of`.

    Raises:
        DataError: The file is missing, a folder, empty, truncated or of an unknown format.
    """
    if kind is None and is_sheet(path):
        return read_sheet(path)
    reader = _READERS.get(kind or kind_of(path) or "")
    if reader is None and path.is_dir():
        raise DataError(f"{path}: a folder.", hint=f"Expected one file: {', '.join((*FORMATS, SUFFIX))}.")
    if reader is None:
        raise DataError(f"{path}: unknown format.", hint=f"Expected one of {', '.join((*FORMATS, SUFFIX))}.")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty.", hint="Expected column names and rows.")
        table = reader(path)
        _require_unicode(table)
        return table
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Check the path.") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: a column's name is not UTF-8.", hint="Is it complete, and what its name says?"
        ) from None
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: cannot be read ({reason}).", hint="Is it complete, and what its name says?"
        ) from None


def _require_unicode(table: pa.Table) -> None:
    """Look at names and texts, which Parquet and Arrow files take over as they are.

    Raises:
        UnicodeDecodeError: A name is no text.
        ArrowInvalid: A text is none.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        assert isinstance(name, str)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column.validate(full=True)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table whole, in the format of the file's name.

    Raises:
        ConfigError: The format is unknown.
        RunError: The file cannot be written.
    """
    require_format(path)
    with whole_file(path) as aside:
        _WRITERS[_suffix(path)](table, aside)


def with_notes(table: pa.Table, notes: Sequence[str]) -> pa.Table:
    """Return a table that carries what a person should know of how it was read; see :func:`notes_of`."""
    import json

    return table.replace_schema_metadata({**(table.schema.metadata or {}), _NOTES: json.dumps([*notes])})


def notes_of(table: pa.Table) -> list[str]:
    """Return the notes that a table carries."""
    import json

    return list(json.loads((table.schema.metadata or {}).get(_NOTES, b"[]")))


def csv_bytes(table: pa.Table) -> bytes:
    """Return a table as CSV with ISO timestamps."""
    import csv as text_csv
    import io

    header = io.StringIO()
    # Arrow quotes every column name
    text_csv.writer(header, lineterminator="\n").writerow(table.column_names)
    columns = [_as_cells(column) for column in table.columns]
    body = pa.table(columns, names=table.column_names)
    try:
        rows = _csv_rows(body, "none")
    except pa.ArrowInvalid:
        # a text holds a comma, a quote or a line end
        rows = _csv_rows(body, "needed")
    return header.getvalue().encode() + rows


def _csv_rows(body: pa.Table, quoting: str) -> bytes:
    from pyarrow import csv

    sink = pa.BufferOutputStream()
    csv.write_csv(body, sink, csv.WriteOptions(include_header=False, quoting_style=quoting))
    return bytes(sink.getvalue().to_pybytes())


def require_format(path: Path) -> None:
    """Check that the format of a file to write is known, before the work that fills it.

    Raises:
        ConfigError: It is not.
    """
    if _suffix(path) not in _WRITERS:
        raise ConfigError(f"{path}: unknown format.", hint=f"Expected one of {', '.join(_WRITERS)}.")


def _as_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import json

    import pyarrow.compute as pc

    if pa.types.is_nested(column.type) or isinstance(column.type, pa.BaseExtensionType):
        texts = (None if value is None else json.dumps(plain(value)) for value in cells(column))
        return pa.chunked_array([pa.array(texts, pa.string())])
    if not pa.types.is_timestamp(column.type):
        return column
    # refused where there are fractions of a second, which are then written
    with suppress(pa.ArrowInvalid):
        column = column.cast(pa.timestamp("s", column.type.tz))
    return pc.strftime(column, "%Y-%m-%dT%H:%M:%S%z" if column.type.tz else "%Y-%m-%dT%H:%M:%S")


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return next(
        (suffix for suffix in sorted(_WRITERS, key=len, reverse=True) if name.endswith(suffix)), path.suffix
    )


def _read_csv(path: Path) -> pa.Table:
    table, notes = read_delimited(path)
    return with_notes(table, notes) if notes else table


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def read_arrow(path: Path) -> pa.Table:
    """Read Arrow, written as a file or as a stream; errors of Arrow pass through."""
    with pa.memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        return (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()


def _write_csv(table: pa.Table, path: Path) -> None:
    path.write_bytes(csv_bytes(table))


def _write_csv_gz(table: pa.Table, path: Path) -> None:
    import gzip

    path.write_bytes(gzip.compress(csv_bytes(table), mtime=0))


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(storable(table), path)


def _write_jsonl(table: pa.Table, path: Path) -> None:
    path.write_text("".join(f"{line}\n" for line in json_lines(table)), encoding="utf-8")


def json_lines(table: pa.Table) -> list[str]:
    """Return one JSON object a row."""
    import json

    return [json.dumps(plain(row), ensure_ascii=False) for row in records(table)]


def _write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "jsonl": read_json_lines,
    "arrow": read_arrow,
}
_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".csv": _write_csv,
    ".csv.gz": _write_csv_gz,
    ".parquet": _write_parquet,
    ".jsonl": _write_jsonl,
    ".arrow": _write_arrow,
}


def storable(table: pa.Table) -> pa.Table:
    """Return the table as Parquet gives it back: lists of one length that may be missing lose their length.

    Arrow writes a missing cell among lists of one length, and its own reader then refuses the file.
    """
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if field.nullable and isinstance(field.type, pa.FixedShapeTensorType) and len(field.type.shape) == 1:
            kind = pa.list_(field.type.value_type)
            chunks = [chunk.storage.cast(kind) for chunk in table.column(place).chunks]
            column = pa.chunked_array(chunks, kind)
            table = table.set_column(place, pa.field(field.name, kind), column)
    return table

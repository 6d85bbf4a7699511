"""Inputs of a scoring run: their rows in pieces."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from appliedpapers.core.delimited import (
    DECIMAL_COMMAS,
    READ_AS,
    UTF_8,
    decimal_of,
    encoding_of,
    separator_of,
    with_points,
)
from appliedpapers.core.errors import DataError
from appliedpapers.core.json_lines import parse_json_lines
from appliedpapers.core.schema import TableSchema, Violation
from appliedpapers.core.sheets import read_sheet
from appliedpapers.core.validation import check_names, from_records
from appliedpapers.pipelines.score_files import Fragment

Rows = np.ndarray[Any, np.dtype[np.int64]]

_BLOCK_BYTES = 1 << 22
_LOOKED_AT = 1 << 17
_LINES_PER_PIECE = 8192
_JSON_TEXT = {"string", "timestamp"}
_BROKEN_TEXT = 200


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a fragment.

    Attributes:
        table: The rows, loosely typed.
        rows: Their numbers in the file, from 1.
        broken: Lines that are not rows at all, such as a CSV line with a field too many.
        notes: What a person should know of how the file was read, with its first piece.
    """

    table: pa.Table
    rows: Rows
    broken: tuple[Violation, ...] = field(default=())
    notes: tuple[str, ...] = ()


def read(fragment: Fragment, schema: TableSchema, rows: int) -> Iterator[Piece]:
    """Yield the rows of a fragment in pieces, reading no more than is asked for.

    Args:
        fragment: The file.
        schema: What the rows should look like; text formats are read as text where a cast could fail.
        rows: Most rows of a piece.

    Raises:
        DataError: The file is truncated, not of its format, no text, holds no row, or was changed since
            its fingerprint was taken.
    """
    empty = True
    try:
        for piece in _READERS[fragment.kind](fragment, schema, rows):
            empty = empty and not piece.table.num_rows and not piece.broken
            # before anybody uses the rows: they may be of another content than the fingerprint
            fragment.require_unchanged()
            yield piece
    except (pa.ArrowException, EOFError, UnicodeDecodeError, csv.Error, OSError) as error:
        # a file that somebody is writing is mostly broken, too
        fragment.require_unchanged()
        reason = str(error).splitlines()[0].rstrip(".")[:_BROKEN_TEXT] if str(error) else type(error).__name__
        raise DataError(
            f"{fragment.name}: cannot be read as {fragment.kind} ({reason}).",
            hint="It is truncated, damaged or of another format. Replace it and run again.",
        ) from error
    if empty:
        raise DataError(f"{fragment.name}: no rows.", hint="Expected at least one row; leave the file out.")


def named_pieces(
    fragment: Fragment, schema: TableSchema, rows: int, say: Callable[[str], None] = lambda text: None
) -> Iterator[Piece]:
    """Yield the pieces of :func:`read`, of a file that has the columns of the schema.

    Args:
        fragment: The file.
        schema: What the rows should look like.
        rows: Most rows of a piece.
        say: Told what was inferred of how the file is to be read.

    Raises:
        DataError: As :func:`read`, or a column is missing.
    """
    for number, piece in enumerate(read(fragment, schema, rows)):
        if number == 0:
            check_names(piece.table.column_names, schema, fragment.name)
        for note in piece.notes:
            say(f"{fragment.name}: {note}")
        yield piece


def _read_parquet(fragment: Fragment, schema: TableSchema, rows: int) -> Iterator[Piece]:
    import pyarrow.parquet as pq

    first = 1
    # few different texts: read as a dictionary they cost a tenth, and so does their check
    few = {column.name for column in schema.columns if column.categories is not None}
    with fragment.source() as source:
        about = pq.read_metadata(source)
        there = [name for name in about.schema.names if name in few]
        options = {"pre_buffer": False, "buffer_size": _BLOCK_BYTES, "read_dictionary": there}
        with pq.ParquetFile(source, metadata=about, **options) as file:
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                yield _plain(pa.Table.from_batches([batch]), first)
                first += batch.num_rows


def _read_arrow(fragment: Fragment, schema: TableSchema, rows: int) -> Iterator[Piece]:
    first = 1
    # not mapped into memory: a file that is cut short meanwhile would end the process
    with fragment.source() as source:
        for batch in _arrow_batches(source):
            for start in range(0, batch.num_rows, rows):
                part = batch.slice(start, rows)
                yield _plain(pa.Table.from_batches([part]), first)
                first += part.num_rows


def _arrow_batches(source: Any) -> Iterator[Any]:
    if source.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(source)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        source.seek(0)
        yield from pa.ipc.open_stream(source)


def _plain(table: pa.Table, first: int) -> Piece:
    return Piece(
        table.replace_schema_metadata(None), np.arange(first, first + table.num_rows, dtype=np.int64)
    )


def _read_csv(fragment: Fragment, schema: TableSchema, rows: int) -> Iterator[Piece]:
    import pyarrow.csv as pc_csv

    with fragment.text() as stream:
        encoding = encoding_of(stream, fragment.name)
    with io.TextIOWrapper(fragment.text(), encoding=encoding, newline="") as text:
        header = next((line for line in text if line.strip()), "")
        separator = separator_of(header, Path(fragment.place))
        names = next(csv.reader(itertools.chain([header], text), delimiter=separator), [])
        comma = decimal_of(text.read(_LOOKED_AT), separator) == ","
    notes = (*([READ_AS[encoding]] if encoding in READ_AS else []), *([DECIMAL_COMMAS] if comma else []))
    skipped: list[tuple[int, Violation]] = []

    def set_aside(row: Any) -> str:
        number = int(row.number) - 1
        rule = f"{row.actual_columns} fields, expected {row.expected_columns}"
        broken = Violation(fragment.name, number, "", row.text[:_BROKEN_TEXT], rule)
        skipped.append((number, broken))
        return "skip"

    # every cell as text: a cell that is not a number must not end the reading, the check will name it
    reader = pc_csv.open_csv(
        fragment.text() if fragment.remote else fragment.place,
        read_options=pc_csv.ReadOptions(
            use_threads=False,
            block_size=_BLOCK_BYTES,
            # Arrow takes a mark at the start away itself
            encoding="utf8" if encoding == UTF_8 else encoding,
        ),
        parse_options=pc_csv.ParseOptions(
            delimiter=separator, newlines_in_values=True, invalid_row_handler=set_aside
        ),
        convert_options=pc_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )
    first = 1
    for batch in reader:
        numbers, used = _numbers(first, batch.num_rows, [number for number, _ in skipped])
        broken, skipped[:] = tuple(item for _, item in skipped[:used]), skipped[used:]
        first = int(numbers[-1]) + 1 if len(numbers) else first + used
        table = pa.Table.from_batches([batch])
        table = with_arrays(with_points(table, schema) if comma else table, schema)
        yield Piece(table, numbers, broken, notes)
        notes = ()
    if skipped:
        table = pa.table({name: pa.array([], pa.string()) for name in reader.schema.names})
        yield Piece(table, np.empty(0, dtype=np.int64), tuple(item for _, item in skipped), notes)


def _read_sheet(fragment: Fragment, schema: TableSchema, rows: int) -> Iterator[Piece]:
    if fragment.remote:
        raise DataError(
            f"{fragment.name}: XLSX is read from disk.",
            hint="Copy the file to this machine, or save it as CSV.",
        )
    # whole: a sheet is bounded, and holds no more than a person can look at
    named = Path(fragment.name)
    table = with_arrays(read_sheet(named if named.is_file() else Path(fragment.place)), schema)
    for start in range(0, table.num_rows, rows):
        yield _plain(table.slice(start, rows), start + 1)


def _numbers(first: int, count: int, skipped: Sequence[int]) -> tuple[Rows, int]:
    """Return the numbers of ``count`` rows from ``first`` on, and how many of ``skipped`` came before."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    used = 0
    for gap in skipped:
        if count and gap > numbers[-1]:
            break
        numbers[numbers >= gap] += 1
        used += 1
    return numbers, used


def with_arrays(table: pa.Table, schema: TableSchema) -> pa.Table:
    """Parse the JSON that stands for an array in a CSV cell; what is not JSON stays for the check to name."""
    names = [column.name for column in schema.columns if column.shape is not None]
    names += [f"{column.name}_shape" for column in schema.columns if column.ragged]
    for name in names:
        if name in table.column_names and pa.types.is_string(table.schema.field(name).type):
            cells = [_parsed(cell) for cell in table.column(name).to_pylist()]
            try:
                values = pa.array(cells)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                continue
            table = table.set_column(table.column_names.index(name), name, values)
    return table


def _parsed(cell: str | bytes | None) -> Any:
    try:
        return None if cell is None else json.loads(cell)
    except ValueError:
        return cell


def _read_jsonl(fragment: Fragment, schema: TableSchema, rows: int) -> Iterator[Piece]:
    first = 1
    with fragment.text() as file:
        while lines := list(itertools.islice(file, min(rows, _LINES_PER_PIECE))):
            if first == 1:
                lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
            piece = _parsed_at_once(lines, first, schema) if first > 1 else None
            piece = piece or _parsed_by_line(fragment, lines, first, schema)
            if first == 1 and piece.broken and not piece.table.num_rows:
                expected = f'Expected {{"{schema.names[0]}": value, ...}} on each line.'
                raise DataError(f"{piece.broken[0].sentence()}.", hint=expected)
            # the first piece shows whether a column is there at all; later single values are absent
            yield piece if first == 1 else replace(piece, table=_completed(piece.table, schema))
            first += len(lines)


def _parsed_at_once(lines: Sequence[bytes], first: int, schema: TableSchema) -> Piece | None:
    """Parse lines by Arrow, ten times as fast; None where a line is empty, broken or of mixed types."""
    import pyarrow.json as pa_json

    # left to itself, Arrow takes text that looks like a date for one
    texts = [item.name for item in schema.columns if item.shape is None and item.dtype in _JSON_TEXT]
    options = pa_json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in texts]))
    try:
        table = parse_json_lines(b"".join(lines), options)
    except pa.ArrowException:
        return None
    return _plain(table, first) if table.num_rows == len(lines) else None


def _parsed_by_line(fragment: Fragment, lines: Sequence[bytes], first: int, schema: TableSchema) -> Piece:
    records: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    broken: list[Violation] = []
    for number, line in enumerate(lines, start=first):
        if line.isspace():
            continue
        record = _parsed(line)
        if isinstance(record, Mapping):
            records.append(record)
            numbers.append(number)
        else:
            text = line.decode(errors="replace").strip()[:_BROKEN_TEXT]
            broken.append(Violation(fragment.name, number, "", text, "the line is not a JSON object"))
    table = from_records(records, schema, source=fragment.name)
    return Piece(table, np.array(numbers, dtype=np.int64), tuple(broken))


def _completed(table: pa.Table, schema: TableSchema) -> pa.Table:
    for column in schema.columns:
        if column.required and column.name not in table.column_names:
            table = table.append_column(column.name, pa.nulls(table.num_rows))
    return table


_READERS = {
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "xlsx": _read_sheet,
}

"""Rows of CSV, TSV and JSON lines: types are settled by reading everything once."""

from __future__ import annotations

import csv as text_csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json

from appliedpapers.core.delimited import decimal_of, separator_of
from appliedpapers.core.errors import DataError
from appliedpapers.core.features.rows import (
    RowSource,
    broken,
    conform,
    kept,
    no_rows,
    require_distinct,
    require_same_columns,
)
from appliedpapers.core.features.rows_parquet import files_fingerprint
from appliedpapers.core.json_lines import line_blocks, parse_json_lines
from appliedpapers.core.tables import kind_of

_BLOCK = 1 << 22
_LONGEST = 1 << 28
_LOOKED_AT = 1 << 17
_GZIP_RATIO = 4
_CONFLICT = re.compile(r"In CSV column #(\d+):.*?conversion error to [^:]*: invalid value '(.*)'", re.DOTALL)
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")

Types = dict[str, pa.DataType]
T = TypeVar("T")


class TextRows(RowSource):
    """Rows of one or several text files.

    A column's type is that of its values in the first 4 MiB; where a later value does not fit, the column
    takes the next wider type and in the end becomes text. Whole numbers with leading zeros are text from the
    start. An empty cell is missing; so are ``NA``, ``NULL``, ``nan`` and the like in columns of numbers,
    while in text they are words.

    Args:
        path: What was given: the file, or the folder that ``files`` stand in.
        files: The files in the order in which they are read; all CSV and TSV, or all JSON lines.

    Raises:
        DataError: A file has no header, a column twice, or not the columns of the others.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.name = str(path)
        self._path, self._files = path, list(files)
        self._lines = kind_of(files[0]) == "jsonl"
        self._separators: dict[Path, str] = {}
        self._decimals: dict[Path, str] = {}
        self._block = _BLOCK
        if not self._lines:
            headers = [self._header(file) for file in self._files]
            for file, names in zip(self._files, headers, strict=True):
                require_same_columns(self._files[0], headers[0], file, names)
            self._names = kept(headers[0])

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types; the first call reads everything once."""
        return self._settled[0]

    @property
    def num_rows(self) -> int:
        """How many rows there are; the first call reads everything once."""
        return self._settled[1]

    @property
    def estimated_bytes(self) -> int:
        """About how much memory all rows would take: what they take as text."""
        return sum(
            file.stat().st_size * (_GZIP_RATIO if file.name.lower().endswith(".gz") else 1)
            for file in self._files
        )

    def _hashed(self) -> str:
        return files_fingerprint(self._path, self._files)

    @cached_property
    def _settled(self) -> tuple[pa.Schema, int]:
        schema, rows = self._settle_lines() if self._lines else self._settle_cells()
        if not rows:
            raise no_rows(self._path)
        return schema, rows

    def _read(self, columns: list[str], max_rows: int) -> Iterator[pa.RecordBatch]:
        wanted = pa.schema([self.schema.field(name) for name in columns])
        types = {field.name: field.type for field in self.schema}
        for file in self._files:
            blocks = _line_blocks(file, self.schema) if self._lines else self._cells(file, types, columns)
            for block in blocks:
                plain = conform(block, wanted, str(file))
                for start in range(0, plain.num_rows, max_rows):
                    yield plain.slice(start, max_rows)

    def _header(self, file: Path) -> list[str]:
        try:
            with pa.input_stream(str(file), compression="detect") as stream:
                start = bytes(stream.read(_BLOCK))
            line = start.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise broken(file, error) from None
        separator = self._separators[file] = separator_of(line, file)
        self._decimals[file] = decimal_of(start[:_LOOKED_AT].decode("utf-8", "replace"), separator)
        try:
            names = next(text_csv.reader([line], delimiter=separator), [])
        except text_csv.Error as error:
            raise broken(file, error) from None
        if not any(names):
            raise DataError(f"{file}: the first line is empty.", hint="Expected the names of the columns.")
        if "" in names or all(_NUMBER.fullmatch(name) for name in names):
            shown = next((name for name in names if not name or _NUMBER.fullmatch(name)), "")
            raise DataError(
                f"{file}: the first line has '{shown}' where a column's name should stand.",
                hint="Put a line with the names of the columns at the top.",
            )
        require_distinct(names, str(file))
        return names

    def _settle_cells(self) -> tuple[pa.Schema, int]:
        types = self._patiently(self._first_types)
        rows = sum(self._patiently(partial(self._count, file, types)) for file in self._files)
        return pa.schema([pa.field(name, types[name]) for name in self._names]), rows

    def _patiently(self, work: Callable[[], T]) -> T:
        while True:
            try:
                return work()
            except _TooLong:
                # a line longer than a block; blocks stay that large for the next time
                self._block *= 4

    def _count(self, file: Path, types: Types) -> int:
        while True:
            try:
                return sum(block.num_rows for block in self._cells(file, types, self._names))
            except _Conflict as conflict:
                value = conflict.value.replace(self._decimals[file], ".")
                types[conflict.column] = _wider(types[conflict.column], value)

    def _first_types(self) -> Types:
        file = self._files[0]
        try:
            with self._open(file, {}, None) as reader:
                types = {field.name: field.type for field in reader.schema if field.name in self._names}
            whole = [name for name, kind in types.items() if pa.types.is_integer(kind)]
            if whole:
                with self._open(file, dict.fromkeys(whole, pa.string()), whole) as reader:
                    first = reader.read_next_batch()
                for name in whole:
                    if pc.any(pc.match_substring_regex(first.column(name), r"^[+-]?0\d")).as_py():
                        types[name] = pa.string()
        except StopIteration:
            raise no_rows(self._path) from None
        except (OSError, pa.ArrowException) as error:
            raise self._said(file, error) from None
        if any(name not in types for name in self._names):
            raise DataError(
                f"{file}: the first line has a quote that does not end there.",
                hint="Give each column a name without a quote, or with one at both ends.",
            )
        return {name: _read_as(types[name]) for name in self._names}

    def _cells(
        self, file: Path, types: Mapping[str, pa.DataType], columns: list[str]
    ) -> Iterator[pa.RecordBatch]:
        try:
            with self._open(file, types, columns) as reader:
                for block in reader:
                    yield _empty_as_missing(block)
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            raise self._said(file, error) from None

    def _open(
        self, file: Path, types: Mapping[str, pa.DataType], columns: list[str] | None
    ) -> csv.CSVStreamingReader:
        return csv.open_csv(
            str(file),
            csv.ReadOptions(block_size=self._block, use_threads=False),
            # a quoted text may hold line ends
            csv.ParseOptions(delimiter=self._separators[file], newlines_in_values=True),
            csv.ConvertOptions(
                column_types=dict(types), include_columns=columns, decimal_point=self._decimals[file]
            ),
        )

    def _said(self, file: Path, error: Exception) -> Exception:
        if "straddl" in str(error) and self._block < _LONGEST:
            return _TooLong(f"{file}: a line is longer than {self._block} bytes.")
        found = _CONFLICT.search(str(error))
        if not found:
            return broken(file, error)
        # the file's own order counts, which may differ from the first file's
        return _Conflict(self._header(file)[int(found[1])], found[2], file)

    def _settle_lines(self) -> tuple[pa.Schema, int]:
        schema, rows = pa.schema([]), 0
        for file in self._files:
            for block in _line_blocks(file, None):
                rows += block.num_rows
                require_distinct(block.schema.names, str(file))
                schema = _unified(schema, block.schema, file)
        return schema, rows


class _TooLong(DataError):
    """A line is longer than a block."""


class _Conflict(DataError):
    """A cell does not fit the type that its column has so far."""

    def __init__(self, column: str, value: str, file: Path) -> None:
        shown = value if len(value) <= 40 else f"{value[:40]}…"
        super().__init__(
            f"{file}: column '{column}' holds '{shown}', which does not fit what stands above it.",
            hint="Has the file changed since it was opened?",
        )
        self.column, self.value = column, value


def _wider(kind: pa.DataType, value: str) -> pa.DataType:
    new = _read_as(
        csv.read_csv(io.BytesIO(b'a\n"' + value.replace('"', '""').encode() + b'"\n')).schema.field(0).type
    )
    if pa.types.is_null(kind) and not new.equals(kind):
        return new
    digits = re.fullmatch(r"\s*[+-]?\d+\s*", value)
    # whole numbers beyond 64 bits are ids: a double would make neighbours equal
    if pa.types.is_integer(kind) and pa.types.is_floating(new) and not digits:
        return new
    if pa.types.is_temporal(kind) and pa.types.is_temporal(new) and not _backwards(kind, new):
        return new
    return pa.string()


def _backwards(kind: pa.DataType, new: pa.DataType) -> bool:
    order = ["date32[day]", "timestamp[s]", "timestamp[ns]"]
    return str(kind) not in order or str(new) not in order or order.index(str(new)) <= order.index(str(kind))


def _read_as(kind: pa.DataType) -> pa.DataType:
    # a time of day has no use as one here, and stays the text that it was
    return pa.string() if pa.types.is_time(kind) or pa.types.is_binary(kind) else kind


def _empty_as_missing(block: pa.RecordBatch) -> pa.RecordBatch:
    columns: list[Any] = []
    for values in block.columns:
        if pa.types.is_string(values.type):
            values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, schema=block.schema)


def _unified(schema: pa.Schema, other: pa.Schema, file: Path) -> pa.Schema:
    for field in other:
        position = schema.get_field_index(field.name)
        if position < 0:
            schema = schema.append(field)
            continue
        here = schema.field(position)
        try:
            both = pa.unify_schemas(
                [pa.schema([here]), pa.schema([field])], promote_options="permissive"
            ).field(0)
        except pa.ArrowException:
            if not {str(here.type), str(field.type)} <= {"string", "timestamp[s]"}:
                raise DataError(
                    f"{file}: column '{field.name}' holds {field.type}, above it {here.type}.",
                    hint="Give the column one type in all rows.",
                ) from None
            both = pa.field(field.name, pa.string())
        schema = schema.set(position, both)
    return schema


def _line_blocks(file: Path, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    options = json.ParseOptions(explicit_schema=schema, newlines_in_values=False)
    if schema is not None:
        options.unexpected_field_behavior = "ignore"
    try:
        for first, text in line_blocks(file):
            yield from parse_json_lines(text, options, first=first).to_batches()
    except (OSError, pa.ArrowException) as error:
        raise broken(file, error) from None

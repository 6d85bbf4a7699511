"""Rows of Parquet files: footers first, then one row group after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.rows import (
    RowSource,
    Wanted,
    broken,
    conform,
    kept,
    no_rows,
    pieces,
    plain_schema,
    require_columns,
    require_distinct,
    require_same_columns,
)

_BUFFER = 1 << 18
_TEXT_BYTES = 20
_GROUPS = 16
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class ParquetRows(RowSource):
    """Rows of one or several Parquet files, hive partitions included.

    Args:
        path: What was given: the file, or the folder that ``files`` stand in.
        files: The files in the order in which they are read.

    Raises:
        DataError: A file is broken, has a column twice or not the columns of the others, or there are no
            rows.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.name = str(path)
        self._path, self._files = path, list(files)
        self._rows: list[list[int]] = []
        self._bytes = 0
        schemas: list[pa.Schema] = []
        for file in self._files:
            schemas.append(self._look(file))
            require_same_columns(self._files[0], schemas[0].names, file, schemas[-1].names)
        if not self.num_rows:
            raise no_rows(path)
        self._stored = _unified(self._files, schemas)
        self._keys = [_hive(path, file) for file in self._files]
        self._schema = _with_partitions(self._stored, self._files, self._keys)

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types; partitions are the last columns."""
        return self._schema

    @property
    def num_rows(self) -> int:
        """How many rows the footers count."""
        return sum(map(sum, self._rows))

    @property
    def estimated_bytes(self) -> int:
        """About how much memory all rows would take as Arrow."""
        widths = [_width(field.type) for field in self._schema]
        fixed = self.num_rows * sum(width for width in widths if width is not None)
        # dictionaries make text on disk smaller than it is in memory
        text = self.num_rows * _TEXT_BYTES * widths.count(None)
        return max(fixed + text, self._bytes)

    def _hashed(self) -> str:
        return files_fingerprint(self._path, self._files)

    def numbered(
        self, columns: Sequence[str] | None, max_rows: int, wanted: Wanted
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield rows with the number of the first of a batch; row groups that are not wanted are not read."""
        names = self._schema.names if columns is None else list(columns)
        require_columns(names, self._schema.names, self.name)
        end = 0
        for number, sizes in enumerate(self._rows):
            ends = [end, *(end + np.cumsum(sizes, dtype=np.int64)).tolist()]
            end = ends[-1]
            chosen = [size > 0 and wanted(*ends[group : group + 2]) for group, size in enumerate(sizes)]
            # neighbours are read at once: each time a file is opened, its footer is parsed
            for taken, run in groupby(range(len(sizes)), key=chosen.__getitem__):
                groups = list(run)
                row = ends[groups[0]]
                for batch in self._read_groups(number, groups, names, max_rows) if taken else ():
                    yield row, batch
                    row += batch.num_rows

    def sample(self, rows: int) -> pa.Table:
        """Return about ``rows`` rows from row groups all over the files; all when there are few."""
        groups = [(f, g) for f, sizes in enumerate(self._rows) for g, size in enumerate(sizes) if size]
        if self.num_rows <= rows or len(groups) < _GROUPS:
            return super().sample(rows)
        chosen = [groups[i] for i in np.linspace(0, len(groups) - 1, _GROUPS).astype(int)]
        names, some = self._schema.names, max(1, rows // _GROUPS)
        read = [
            batch
            for f, g in chosen
            for batch in pieces(self._read_groups(f, [g], names, some), [(0, min(some, self._rows[f][g]))])
        ]
        return pa.Table.from_batches(read, self._schema)

    def _look(self, file: Path) -> pa.Schema:
        try:
            with pq.ParquetFile(file) as opened:
                footer, schema = opened.metadata, opened.schema_arrow
                groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
                names = schema.names
        # names that are not UTF-8 are found out when they are asked for
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise broken(file, error) from None
        require_distinct(names, str(file))
        self._rows.append([group.num_rows for group in groups])
        self._bytes += sum(group.total_byte_size for group in groups)
        return plain_schema(pa.schema([schema.field(name) for name in kept(names)]))

    def _read(self, columns: list[str], max_rows: int) -> Iterator[pa.RecordBatch]:
        for number, groups in enumerate(self._rows):
            if groups:
                yield from self._read_groups(number, list(range(len(groups))), columns, max_rows)

    def _read_groups(
        self, number: int, groups: list[int], columns: list[str], max_rows: int
    ) -> Iterator[pa.RecordBatch]:
        file, keys = self._files[number], self._keys[number]
        stored = [name for name in columns if name not in keys]
        wanted = pa.schema([self._schema.field(name) for name in columns])
        # of a column that is not there nothing is read, and its batches would know no length
        counted = stored or self._stored.names[:1]
        try:
            # buffered: a whole column of a row group may be larger than what we may hold
            with pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER) as opened:
                for batch in opened.iter_batches(max_rows, groups, counted, use_threads=False):
                    yield conform(_joined(batch, columns, keys, self._schema), wanted, str(file))
        except (OSError, pa.ArrowException) as error:
            raise broken(file, error) from None


def files_fingerprint(path: Path, files: Sequence[Path]) -> str:
    """Return the sha256 of names relative to ``path``, sizes and bytes of files."""
    digest = hashlib.sha256()
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{len(name)} {name} {file.stat().st_size} ".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _joined(
    batch: pa.RecordBatch, columns: list[str], keys: dict[str, str | None], schema: pa.Schema
) -> pa.RecordBatch:
    if not any(name in keys for name in columns):
        return batch
    arrays = [
        _constant(keys[name], schema.field(name).type, batch.num_rows)
        if name in keys
        else batch.column(batch.schema.get_field_index(name))
        for name in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=columns)


def _constant(text: str | None, kind: pa.DataType, rows: int) -> pa.Array:
    value = int(text) if text is not None and pa.types.is_integer(kind) else text
    return pa.repeat(pa.scalar(value, kind), rows)


def _unified(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> pa.Schema:
    schema = schemas[0]
    for file, other in zip(files, schemas, strict=True):
        for field in other:
            here = schema.field(field.name)
            if here.type.equals(field.type):
                continue
            try:
                both = pa.unify_schemas([pa.schema([here]), pa.schema([field])], promote_options="permissive")
            except pa.ArrowException:
                raise DataError(
                    f"{file}: column '{field.name}' holds {field.type}, in {files[0]} it holds {here.type}.",
                    hint="Give the column one type in all files.",
                ) from None
            schema = schema.set(schema.get_field_index(field.name), both.field(0))
    return schema


def _hive(path: Path, file: Path) -> dict[str, str | None]:
    if file == path:
        return {}
    pairs = [part.partition("=") for part in file.relative_to(path).parts[:-1] if "=" in part]
    return {unquote(key): None if text == _HIVE_NULL else unquote(text) for key, _, text in pairs}


def _with_partitions(
    stored: pa.Schema, files: Sequence[Path], keys: Sequence[dict[str, str | None]]
) -> pa.Schema:
    for file, own in zip(files, keys, strict=True):
        require_same_columns(files[0], list(keys[0]), file, list(own))
    schema = stored
    for key in keys[0]:
        if key in stored.names:
            raise DataError(
                f"{files[0]}: column '{key}' is in the file and in its folder's name.",
                hint="Remove one of them.",
            )
        texts = [own[key] for own in keys if own[key] is not None]
        # 01 is not the number 1: a month written with its zero stays text
        whole = all(text is not None and str(_whole(text)) == text for text in texts)
        schema = schema.append(pa.field(key, pa.int64() if whole and texts else pa.string()))
    return schema


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _width(kind: pa.DataType) -> int | None:
    try:
        return int(kind.bit_width) // 8 or 1
    except ValueError:
        return None

"""Bringing the rows of groups together on disk, where they stand apart in the inputs: ``--sort``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from appliedpapers.core.casting import cast_scalars, one_array
from appliedpapers.core.errors import AppsError, ConfigError, RunError
from appliedpapers.core.schema import TableSchema, Violation
from appliedpapers.pipelines.score_files import Fragment
from appliedpapers.pipelines.score_input import Piece, named_pieces, with_arrays

FOLDER = ".sort"
_FILE, _ROW, _KEY, _UNCAST = "__file", "__row", "__key", "__uncast"
_MEMORY = "1GB"
_TYPED = {"parquet", "arrow"}


@contextmanager
def sorted_rows(
    fragments: Sequence[Fragment],
    schema: TableSchema,
    rows: int,
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Iterator[tuple[Fragment, Piece]]]:
    """Yield the rows of all fragments, groups together, with the file and the row that each comes from.

    DuckDB sorts by the columns of ``group_by``, then by file and row, in bounded memory; the sorted rows lie
    in ``folder`` for as long as they are read.

    Args:
        fragments: The files, in order.
        schema: The model's input schema.
        rows: Most rows of a piece.
        folder: A folder of its own for scratch; what lies there is removed.
        say: Told how a file was read where that was inferred.

    Raises:
        ConfigError: DuckDB is not installed.
        DataError: A file lacks a column or cannot be read.
        RunError: The disk is full.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        broken = _sort(fragments, schema, rows, folder, say)
        yield _read(fragments, schema, rows, folder, broken)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sort(
    fragments: Sequence[Fragment], schema: TableSchema, rows: int, folder: Path, say: Callable[[str], None]
) -> list[Violation]:
    try:
        import duckdb
    except ImportError:
        raise ConfigError(
            "--sort needs DuckDB.", hint="Install it: pip install 'applied-papers[sort]'"
        ) from None
    wanted = _common_schema(fragments, schema)
    broken: list[Violation] = []
    raised: list[AppsError] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for number, fragment in enumerate(fragments):
                for piece in named_pieces(fragment, schema, rows, say):
                    broken.extend(piece.broken)
                    yield from _prepared(piece, number, schema, wanted).to_batches()
        except AppsError as error:
            # DuckDB would make an error of its own of it
            raised.append(error)

    keys = [f'"{name}"' for name in _key_types(schema)]
    order = ", ".join(f"{name} NULLS LAST" for name in [*keys, f'"{_FILE}"', f'"{_ROW}"'])
    left_out = ", ".join(keys)
    target = str(folder / "rows.parquet").replace("'", "''")
    try:
        folder.mkdir(parents=True)
        with duckdb.connect(config={"temp_directory": str(folder), "memory_limit": _MEMORY}) as database:
            reader = pa.RecordBatchReader.from_batches(_with_places(wanted, schema), batches())
            database.register("given", reader)
            database.execute(
                f"COPY (SELECT * EXCLUDE ({left_out}) FROM given ORDER BY {order}) "
                f"TO '{target}' (FORMAT parquet, COMPRESSION lz4)"
            )
    except (duckdb.Error, OSError) as error:
        if not raised:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"{folder}: the rows cannot be sorted ({reason}).", hint="Free some space, and try again."
            ) from error
    if raised:
        raise raised[0]
    return broken


def _read(
    fragments: Sequence[Fragment], schema: TableSchema, rows: int, folder: Path, broken: list[Violation]
) -> Iterator[tuple[Fragment, Piece]]:
    import pyarrow.parquet as pq

    left = tuple(broken)
    with pq.ParquetFile(folder / "rows.parquet", pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            table = pa.Table.from_batches([batch])
            numbers = table.column(_FILE).to_numpy()
            places = table.column(_ROW).to_numpy()
            table = with_arrays(table.drop_columns([_FILE, _ROW]), schema)
            ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), table.num_rows]
            start = 0
            for end in ends:
                piece = Piece(table.slice(start, end - start), places[start:end], left)
                yield fragments[int(numbers[start])], piece
                start, left = end, ()


def _common_schema(fragments: Sequence[Fragment], schema: TableSchema) -> pa.Schema:
    """Return one type a column: that of the files where they have types and agree, else text."""
    names = [*schema.names, *(f"{column.name}_shape" for column in schema.columns if column.ragged)]
    texts = pa.schema([(name, pa.string()) for name in names])
    if any(fragment.kind not in _TYPED for fragment in fragments):
        return texts
    found = [_schema_of(fragment) for fragment in fragments]
    try:
        unified = pa.unify_schemas(found, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return texts
    return pa.schema([unified.field(name) for name in names if name in unified.names])


def _schema_of(fragment: Fragment) -> pa.Schema:
    import pyarrow.parquet as pq

    with fragment.source() as source:
        if fragment.kind == "parquet":
            found = pq.read_schema(source)
        elif source.read(6) == b"ARROW1":
            found = pa.ipc.open_file(source).schema
        else:
            source.seek(0)
            found = pa.ipc.open_stream(source).schema
    return pa.schema([(field.name, _plain_type(field.type)) for field in found])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _with_places(wanted: pa.Schema, schema: TableSchema) -> pa.Schema:
    return pa.schema([*wanted, *_key_types(schema).items(), (_FILE, pa.int32()), (_ROW, pa.int64())])


def _key_types(schema: TableSchema) -> dict[str, pa.DataType]:
    kinds: dict[str, pa.DataType] = {}
    for number, name in enumerate(schema.group_by):
        kinds[f"{_KEY}{number}"] = schema.column(name).arrow_type()
        kinds[f"{_UNCAST}{number}"] = pa.string()
    return kinds


def _prepared(piece: Piece, number: int, schema: TableSchema, wanted: pa.Schema) -> pa.Table:
    table = piece.table
    columns: dict[str, Any] = {}
    for field in wanted:
        present = field.name in table.column_names
        columns[field.name] = (
            _as(table.column(field.name), field.type) if present else pa.nulls(table.num_rows, field.type)
        )
    for place, name in enumerate(schema.group_by):
        # as the check casts them: 1 and "1" are one group; what cannot be cast is one by its text
        raw = one_array(table.column(name))
        cast, uncast = cast_scalars(raw, schema.column(name))
        columns[f"{_KEY}{place}"] = cast
        texts: list[str | None] = [None] * len(raw)
        for row in uncast.tolist():
            texts[row] = str(raw[row].as_py())
        columns[f"{_UNCAST}{place}"] = pa.array(texts, pa.string())
    columns[_FILE] = pa.array(np.full(table.num_rows, number, dtype=np.int32))
    columns[_ROW] = piece.rows
    return pa.table(columns, schema=_with_places(wanted, schema))


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> Any:
    found = column.type
    if isinstance(found, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], found.storage_type)
        found = found.storage_type
    if found == kind:
        return column
    if pa.types.is_nested(found) or pa.types.is_union(found):
        cells = (
            cell if cell is None or isinstance(cell, str) else json.dumps(cell, default=repr)
            for cell in column.to_pylist()
        )
        return pa.array(cells, pa.string())
    return column.cast(kind)

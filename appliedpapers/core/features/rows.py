"""Sources of rows: what users bring, read in a fixed order with little memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.delimited import torn_row
from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.tables import FORMATS, kind_of, read_arrow

BATCH_ROWS = 65_536
_PIECES = 16
Wanted = Callable[[int, int], bool]
# what pandas writes beside the columns of a frame whose index is not a plain count
_INDEX = re.compile(r"__index_level_\d+__")


class RowSource(ABC):
    """Rows that can be read again and again, always in the same order.

    Attributes:
        name: What messages call it: a path, or ``"the table"``.
    """

    name: str

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Columns and their types; dictionaries are shown, and read, as what they stand for."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """How many rows there are."""

    @property
    @abstractmethod
    def estimated_bytes(self) -> int:
        """About how much memory all rows would take as Arrow."""

    def fingerprint(self) -> str:
        """Return the sha256 of the content; of files their names, sizes and bytes, which are read once."""
        return self._content

    @cached_property
    def _content(self) -> str:
        return self._hashed()

    @abstractmethod
    def _hashed(self) -> str: ...

    @abstractmethod
    def _read(self, columns: list[str], max_rows: int) -> Iterator[pa.RecordBatch]: ...

    def batches(
        self, columns: Sequence[str] | None = None, max_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows in their fixed order.

        Args:
            columns: Columns to read, in the order wanted; None for all.
            max_rows: Most rows of a batch; batches may be smaller, never empty.

        Raises:
            DataError: A column does not exist, or a file turns out to be broken.
        """
        wanted = self.schema.names if columns is None else list(columns)
        require_columns(wanted, self.schema.names, self.name)
        for batch in self._read(wanted, max_rows):
            if batch.num_rows:
                yield batch

    def numbered(
        self, columns: Sequence[str] | None, max_rows: int, wanted: Wanted
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield rows in their fixed order, each batch with the number of its first row, from 0.

        Args:
            columns: As for :meth:`batches`.
            max_rows: As for :meth:`batches`.
            wanted: Says whether any row ``start <= row < stop`` matters; other rows may be left out, and are
                not read where the format allows that.

        Raises:
            DataError: As for :meth:`batches`.
        """
        row = 0
        for batch in self.batches(columns, max_rows):
            if wanted(row, row + batch.num_rows):
                yield row, batch
            row += batch.num_rows

    def sample(self, rows: int) -> pa.Table:
        """Return about ``rows`` rows as pieces from all over the source, in order; all when it is small."""
        total = self.num_rows
        if total <= rows:
            return pa.Table.from_batches(list(self.batches()), self.schema)
        starts = np.linspace(0, total - rows // _PIECES, _PIECES).astype(int)
        wanted = [(int(start), int(start) + rows // _PIECES) for start in starts]
        return pa.Table.from_batches(list(pieces(self.batches(), wanted)), self.schema)


def pieces(batches: Iterator[pa.RecordBatch], wanted: Sequence[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    """Yield rows ``start <= row < stop`` of each interval, copied out of their batches.

    Args:
        batches: Rows from the first on.
        wanted: Disjoint intervals in rising order; reading stops behind the last.
    """
    waiting, row = list(wanted), 0
    for batch in batches:
        end = row + batch.num_rows
        while waiting and waiting[0][0] < end:
            start, stop = max(waiting[0][0], row), min(waiting[0][1], end)
            # a slice would keep the whole batch in memory
            yield batch.take(pa.array(np.arange(start - row, stop - row)))
            if waiting[0][1] > end:
                break
            waiting.pop(0)
        if not waiting:
            return
        row = end


class TableRows(RowSource):
    """Rows of an in-memory table.

    Args:
        table: The rows.
        name: What messages call it.

    Raises:
        DataError: Two columns have the same name.
    """

    def __init__(self, table: pa.Table, name: str = "the table") -> None:
        self.name = name
        require_distinct(table.column_names, name)
        self._table = table.select(kept(table.column_names))
        self._schema = plain_schema(self._table.schema)

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types."""
        return self._schema

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return int(self._table.num_rows)

    @property
    def estimated_bytes(self) -> int:
        """About how much memory all rows take."""
        return int(self._table.nbytes)

    def _hashed(self) -> str:
        from appliedpapers.core.fingerprint import table_fingerprint

        return table_fingerprint(self._table)

    def _read(self, columns: list[str], max_rows: int) -> Iterator[pa.RecordBatch]:
        wanted = pa.schema([self._schema.field(name) for name in columns])
        for batch in self._table.select(columns).to_batches(max_chunksize=max_rows):
            yield conform(batch, wanted, self.name)


def open_rows(path: Path) -> RowSource:
    """Open a file or a folder of files: Parquet, CSV, TSV (gzip too), JSON lines or Arrow.

    Files of a folder are read in the order of their paths; names that begin with ``.`` or ``_`` and files of
    other kinds are passed over. Folders named ``key=value`` become columns. Opening reads no rows, except
    that text is read once, when its schema or its number of rows is first asked for.

    Raises:
        DataError: Nothing is there, it is empty, broken, of an unknown format or of several, or its files
            have different columns.
    """
    files = find_files(path)
    kind = kind_of(files[0])
    if kind == "parquet":
        from appliedpapers.core.features.rows_parquet import ParquetRows

        return ParquetRows(path, files)
    if kind == "arrow":
        return TableRows(_map_arrow(path, files), str(path))
    from appliedpapers.core.features.rows_text import TextRows

    return TextRows(path, files)


def find_files(path: Path) -> list[Path]:
    """Return the data files at ``path`` in the order in which they are read; all of one format.

    Raises:
        DataError: See :func:`open_rows`.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.", hint="Check the path.")
    if path.is_file():
        if kind_of(path) is None:
            raise DataError(f"{path}: unknown format.", hint=f"Expected one of {', '.join(FORMATS)}.")
        found = [path]
    else:
        found = [file for file in sorted(path.rglob("*")) if _is_data(file.relative_to(path), file)]
        if not found:
            raise DataError(f"{path}: no data file in it.", hint=f"Expected {', '.join(FORMATS)}.")
    kinds = [kind_of(file) for file in found]
    keyed = next(
        (file for file in found if any("=" in part for part in file.relative_to(path).parts[:-1])), None
    )
    if keyed is not None and kinds[0] != "parquet":
        raise DataError(
            f"{path}: {keyed.relative_to(path).parent} names a value, which is read of Parquet files alone.",
            hint="Write the value into a column, or bring Parquet files.",
        )
    for file, kind in zip(found, kinds, strict=True):
        if kind != kinds[0]:
            raise DataError(
                f"{path}: files of different formats, such as {found[0].name} and {file.name}.",
                hint="Name one file, or move one kind to a folder of its own.",
            )
        if file.stat().st_size == 0:
            raise DataError(f"{file}: the file is empty.", hint="Expected column names and rows.")
    return found


def kept(names: Sequence[str]) -> list[str]:
    """Return the names without those that only hold an index of pandas."""
    return [name for name in names if not _INDEX.fullmatch(name)]


def require_columns(wanted: Sequence[str], present: Sequence[str], name: str) -> None:
    """Check that columns exist.

    Raises:
        DataError: One does not.
    """
    for column in wanted:
        if column not in present:
            raise DataError(f"{name}: no column is called '{column}'.", hint=did_you_mean(column, present))


def require_distinct(names: Sequence[str], name: str) -> None:
    """Check that no column occurs twice.

    Raises:
        DataError: One does.
    """
    seen: set[str] = set()
    for column in names:
        if column in seen:
            raise DataError(f"{name}: column '{column}' occurs twice.", hint="Rename or remove one of them.")
        seen.add(column)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the types in which rows are read, without metadata."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which values are read: dictionaries decoded, decimals as doubles."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_decimal(kind):
        return pa.float64()
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(plain_type(kind.value_type))
    # views came with Arrow 15 and few kernels take them
    return {"string_view": pa.string(), "binary_view": pa.binary()}.get(str(kind), kind)


def conform(batch: pa.RecordBatch, schema: pa.Schema, name: str) -> pa.RecordBatch:
    """Return a batch with the columns and types of ``schema``; columns are found by name.

    Raises:
        DataError: A value does not fit the type.
    """
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field in schema:
        values = batch.column(batch.schema.get_field_index(field.name))
        try:
            columns.append(_cast(values, field.type))
        except pa.ArrowException as error:
            raise DataError(
                f"{name}: column '{field.name}' cannot be read as {field.type} ({first_line(error)}).",
                hint="Give the column one type in all files.",
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if values.type.equals(kind):
        return values
    # a decimal seldom has an exact double
    return pc.cast(values, kind, safe=not pa.types.is_decimal(values.type))


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without a full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def broken(path: Path, error: BaseException) -> DataError:
    """Return the error that a person should see when a file could not be read."""
    return torn_row(path, error) or DataError(
        f"{path}: cannot be read ({first_line(error)}).", hint="Is it complete, and what its name says?"
    )


def _is_data(relative: Path, file: Path) -> bool:
    hidden = any(part.startswith((".", "_")) and "=" not in part for part in relative.parts)
    return not hidden and kind_of(file) is not None and file.is_file()


def _map_arrow(path: Path, files: Sequence[Path]) -> pa.Table:
    tables = []
    for file in files:
        try:
            tables.append(read_arrow(file))
        except (OSError, pa.ArrowException) as error:
            raise broken(file, error) from None
        require_same_columns(files[0], tables[0].column_names, file, tables[-1].column_names)
    table = pa.concat_tables(tables, promote_options="permissive")
    if not table.num_rows:
        raise no_rows(path)
    return table


def no_rows(path: Path) -> DataError:
    """Return the error for a source without rows."""
    return DataError(f"{path}: no rows.", hint="Expected at least one row below the column names.")


def require_same_columns(first: Path, names: Sequence[str], other: Path, others: Sequence[str]) -> None:
    """Check that two files of a folder have the same columns, in whatever order.

    Raises:
        DataError: One has a column that the other lacks.
    """
    for here, there, missing in (
        (first, other, set(names) - set(others)),
        (other, first, set(others) - set(names)),
    ):
        if missing:
            raise DataError(
                f"{here}: column '{min(missing)}' is not in {there}.",
                hint="All files of a folder need the same columns.",
            )

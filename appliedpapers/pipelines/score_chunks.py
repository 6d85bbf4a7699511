"""Cutting a stream of rows into chunks of whole items: rows, or groups that stay together."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from appliedpapers.core.casting import cast_scalars, one_array
from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column, TableSchema, Violation
from appliedpapers.pipelines.score_files import Fragment
from appliedpapers.pipelines.score_input import Piece, Rows, named_pieces

SORTED_IN_MEMORY = 1_000_000
_ROW_BYTES_BUDGET = 256 << 20
_FILE_CELL_BYTES = 1 << 20
_RAGGED_CELL_BYTES = 1 << 16
_LIST_OF_TEXTS_BYTES = 1 << 10
_PLAIN_CELL_BYTES = 32
_RECENT_KEYS = 1 << 16

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Origin:
    """Rows of a chunk that come from one fragment: ``rows`` are their numbers in it, from 1."""

    fragment: Fragment
    rows: Rows


@dataclass(frozen=True)
class Chunk:
    """Rows that are scored together; no item is cut in two.

    Attributes:
        table: The rows, loosely typed.
        starts: Position of the first row of each item.
        origins: Where the rows come from, in their order.
        broken: Lines of the input that are not rows.
    """

    table: pa.Table
    starts: Rows
    origins: tuple[Origin, ...]
    broken: tuple[Violation, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as Arrow's own format, which leaves the rows around a slice behind."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return _arrived, (sink.getvalue().to_pybytes(), self.starts, self.origins, self.broken)

    def locate(self, position: int) -> tuple[str, int]:
        """Return the file and the row number in it of a row of the table."""
        for origin in self.origins:
            if position < len(origin.rows):
                return origin.fragment.name, int(origin.rows[position])
            position -= len(origin.rows)
        raise IndexError(position)

    def only(self, keep: NDArray[np.bool_]) -> Chunk:
        """Return the items for which ``keep`` is true."""
        if keep.all():
            return self
        lengths = np.diff(self.starts, append=self.table.num_rows)
        mask = np.repeat(keep, lengths)
        ends = np.cumsum([len(origin.rows) for origin in self.origins])
        origins = tuple(
            Origin(origin.fragment, origin.rows[part])
            for origin, part in zip(self.origins, np.split(mask, ends[:-1]), strict=True)
        )
        starts = np.cumsum(lengths[keep]) - lengths[keep]
        return Chunk(self.table.filter(pa.array(mask)), starts, origins, self.broken)

    def head(self, rows: int) -> Chunk:
        """Return the items that begin within the first ``rows`` rows."""
        later = self.starts[self.starts >= rows]
        end = int(later[0]) if len(later) else self.table.num_rows
        origins, left = [], end
        for origin in self.origins:
            origins.append(Origin(origin.fragment, origin.rows[:left]))
            left -= len(origins[-1].rows)
        return Chunk(self.table.slice(0, end), self.starts[self.starts < end], tuple(origins), self.broken)


def _arrived(rows: bytes, *others: Any) -> Chunk:
    return Chunk(pa.ipc.open_stream(rows).read_all(), *others)


def fitting_rows(schema: TableSchema, wanted: int) -> int:
    """Return how many rows a batch has: ``wanted``, or fewer where rows are wide."""
    return max(1, min(wanted, _ROW_BYTES_BUDGET // sum(_cell_bytes(column) for column in schema.columns)))


def cut(
    fragments: Sequence[Fragment],
    schema: TableSchema,
    *,
    rows: int,
    alone: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Chunk]:
    """Yield the rows of ``fragments`` in chunks whose bounds depend on the content alone.

    Without ``group_by`` a chunk never reaches over a file. With it, a group that continues in the next file
    is joined. A single file of up to a million rows may have its groups interleaved: it is sorted in memory.

    Args:
        fragments: The files, in order.
        schema: The model's input schema.
        rows: Rows of a chunk; a group that is longer stays whole.
        alone: Every item is a chunk of its own.
        say: Told when an input was sorted, and how one was read where that was inferred.

    Raises:
        DataError: A file lacks a column or cannot be read, or a group reappears after it ended.
    """
    size = 1 if alone else rows
    buffer = _Buffer(schema)
    for fragment in fragments:
        pieces = named_pieces(fragment, schema, rows, say)
        if schema.group_by and len(fragments) == 1:
            pieces = _grouped(pieces, fragment, schema, say)
        for piece in pieces:
            if not schema.group_by and not buffer.waits and piece.table.num_rows == size:
                numbers = np.arange(size, dtype=np.int64)
                yield Chunk(piece.table, numbers, (Origin(fragment, piece.rows),), piece.broken)
                continue
            yield from buffer.absorb(fragment, piece, size)
        if not schema.group_by:
            yield from buffer.take(size, everything=True)
    yield from buffer.take(size, everything=True)


def cut_sorted(
    rows: Iterable[tuple[Fragment, Piece]], schema: TableSchema, *, size: int, alone: bool = False
) -> Iterator[Chunk]:
    """Yield rows that were sorted by their groups, from whatever files, in chunks of about ``size``."""
    size = 1 if alone else size
    buffer = _Buffer(schema)
    for fragment, piece in rows:
        yield from buffer.absorb(fragment, piece, size, apart=False)
    yield from buffer.take(size, everything=True)


class _Buffer:
    """Rows that wait for their item or their chunk to be complete."""

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._seen = _SeenKeys()
        self._open_key: Key | None = None
        self._parts: list[tuple[Fragment, pa.Table, Rows]] = []
        self._starts = np.empty(0, dtype=np.int64)
        self._broken: list[Violation] = []
        self._length = 0
        self.owner: Fragment | None = None

    @property
    def waits(self) -> bool:
        """Whether anything is there."""
        return bool(self._parts)

    def items(self, table: pa.Table) -> tuple[Rows, list[Key]]:
        """Return where items begin and the keys of groups; rows before continue the open group."""
        if not self._schema.group_by:
            return np.arange(table.num_rows, dtype=np.int64), []
        starts, keys = find_runs(table, self._schema)
        if self._length and keys and keys[0] == self._open_key:
            return starts[1:], keys[1:]
        if not self._length and table.num_rows:
            # rows without a key that nothing precedes go with the first group; the check rejects them
            starts, keys = (starts, keys) if keys else (np.zeros(1, dtype=np.int64), [()])
            starts[0] = 0
        return starts, keys

    def absorb(self, fragment: Fragment, piece: Piece, size: int, *, apart: bool = True) -> Iterator[Chunk]:
        """Append rows, and yield the chunks that are complete; ``apart`` begins one with each file."""
        starts, keys = self.items(piece.table)
        joined = int(starts[0]) if len(starts) else piece.table.num_rows
        self.add(fragment, Piece(piece.table.slice(0, joined), piece.rows[:joined]), starts[:0], [])
        if apart and len(starts) and self.owner is not fragment:
            yield from self.take(size, everything=True)
        rest = Piece(piece.table.slice(joined), piece.rows[joined:], piece.broken)
        self.add(fragment, rest, starts - joined, keys)
        yield from self.take(size)

    def add(self, fragment: Fragment, piece: Piece, starts: Rows, keys: Sequence[Key]) -> None:
        """Append rows; ``starts`` are the positions in ``piece`` where items with ``keys`` begin."""
        for start, key in zip(starts, keys, strict=False):
            if self._seen.add(key):
                self._refuse(fragment, piece, int(start), key)
            self._open_key = key
        if len(starts) or self.owner is None:
            self.owner = fragment
        if piece.table.num_rows or piece.broken:
            self._parts.append((fragment, piece.table, piece.rows))
        self._starts = np.concatenate([self._starts, starts + self._length])
        self._length += piece.table.num_rows
        self._broken += piece.broken

    def take(self, size: int, *, everything: bool = False) -> Iterator[Chunk]:
        """Yield the chunks that are complete, or with ``everything`` all that is there."""
        while self._parts:
            bounds = self._starts[1:]
            if everything:
                bounds = np.append(bounds, self._length)
            if not everything and (not len(bounds) or bounds[-1] < size):
                return
            fitting = bounds[bounds <= size]
            yield self._pop(int(fitting[-1] if len(fitting) else bounds[0]))

    def _pop(self, end: int) -> Chunk:
        tables: list[pa.Table] = []
        origins: list[Origin] = []
        left = end
        while self._parts and (left or self._parts[0][1].num_rows == 0):
            fragment, table, rows = self._parts.pop(0)
            if table.num_rows > left:
                self._parts.insert(0, (fragment, table.slice(left), rows[left:]))
                table, rows = table.slice(0, left), rows[:left]
            left -= table.num_rows
            tables.append(table)
            if origins and origins[-1].fragment is fragment:
                origins[-1] = Origin(fragment, np.concatenate([origins[-1].rows, rows]))
            else:
                origins.append(Origin(fragment, rows))
        chunk = Chunk(join(tables), self._starts[self._starts < end], tuple(origins), tuple(self._broken))
        self._starts = self._starts[self._starts >= end] - end
        self._length -= end
        self._broken = []
        return chunk

    def _refuse(self, fragment: Fragment, piece: Piece, start: int, key: Key) -> None:
        names = ", ".join(self._schema.group_by)
        values = ", ".join(map(str, key))
        raise DataError(
            f"{fragment.name}, row {int(piece.rows[start])}: group {names} = {values} ended and reappears.",
            hint="The rows of a group must stand together: add --sort, or sort the input by the group.",
        )


class _SeenKeys:
    """Which keys came by: eight bytes each, in sorted runs that double in size."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[np.ndarray[Any, np.dtype[np.uint64]]] = []

    def add(self, key: Key) -> bool:
        """Remember ``key`` and return whether it was there before."""
        digest = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest())
        if digest in self._recent or any(_contains(run, digest) for run in self._sorted):
            return True
        self._recent.add(digest)
        if len(self._recent) >= _RECENT_KEYS:
            run = np.sort(np.fromiter(self._recent, np.uint64, len(self._recent)))
            while self._sorted and len(self._sorted[-1]) <= len(run):
                run = np.sort(np.concatenate([self._sorted.pop(), run]))
            self._sorted.append(run)
            self._recent = set()
        return False


def _contains(run: np.ndarray[Any, np.dtype[np.uint64]], digest: int) -> bool:
    place = int(np.searchsorted(run, np.uint64(digest)))
    return place < len(run) and int(run[place]) == digest


def find_runs(table: pa.Table, schema: TableSchema) -> tuple[Rows, list[Key]]:
    """Return the positions where the group changes, and the key of each run.

    A row whose key is missing does not end a run: it is a bad row, not a group.
    """
    codes, distinct = zip(
        *(_codes(table.column(name), schema.column(name)) for name in schema.group_by), strict=True
    )
    stacked = np.stack(codes)
    keyed = np.flatnonzero((stacked >= 0).all(axis=0))
    if not len(keyed):
        return keyed, []
    stacked = stacked[:, keyed]
    changed = np.flatnonzero(np.append(True, (stacked[:, 1:] != stacked[:, :-1]).any(axis=0)))
    columns = (
        [values[code] for code in numbers[changed].tolist()]
        for values, numbers in zip(distinct, stacked, strict=True)
    )
    return keyed[changed], list(zip(*columns, strict=True))


def _codes(column: pa.ChunkedArray, wanted: Column) -> tuple[Rows, list[Any]]:
    """Number the values of a column, -1 for missing; what the check casts to one value has one number."""
    plain = one_array(column)
    encoded = (plain.cast(pa.string()) if pa.types.is_null(plain.type) else plain).dictionary_encode()
    raw = encoded.dictionary
    cast, uncast = cast_scalars(raw, wanted)
    keys = cast.to_pylist()
    for place in uncast:
        keys[int(place)] = raw[int(place)].as_py()
    values: dict[Any, int] = {}
    translate = [-1 if key is None else values.setdefault(key, len(values)) for key in keys]
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.append(np.array(translate, dtype=np.int64), -1)[codes], list(values)


def join(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables that were typed loosely and apart; columns that do not agree become text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        kinds: dict[str, set[Any]] = {}
        for table in tables:
            for field in table.schema:
                kinds.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, types in kinds.items() if len(types) > 1}
        return pa.concat_tables([_as_text(table, mixed) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in names:
            cells = [
                cell if cell is None or isinstance(cell, str) else str(cell)
                for cell in table.column(name).to_pylist()
            ]
            table = table.set_column(place, name, pa.array(cells, pa.string()))
    return table


def _grouped(
    pieces: Iterator[Piece], fragment: Fragment, schema: TableSchema, say: Callable[[str], None]
) -> Iterator[Piece]:
    """Bring interleaved groups together when the whole fragment is small enough to be sorted in memory."""
    gathered: list[Piece] = []
    rows = size = 0
    for piece in pieces:
        gathered.append(piece)
        rows += piece.table.num_rows
        size += piece.table.nbytes
        if rows > SORTED_IN_MEMORY or size > _ROW_BYTES_BUDGET:
            yield from itertools.chain(gathered, pieces)
            return
    whole = Piece(
        join([piece.table for piece in gathered]),
        np.concatenate([piece.rows for piece in gathered]),
        tuple(broken for piece in gathered for broken in piece.broken),
    )
    starts, keys = find_runs(whole.table, schema)
    first: dict[Key, int] = {}
    ranks = [first.setdefault(key, len(first)) for key in keys]
    if len(first) == len(keys):
        yield from gathered
        return
    say(f"{fragment.name}: groups are interleaved; sorted in memory ({rows:,} rows)")
    lengths = np.diff(np.append(np.append(0, starts[1:]), rows))
    order = np.argsort(np.repeat(ranks, lengths), kind="stable")
    yield Piece(whole.table.take(pa.array(order)), whole.rows[order], whole.broken)


def _cell_bytes(column: Column) -> int:
    if column.file is not None:
        return _FILE_CELL_BYTES
    if column.ragged:
        return _LIST_OF_TEXTS_BYTES if column.dtype == "string" else _RAGGED_CELL_BYTES
    return 8 * column.size if column.shape else _PLAIN_CELL_BYTES

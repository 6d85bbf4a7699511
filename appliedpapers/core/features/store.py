"""Encoded rows on disk: written once, read block by block, shuffled within bounded memory.

The file is one uncompressed Arrow IPC file. Each record batch is a block; all blocks but the last have
the same number of rows. It is read with ordinary reads and never mapped, since mapped pages count as memory
of the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from appliedpapers.core.errors import RunError
from appliedpapers.core.features.encoded import EncodedField, EncodedRows, concat_rows
from appliedpapers.core.files import whole_file

BLOCK_ROWS = 2_048
BUFFER_ROWS = 1_000_000

_KEY = b"encoded"
_SEQUENCE = "sequence_"


@dataclass(frozen=True)
class EncodedStore:
    """Encoded rows in a file; safe to read from several threads, each call opens the file anew.

    Attributes:
        path: The file.
        fields: What the rows consist of.
        rows: How many there are.
        block_rows: Rows of every block but the last.
    """

    path: Path
    fields: tuple[EncodedField, ...]
    rows: int
    block_rows: int

    def __len__(self) -> int:
        return self.rows

    @classmethod
    def write(cls, path: Path, parts: Iterable[EncodedRows], *, block_rows: int = BLOCK_ROWS) -> EncodedStore:
        """Write parts of the same fields one after the other and return them as a store.

        Args:
            path: The file; it appears when all is written.
            parts: Rows in order, at least one part; a part and a block are in memory at a time.
            block_rows: Rows of a block. Smaller blocks are mixed better and read slower.

        Raises:
            RunError: There are no parts, or the folder is not writable or the disk full.
        """
        iterator = iter(parts)
        first = next(iterator, None)
        if first is None:
            raise RunError(f"{path}: there are no rows to store.", hint="Check the file and how it is split.")
        rows = 0
        with whole_file(path) as aside, pa.OSFile(str(aside), "wb") as file:
            schema = _schema(first, block_rows)
            with pa.ipc.new_file(file, schema) as writer:
                for block in _blocks_of(chain([first], iterator), block_rows):
                    writer.write_batch(_batch(block, schema))
                    rows += len(block)
        return cls(path, first.fields, rows, block_rows)

    @classmethod
    def open(cls, path: Path) -> EncodedStore:
        """Return the store that :meth:`write` made.

        Raises:
            RunError: The file is absent or no store.
        """
        with _reading(path) as reader:
            about = json.loads((reader.schema.metadata or {}).get(_KEY, b"null"))
            if about is None:
                raise _broken(path)
            last = reader.num_record_batches - 1
            rows = 0 if last < 0 else last * about["block_rows"] + reader.get_batch(last).num_rows
        fields = tuple(EncodedField(**field) for field in about["fields"])
        return cls(path, fields, rows, about["block_rows"])

    def blocks(self, start: int = 0) -> Iterator[EncodedRows]:
        """Yield the blocks in order, from block ``start`` on.

        Raises:
            RunError: The file is absent or broken.
        """
        with _reading(self.path) as reader:
            for number in range(start, self._count):
                yield self._filled(reader, [number])

    def sequential(self, batch_size: int, *, skip: int = 0) -> Iterator[EncodedRows]:
        """Yield all rows in order, ``batch_size`` at a time, the last batch as long as it comes.

        Args:
            batch_size: Rows of a batch.
            skip: Batches to leave out at the start; their blocks are not read.

        Raises:
            RunError: The file is absent or broken.
        """
        groups = [[number] for number in range(self._count)]
        return self._batches(groups, batch_size, None, skip, 0, 1)

    def shuffled(
        self,
        batch_size: int,
        seed: int | tuple[int, ...],
        *,
        buffer_rows: int = BUFFER_ROWS,
        skip: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> Iterator[EncodedRows]:
        """Yield every row once in random order, ``batch_size`` at a time, the last batch as long as it comes.

        Blocks come in random order; a buffer takes as many as fit, its rows are mixed and handed out, and it
        takes the next ones. Where all rows fit, every order is equally likely.

        Args:
            batch_size: Rows of a batch.
            seed: Decides the order, together with ``buffer_rows``; such as ``(seed, epoch)``.
            buffer_rows: Rows of the buffer, rounded down to whole blocks, at least one.
            skip: Batches to leave out at the start, those of all ranks counted; buffers of which nothing is
                left are not read.
            rank: Of the batches that are left, take those whose number is ``rank`` modulo ``ranks``.
            ranks: Processes that share the rows.

        Raises:
            RunError: The file is absent or broken.
        """
        key = (seed,) if isinstance(seed, int) else seed
        order = np.random.default_rng((0, *key)).permutation(self._count).tolist()
        room = max(1, buffer_rows // self.block_rows)
        groups = [order[at : at + room] for at in range(0, len(order), room)]
        return self._batches(groups, batch_size, key, skip, rank, ranks)

    @property
    def _count(self) -> int:
        return -(-self.rows // self.block_rows)

    def _batches(
        self,
        groups: list[list[int]],
        batch_size: int,
        key: tuple[int, ...] | None,
        skip: int,
        rank: int,
        ranks: int,
    ) -> Iterator[EncodedRows]:
        position, before = skip * batch_size, 0
        waiting: list[EncodedRows] = []
        with _reading(self.path) as reader:
            for group, blocks in enumerate(groups):
                end = before + sum(self._rows_of(number) for number in blocks)
                if position < end:
                    buffer = self._filled(reader, blocks)
                    mixed = None
                    if key is not None:
                        mixed = np.random.default_rng((group + 1, *key)).permutation(end - before)
                    while position < end:
                        number = position // batch_size
                        full = (number + 1) * batch_size
                        span = slice(position - before, min(full, end) - before)
                        position = min(full, end)
                        if (number - skip) % ranks != rank:
                            continue
                        waiting.append(buffer.take(span if mixed is None else mixed[span]))
                        if position in (full, self.rows):
                            yield concat_rows(waiting) if len(waiting) > 1 else waiting[0]
                            waiting.clear()
                    # the next buffer is filled after this one is gone, so that there is one at a time
                    del buffer
                before = end

    def _rows_of(self, number: int) -> int:
        return min(self.block_rows, self.rows - number * self.block_rows)

    def _filled(self, reader: pa.ipc.RecordBatchFileReader, blocks: list[int]) -> EncodedRows:
        """Return the rows of some blocks, in arrays of their own."""
        total = sum(self._rows_of(number) for number in blocks)
        names = reader.schema.names
        arrays = {
            name: np.empty((total, *shape), dtype)
            for name, (shape, dtype) in _layout(self.fields).items()
            if name in names or 0 in shape
        }
        at = 0
        for number in blocks:
            try:
                batch = reader.get_batch(number)
            except (OSError, pa.ArrowException) as error:
                raise _broken(self.path) from error
            for name in names:
                column = batch.column(name)
                flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
                rows = arrays[name][at : at + batch.num_rows]
                rows[:] = flat.to_numpy().reshape(rows.shape)
            at += batch.num_rows
        return EncodedRows(
            self.fields,
            arrays["ids"],
            arrays["numbers"],
            tuple(arrays[name] for name in arrays if name.startswith(_SEQUENCE)),
            arrays.get("label"),
            arrays.get("weight"),
        )


def _layout(fields: tuple[EncodedField, ...]) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Return the shape of a row and the type of every array that rows of these fields may have."""
    kinds = [field.kind for field in fields]
    lengths = [field.length for field in fields if field.kind == "sequence"]
    return {
        "ids": ((kinds.count("categorical"),), np.int32),
        "numbers": ((kinds.count("numeric"),), np.float32),
        **{f"{_SEQUENCE}{i}": ((length,), np.int32) for i, length in enumerate(lengths)},
        "label": ((), np.float32),
        "weight": ((), np.float32),
    }


def _arrays(rows: EncodedRows) -> dict[str, NDArray[Any]]:
    """Return the arrays of rows by name, but for those without a column."""
    every = {
        "ids": rows.ids,
        "numbers": rows.numbers,
        **{f"{_SEQUENCE}{i}": one for i, one in enumerate(rows.sequences)},
        "label": rows.label,
        "weight": rows.weight,
    }
    return {name: one for name, one in every.items() if one is not None and 0 not in one.shape[1:]}


def _schema(rows: EncodedRows, block_rows: int) -> pa.Schema:
    about = {"fields": [asdict(field) for field in rows.fields], "block_rows": block_rows}
    columns = []
    for name, array in _arrays(rows).items():
        kind = pa.from_numpy_dtype(array.dtype)
        columns.append(pa.field(name, kind if array.ndim == 1 else pa.list_(kind, array.shape[1])))
    return pa.schema(columns, metadata={_KEY: json.dumps(about)})


def _batch(rows: EncodedRows, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for array in _arrays(rows).values():
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        columns.append(flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, array.shape[1]))
    return pa.record_batch(columns, schema=schema)


def _blocks_of(parts: Iterable[EncodedRows], block_rows: int) -> Iterator[EncodedRows]:
    waiting: list[EncodedRows] = []
    count = 0
    for part in parts:
        at = 0
        while at < len(part):
            piece = part.take(slice(at, at + block_rows - count))
            waiting.append(piece)
            at, count = at + len(piece), count + len(piece)
            if count == block_rows:
                yield concat_rows(waiting) if len(waiting) > 1 else piece
                waiting, count = [], 0
    if waiting:
        yield concat_rows(waiting)


@contextmanager
def _reading(path: Path) -> Iterator[pa.ipc.RecordBatchFileReader]:
    try:
        file = pa.OSFile(str(path), "rb")
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read.", hint="Run the same command again to encode anew."
        ) from error
    with file:
        try:
            reader = pa.ipc.open_file(file)
        except (OSError, pa.ArrowException) as error:
            raise _broken(path) from error
        yield reader


def _broken(path: Path) -> RunError:
    return RunError(
        f"{path}: holds no encoded rows, or is broken.", hint="Delete it and run the same command again."
    )

"""Which rows two tables share, and one digest of very many rows, without a Python object for each row.

Rows are compared by 64-bit hashes; those that seem to be in both tables are looked at themselves, some at a
time. So memory is that of the tables plus about 24 bytes a row.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from appliedpapers.core.row_hashes import Hashes, row_hashes, slices

_CONFIRMED = 500_000  # rows at once: as Python objects they take some hundred bytes each
_HEX = 64


class RowSet:
    """The distinct rows of a table.

    Args:
        table: Its columns make up a row.
        single: Rows are spoken of as the value of the only column, not as a tuple.
    """

    def __init__(self, table: pa.Table, *, single: bool = False) -> None:
        self.table = table
        self.single = single

    @classmethod
    def of(cls, values: pa.Array | pa.ChunkedArray) -> RowSet:
        """Return the distinct values of one array."""
        return cls(pa.table({"value": values}), single=True)

    @cached_property
    def hashes(self) -> Hashes:
        """The distinct hashes of the rows, rising."""
        found = row_hashes(self.table)
        found.sort()
        new = np.ones(found.size, dtype=bool)
        np.not_equal(found[1:], found[:-1], out=new[1:])
        # keys seldom repeat, and there may be many
        return found if new.all() else found[new]

    def rows(self, hashes: Hashes) -> set[Any]:
        """Return the rows that have one of these rising hashes, as Python values."""
        found: set[Any] = set()
        for _, part in slices(self.table):
            own = row_hashes(part)
            part = part.filter(pa.array(_is_in(own, hashes)))
            columns = [column.to_pylist() for column in part.columns]
            found.update(columns[0] if self.single else zip(*columns, strict=True))
        return found


def common_rows(first: RowSet, second: RowSet, shown: int) -> tuple[int, tuple[str, ...]]:
    """Return how many distinct rows two tables share, and the first ``shown`` of them as sorted texts."""
    small, large = sorted((first.hashes, second.hashes), key=len)
    candidates = small[_is_in(small, large)]
    count, examples = 0, list[str]()
    for start in range(0, candidates.size, _CONFIRMED):
        part = candidates[start : start + _CONFIRMED]
        common = first.rows(part) & second.rows(part)
        count += len(common)
        examples = heapq.nsmallest(shown, [*examples, *map(str, common)])
    return count, tuple(examples)


def overlapping(first: pa.Table, second: pa.Table, shown: int) -> tuple[int, tuple[str, ...]]:
    """Return how many windows of one table overlap a window of another, and some of them as texts.

    Args:
        first: Columns ``group``, ``first`` and ``stop``; ``stop`` is not covered.
        second: Likewise.
        shown: How many are told.
    """
    count, examples = 0, list[str]()
    groups = sorted(set(first.column("group").to_pylist()) & set(second.column("group").to_pylist()))
    for group in groups:
        starts, stops = _span_arrays(first, group)
        others, ends = _span_arrays(second, group)
        order = np.argsort(others, kind="stable")
        # of the windows that begin before one ends, does any reach into it?
        furthest = np.maximum.accumulate(ends[order])
        place = np.searchsorted(others[order], stops, side="left") - 1
        hit = (place >= 0) & (furthest[np.maximum(place, 0)] > starts)
        count += int(hit.sum())
        examples += [f"{group} {begin} to {end}" for begin, end in zip(starts[hit], stops[hit], strict=True)][
            :shown
        ]
    return count, tuple(examples[:shown])


def _span_arrays(spans: pa.Table, group: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    own = spans.filter(pa.compute.equal(spans.column("group"), group))
    return own.column("first").to_numpy(), own.column("stop").to_numpy()


def digest_of_rows(names: Sequence[str], tables: Sequence[pa.Table]) -> str:
    """Return the sha256 of a JSON list of the names and of the sorted sha256 sums of all rows' ``repr``.

    Args:
        names: Go first, in their order.
        tables: Their rows follow, sorted over all tables, so that their order makes no difference.
    """
    rows = np.frombuffer(b"".join(digest for table in tables for digest in _row_digests(table)), dtype="S32")
    rows = np.sort(rows)
    digest = hashlib.sha256(json.dumps(list(names))[:-1].encode())
    for start in range(0, rows.size, _CONFIRMED):
        part = rows[start : start + _CONFIRMED]
        text = np.frombuffer(part.tobytes().hex().encode(), dtype=np.uint8).reshape(-1, _HEX)
        # the text that json.dumps would write for one long list of strings
        cells = np.empty((len(text), _HEX + 4), dtype=np.uint8)
        cells[:, :3], cells[:, 3:-1], cells[:, -1] = np.frombuffer(b', "', dtype=np.uint8), text, ord('"')
        digest.update(cells.data)
    digest.update(b"]")
    return digest.hexdigest()


def _row_digests(table: pa.Table) -> Iterator[bytes]:
    sha256 = hashlib.sha256
    single = table.num_columns == 1 and pa.types.is_integer(table.schema.field(0).type)
    for _, part in slices(table):
        column = part.column(0) if single else None
        if column is not None and not column.null_count:
            # the text that repr would give for a tuple of one number, in a third of the time
            yield b"".join([sha256(b"(%d,)" % number).digest() for number in column.to_numpy().tolist()])
            continue
        rows = zip(*(column.to_pylist() for column in part.columns), strict=True)
        yield b"".join([sha256(repr(row).encode()).digest() for row in rows])


def _is_in(values: Hashes, rising: Hashes) -> NDArray[np.bool_]:
    if not rising.size:
        return np.zeros(values.size, dtype=bool)
    place = np.searchsorted(rising, values)
    return np.asarray(rising[np.minimum(place, rising.size - 1)] == values)

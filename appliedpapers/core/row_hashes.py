"""64-bit hashes of the rows of a table, made column by column, for looking up equal rows among millions.

Rows whose values are equal in Python (1 and 1.0, a text and its dictionary code) have equal hashes; missing
values equal each other. The other way round two rows out of n differ and agree by chance about once in
``2**65 / n**2`` tables, so what is found must be confirmed where that matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_ROWS = 1 << 19  # at once: bounds what lies in memory beside the hashes
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_MISSING = np.uint64(0x6A09E667F3BCC909)
_WHOLE = 2.0**53  # floats below it that hold whole numbers hash as those do


def row_hashes(table: pa.Table) -> Hashes:
    """Return one hash a row, the same for the same values however they are held, shape ``(rows,)``."""
    found = np.empty(table.num_rows, dtype=np.uint64)
    for start, part in slices(table):
        found[start : start + part.num_rows] = _table_hashes(part)
    return found


def slices(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Yield a table in parts that are hashed at once, each with the number of its first row."""
    for start in range(0, table.num_rows, _ROWS):
        yield start, table.slice(start, _ROWS)


def _table_hashes(table: pa.Table) -> Hashes:
    total = np.zeros(table.num_rows, dtype=np.uint64)
    for column in table.columns:
        total = _mixed(total + _array_hashes(_joined(column)))
    return total


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _array_hashes(values: pa.Array) -> Hashes:
    if isinstance(values, pa.ExtensionArray):
        return _array_hashes(values.storage)
    hashes = _present_hashes(values)
    if values.null_count:
        hashes[np.asarray(pc.is_null(values))] = _MISSING
    return hashes


def _present_hashes(values: pa.Array) -> Hashes:
    """Return a hash a cell; anything where the cell is null."""
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), _MISSING)
    if pa.types.is_dictionary(kind):
        return _array_hashes(values.dictionary_decode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_hashes(values)
    if pa.types.is_struct(kind):
        parts = [pa.chunked_array([part]) for part in values.flatten()]
        return _table_hashes(pa.table(parts, names=[str(number) for number in range(len(parts))]))
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return _mixed(_bits(values.cast(pa.int8()) if pa.types.is_boolean(kind) else values))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _float_hashes(_numpy(values.cast(pa.float64())))
    if pa.types.is_timestamp(kind):
        return _mixed(_microseconds(values))
    if pa.types.is_temporal(kind):
        return _mixed(_bits(values.view(pa.int32() if kind.bit_width == 32 else pa.int64())))
    return _text_hashes(values)


def _numpy(values: pa.Array) -> NDArray[Any]:
    filled = values.fill_null(0) if values.null_count else values
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _bits(values: pa.Array) -> Hashes:
    numbers = _numpy(values)
    return numbers if numbers.dtype == np.uint64 else numbers.astype(np.int64).view(np.uint64)


def _float_hashes(numbers: NDArray[np.float64]) -> Hashes:
    bits = np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    whole = (np.abs(numbers) < _WHOLE) & (np.floor(numbers) == numbers)
    return _mixed(np.where(whole, np.where(whole, numbers, 0).astype(np.int64).view(np.uint64), bits))


def _microseconds(values: pa.Array) -> Hashes:
    numbers = _numpy(values.view(pa.int64()))
    unit = values.type.unit
    if unit == "ns":
        below = (numbers % 1000).view(np.uint64)
        return (numbers // 1000).view(np.uint64) + below * _FIRST
    return (numbers * {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]).view(np.uint64)


def _text_hashes(values: pa.Array) -> Hashes:
    try:
        codes = values.dictionary_encode()
    except pa.ArrowNotImplementedError:
        return _cell_hashes(values.to_pylist())
    by_code = _cell_hashes(codes.dictionary.to_pylist())
    return by_code[_numpy(codes.indices)] if by_code.size else np.full(len(values), _MISSING)


def _cell_hashes(cells: list[Any]) -> Hashes:
    digests = b"".join([hashlib.blake2b(_content(cell), digest_size=8).digest() for cell in cells])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _content(cell: Any) -> bytes:
    if isinstance(cell, str):
        return cell.encode()
    return cell if isinstance(cell, bytes) else repr(cell).encode()


def _list_hashes(values: pa.Array) -> Hashes:
    lengths = _numpy(pc.list_value_length(values)).astype(np.int64)
    hashes = _mixed(lengths.view(np.uint64) + _SECOND)
    inner = _array_hashes(values.flatten())
    ends = np.cumsum(lengths)
    first = np.repeat(ends - lengths, lengths)
    # the place in the list counts, so that [1, 2] and [2, 1] differ
    placed = _mixed(inner + (np.arange(inner.size) - first).astype(np.uint64) * _GOLDEN)
    filled = lengths > 0
    if filled.any():
        hashes[filled] += np.add.reduceat(placed, (ends - lengths)[filled])
    return _mixed(hashes)


def _mixed(bits: Hashes) -> Hashes:
    """Return the finaliser of SplitMix64 (Steele, Lea and Flood 2014) of each number."""
    mixed = bits + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)

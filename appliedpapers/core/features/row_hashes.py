"""64-bit hashes of values and rows, without a Python object a value. Not meant against adversaries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# steps and multipliers of splitmix64 (Steele, Lea and Flood 2014)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_MISSING = np.uint64(0x6A09E667F3BCC909)


def mixed(values: Hashes) -> Hashes:
    """Return values of which every bit depends on every bit of the given ones (splitmix64)."""
    z = values + _STEP
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)


def hash_rows(batch: pa.RecordBatch) -> Hashes:
    """Return one hash a row of all columns in their order, ``(rows,)`` uint64."""
    total = np.zeros(batch.num_rows, np.uint64)
    for column in batch.columns:
        total = mixed(total ^ hash_values(column))
    return total


def hash_values(values: pa.Array) -> Hashes:
    """Return one hash a value, ``(rows,)`` uint64; equal values of one type have equal hashes.

    Missing values are equal to one another; so are NaNs, and 0.0 and -0.0.
    """
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return hash_values(values.storage)
    if pa.types.is_dictionary(kind):
        return hash_values(values.dictionary_decode())
    if pa.types.is_null(kind):
        return np.full(len(values), _MISSING)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        hashes = _of_lists(values)
    elif any(is_kind(kind) for is_kind in _TEXT):
        hashes = _of_text(values.cast(pa.large_binary()))
    else:
        hashes = mixed(_as_bits(values))
    if values.null_count:
        hashes[np.asarray(pc.is_null(values))] = _MISSING
    return hashes


_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def _as_bits(values: pa.Array) -> Hashes:
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = np.asarray(pc.fill_null(values.cast(pa.float64()), 0.0)) + 0.0
        return np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    if pa.types.is_boolean(kind):
        return np.asarray(pc.fill_null(values, False)).astype(np.uint64)
    if pa.types.is_temporal(kind):
        values = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not pa.types.is_integer(kind):
        texts = [None if value is None else repr(value) for value in values.to_pylist()]
        return hash_values(pa.array(texts, pa.string()))
    whole = np.asarray(pc.fill_null(values, 0))
    return whole.astype(np.uint64 if whole.dtype.kind == "u" else np.int64).view(np.uint64)


def _of_text(values: pa.Array) -> Hashes:
    _, buffer, content = values.buffers()
    if not len(values):
        return np.zeros(0, np.uint64)
    ends = np.frombuffer(buffer, np.int64)[values.offset : values.offset + len(values) + 1]
    letters = np.frombuffer(content, np.uint8) if content is not None else np.zeros(0, np.uint8)
    lengths = np.diff(ends)
    hashes = mixed(lengths.astype(np.uint64))
    # eight letters at a time over all texts that are that long: texts are short, and rows many
    short = int(min(lengths.max(), 64))
    rows = np.arange(len(lengths))
    for position in range(0, short, 8):
        rows = rows[lengths[rows] > position]
        hashes[rows] = mixed(hashes[rows] ^ _word(letters, ends[rows] + position, lengths[rows] - position))
    for row in np.flatnonzero(lengths > short):
        hashes[row] = _of_long(hashes[row], letters[ends[row] + short : ends[row + 1]])
    return hashes


def _word(letters: NDArray[np.uint8], starts: NDArray[np.int64], left: NDArray[np.int64]) -> Hashes:
    word = np.zeros(len(starts), np.uint64)
    last = len(letters) - 1
    for byte in range(8):
        here = letters[np.minimum(starts + byte, last)].astype(np.uint64)
        word |= np.where(left > byte, here, 0).astype(np.uint64) << np.uint64(8 * byte)
    return word


def _of_long(start: np.uint64, letters: NDArray[np.uint8]) -> np.uint64:
    import hashlib

    digest = hashlib.blake2b(letters.tobytes(), digest_size=8, key=int(start).to_bytes(8, "little")).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _of_lists(values: pa.Array) -> Hashes:
    lengths = np.asarray(pc.fill_null(pc.list_value_length(values), 0)).astype(np.int64)
    # flatten leaves out what lies below a null
    items = hash_values(values.flatten())
    hashes = mixed(lengths.astype(np.uint64))
    starts = np.cumsum(lengths) - lengths
    within = np.arange(len(items)) - np.repeat(starts, lengths)
    parts = mixed(items ^ mixed(within.astype(np.uint64)))
    some = np.flatnonzero(lengths)
    if some.size:
        hashes[some] = mixed(hashes[some] ^ np.add.reduceat(parts, starts[some]))
    return hashes

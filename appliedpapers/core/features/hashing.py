"""A stable 64-bit hash of tokens: the same on every machine and in every version.

FNV-1a over the UTF-8 bytes, then the finaliser of MurmurHash3 (fmix64), since the low bits of FNV-1a alone
depend on the low bits of the text alone and would fill a power-of-two number of buckets badly.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BASIS = 0xCBF29CE484222325
PRIME = 0x100000001B3
MIX_1 = 0xFF51AFD7ED558CCD
MIX_2 = 0xC4CEB9FE1A85EC53

_MASK = 2**64 - 1
_FEW = 8


def hash_text(text: str) -> int:
    """Return the hash of one token, in ``0 .. 2**64 - 1``."""
    value = BASIS
    for byte in text.encode():
        value = (value ^ byte) * PRIME & _MASK
    value = (value ^ value >> 33) * MIX_1 & _MASK
    value = (value ^ value >> 33) * MIX_2 & _MASK
    return value ^ value >> 33


def hash_tokens(tokens: pa.Array) -> NDArray[np.uint64]:
    """Return the hashes of many tokens: :func:`hash_text` of each; nulls hash as the empty text.

    Args:
        tokens: ``(n,)`` large_string. The time grows with the longest of them.
    """
    if len(tokens) <= _FEW:
        return np.array([hash_text(token or "") for token in tokens.to_pylist()], np.uint64)
    starts, lengths, data = _buffers(tokens)
    hashes = np.full(len(tokens), BASIS, np.uint64)
    # longest first: the tokens that still have a byte at a place are then a leading slice
    order = np.argsort(-lengths, kind="stable")
    starts, ends = starts[order], np.sort(lengths)
    prime = np.uint64(PRIME)
    for place in range(int(ends[-1])):
        alive = len(ends) - int(np.searchsorted(ends, place, side="right"))
        head = hashes[:alive]
        head ^= data[starts[:alive] + place]
        head *= prime
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(MIX_1)
    hashes ^= hashes >> np.uint64(33)
    hashes *= np.uint64(MIX_2)
    hashes ^= hashes >> np.uint64(33)
    result = np.empty_like(hashes)
    result[order] = hashes
    return result


def _buffers(
    tokens: pa.Array,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Return where each token of a large_string array starts, how many bytes it has, and the bytes of all."""
    _, offsets, data = tokens.buffers()
    bounds = np.frombuffer(offsets, np.int64, len(tokens) + 1, tokens.offset * 8)
    lengths = np.diff(bounds)
    if tokens.null_count:
        lengths[tokens.is_null().to_numpy(zero_copy_only=False)] = 0
    return bounds[:-1], lengths, np.frombuffer(data or b"", np.uint8)

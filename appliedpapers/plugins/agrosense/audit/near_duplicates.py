"""Copies among photos: the same file, the same pixels, or turned, mirrored, shrunk and saved again.

Two photos are near-duplicates where small grey versions of them correlate above 0.93 in one of the eight
ways to turn and mirror a square, and their mean colours differ by less than 40 of 255 in each channel.
Smooth pictures correlate by chance: below 0.96 their finer detail must agree, too (our addition; without it
photos of two soils are taken for copies). Whatever is connected by such pairs is one group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

SIDE = 32
CORRELATION = 0.93
COLOUR = 40.0
CERTAIN = 0.96
DETAIL_SIDE = 96
DETAIL = 0.2
_SMOOTHED = 9
_BLOCK = 1024
_FLAT = 1e-3


Print = tuple[bytes, bytes, Floats, Floats, NDArray[np.float16]]
"""What :func:`fingerprint` returns: hashes of file and pixels, grey, colour, detail."""


@dataclass(frozen=True)
class Prints:
    """What photos are recognised by.

    Attributes:
        files: sha256 of each file, ``(n,)``.
        pixels: Hash of the decoded pixels, ``(n,)``.
        grey: Grey of 32 x 32, without its mean, of length 1; 0 where nothing varies, ``(n, 32, 32)``.
        colour: Mean of each channel in 0 to 255, ``(n, 3)``.
        detail: What is finer in grey, of length 1, float16 ``(n, 96, 96)``.
    """

    files: tuple[bytes, ...]
    pixels: tuple[bytes, ...]
    grey: Floats
    colour: Floats
    detail: NDArray[np.float16]

    @classmethod
    def of(cls, photos: Sequence[tuple[bytes, Pixels]]) -> Self:
        """Take the prints of files with their decoded pixels, uint8 ``(h, w, 3)``."""
        found = [fingerprint(content, image) for content, image in photos]
        return cls.joined(found)

    @classmethod
    def joined(cls, found: Sequence[Print]) -> Self:
        """Join what :func:`fingerprint` returned of each."""
        if not found:
            empty = np.empty((0, SIDE, SIDE), np.float32)
            return cls((), (), empty, empty[:, 0, :3], np.empty((0, DETAIL_SIDE, DETAIL_SIDE), np.float16))
        files, pixels, grey, colour, detail = zip(*found, strict=True)
        return cls(files, pixels, np.stack(grey), np.stack(colour), np.stack(detail))

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class Pair:
    """Two photos that are copies.

    Attributes:
        first: Row of one.
        second: Row of the other, larger.
        kind: ``file`` (same bytes), ``pixels`` (same pixels) or ``near``.
        correlation: Of their grey versions, in the way that fits best.
    """

    first: int
    second: int
    kind: str
    correlation: float


def fingerprint(content: bytes, image: Pixels) -> Print:
    """Return hashes of file and pixels, small grey, mean colour, and detail of one photo."""
    pixels = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
    # averaged over what each small pixel covers: moire of a plain reduction would depend on the size
    grey, fine = (_shrunk(image, side) for side in (SIDE, DETAIL_SIDE))
    detail = _of_length_1(fine - _smooth(fine)).astype(np.float16)
    colour = image.mean(axis=(0, 1)).astype(np.float32)
    return hashlib.sha256(content).digest(), pixels, _of_length_1(grey - grey.mean()), colour, detail


def _shrunk(image: Pixels, side: int) -> Floats:
    from PIL import Image

    way = Image.Resampling.BOX if min(image.shape[:2]) >= side else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).convert("L").resize((side, side), way), dtype=np.float32)


def _smooth(grey: Floats) -> Floats:
    from scipy.ndimage import uniform_filter

    found: Floats = uniform_filter(grey, _SMOOTHED)
    return found


def _of_length_1(grey: Floats) -> Floats:
    length = float(np.linalg.norm(grey))
    return grey / length if length > _FLAT else np.zeros_like(grey)


def pairs_of(prints: Prints) -> list[Pair]:
    """Return all pairs of copies, by their rows; memory is bounded by a block of rows against all."""
    flat = prints.grey.reshape(len(prints), -1)
    found: dict[tuple[int, int], Pair] = {}
    for start in range(0, len(prints), _BLOCK):
        rows = slice(start, start + _BLOCK)
        best = np.full((len(flat[rows]), len(prints)), -1.0, np.float32)
        for way in _ways(prints.grey[rows]):
            np.maximum(best, way.reshape(len(way), -1) @ flat.T, out=best)
        apart = np.abs(prints.colour[rows, None] - prints.colour[None]).max(axis=2)
        for one, other in zip(*np.nonzero((best > CORRELATION) & (apart < COLOUR)), strict=True):
            first, second = int(one) + start, int(other)
            if first < second and (best[one, other] >= CERTAIN or _detail(prints, first, second) > DETAIL):
                found[first, second] = Pair(first, second, "near", float(best[one, other]))
    for kind, hashes in (("pixels", prints.pixels), ("file", prints.files)):
        for first, second in _equal(hashes):
            found[first, second] = Pair(first, second, kind, 1.0)
    return [found[key] for key in sorted(found)]


def groups_of(count: int, pairs: Sequence[Pair]) -> Labels:
    """Return a group of each of ``count`` photos: pairs, and pairs of pairs, are together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1] if count else np.empty(0)
    return np.asarray(labels, dtype=np.int64)


def _detail(prints: Prints, first: int, second: int) -> float:
    """Return the correlation of the finer detail of two photos, in the way that fits best."""
    other = prints.detail[second].astype(np.float32)
    one = prints.detail[first : first + 1].astype(np.float32)
    return max(float((way[0] * other).sum()) for way in _ways(one))


def _ways(grey: Floats) -> Iterator[Floats]:
    for image in (grey, grey[:, :, ::-1]):
        for turns in range(4):
            yield np.ascontiguousarray(np.rot90(image, turns, axes=(1, 2)))


def _equal(hashes: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield pairs of equal hashes: each with the first of its kind."""
    first: dict[bytes, int] = {}
    for row, one in enumerate(hashes):
        if one in first:
            yield first[one], row
        else:
            first[one] = row

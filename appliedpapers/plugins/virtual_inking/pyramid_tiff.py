"""Tiled pyramidal TIFF, written tile by tile: what OpenSlide reads, without a codec package."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
TileSource = Callable[[int, int, int], bytes]

TILE = 256

_SHORT, _LONG, _RATIONAL = 3, 4, 5
_DEFLATE = 8
_LEAST = 512  # the smallest level is not larger than this


def packed(tile: Bytes) -> bytes:
    """Return a tile ``(256, 256, 3)`` as it stands in the file."""
    return zlib.compress(np.ascontiguousarray(tile).tobytes(), 3)


def write_levels(
    path: Path, sizes: list[tuple[int, int]], tiles: TileSource, mpp: tuple[float, float]
) -> None:
    """Write levels, each tile as :func:`packed` gives it.

    Args:
        path: The file.
        sizes: Width and height of each level, the largest first.
        tiles: Returns the tile of a level, row and column.
        mpp: Micrometres per pixel of level 0; kept as pixels per centimetre.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 0))
        link = 4
        for level, (width, height) in enumerate(sizes):
            offsets, counts = [], []
            for row in range(-(-height // TILE)):
                for column in range(-(-width // TILE)):
                    content = tiles(level, row, column)
                    offsets.append(file.tell())
                    counts.append(len(content))
                    file.write(content)
            scale = sizes[0][0] / width, sizes[0][1] / height
            link = _directory(
                file,
                link,
                (width, height),
                level > 0,
                offsets,
                counts,
                (mpp[0] * scale[0], mpp[1] * scale[1]),
            )


def write_pyramid(path: Path, rgb: Bytes, mpp: tuple[float, float]) -> None:
    """Write an array ``(H, W, 3)`` with levels that halve until they fit into 512 pixels."""
    levels = [rgb]
    while max(levels[-1].shape[:2]) > _LEAST:
        levels.append(_halved(levels[-1]))

    def tile(level: int, row: int, column: int) -> bytes:
        part = levels[level][row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        whole = np.full((TILE, TILE, 3), 255, dtype=np.uint8)
        whole[: part.shape[0], : part.shape[1]] = part
        return packed(whole)

    write_levels(path, [(level.shape[1], level.shape[0]) for level in levels], tile, mpp)


def _halved(rgb: Bytes) -> Bytes:
    from PIL import Image

    size = max(rgb.shape[1] // 2, 1), max(rgb.shape[0] // 2, 1)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))


def _directory(
    file: BinaryIO,
    link: int,
    size: tuple[int, int],
    reduced: bool,
    offsets: list[int],
    counts: list[int],
    mpp: tuple[float, float],
) -> int:
    """Write a directory, let ``link`` point at it, and return where its own link stands."""
    tags: list[tuple[int, int, list[int]]] = [
        (254, _LONG, [1 if reduced else 0]),
        (256, _LONG, [size[0]]),
        (257, _LONG, [size[1]]),
        (258, _SHORT, [8, 8, 8]),
        (259, _SHORT, [_DEFLATE]),
        (262, _SHORT, [2]),
        (277, _SHORT, [3]),
        (282, _RATIONAL, [round(1e4 / mpp[0] * 1e5), 100_000]),
        (283, _RATIONAL, [round(1e4 / mpp[1] * 1e5), 100_000]),
        (284, _SHORT, [1]),
        (296, _SHORT, [3]),
        (322, _SHORT, [TILE]),
        (323, _SHORT, [TILE]),
        (324, _LONG, offsets),
        (325, _LONG, counts),
    ]
    entries = []
    for tag, kind, values in tags:
        content = struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        count = len(values) // 2 if kind == _RATIONAL else len(values)
        if len(content) > 4:
            file.write(b"\0" * (file.tell() % 2))
            place = file.tell()
            file.write(content)
            content = struct.pack("<I", place)
        entries.append(struct.pack("<HHI", tag, kind, count) + content.ljust(4, b"\0"))
    file.write(b"\0" * (file.tell() % 2))
    start = file.tell()
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<I", start))
    file.seek(end)
    return end - 4


def tile_places(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield row and column of each tile of a level."""
    for row in range(-(-size[1] // TILE)):
        for column in range(-(-size[0] // TILE)):
            yield row, column

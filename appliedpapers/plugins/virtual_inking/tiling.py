"""Where tiles lie: everything follows from micrometres per pixel, never from a magnification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_LEVEL_SLACK = 1.01  # a level whose downsample is 1 % too large still serves
_COUNT_SLACK = 1e-9  # against the last tile being lost to rounding


@dataclass(frozen=True)
class Tiling:
    """The grid of tiles of one slide.

    Attributes:
        size0: Width and height of a tile in pixels of level 0.
        level: The level that is read.
        read: Width and height that are read there, before the tile is resized.
        xs: Left edges in level-0 pixels, int64 ``(columns,)``.
        ys: Upper edges in level-0 pixels, int64 ``(rows,)``.
        upsampled: Whether the slide has coarser pixels than the tiles shall have.
    """

    size0: tuple[int, int]
    level: int
    read: tuple[int, int]
    xs: Ints
    ys: Ints
    upsampled: bool


def plan_tiles(
    size: tuple[int, int],
    mpp: tuple[float, float],
    downsamples: Sequence[float],
    *,
    pixels: int,
    target_mpp: float,
    stride: int,
) -> Tiling:
    """Lay tiles over a slide.

    With ``s = target_mpp / mpp`` on each axis, tile ``i`` starts at ``floor(i stride s + 0.5)``: from its
    number, so that rounding never adds up. The level read is the one with the largest downsample of at most
    1.01 times the smaller ``s``.

    Args:
        size: Width and height of level 0.
        mpp: Micrometres per pixel of level 0 on both axes.
        downsamples: Of each level, the first is 1.
        pixels: Side of a tile in pixels as the encoder sees it.
        target_mpp: Micrometres per pixel of those.
        stride: From tile to tile, in the same pixels.

    Returns:
        The grid; without any column or row where a tile exceeds the slide.
    """
    scales = (target_mpp / mpp[0], target_mpp / mpp[1])
    size0 = (_rounded(pixels * scales[0]), _rounded(pixels * scales[1]))
    level = _level(downsamples, min(scales) * _LEVEL_SLACK)
    read = (
        max(_rounded(pixels * scales[0] / downsamples[level]), 1),
        max(_rounded(pixels * scales[1] / downsamples[level]), 1),
    )
    fits = size0[0] <= size[0] and size0[1] <= size[1]
    xs, ys = (
        _origins(whole, pixels * scale, stride * scale) if fits else np.empty(0, dtype=np.int64)
        for whole, scale in zip(size, scales, strict=True)
    )
    return Tiling(size0, level, read, xs, ys, upsampled=min(scales) < 1 - 1e-3)


def _origins(whole: int, tile: float, stride: float) -> Ints:
    count = max(math.floor((whole - tile) / stride + _COUNT_SLACK) + 1, 0)
    found: Ints = np.floor(np.arange(count) * stride + 0.5).astype(np.int64)
    return found


def _level(downsamples: Sequence[float], most: float) -> int:
    found = [number for number, downsample in enumerate(downsamples) if downsample <= most]
    return max(found, key=lambda number: downsamples[number], default=0)


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)

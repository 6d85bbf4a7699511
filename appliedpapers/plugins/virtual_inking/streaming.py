"""Tiles of a slide in order and in bounded memory, read ahead by a thread or by processes of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.colour import StainNormaliser
from appliedpapers.plugins.virtual_inking.config import SlideConfig
from appliedpapers.plugins.virtual_inking.slides import ArraySlide, Slide, open_slide
from appliedpapers.plugins.virtual_inking.tiling import Tiling

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

GLASS = 220
"""A pixel of which no channel is darker is glass."""

_BLOCK = 16  # tiles that are read at once
_AHEAD = 2  # blocks a reader


@dataclass(frozen=True)
class SlideSource:
    """How a slide is opened again: each reader has a handle of its own.

    Attributes:
        path: Of a file; None for a raster in memory.
        config: Of the section ``slide``.
        mpp: Micrometres per pixel that a manifest states.
        name: For messages.
        raster: Opens a raster in memory.
    """

    path: Path | None
    config: SlideConfig
    mpp: float | None = None
    name: str = "slide"
    raster: Callable[[], ArraySlide] | None = None

    def open(self) -> Slide:
        """Open the slide.

        Raises:
            DataError: It cannot be opened.
        """
        if self.path is None:
            assert self.raster is not None
            return self.raster()
        return open_slide(self.path, self.config, mpp=self.mpp, name=self.name)


class TileReader:
    """Reads tiles of one slide, and brings their colours to common ones.

    Args:
        source: Of the slide.
        tiling: Its grid.
        pixels: Side of a tile as the encoder sees it.
        normaliser: None leaves colours alone.
    """

    def __init__(
        self, source: SlideSource, tiling: Tiling, pixels: int, normaliser: StainNormaliser | None
    ) -> None:
        self._source, self._tiling, self._pixels, self._normaliser = source, tiling, pixels, normaliser
        self._slide: Slide | None = None
        self._table = None if normaliser is None else normaliser.table()

    def __getstate__(self) -> dict[str, Any]:
        # a handle is no use in another process, and the table is made again there
        return {**self.__dict__, "_slide": None, "_table": None}

    def __call__(self, corners: Ints) -> list[Bytes]:
        """Return the tiles with these corners in level-0 pixels, ``(N, 2)``."""
        if self._slide is None:
            self._slide = self._source.open()
        if self._normaliser is not None and self._table is None:
            self._table = self._normaliser.table()
        return [self._tile(int(x), int(y)) for x, y in corners]

    def close(self) -> None:
        """Let the slide go."""
        if self._slide is not None:
            self._slide.close()
            self._slide = None

    def _tile(self, x: int, y: int) -> Bytes:
        assert self._slide is not None
        tile = self._slide.read_tile(self._tiling, x, y, self._pixels)
        if self._normaliser is None or self._table is None:
            return tile
        return self._normaliser(tile, tile.min(axis=-1) <= GLASS, self._table)


def stream_tiles(reader: TileReader, corners: Ints, workers: int = 0) -> Iterator[list[Bytes]]:
    """Yield tiles in blocks and in order, while the next blocks are being read.

    Args:
        reader: Of the slide; every worker process has its own.
        corners: ``(N, 2)`` in level-0 pixels.
        workers: Processes that read; 0 reads ahead in one thread.
    """
    blocks = [corners[start : start + _BLOCK] for start in range(0, len(corners), _BLOCK)]
    with _executor(reader, workers) as (pool, task):
        waiting: deque[Future[list[Bytes]]] = deque()
        for block in blocks:
            waiting.append(pool.submit(task, block))
            if len(waiting) > _AHEAD * max(workers, 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _executor:
    def __init__(self, reader: TileReader, workers: int) -> None:
        self._reader, self._workers = reader, workers

    def __enter__(self) -> tuple[Executor, Callable[[Ints], list[Bytes]]]:
        if not self._workers:
            self._pool: Executor = ThreadPoolExecutor(1)
            return self._pool, self._reader
        from multiprocessing import get_context

        # a forked handle of a slide would be shared, and readers of one handle hang each other
        self._pool = ProcessPoolExecutor(
            self._workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(self._reader,)
        )
        return self._pool, _read

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._reader.close()


_OWN: list[TileReader] = []


def _begin(reader: TileReader) -> None:
    _OWN.append(reader)


def _read(corners: Ints) -> list[Bytes]:
    return _OWN[0](corners)

"""Windows of a raster, with the halo that a filter needs around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Window(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of a raster; the ends are excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as an index of the last two axes: ``image[..., *window.slices]``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, halo: int, shape: tuple[int, int]) -> Window:
        """Return the window with ``halo`` pixels more on each side, cut at the edges of the raster."""
        height, width = shape
        return Window(
            max(self.top - halo, 0),
            max(self.left - halo, 0),
            min(self.bottom + halo, height),
            min(self.right + halo, width),
        )

    def within(self, outer: Window) -> Window:
        """Return this window counted from the upper left corner of ``outer``, which holds it."""
        return Window(
            self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left
        )


def tiles(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """Yield windows of ``size`` x ``size`` pixels (smaller at the far edges) that cover a raster, row by row.

    Args:
        shape: Height and width of the raster.
        size: Side of a tile in pixels, at least 1.
    """
    height, width = shape
    for top in range(0, height, size):
        for left in range(0, width, size):
            yield Window(top, left, min(top + size, height), min(left + size, width))

"""Photos of soil as the classifiers see them: upright, the middle square, one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.images import content_of, read_rgb
from appliedpapers.core.vision.preprocess import Preprocess

Pixels = NDArray[np.uint8]
Source = Path | str | bytes

SIDE = 192
"""Side of a view in pixels, that of the published photos: more detail would be another kind of photo."""

_SQUARE = Preprocess(size=SIDE, fit="crop")
_ENOUGH = 2 * SIDE
"""Shorter side to which a large JPEG is decoded: it is averaged down to the view from there."""


def view_of(source: Source, name: str) -> Pixels:
    """Read a photo.

    Args:
        source: A path, or the content of a file.
        name: What messages call it.

    Returns:
        uint8 ``(192, 192, 3)``: its middle square, upright.

    Raises:
        DataError: It is absent, damaged, too small, or no image.
    """
    return square(read_rgb(source, name, enough=_ENOUGH))


def square(pixels: Pixels) -> Pixels:
    """Return the middle square of uint8 ``(h, w, 3)`` at the side of a view."""
    return _SQUARE.pixels(pixels)


def views_of(sources: Sequence[Source], names: Sequence[str]) -> Iterator[Pixels]:
    """Yield the views of photos, one at a time.

    Raises:
        DataError: As :func:`view_of`.
    """
    for source, name in zip(sources, names, strict=True):
        yield view_of(source, name)


def read_views(sources: Sequence[Source], names: Sequence[str]) -> tuple[list[Pixels | None], dict[int, str]]:
    """Read photos of which one that is damaged does not stop the others.

    Returns:
        The views, None for those that cannot be used, and what is wrong with each of these by its place.
    """
    views: list[Pixels | None] = []
    problems: dict[int, str] = {}
    for place, (source, name) in enumerate(zip(sources, names, strict=True)):
        try:
            views.append(view_of(source, name))
        except DataError as error:
            problems[place] = error.message
            views.append(None)
    return views, problems


def contents(sources: Iterable[Source], names: Iterable[str]) -> Iterator[bytes]:
    """Yield the bytes of files, one at a time."""
    for source, name in zip(sources, names, strict=True):
        yield content_of(source, name)

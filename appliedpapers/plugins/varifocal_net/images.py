"""Image files and bytes as grey pixels on white."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.images import content_of, decoded, eight_bits, on_canvas
from appliedpapers.plugins.varifocal_net.chromosomes import WHITE, ink_box
from appliedpapers.plugins.varifocal_net.strip_tiff import is_tiff, read_strips

if TYPE_CHECKING:
    from PIL.Image import Image

Background = Literal["auto", "white", "black"]
Pixels = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 64_000_000
"""Larger images are refused: a whole metaphase at full resolution has about 20 million."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_NEAR_WHITE = 250
_HINT = "Expected a PNG, JPEG, BMP or TIFF file of one image; export it again."


@dataclass(frozen=True)
class Grey:
    """One decoded image.

    Attributes:
        pixels: uint8 ``(h, w)``, background 255.
        inverted: Its background was black.
    """

    pixels: Pixels
    inverted: bool


@dataclass(frozen=True)
class ReadImages:
    """What became of many files.

    Attributes:
        images: uint8 ``(h, w)`` on white, None for those that cannot be used.
        problems: What is wrong with each of these, by its place (from 0).
        inverted: Number of images whose background was black.
    """

    images: list[Pixels | None]
    problems: dict[int, str]
    inverted: int


def read_images(
    sources: Sequence[Path | str | bytes], names: Sequence[str], background: Background = "auto"
) -> ReadImages:
    """Read images of single chromosomes; one that is damaged does not stop the others."""
    images: list[Pixels | None] = []
    problems: dict[int, str] = {}
    inverted = 0
    for place, (source, name) in enumerate(zip(sources, names, strict=True)):
        try:
            grey = read_chromosome(source, name, background)
        except DataError as error:
            problems[place] = error.message
            images.append(None)
            continue
        images.append(grey.pixels)
        inverted += grey.inverted
    return ReadImages(images, problems, inverted)


def read_chromosome(source: Path | str | bytes, name: str, background: Background = "auto") -> Grey:
    """Read an image that shows one chromosome; see :func:`read_grey`.

    Raises:
        DataError: It cannot be read, or shows nothing but background.
    """
    return require_ink(read_grey(source, name, background), name)


def require_ink(grey: Grey, name: str) -> Grey:
    """Return ``grey`` if there is anything on its background.

    Raises:
        DataError: There is nothing.
    """
    if ink_box(grey.pixels) is None:
        height, width = grey.pixels.shape
        raise DataError(
            f"{name}: {width} x {height} px of background, no chromosome.",
            hint="Expected a dark chromosome on white, or a light one on black (data.background=black).",
        )
    return grey


def read_grey(source: Path | str | bytes, name: str, background: Background = "auto") -> Grey:
    """Decode an image to grey levels on white.

    Colours become luma (ITU-R 601), transparent pixels background. Whole numbers of more than 8 bits are
    divided by the largest value of the bits that the image uses, so that a 12-bit camera in a 16-bit file
    keeps its contrast; fractions are taken as 0 to 1, or as 0 to 255 where one is above 1.

    Args:
        source: A path, or the content of a file.
        name: What messages call it.
        background: ``auto`` inverts an image whose border is mostly dark.

    Raises:
        DataError: It is absent, empty, damaged, too large, or no image.
    """
    transparent = 0 if background == "black" else WHITE
    return on_white(_decode(content_of(source, name), name, transparent), background)


def on_white(pixels: Pixels, background: Background) -> Grey:
    """Invert what has a black background, and lift a background that is nowhere white to white.

    Args:
        pixels: uint8 ``(h, w)``.
        background: What it is; ``auto`` takes it for black where the median of the border is below 128.
    """
    black = background == "black" or (background == "auto" and float(np.median(_border(pixels))) < 128)
    grey = WHITE - pixels if black else pixels
    lightest = int(grey.max())
    if 0 < lightest < _NEAR_WHITE:
        grey = (grey.astype(np.float32) * (WHITE / lightest) + 0.5).astype(np.uint8)
    return Grey(np.ascontiguousarray(grey), black)


def png_bytes(pixels: Pixels) -> bytes:
    """Return an image as PNG; the same bytes for the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _border(pixels: Pixels) -> Pixels:
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _decode(content: bytes, name: str, transparent: int) -> Pixels:
    def from_strips(content: bytes) -> Pixels:
        from PIL import Image

        return _grey(Image.fromarray(read_strips(content, MAX_PIXELS)), transparent)

    return decoded(
        content,
        name,
        lambda image: _grey(image, transparent),
        MAX_PIXELS,
        formats=_FORMATS,
        hint=_HINT,
        rescue=from_strips if is_tiff(content) else None,
    )


def _grey(image: Image, transparent: int) -> Pixels:
    grey = eight_bits(image)
    return np.asarray(on_canvas(image, transparent).convert("L")) if grey is None else grey

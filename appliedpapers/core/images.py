"""Image files of strangers and of cameras as pixels: one decoder, one set of messages. Needs pillow alone.

A photo is turned as its camera says (EXIF), palettes, transparency, CMYK and 16 bits become 8-bit colours,
and whatever cannot be read gives one line that names the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    T = TypeVar("T")

Pixels = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000
"""Larger images are refused by default: twice what most cameras give."""

LEAST_SIDE = 8
"""A photo with a shorter side shows nothing."""

WHITE = 255

_HINT = "Expected a PNG, JPEG, WebP, BMP or TIFF file of one image; export it again."
_PHONE = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc", b"ftypavif")


def read_rgb(
    source: Path | str | bytes,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    least_side: int = LEAST_SIDE,
    background: int = WHITE,
    enough: int | None = None,
) -> Pixels:
    """Decode a photo to colours.

    Args:
        source: A path, or the content of a file.
        name: What messages call it.
        max_pixels: A larger image is refused before it is decoded.
        least_side: An image with a shorter side, in pixels, is refused.
        background: Grey level that shows through transparent pixels.
        enough: Shorter side in pixels that does; a JPEG is decoded at a half, a quarter or an eighth of its
            size as long as it keeps that many. None: at its own size.

    Returns:
        uint8 ``(h, w, 3)``, upright.

    Raises:
        DataError: It is absent, empty, damaged, too large, too small, or no image.
    """
    pixels = decoded(
        content_of(source, name), name, lambda image: _rgb(image, background), max_pixels, enough=enough
    )
    require_side(pixels, name, least_side)
    return pixels


def require_side(pixels: Pixels, name: str, least_side: int = LEAST_SIDE) -> None:
    """Refuse pixels ``(h, w, ...)`` of which a side is shorter than ``least_side``.

    Raises:
        DataError: It is.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < least_side:
        raise DataError(
            f"{name}: {width} x {height} px are too few.",
            hint=f"Expected at least {least_side} x {least_side} px; send the photo itself, not a preview.",
        )


def content_of(source: Path | str | bytes, name: str) -> bytes:
    """Return the bytes of a file, or those that are given; messages call it ``name``.

    Raises:
        DataError: It is absent or cannot be read.
    """
    if isinstance(source, bytes):
        return source
    path = Path(source)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        where = "" if str(path) in name else f" ({path})"
        raise DataError(f"{name}: no such file{where}.", hint="Check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: cannot be read ({reason}).", hint="Check the file.") from None


def decoded(
    content: bytes,
    name: str,
    take: Callable[[Image], T],
    max_pixels: int = MAX_PIXELS,
    *,
    formats: tuple[str, ...] = FORMATS,
    hint: str = _HINT,
    rescue: Callable[[bytes], T] | None = None,
    enough: int | None = None,
) -> T:
    """Open an image, turn it upright, and return what ``take`` makes of it while it is open.

    Args:
        content: The file.
        name: What messages call it.
        take: Reads the pixels.
        max_pixels: A larger image is refused before it is decoded.
        formats: Formats by pillow's names; no other decoder sees the bytes.
        hint: What messages say was expected.
        rescue: Another way to read a damaged file, tried last; a ValueError says why it cannot.
        enough: As in :func:`read_rgb`.

    Raises:
        DataError: It is empty, damaged, too large, or of another format.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise DataError(f"{name}: the file is empty.", hint=hint)
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise _too_large(name, max_pixels, f"{image.width:,} x {image.height:,} px")
            if enough is not None:
                # of formats other than JPEG this does nothing
                image.draft(None, (enough, enough))
            return take(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, max_pixels) from None
    # a damaged file takes image libraries wherever its bytes point: any exception means that it is unreadable
    except Exception as error:
        if rescue is not None:
            return _rescued(content, name, rescue, hint)
        if isinstance(error, UnidentifiedImageError):
            raise _unknown(content, name, hint) from None
        raise DataError(f"{name}: the image is damaged ({first_line(error)}).", hint=hint) from None


def eight_bits(image: Image) -> Pixels | None:
    """Return the grey levels of an image of whole numbers above 8 bits, or of fractions; None for any other.

    Whole numbers are divided by the largest value of the bits that the image uses, so that a 12-bit camera
    in a 16-bit file keeps its contrast; fractions are taken as 0 to 1, or as 0 to 255 where one is above 1.

    Raises:
        ValueError: There are negative grey levels, or fractions that are not numbers.
    """
    if image.mode.startswith("I"):
        return _from_whole(np.asarray(image))
    return _from_fractions(np.asarray(image)) if image.mode == "F" else None


def on_canvas(image: Image, background: int) -> Image:
    """Return an image whose transparent pixels show the grey level ``background``; others as they are."""
    from PIL import Image as images

    if not image.has_transparency_data:
        return image
    canvas = images.new("RGBA", image.size, (background, background, background, WHITE))
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message without its full stop, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _rgb(image: Image, background: int) -> Pixels:
    grey = eight_bits(image)
    if grey is not None:
        return np.repeat(grey[..., None], 3, axis=2)
    return np.ascontiguousarray(np.asarray(on_canvas(image, background).convert("RGB")))


def _from_whole(values: NDArray[Any]) -> Pixels:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0:
        raise ValueError("negative grey levels")
    top = (1 << max(highest.bit_length(), 8)) - 1
    return (values.astype(np.float64) * (WHITE / top) + 0.5).astype(np.uint8)


def _from_fractions(values: NDArray[Any]) -> Pixels:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > WHITE:
        raise ValueError("grey levels that are not between 0 and 1 or 0 and 255")
    scale = WHITE if values.max() <= 1 else 1
    return (values.astype(np.float64) * scale + 0.5).astype(np.uint8)


def _rescued(content: bytes, name: str, rescue: Callable[[bytes], T], hint: str) -> T:
    try:
        return rescue(content)
    except ValueError as error:
        raise DataError(
            f"{name}: the {_kind(content)} is damaged ({first_line(error)}).", hint=hint
        ) from None


def _kind(content: bytes) -> str:
    return "TIFF" if content[:2] in (b"II", b"MM") else "image"


def _unknown(content: bytes, name: str, hint: str) -> DataError:
    if content[4:12] in _PHONE:
        return DataError(f"{name}: HEIC and AVIF photos are not read.", hint="Export the photo as JPEG.")
    return DataError(f"{name}: not an image of a known format.", hint=hint)


def _too_large(name: str, most: int, size: str = "the image") -> DataError:
    return DataError(
        f"{name}: {size} is too large.",
        hint=f"Expected at most {most:,} pixels; cut out or shrink what is to be read.",
    )

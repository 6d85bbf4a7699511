"""Image files and bytes as grey pixels on white."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
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
    content = source if isinstance(source, bytes) else _content(Path(source), name)
    if not content:
        raise DataError(f"{name}: the file is empty.", hint=_HINT)
    return on_white(_decode(content, name, 0 if background == "black" else WHITE), background)


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


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        where = "" if str(path) in name else f" ({path})"
        raise DataError(f"{name}: no such file{where}.", hint="Check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: cannot be read ({reason}).", hint="Check the file.") from None


def _decode(content: bytes, name: str, transparent: int) -> Pixels:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _require_size(image.width, image.height, name)
            return _grey(ImageOps.exif_transpose(image), transparent)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    # a damaged file takes image libraries wherever its bytes point: any exception means that it is unreadable
    except Exception as error:
        if is_tiff(content):
            return _from_strips(content, name, transparent)
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image of a known format" if unknown else f"the image is damaged ({_line(error)})"
        raise DataError(f"{name}: {reason}.", hint=_HINT) from None


def _from_strips(content: bytes, name: str, transparent: int) -> Pixels:
    from PIL import Image

    try:
        values = read_strips(content, MAX_PIXELS)
    except ValueError as error:
        raise DataError(f"{name}: the TIFF is damaged ({_line(error)}).", hint=_HINT) from None
    return _grey(Image.fromarray(values), transparent)


def _grey(image: Image, transparent: int) -> Pixels:
    from PIL import Image as images

    if image.mode.startswith("I"):
        return _from_whole(np.asarray(image))
    if image.mode == "F":
        return _from_fractions(np.asarray(image))
    if image.has_transparency_data:
        canvas = images.new("RGBA", image.size, (transparent, transparent, transparent, 255))
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas.convert("RGB")
    return np.asarray(image.convert("L"))


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


def _require_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width:,} x {height:,} px")


def _too_large(name: str, size: str = "the image") -> DataError:
    return DataError(
        f"{name}: {size} is too large.",
        hint=f"Expected at most {MAX_PIXELS:,} pixels; cut out or shrink what is to be read.",
    )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")

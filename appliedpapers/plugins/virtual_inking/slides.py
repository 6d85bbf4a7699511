"""Slides as one thing: whole-slide files through OpenSlide, flat images, and arrays."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import is_file
from appliedpapers.plugins.virtual_inking.config import SlideConfig
from appliedpapers.plugins.virtual_inking.tiling import Tiling

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = NDArray[np.uint8]
Pair = tuple[float, float]

WHOLE_SLIDE = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
FLAT = (".png", ".jpg", ".jpeg", ".bmp")
TIFF = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
SUFFIXES = WHOLE_SLIDE + FLAT + TIFF

_MPP = ("openslide.mpp-x", "openslide.mpp-y")
_POWER = ("openslide.objective-power", "aperio.AppMag")
_MOST_FLAT = 400_000_000  # pixels: 1.2 GB as an array
_BLOCK = 1536  # pixels of a level that are read at once for a thumbnail
_REMEDY = "Give --mpp, or a column mpp (micrometres per pixel of level 0)."


class Slide(ABC):
    """An image with levels; coordinates are pixels of level 0.

    Attributes:
        name: File name, for messages.
        size: Width and height of level 0.
        mpp: Micrometres per pixel of level 0 on both axes.
        downsamples: Of each level.
        bounds: Offset of the scanned area, ``openslide.bounds-x`` and ``-y``; (0, 0) where not stated.
        vendor: Who wrote the file, in OpenSlide's words, or ``flat``.
    """

    name: str
    size: tuple[int, int]
    mpp: Pair
    downsamples: tuple[float, ...]
    bounds: tuple[int, int] = (0, 0)
    vendor: str = "flat"

    @abstractmethod
    def read(self, level: int, x: int, y: int, width: int, height: int) -> Bytes:
        """Return RGB ``(height, width, 3)`` of a level from a corner in level-0 pixels; beyond is white.

        Raises:
            DataError: The file is damaged there.
        """

    def close(self) -> None:  # noqa: B027
        """Let the file go; a raster in memory has none."""

    @property
    def extent_um(self) -> Pair:
        """Width and height in micrometres."""
        return self.size[0] * self.mpp[0], self.size[1] * self.mpp[1]

    def read_tile(self, tiling: Tiling, x: int, y: int, pixels: int) -> Bytes:
        """Return the tile with a corner in level-0 pixels, resized to ``(pixels, pixels, 3)``."""
        from PIL import Image

        found = self.read(tiling.level, x, y, *tiling.read)
        if tiling.read == (pixels, pixels):
            return found
        # averages areas when it shrinks, and is bilinear when it grows
        shrinks = max(tiling.read) >= pixels
        how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        return np.asarray(Image.fromarray(found).resize((pixels, pixels), how))

    def thumbnail(self, mpp: float) -> tuple[Bytes, Pair]:
        """Return the whole slide at about ``mpp``, by averages of areas, and its exact resolution.

        The level is read in blocks, so that memory is bounded whatever the slide's size.
        """
        size = tuple(
            max(math.floor(whole * own / mpp + 0.5), 1)
            for whole, own in zip(self.size, self.mpp, strict=True)
        )
        scales = tuple(whole / small for whole, small in zip(self.size, size, strict=True))
        level = max(
            (number for number, own in enumerate(self.downsamples) if own <= min(scales) * 1.01),
            key=lambda number: self.downsamples[number],
            default=0,
        )
        own = self.downsamples[level]
        found = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
        steps = [max(int(_BLOCK * own / scale), 1) for scale in scales]
        for top in range(0, size[1], steps[1]):
            for left in range(0, size[0], steps[0]):
                wide, high = min(steps[0], size[0] - left), min(steps[1], size[1] - top)
                found[top : top + high, left : left + wide] = self._reduced(
                    level, (left, top), (wide, high), scales
                )
        return found, (self.size[0] * self.mpp[0] / size[0], self.size[1] * self.mpp[1] / size[1])

    def _reduced(
        self, level: int, corner: Sequence[int], size: Sequence[int], scales: Sequence[float]
    ) -> Bytes:
        from PIL import Image

        own = self.downsamples[level]
        begin = [place * scale for place, scale in zip(corner, scales, strict=True)]
        first = [math.floor(place / own) for place in begin]
        box = [
            (place / own - low, (place + wide * scale) / own - low)
            for place, low, wide, scale in zip(begin, first, size, scales, strict=True)
        ]
        span = [max(math.ceil(high), 1) for _, high in box]
        x, y = (math.floor(low * own + 0.5) for low in first)
        picture: Image.Image = Image.fromarray(self.read(level, x, y, *span))
        edges = (box[0][0], box[1][0], min(box[0][1], span[0]), min(box[1][1], span[1]))
        small = picture.resize((size[0], size[1]), Image.Resampling.BOX, box=edges)
        return np.asarray(small)


class ArraySlide(Slide):
    """A raster in memory.

    Args:
        rgb: ``(H, W, 3)``.
        mpp: Micrometres per pixel.
        name: For messages.
    """

    def __init__(self, rgb: Bytes, mpp: Pair, name: str = "raster") -> None:
        self.rgb, self.mpp, self.name = rgb, mpp, name
        self.size = (rgb.shape[1], rgb.shape[0])
        self.downsamples = (1.0,)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Bytes:
        """Return a part; beyond the edge is white."""
        found = np.full((height, width, 3), 255, dtype=np.uint8)
        left, top = max(x, 0), max(y, 0)
        part = self.rgb[top : max(y + height, 0), left : max(x + width, 0)]
        found[top - y : top - y + part.shape[0], left - x : left - x + part.shape[1]] = part
        return found


class OpenedSlide(Slide):
    """A file that OpenSlide reads."""

    def __init__(self, path: Path, name: str, config: SlideConfig, mpp: float | None) -> None:
        import openslide

        self.name = name
        try:
            self._file = openslide.OpenSlide(str(path))
        except Exception as error:
            raise DataError(
                f"{name}: it cannot be opened as a slide ({_line(error)}).",
                hint="Check that it is complete, and that all files that belong to it are beside it.",
            ) from None
        properties: Mapping[str, str] = self._file.properties
        self.size = self._file.dimensions
        self.downsamples = tuple(float(value) for value in self._file.level_downsamples)
        self.vendor = properties.get("openslide.vendor", "unknown")
        self.bounds = _bounds(properties)
        try:
            self.mpp = _resolution(properties, name, config, mpp)
        except DataError:
            self.close()
            raise

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Bytes:
        """Return a part; where nothing was scanned it is white."""
        try:
            found = np.asarray(self._file.read_region((x, y), level, (width, height)))
        except Exception as error:
            raise DataError(
                f"{self.name}: damaged near x {x}, y {y} of level {level} ({_line(error)}).",
                hint="Copy the file again from where it came from, and compare its size.",
            ) from None
        if found[..., 3].min() == 255:
            return np.ascontiguousarray(found[..., :3])
        share = found[..., 3:].astype(np.float32) / 255
        return np.asarray(found[..., :3] * share + 255 * (1 - share) + 0.5, dtype=np.uint8)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def open_slide(
    path: Path, config: SlideConfig, *, mpp: float | None = None, name: str | None = None
) -> Slide:
    """Open a slide or a flat image.

    Args:
        path: The file.
        config: Of the section ``slide``.
        mpp: Micrometres per pixel that a manifest states; it wins over ``config.mpp``.
        name: What messages call the file.

    Raises:
        DataError: It is absent, damaged or no image, or its resolution is not known.
    """
    shown, stated = name or path.name, mpp if mpp is not None else config.mpp
    if not is_file(path):
        raise DataError(
            f"{shown}: no such file.", hint="Check the path; paths start at the list's own folder."
        )
    import openslide

    if openslide.OpenSlide.detect_format(str(path)) is not None:
        return OpenedSlide(path, shown, config, stated)
    if path.name.lower().endswith(WHOLE_SLIDE):
        return OpenedSlide(path, shown, config, stated)
    return _flat(path, shown, stated)


def _flat(path: Path, name: str, mpp: float | None) -> ArraySlide:
    from PIL import Image

    try:
        # what Pillow warns of is said by the error, where it matters
        with warnings.catch_warnings(action="ignore"), _unlimited(), Image.open(path) as picture:
            if picture.width * picture.height > _MOST_FLAT:
                raise DataError(
                    f"{name}: {picture.width} x {picture.height} pixels in one piece.",
                    hint="Save it as a tiled pyramidal TIFF, which is streamed.",
                )
            resolution = _stated(picture) if mpp is None else (mpp, mpp)
            if resolution is None:
                raise DataError(f"{name}: the image does not state micrometres per pixel.", hint=_REMEDY)
            rgb = np.asarray(picture.convert("RGB"))
    except DataError:
        raise
    # a damaged image is met anywhere in its decoder
    except Exception as error:
        raise DataError(
            f"{name}: it is no slide and no image ({_line(error)}).",
            hint="Expected a slide that OpenSlide reads, or PNG, JPEG or TIFF.",
        ) from None
    return ArraySlide(rgb, resolution, name)


def _stated(picture: Image) -> Pair | None:
    """Return the resolution of a TIFF in pixels per centimetre; dots per inch of photographs mean nothing."""
    tags: Any = getattr(picture, "tag_v2", None)
    if tags is None or tags.get(296) != 3 or not tags.get(282) or not tags.get(283):
        return None
    found = (1e4 / float(tags[282]), 1e4 / float(tags[283]))
    return found if all(0.01 < value < 100 for value in found) else None


class _unlimited:
    """Lets pillow open large images, of which the size is checked here."""

    def __enter__(self) -> None:
        from PIL import Image

        self._most = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None

    def __exit__(self, *_: object) -> None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = self._most


def _resolution(properties: Mapping[str, str], name: str, config: SlideConfig, mpp: float | None) -> Pair:
    if mpp is not None:
        return mpp, mpp
    try:
        x, y = (float(properties[key]) for key in _MPP)
        if 0.01 < x < 100 and 0.01 < y < 100:
            return x, y
    except (KeyError, ValueError):
        pass
    power = next((properties[key] for key in _POWER if key in properties), None)
    if config.trust_appmag:
        try:
            return (10 / float(power or ""),) * 2
        except (ValueError, ZeroDivisionError):
            raise DataError(
                f"{name}: neither 'openslide.mpp-x' nor an objective power is stated.", hint=_REMEDY
            ) from None
    also = f" Its objective power is {power}: --trust-appmag takes 10 / {power}." if power else ""
    raise DataError(f"{name}: the property 'openslide.mpp-x' is missing.", hint=_REMEDY + also)


def _bounds(properties: Mapping[str, str]) -> tuple[int, int]:
    try:
        return int(properties["openslide.bounds-x"]), int(properties["openslide.bounds-y"])
    except (KeyError, ValueError):
        return 0, 0


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")

"""Where the tissue is, and where a pen was: masks at a few micrometres per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.colour import Bytes, hsv
from appliedpapers.plugins.virtual_inking.config import MaskConfig

Flags = NDArray[np.bool_]

_EIGHT = np.ones((3, 3), dtype=bool)
_RED_DEGREES, _RED_SATURATION, _RED_VALUE = 8, 160, 120
_DARK = 60
_BLUISH = 3
_BLANK_SATURATION = 12  # a slide whose Otsu threshold is lower shows glass alone


@dataclass(frozen=True)
class Masks:
    """What was found on a thumbnail.

    Attributes:
        tissue: Without pen, ``(H, W)``.
        pen: ``(H, W)``.
        mpp: Micrometres per pixel of both.
        otsu: The threshold on saturation.
    """

    tissue: Flags
    pen: Flags
    mpp: tuple[float, float]
    otsu: int


def find_tissue(rgb: Bytes, mpp: tuple[float, float], config: MaskConfig) -> Masks:
    """Find tissue by its saturation, and leave pen out.

    Args:
        rgb: Thumbnail ``(H, W, 3)``.
        mpp: Micrometres per pixel of it.
        config: Sizes of what is filled and dropped.
    """
    smooth = _median(hsv(rgb)[1], config.median)
    threshold = otsu(smooth)
    # nothing but glass has a threshold, too: between two shades of it
    raw = smooth > max(threshold, _BLANK_SATURATION)
    pen = find_pen(rgb, config) if config.pen else np.zeros(raw.shape, dtype=bool)
    return Masks(clean(raw & ~pen, mpp, config) & ~pen, pen, mpp, threshold)


def clean(raw: Flags, mpp: tuple[float, float], config: MaskConfig) -> Flags:
    """Close gaps, fill small holes that do not touch the border, and drop small parts (8-connected)."""
    from scipy import ndimage

    area = mpp[0] * mpp[1] / 1e6
    closed = _closing(raw, _ellipse(config.closing))
    holes, _ = ndimage.label(~closed)
    sizes = np.bincount(holes.ravel())
    small = sizes * area < config.fill_mm2
    border = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    small[border] = False
    small[0] = False
    filled = closed | small[holes]
    parts, _ = ndimage.label(filled, structure=_EIGHT)
    large = np.bincount(parts.ravel()) * area >= config.part_mm2
    large[0] = False
    found: Flags = large[parts]
    return found


def find_pen(rgb: Bytes, config: MaskConfig) -> Flags:
    """Find green, blue, red and black pen on a thumbnail ``(H, W, 3)``; the thresholds are not universal."""
    from scipy import ndimage

    smooth = np.stack([_median(rgb[..., channel], config.median) for channel in range(3)], axis=-1)
    hue, saturation, value = hsv(smooth)
    bluish = smooth[..., 1].astype(np.int16) - smooth[..., 0] >= _BLUISH
    near_red = np.minimum(hue, 360 - hue) <= _RED_DEGREES
    red = near_red & (saturation >= _RED_SATURATION) & (value >= _RED_VALUE)
    black = (value < _DARK) & (saturation < _DARK)
    found = _closing(bluish | red | black, np.ones((config.pen_closing,) * 2, dtype=bool))
    parts, _ = ndimage.label(found, structure=_EIGHT)
    large = np.bincount(parts.ravel()) >= config.pen_pixels
    large[0] = False
    kept: Flags = large[parts]
    return kept


def otsu(values: Bytes) -> int:
    """Return Otsu's threshold of 8-bit values: the upper class is what lies above it."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256)
    below, total = np.cumsum(counts), counts.sum()
    sums = np.cumsum(counts * levels)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / total - sums) ** 2 / (below * above)
    return int(np.nanargmax(np.where(np.isfinite(between), between, -1.0)))


def _median(channel: Bytes, size: int) -> Bytes:
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(channel).filter(ImageFilter.MedianFilter(size)))


def _closing(mask: Flags, shape: Flags) -> Flags:
    from scipy import ndimage

    reach = shape.shape[0]
    # outside is neither: padding keeps the closing from eroding at the border
    padded = np.pad(mask, reach)
    found: Flags = ndimage.binary_closing(padded, structure=shape)[reach:-reach, reach:-reach]
    return found | mask


def _ellipse(size: int) -> Flags:
    middle = (size - 1) / 2
    rows, columns = np.ogrid[:size, :size]
    found: Flags = (rows - middle) ** 2 + (columns - middle) ** 2 <= (middle + 0.25) ** 2
    return found

"""Colours: 8-bit HSV and Lab, and the normalisation of a slide to common stain colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]

LAB_MEAN, LAB_STD = (165.0, 155.0, 115.0), (28.0, 9.0, 8.0)
"""Colours that tissue is brought to, in 8-bit Lab (L 0 to 255, a and b about 128)."""

_WHITE = np.array([0.950456, 1.0, 1.088754])  # D65
_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_EDGE = 216 / 24389  # of the linear part of CIE Lab
_SLOPE = 24389 / 27
_TABLE_BITS = 6
_SMALLEST_STD = 1.0


def hsv(rgb: Bytes) -> tuple[Floats, Bytes, Bytes]:
    """Return hue in degrees, and saturation and value in 0 to 255, of an image ``(H, W, 3)``."""
    values = rgb.astype(np.int16)
    top, low = values.max(axis=-1), values.min(axis=-1)
    span = (top - low).astype(np.float64)
    safe = np.where(span > 0, span, 1.0)
    red, green, blue = (values[..., channel] for channel in range(3))
    hue = np.where(
        top == red,
        (green - blue) / safe,
        np.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    saturation = np.floor(255 * span / np.maximum(top, 1) + 0.5).astype(np.uint8)
    return (60 * hue) % 360, saturation, top.astype(np.uint8)


def to_lab(rgb: NDArray[np.generic]) -> Floats:
    """Return 8-bit Lab values, not rounded, of sRGB in 0 to 255 (CIE Lab, D65), shape ``(..., 3)``."""
    share = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    relative = linear @ (_XYZ / _WHITE[:, None]).T
    bent = np.where(relative > _EDGE, np.cbrt(relative), (_SLOPE * relative + 16) / 116)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    lightness = (116 * y - 16) * 2.55
    return np.stack([lightness, 500 * (x - y) + 128, 200 * (y - z) + 128], axis=-1)


def from_lab(lab: Floats) -> Floats:
    """Return sRGB in 0 to 255, clipped, of 8-bit Lab values ``(..., 3)``."""
    y = (lab[..., 0] / 2.55 + 16) / 116
    bent = np.stack([y + (lab[..., 1] - 128) / 500, y, y - (lab[..., 2] - 128) / 200], axis=-1)
    relative = np.where(bent > np.cbrt(_EDGE), bent**3, (116 * bent - 16) / _SLOPE)
    linear = np.clip(relative @ np.linalg.inv(_XYZ / _WHITE[:, None]).T, 0, 1)
    share = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: Floats = np.clip(255 * share, 0, 255)
    return found


@dataclass(frozen=True)
class StainNormaliser:
    """Moves the colours of a slide's tissue to common ones; glass stays as it is.

    A look-up table of 64 steps a channel is made once for the slide; what lies between two steps is added
    unchanged, so that the result is within one grey value of the exact one where the stain is near the
    common one.

    Attributes:
        mean: Of the slide's core tissue in 8-bit Lab.
        std: Likewise.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def of_pixels(cls, rgb: NDArray[np.generic]) -> StainNormaliser:
        """Measure pixels ``(N, 3)``, at least one."""
        lab = to_lab(rgb)
        mean, std = lab.mean(axis=0), np.maximum(lab.std(axis=0), _SMALLEST_STD)
        return cls(_triple(mean), _triple(std))

    def exact(self, rgb: NDArray[np.generic]) -> Floats:
        """Return normalised sRGB in 0 to 255, not rounded, ``(..., 3)``."""
        moved = (to_lab(rgb) - self.mean) / self.std * LAB_STD + LAB_MEAN
        return from_lab(moved)

    def table(self) -> NDArray[np.int16]:
        """Return the look-up table ``(64**3, 3)``: the colour at the middle of each step."""
        steps = 1 << _TABLE_BITS
        width = 256 // steps
        middle = np.arange(steps) * width + (width - 1) / 2
        grid = np.stack(np.meshgrid(middle, middle, middle, indexing="ij"), axis=-1).reshape(-1, 3)
        found: NDArray[np.int16] = np.floor(self.exact(grid) - (width - 1) / 2 + 0.5).astype(np.int16)
        return found

    def __call__(self, rgb: Bytes, tissue: NDArray[np.bool_], table: NDArray[np.int16]) -> Bytes:
        """Return an image ``(H, W, 3)`` with its tissue ``(H, W)`` normalised by :meth:`table`."""
        shift = 8 - _TABLE_BITS
        coarse = (rgb >> shift).astype(np.int32)
        number = (coarse[..., 0] << 2 * _TABLE_BITS) + (coarse[..., 1] << _TABLE_BITS) + coarse[..., 2]
        moved = np.clip(table[number] + (rgb & ((1 << shift) - 1)), 0, 255).astype(np.uint8)
        return np.where(tissue[..., None], moved, rgb)


def _triple(values: Sequence[float] | Floats) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])

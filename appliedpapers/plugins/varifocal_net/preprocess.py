"""From images of any size to the networks' input: one canvas, one scale, white around (section II-A)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.varifocal_net.chromosomes import WHITE, Chromosomes

FEWEST_FOR_SCALE = 20
"""A cell of fewer chromosomes does not show how large chromosomes are in it."""

_STRONGEST = 4.0
_LONGEST = 4096  # pixels; a line of millions of pixels is a valid image, but its square canvas fits nowhere


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the square that the network sees.

    Attributes:
        factor: Network pixels per pixel of the image.
        left: Network pixel at which its left edge lies; may be a fraction.
        top: Likewise its upper edge.
    """

    factor: float
    left: float
    top: float

    def to_image(self, corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
        """Return a box ``(x0, y0, x1, y1)`` in pixels of the image, limited to it."""
        offset = np.array([self.left, self.top, self.left, self.top])
        inside: NDArray[np.float64] = (corners - offset) / self.factor
        return np.clip(inside, 0.0, np.array([width, height, width, height], dtype=np.float64))


def place(image: NDArray[np.uint8], canvas: float, size: int) -> tuple[NDArray[np.uint8], Placement]:
    """Pad an image with white to a square canvas, centred, and resize that bilinearly.

    Args:
        image: ``(h, w)`` uint8 on white.
        canvas: Side of the canvas in pixels of the image; a larger image is shrunk to fit.
        size: Side of the result.

    Returns:
        ``(size, size)`` uint8, and where the image lies in it.
    """
    from PIL import Image

    height, width = image.shape
    times = -(-max(height, width) // _LONGEST)
    if times > 1:
        smaller = np.asarray(Image.fromarray(image).reduce(times))
        found, placement = place(smaller, canvas / times, size)
        return found, replace(placement, factor=placement.factor / times)
    side = max(float(canvas), height, width)
    whole = int(np.ceil(side)) + 2
    padded = np.full((whole, whole), WHITE, dtype=np.uint8)
    top, left = (whole - height) // 2, (whole - width) // 2
    padded[top : top + height, left : left + width] = image
    # the image's centre, not the canvas's, is the middle: padding by whole pixels would shift it by a half
    x0, y0 = left + width / 2 - side / 2, top + height / 2 - side / 2
    box = (max(x0, 0.0), max(y0, 0.0), min(x0 + side, whole), min(y0 + side, whole))
    resized = Image.fromarray(padded).resize((size, size), Image.Resampling.BILINEAR, box=box)
    factor = size / side
    return np.asarray(resized), Placement(factor, (left - x0) * factor, (top - y0) * factor)


def scales(
    chromosomes: Chromosomes, wanted: Literal["auto"] | float, reference: float | None
) -> NDArray[np.float64]:
    """Return the factor on the size of each image, ``(N,)``.

    Args:
        chromosomes: Of whole cells.
        wanted: A factor for all, or ``auto``: each cell's median area is brought to the reference.
        reference: Median area in pixels of the cells that were learned from; None leaves all as they are.
    """
    if wanted != "auto":
        return np.full(len(chromosomes), float(wanted))
    factors = np.ones(len(chromosomes))
    if reference is None:
        return factors
    for rows in chromosomes.rows_by_case().values():
        if len(rows) >= FEWEST_FOR_SCALE:
            median = max(float(np.median(chromosomes.areas[rows])), 1.0)
            factors[rows] = np.clip(np.sqrt(reference / median), 1 / _STRONGEST, _STRONGEST)
    return factors


def reference_area(chromosomes: Chromosomes) -> float | None:
    """Return the median, over cells, of the median area of their chromosomes; None without whole cells."""
    cells = [rows for rows in chromosomes.rows_by_case().values() if len(rows) >= FEWEST_FOR_SCALE]
    if not cells:
        return None
    return float(np.median([np.median(chromosomes.areas[rows]) for rows in cells]))


def prepare(
    chromosomes: Chromosomes, factors: NDArray[np.float64], canvas: int, size: int
) -> tuple[NDArray[np.uint8], list[Placement]]:
    """Return all images as the network sees them, ``(N, size, size)`` uint8, and where each lies."""
    found = np.empty((len(chromosomes), size, size), dtype=np.uint8)
    placements = []
    for row, (image, factor) in enumerate(zip(chromosomes.images, factors, strict=True)):
        found[row], placement = place(image, canvas / factor, size)
        placements.append(placement)
    return found, placements

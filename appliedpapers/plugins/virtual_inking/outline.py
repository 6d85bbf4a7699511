"""Outlines of tissue: closed contours, samples along them, and which of those cannot be judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.tissue import Flags, Masks

Floats = NDArray[np.float64]

_NEAR_BORDER = 1.5  # pixels of the thumbnail
_LEAST_POINTS = 4


@dataclass(frozen=True)
class Contour:
    """Samples of one outer contour, equally far apart.

    Attributes:
        points: In micrometres from the upper left corner of the slide, ``(samples, 2)`` as x and y.
        step: From sample to sample in micrometres.
        candidate: False on the border of the image and beside pen: there no margin can be told.
    """

    points: Floats
    step: float
    candidate: Flags

    @property
    def length_mm(self) -> float:
        """Length in millimetres."""
        return len(self.points) * self.step / 1000


def closed_contours(mask: Flags, *, smooth: float = 0.0) -> list[Floats]:
    """Return the outer contours of a mask's parts, the longest first, ``(points, 2)`` as x and y in pixels.

    A pixel's middle lies at a half: the mask's own corner is (0, 0). Holes are filled before.

    Args:
        mask: ``(H, W)``.
        smooth: Sigma in pixels of a Gaussian by which steps of the raster are smoothed away.
    """
    import contourpy
    from scipy import ndimage

    pad = int(np.ceil(4 * smooth)) + 1
    field = np.pad(ndimage.binary_fill_holes(mask), pad).astype(np.float64)
    if smooth > 0:
        field = ndimage.gaussian_filter(field, smooth)
    lines = contourpy.contour_generator(z=field).lines(0.5)
    rings = [
        np.asarray(line[:-1], dtype=np.float64) + 0.5 - pad for line in lines if len(line) > _LEAST_POINTS
    ]
    # what lies within another one comes of a smoothed hole
    return sorted(rings, key=lambda ring: (-ring_length(ring), ring[0].tolist()))


def ring_length(ring: Floats) -> float:
    """Return the length of a closed ring whose first point is not repeated."""
    return float(np.hypot(*(np.roll(ring, -1, axis=0) - ring).T).sum())


def resample(ring: Floats, step: float) -> tuple[Floats, float]:
    """Return points on a closed ring, equally far apart, as near to ``step`` as can be."""
    closed = np.vstack([ring, ring[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(int(np.floor(along[-1] / step + 0.5)), 1)
    places = np.arange(count) * along[-1] / count
    points = np.stack([np.interp(places, along, closed[:, axis]) for axis in range(2)], axis=1)
    return points, float(along[-1] / count)


def contours_of(masks: Masks, *, step_um: float, smooth_um: float, least_mm2: float) -> list[Contour]:
    """Return the outer contours of the tissue, sampled.

    Args:
        masks: Tissue and pen on a thumbnail.
        step_um: Distance of samples.
        smooth_um: Sigma with which the outline is smoothed.
        least_mm2: Rings that enclose less are passed over.
    """
    from scipy import ndimage

    scale = np.array(masks.mpp)
    height, width = masks.tissue.shape
    beside_pen = ndimage.binary_dilation(masks.pen, iterations=2) if masks.pen.any() else masks.pen
    found = []
    for ring in closed_contours(masks.tissue, smooth=smooth_um / float(scale.mean())):
        if abs(_area(ring * scale)) / 1e6 < least_mm2 / 2:
            continue
        points, step = resample(ring * scale, step_um)
        x, y = (points / scale).T
        inner = (x > _NEAR_BORDER) & (y > _NEAR_BORDER)
        inner &= (x < width - _NEAR_BORDER) & (y < height - _NEAR_BORDER)
        columns = np.clip(x.astype(int), 0, width - 1)
        rows = np.clip(y.astype(int), 0, height - 1)
        found.append(Contour(points, step, inner & ~beside_pen[rows, columns]))
    return found


def _area(ring: Floats) -> float:
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2

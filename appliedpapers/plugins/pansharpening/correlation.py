"""Local correlation of two images, as structural losses and D_rho define it (arXiv 2311.06510)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST = 1e-20


def local_correlation(
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    half: int,
    *,
    clip_negative: bool = False,
) -> Floats:
    """Return rho_w of two images at every pixel.

    Each pixel loses the mean of its own window before products are summed, and windows hold zeros beyond the
    edges: this is not the covariance of a window about that window's mean.

    Args:
        first: Shape ``(..., H, W)``, finite.
        second: The same shape, or one that broadcasts to it.
        half: Half the side of the window, w: it covers ``i + 1 - w`` to ``i + w`` on each axis.
        clip_negative: Raise a negative covariance to 1e-20, as R-PNN does.

    Returns:
        float64, the broadcast shape; about -1 to 1, and 0 where an image is flat.
    """
    x, y = (_centred(np.asarray(image, dtype=np.float64), half) for image in (first, second))
    shared = box_sums(x * y, half)
    if clip_negative:
        shared = np.maximum(shared, _LEAST)
    spread = np.maximum(box_sums(x * x, half), _LEAST) * np.maximum(box_sums(y * y, half), _LEAST)
    rho: Floats = shared / (np.sqrt(spread) + _LEAST)
    return rho


def box_sums(image: Floats, half: int) -> Floats:
    """Return sums over ``i + 1 - half`` to ``i + half`` on the last two axes, zeros beyond the edges.

    Args:
        image: Shape ``(..., H, W)``.
        half: Half the side of the window.
    """
    edges = [(0, 0)] * (image.ndim - 2) + [(half, half)] * 2
    sums = np.pad(image, edges)
    for axis in (-2, -1):
        start = [(0, 0)] * sums.ndim
        start[axis] = (1, 0)
        running = np.moveaxis(np.pad(np.cumsum(sums, axis=axis), start), axis, -1)
        sums = np.moveaxis(running[..., 2 * half + 1 :] - running[..., 1 : -2 * half], -1, axis)
    return sums


def _centred(image: Floats, half: int) -> Floats:
    return image - box_sums(image, half) / (2 * half) ** 2

"""Quality without a reference: how a product agrees with the pair it was made of (arXiv 2407.01355).

Cubes have shape ``(B, H, W)`` on the fine or ``(B, h, w)`` on the coarse grid, are finite, and hold living
bands only. Masks say which pixels count; None counts all.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.pansharpening.correlation import local_correlation
from appliedpapers.plugins.pansharpening.fidelity import uiqi
from appliedpapers.plugins.pansharpening.q2n import BLOCK, q2n_map

Cube = NDArray[Any]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_CUBIC = -0.5
_ROWS = 16_384
_BANDS = 8


def d_lambda(
    degraded: Cube,
    coarse: Cube,
    *,
    unit: float = 1.0,
    mask: Mask | None = None,
    window: Literal["all", "top-left"] = "all",
) -> float:
    """Return spectral distortion: 1 - Q2n of the product as the sensor would see it and of what it saw.

    Args:
        degraded: The product after the sensor's low-pass, on the coarse grid.
        coarse: The hyperspectral cube.
        unit: See :func:`~appliedpapers.plugins.pansharpening.q2n.q2n_map`.
        mask: Coarse pixels that count. Where no block of 32 pixels has enough of them, smaller blocks are
            taken.
        window: ``"top-left"`` judges the first 32 x 32 coarse pixels alone.
    """
    if window == "top-left":
        degraded, coarse = degraded[:, :BLOCK, :BLOCK], coarse[:, :BLOCK, :BLOCK]
        mask = None if mask is None else mask[:BLOCK, :BLOCK]
    for block in (BLOCK, BLOCK // 2, BLOCK // 4):
        found = q2n_map(coarse, degraded, block=block, unit=unit, mask=mask)
        if np.isfinite(found).any():
            return 1 - float(np.nanmean(found))
    return float("nan")


def d_sr(fused: Cube, pan: NDArray[Any], mask: Mask | None = None) -> float:
    """Return the share of the panchromatic variance that no sum of the product's bands explains; 0 at best.

    Component substitution is near 0 by construction, so that it must not be ranked on this alone.

    Args:
        fused: The product, on the fine grid.
        pan: The panchromatic band, shape ``(H, W)``.
        mask: Fine pixels that count.
    """
    chosen = np.flatnonzero(np.ones(pan.shape, dtype=bool) if mask is None else mask)
    target = np.asarray(pan, dtype=np.float64).ravel()
    bands = fused.reshape(len(fused), -1)
    # a QR factor that rows are added to is as exact as the pseudo-inverse, and never holds the cube
    triangle, sums = np.zeros((0, len(fused) + 1)), np.zeros(len(fused) + 1)
    for begin in range(0, chosen.size, _ROWS):
        rows = chosen[begin : begin + _ROWS]
        table = np.column_stack([bands[:, rows].T.astype(np.float64), target[rows]])
        sums += table.sum(axis=0)
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, table]), mode="r"))
    if not chosen.size or target[chosen].min() == target[chosen].max():
        return float("nan")
    weights = np.linalg.lstsq(triangle[:, :-1], triangle[:, -1], rcond=None)[0]
    mean = (sums[-1] - weights @ sums[:-1]) / chosen.size
    square = float(np.sum((triangle[:, -1] - triangle[:, :-1] @ weights) ** 2)) / chosen.size
    return float((square - mean**2) / target[chosen].var())


def qnr(spectral: float, spatial: float) -> float:
    """Return quality with no reference from ``d_lambda`` and ``d_sr``; 1 at best."""
    return (1 - spectral) * (1 - spatial)


def d_s(
    fused: Cube,
    coarse: Cube,
    pan: NDArray[Any],
    ratio: int,
    mask: Mask | None = None,
    coarse_mask: Mask | None = None,
) -> float:
    """Return how much the universal index between bands and PAN changes from coarse to fine; 0 at best.

    Args:
        fused: The product, on the fine grid.
        coarse: The hyperspectral cube.
        pan: The panchromatic band, shape ``(H, W)``.
        ratio: Fine pixels per coarse pixel.
        mask: Fine pixels that count; boxes of 32 pixels with others are left out.
        coarse_mask: The same on the coarse grid, for boxes of ``32 // ratio`` pixels.
    """
    small = shrink(pan, ratio)
    changes = [
        abs(uiqi(fine, pan, BLOCK, mask) - uiqi(band, small, max(BLOCK // ratio, 2), coarse_mask))
        for fine, band in zip(fused, coarse, strict=True)
    ]
    return float(np.mean(changes))


def rho_curve(fused: Cube, pan: NDArray[Any], ratio: int, mask: Mask | None = None) -> Floats:
    """Return the mean local correlation of each band with PAN, shape ``(B,)``; 1 is the same detail.

    Args:
        fused: The product, on the fine grid.
        pan: The panchromatic band, shape ``(H, W)``.
        ratio: Fine pixels per coarse pixel; windows have half of it, rounded up, on each side.
        mask: Fine pixels that are valid; those that see others in their windows do not count.
    """
    from scipy.ndimage import minimum_filter

    half, found = (ratio + 1) // 2, list[float]()
    if mask is not None:
        # the windows of the mean and of the products, one after the other
        mask = np.asarray(minimum_filter(mask, size=4 * half + 1, mode="constant", cval=True), dtype=bool)
    for begin in range(0, len(fused), _BANDS):
        for rho in np.clip(local_correlation(fused[begin : begin + _BANDS], pan, half), -1, 1):
            seen = rho if mask is None else rho[mask]
            found.append(float(seen.mean()) if seen.size else float("nan"))
    return np.array(found)


def d_rho(fused: Cube, pan: NDArray[Any], ratio: int, mask: Mask | None = None) -> float:
    """Return 1 - the mean local correlation with PAN over bands and pixels; 0 at best."""
    return float(np.mean(1 - rho_curve(fused, pan, ratio, mask)))


def shrink(image: NDArray[Any], ratio: int) -> Floats:
    """Return a smaller image by bicubic convolution whose kernel is widened by the ratio (Keys 1981).

    Args:
        image: Shape ``(H, W)``, both multiples of ``ratio``.
        ratio: How many times fewer rows and columns.

    Returns:
        float64, shape ``(H / ratio, W / ratio)``; edges are mirrored.
    """
    rows, columns = (_shrinking(size, ratio) for size in image.shape)
    return np.asarray(rows @ np.asarray(image, dtype=np.float64) @ columns.T, dtype=np.float64)


def _shrinking(size: int, ratio: int) -> Floats:
    centre = (np.arange(size // ratio) + 0.5) * ratio - 0.5
    reach = np.arange(-2 * ratio - 1, 2 * ratio + 2)
    index = np.floor(centre)[:, None].astype(int) + reach
    weights = _keys((centre[:, None] - index) / ratio)
    weights /= weights.sum(axis=1, keepdims=True)
    folded = index % (2 * size)
    folded = np.where(folded < size, folded, 2 * size - 1 - folded)
    matrix = np.zeros((len(centre), size))
    np.add.at(matrix, (np.arange(len(centre))[:, None], folded), weights)
    return matrix


def _keys(distance: Floats) -> Floats:
    """Return Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(distance)
    near = (_CUBIC + 2) * x**3 - (_CUBIC + 3) * x**2 + 1
    far = _CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

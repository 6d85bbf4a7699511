"""Low-passes of the panchromatic band, window by window: windows equal the whole image to rounding."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.degradation import Phase, decimate, low_pass, sample_offset

Floats = NDArray[np.float64]
Edge = Literal["edge", "symmetric"]

_STRIP_PIXELS = 2**21


def filtered_window(
    image: NDArray[np.floating[Any]], kernel: Floats, window: Window, edge: Edge = "edge"
) -> Floats:
    """Return a window of a filtered image; only the window and a halo are read.

    Args:
        image: Shape ``(H, W)``, finite; may be memory-mapped.
        kernel: Shape ``(taps, taps)``, taps odd.
        window: Window of the image.
        edge: What lies beyond the image: its edge repeated, or its mirror image.

    Returns:
        float64, the shape of the window.
    """
    half = kernel.shape[0] // 2
    height, width = image.shape
    outer = window.grown(half, (height, width))
    before = (half - (window.top - outer.top), half - (window.left - outer.left))
    after = (half - (outer.bottom - window.bottom), half - (outer.right - window.right))
    block = np.asarray(image[outer.slices], dtype=np.float64)
    padded = np.pad(block, tuple(zip(before, after, strict=True)), mode=edge)
    return low_pass(padded, kernel, "none")


def decimated(image: NDArray[np.floating[Any]], kernel: Floats, ratio: int, edge: Edge = "edge") -> Floats:
    """Return an image filtered and reduced to the coarse grid, computed in strips of rows.

    Args:
        image: Shape ``(R h, R w)``, finite.
        kernel: Shape ``(taps, taps)``; its output at index ``ratio * k + ratio // 2`` is coarse sample k.
        ratio: Fine pixels per coarse pixel.
        edge: See :func:`filtered_window`.

    Returns:
        float64, shape ``(h, w)``.
    """
    height, width = image.shape
    rows = max(_STRIP_PIXELS // width // ratio, 1) * ratio
    strips = [Window(top, 0, min(top + rows, height), width) for top in range(0, height, rows)]
    return np.concatenate([decimate(filtered_window(image, kernel, s, edge), ratio) for s in strips])


def wavelet_kernel(ratio: int, phase: Phase) -> Floats:
    """Return the low-pass of GSA: [1, 4, 6, 4, 1] / 16 convolved with itself ``2 ceil(log2 R)`` times.

    For an even ratio the centre of a coarse pixel lies between two fine pixels; the kernel then averages
    its outputs at both, so that they meet the coarse sample.

    Args:
        ratio: Fine pixels per coarse pixel.
        phase: Where coarse samples lie on the fine grid.

    Returns:
        Weights, shape ``(taps, taps)``, taps odd, sum 1; output ``R k + R // 2`` is coarse sample k.
    """
    taps = np.ones(1)
    for _ in range(2 * int(np.ceil(np.log2(ratio)))):
        taps = np.convolve(taps, np.array([1, 4, 6, 4, 1]) / 16)
    if sample_offset(ratio, phase) != ratio // 2:
        taps = np.append(np.convolve(taps, [0.5, 0.5]), 0.0)
    return np.outer(taps, taps)

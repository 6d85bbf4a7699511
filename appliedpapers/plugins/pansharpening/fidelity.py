"""How close a cube is to a known one: ERGAS, SAM, CC, PSNR, SSIM, UIQI, RMSE (arXiv 2407.01355).

Cubes have shape ``(B, H, W)`` and are finite where ``mask`` (``(H, W)``) holds. Dead bands are left out by
the caller: hand over the living ones. Values of both cubes are in the same unit; none of these metrics but
RMSE depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Cube = NDArray[Any]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

CUT = slice(10, -11)

_SSIM_SIGMA = 1.5
_SSIM_REACH = 5
_SSIM_MEAN, _SSIM_SPREAD = 0.01, 0.03


def cut(cube: Cube) -> Cube:
    """Return the cube without its 10 first and 11 last rows and columns, as the benchmark judges it."""
    return cube[..., CUT, CUT]


def band_mse(truth: Cube, fused: Cube, mask: Mask | None = None) -> Floats:
    """Return the mean squared error of each band, shape ``(B,)``."""
    return np.array([np.mean((b - a) ** 2) for a, b in _band_pairs(truth, fused, mask)])


def band_rmse(truth: Cube, fused: Cube, mask: Mask | None = None) -> Floats:
    """Return the root mean squared error of each band in the cubes' unit, shape ``(B,)``."""
    return np.sqrt(band_mse(truth, fused, mask))


def ergas(truth: Cube, fused: Cube, ratio: int, mask: Mask | None = None) -> float:
    """Return the relative global error, 0 at best (Wald 2000).

    Args:
        truth: The known cube, whose band means are the scale.
        fused: The cube that is judged.
        ratio: Fine pixels per coarse pixel.
        mask: Pixels that count; None for all.
    """
    means = np.array([a.mean() for a, _ in _band_pairs(truth, truth, mask)])
    return ergas_of(band_mse(truth, fused, mask), means, ratio)


def ergas_of(mse: Floats, means: Floats, ratio: int) -> float:
    """Return ERGAS from each band's mean squared error and mean, both of shape ``(B,)``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(100 / ratio * np.sqrt(np.mean(mse / means**2)))


def angles(truth: Cube, fused: Cube) -> Floats:
    """Return the angle between the two spectra of each pixel in degrees; NaN where one of them is zero.

    Args:
        truth: Shape ``(B, ...)``.
        fused: The same shape.
    """
    product, first, second = (np.zeros(truth.shape[1:]) for _ in range(3))
    for a, b in zip(truth, fused, strict=True):
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        product += a * b
        first += a * a
        second += b * b
    length = np.sqrt(first) * np.sqrt(second)
    cosine = np.divide(product, length, out=np.full(length.shape, np.nan), where=length > 0)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))), dtype=np.float64)


def sam(truth: Cube, fused: Cube, mask: Mask | None = None, *, parity: bool = False) -> float:
    """Return the mean spectral angle in degrees, 0 at best.

    Args:
        truth: The known cube.
        fused: The cube that is judged.
        mask: Pixels that count; None for all.
        parity: Count pixels without a spectrum as no error, as public code does; else they do not count.
    """
    found = angles(truth, fused)
    found = found if mask is None else found[mask]
    if parity:
        return float(np.nan_to_num(found).mean())
    return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else float("nan")


def band_cc(truth: Cube, fused: Cube, mask: Mask | None = None) -> Floats:
    """Return the correlation of each band, shape ``(B,)``; NaN where either is constant."""
    return np.array([_correlation(a, b) for a, b in _band_pairs(truth, fused, mask)])


def band_psnr(truth: Cube, fused: Cube, mask: Mask | None = None) -> Floats:
    """Return the peak signal-to-noise ratio of each band in dB, shape ``(B,)``; the peak is its maximum."""
    peaks = np.array([a.max() for a, _ in _band_pairs(truth, truth, mask)])
    return psnr_of(band_mse(truth, fused, mask), peaks)


def psnr_of(mse: Floats, peaks: Floats) -> Floats:
    """Return the peak signal-to-noise ratio in dB from errors and maxima of equal shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(peaks**2 / mse), dtype=np.float64)


def ssim_map(truth: NDArray[Any], fused: NDArray[Any], value_range: float) -> Floats:
    """Return structural similarity around every pixel of one band (Wang et al. 2004).

    The weights are Gaussian, of 1.5 pixels, cut at 5.

    Args:
        truth: Shape ``(H, W)``.
        fused: The same shape.
        value_range: Largest less smallest value that the band may have.

    Returns:
        float64, shape ``(H, W)``; the outer 5 pixels see mirrored values.
    """
    from scipy.ndimage import gaussian_filter

    def smooth(image: Floats) -> Floats:
        return np.asarray(gaussian_filter(image, _SSIM_SIGMA, radius=_SSIM_REACH))

    x, y = np.asarray(truth, dtype=np.float64), np.asarray(fused, dtype=np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (_SSIM_MEAN * value_range) ** 2, (_SSIM_SPREAD * value_range) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    return np.divide(above, below, out=np.ones_like(above), where=below != 0)


def band_ssim(truth: Cube, fused: Cube, mask: Mask | None = None) -> Floats:
    """Return the structural similarity of each band, shape ``(B,)``, over pixels 5 or more from an edge."""
    inner = ssim_inner(truth.shape[1:], mask)
    found = []
    for a, b in zip(truth, fused, strict=True):
        seen = a if mask is None else a[mask]
        found.append(ssim_map(a, b, float(seen.max()) - float(seen.min()))[inner].mean())
    return np.array(found)


def ssim_inner(shape: tuple[int, ...], mask: Mask | None = None) -> Mask:
    """Return which pixels see nothing but the image, and nothing masked, within 5 pixels.

    Args:
        shape: Height and width.
        mask: Pixels that count.
    """
    from scipy.ndimage import minimum_filter

    seen = np.ones(shape, dtype=bool) if mask is None else mask
    side = 2 * _SSIM_REACH + 1
    return np.asarray(minimum_filter(seen, size=side, mode="constant", cval=False), dtype=bool)


def uiqi_map(first: NDArray[Any], second: NDArray[Any], box: int) -> Floats:
    """Return Wang and Bovik's universal index of every box that lies within the images.

    Args:
        first: Shape ``(H, W)``.
        second: The same shape.
        box: Side of a box in pixels.

    Returns:
        float64, shape ``(H - box + 1, W - box + 1)``, -1 to 1. Two flat boxes are judged by their means, and
        are equal, 1, where those are 0, too.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean_x, mean_y = box_means(x, box), box_means(y, box)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = box_means(x * y, box) - product
    variances = box_means(x * x, box) + box_means(y * y, box) - squares
    # differences of large sums: what is below their rounding is flat
    flat = variances <= 1e-12 * (box_means(x * x, box) + box_means(y * y, box))
    index = np.ones_like(product)
    np.divide(2 * product, squares, out=index, where=flat & (squares > 0))
    np.divide(4 * covariance * product, variances * squares, out=index, where=~flat & (squares > 0))
    return index


def uiqi(first: NDArray[Any], second: NDArray[Any], box: int = 32, mask: Mask | None = None) -> float:
    """Return the mean universal index over boxes within the images, 1 at best; NaN where there is none.

    Args:
        first: Shape ``(H, W)``.
        second: The same shape.
        box: Side of a box in pixels.
        mask: Pixels that count: boxes with others are left out.
    """
    if min(first.shape) < box:
        return float("nan")
    found = uiqi_map(first, second, box)
    if mask is not None:
        found = found[box_means((~mask).astype(np.float64), box) < 0.5 / box**2]
    return float(found.mean()) if found.size else float("nan")


def box_means(image: Floats, box: int) -> Floats:
    """Return means of all ``box`` x ``box`` windows within an image, shape ``(H - box + 1, W - box + 1)``."""
    sums = np.pad(image, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    whole = sums[box:, box:] - sums[:-box, box:] - sums[box:, :-box] + sums[:-box, :-box]
    return np.asarray(whole / box**2, dtype=np.float64)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else float("nan")


def _band_pairs(truth: Cube, fused: Cube, mask: Mask | None) -> Any:
    """Yield the two values of every pixel that counts, band by band, as float64 vectors."""
    if truth.shape != fused.shape:
        raise ValueError(f"the cubes have shapes {truth.shape} and {fused.shape}")
    for pair in zip(truth, fused, strict=True):
        yield tuple(
            np.asarray(band.ravel() if mask is None else band[mask], dtype=np.float64) for band in pair
        )

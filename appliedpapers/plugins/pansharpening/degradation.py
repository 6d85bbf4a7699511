"""How a sensor sees: the low-pass of its MTF, then every ratio-th sample (specification of R-PNN, 2.1).

A gain is the modulation transfer at the Nyquist frequency of the coarse grid, between 0 and 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Phase = Literal["reference", "centre"]
Padding = Literal["replicate", "reflect", "none"]

TAPS = 41
LOSS_TAPS = 61
_KAISER_BETA = 0.5
_PADDING = {"replicate": "edge", "reflect": "reflect"}


def sample_offset(ratio: int, phase: Phase) -> float:
    """Return where coarse sample k lies on the fine grid: at index ``ratio * k`` plus this offset.

    ``"reference"`` is ``ratio // 2``, as public code has it. ``"centre"`` is the centre of the coarse pixel,
    ``(ratio - 1) / 2``, which differs by half a fine pixel where the ratio is even.
    """
    return float(ratio // 2) if phase == "reference" else (ratio - 1) / 2


@lru_cache(maxsize=256)
def mtf_kernel(
    gain: float,
    ratio: int,
    taps: int = TAPS,
    *,
    normalize: bool = True,
    wide: bool = False,
    shift: float = 0.0,
) -> Floats:
    """Return the point spread function of a Gaussian MTF, windowed by a radial Kaiser window (beta 0.5).

    Args:
        gain: Modulation transfer at the Nyquist frequency of the coarse grid, in (0, 1).
        ratio: Fine pixels per coarse pixel.
        taps: Odd number of rows and columns.
        normalize: Whether the weights sum to 1, so that a constant scene stays constant; public code leaves
            the sum near 0.997.
        wide: Compute the width with ``taps`` in place of ``taps - 1``, as BT-H does.
        shift: Fine pixels by which the response is centred right of and below the middle tap, in [-0.5, 0.5].

    Returns:
        Weights, shape ``(taps, taps)``, float64, read-only.
    """
    if not 0 < gain < 1:
        raise ValueError(f"the gain at Nyquist lies between 0 and 1, not {gain}")
    span = taps if wide else taps - 1
    # squared width in frequency samples: the response is ``gain`` at 1 / (2 ratio) cycles a pixel
    width = (span / (2 * ratio)) ** 2 / (-2 * np.log(gain))
    middle = (taps - 1) // 2
    frequency = np.arange(taps) - middle
    response = np.exp(-(frequency[:, None] ** 2 + frequency[None, :] ** 2) / (2 * width))
    response[response < np.finfo(float).eps * response.max()] = 0.0
    turn = np.exp(-2j * np.pi * frequency * shift / taps)
    spectrum = response * turn[:, None] * turn[None, :]
    kernel = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum))).real * _window(taps, shift)
    if normalize:
        kernel /= kernel.sum()
    kernel.setflags(write=False)
    return kernel


def _window(taps: int, shift: float) -> Floats:
    profile = np.kaiser(taps, _KAISER_BETA)
    place = np.linspace(-1, 1, taps) - 2 * shift / (taps - 1)
    radius = np.hypot(place[:, None], place[None, :])
    return np.interp(radius, np.linspace(-1, 1, taps), profile, right=0.0)


def low_pass(image: NDArray[np.floating], kernel: Floats, padding: Padding = "replicate") -> Floats:
    """Filter an image with a kernel.

    Args:
        image: Shape ``(..., H, W)``, finite.
        kernel: Shape ``(taps, taps)``, taps odd.
        padding: What lies beyond the edges; ``"none"`` keeps the pixels that the kernel fully covers.

    Returns:
        float64, shape ``(..., H, W)``, or smaller by ``taps - 1`` without padding.
    """
    from scipy.signal import oaconvolve

    values = np.asarray(image, dtype=np.float64)
    if padding != "none":
        half = kernel.shape[0] // 2
        edges = [(0, 0)] * (values.ndim - 2) + [(half, half)] * 2
        values = np.pad(values, edges, mode=_PADDING[padding])  # type: ignore[call-overload]
    shaped = kernel[::-1, ::-1].reshape((1,) * (values.ndim - 2) + kernel.shape)
    filtered: Floats = oaconvolve(values, shaped, mode="valid", axes=(-2, -1))
    return filtered


def low_pass_kernel(
    gain: float, ratio: int, phase: Phase, taps: int = TAPS, *, normalize: bool = True
) -> Floats:
    """Return the kernel whose output at index ``ratio * k + ratio // 2`` is coarse sample k of ``phase``."""
    shift = sample_offset(ratio, phase) - ratio // 2
    return mtf_kernel(gain, ratio, taps, normalize=normalize, shift=shift)


def degrade(
    image: NDArray[np.floating],
    ratio: int,
    gains: float | NDArray[np.float64],
    phase: Phase = "reference",
    *,
    normalize: bool = True,
) -> Floats:
    """Return the image as a sensor with ``ratio`` times larger pixels sees it.

    Args:
        image: Shape ``(..., H, W)``, finite; H and W are multiples of ``ratio``.
        ratio: Fine pixels per coarse pixel.
        gains: Gain at Nyquist: one number, or one a band with shape ``(B,)`` for an image ``(B, H, W)``.
        phase: Where coarse samples lie, see :func:`sample_offset`.
        normalize: See :func:`mtf_kernel`.

    Returns:
        float64, shape ``(..., H / ratio, W / ratio)``.
    """
    every = np.broadcast_to(np.asarray(gains, dtype=np.float64), image.shape[:1] if image.ndim == 3 else ())
    if not np.ndim(gains):
        kernel = low_pass_kernel(float(gains), ratio, phase, normalize=normalize)
        return decimate(low_pass(image, kernel), ratio)
    parts = [
        degrade(band, ratio, float(gain), phase, normalize=normalize)
        for band, gain in zip(image, every, strict=True)
    ]
    return np.stack(parts)


def decimate(image: Floats, ratio: int) -> Floats:
    """Return samples ``ratio * k + ratio // 2`` of the last two axes."""
    return image[..., ratio // 2 :: ratio, ratio // 2 :: ratio]

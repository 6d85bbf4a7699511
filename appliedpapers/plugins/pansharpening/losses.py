"""The losses of both networks, which need no reference (specification of R-PNN and rho-PNN, 2.3 and 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from appliedpapers.plugins.pansharpening.degradation import TAPS, mtf_kernel
from appliedpapers.plugins.pansharpening.operators import Box, Observation
from appliedpapers.plugins.pansharpening.scene import Optics

PARITY_FLOOR = 1e-20
# flat places would send gradients of 1e10 through single precision
FLOOR = 1e-10
_REFLECTED = 6


def struct_reach(ratio: int) -> int:
    """Return half the side of the windows of the structural loss: half the ratio, rounded up."""
    return -(-ratio // 2)


class LocalCorrelation:
    """Correlation with a fixed image in even windows of ``2 reach`` pixels; each pixel keeps its own mean.

    Args:
        fixed: The image that does not change, shape ``(N, 1, H, W)``.
        reach: Half the side of a window in pixels.
        clip: Whether a negative covariance counts as none, as in R-PNN.
        floor: Smallest sum of squares.
    """

    def __init__(self, fixed: Tensor, reach: int, *, clip: bool = False, floor: float = FLOOR) -> None:
        self._box = Box(
            (fixed.shape[-2], fixed.shape[-1]), reach, dtype=fixed.dtype, device=str(fixed.device)
        )
        self._count = 4.0 * reach * reach
        self._clip, self._floor = clip, floor
        self._centred = fixed - self._box(fixed)
        self._spread = self._sums(self._centred * self._centred).clamp(min=floor).sqrt()

    def __call__(self, image: Tensor) -> Tensor:
        """Return the correlation around each pixel, shape ``(N, 1, H, W)``."""
        centred = image - self._box(image)
        spread = self._sums(centred * centred).clamp(min=self._floor).sqrt()
        common = self._sums(centred * self._centred)
        if self._clip:
            common = common.clamp(min=self._floor)
        return common / (spread * self._spread + self._floor)

    def _sums(self, image: Tensor) -> Tensor:
        return self._box(image) * self._count


@dataclass(frozen=True)
class SpectralLoss:
    """Mean absolute difference between what the sensor would see and what it saw.

    Attributes:
        observe: The sensor.
        seen: What it saw, shape ``(N, 1, n, m)``, cut to what :attr:`observe` produces.
        weight: Share of each sample, the same shape; None for equal shares.
    """

    observe: Observation
    seen: Tensor
    weight: Tensor | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """Return the loss of a fine band ``(N, 1, H, W)``."""
        return weighted_mean((self.observe(image) - self.seen).abs(), self.weight)


@dataclass(frozen=True)
class StructuralLoss:
    """One minus the local correlation with the panchromatic band.

    Attributes:
        correlate: The correlation with the panchromatic band.
        threshold: R-PNN: losses up to this count nothing, shape ``(N, 1, H, W)``; None for rho-PNN, which
            takes the absolute correlation.
        weight: Share of each pixel, shape ``(N, 1, H, W)``; None for equal shares.
    """

    correlate: LocalCorrelation
    threshold: Tensor | None = None
    weight: Tensor | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """Return the loss of a fine band ``(N, 1, H, W)``."""
        rho = self.correlate(image)
        if self.threshold is None:
            return weighted_mean(1 - rho.abs(), self.weight)
        loss = 1 - rho
        return weighted_mean(loss * (loss > self.threshold), self.weight)


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of ``values``, or their sum with shares that sum to 1."""
    return values.mean() if weight is None else (values * weight).sum()


def structural_threshold(
    interpolated: Tensor, pan: Tensor, optics: Optics, gain: float, *, floor: float = FLOOR
) -> Tensor:
    """Return R-PNN's threshold of a band: what the coarse band itself misses of the blurred panchromatic one.

    Both images are reflected by 6 pixels, the panchromatic one by another 20 for its low-pass, and the
    correlation in windows of six ratios is cut back to the image.

    Args:
        interpolated: The band on the fine grid, shape ``(N, 1, H, W)``.
        pan: The panchromatic band, the same shape.
        optics: Ratio and normalisation of kernels.
        gain: Gain at Nyquist of the hyperspectral band, by which the panchromatic one is blurred.
        floor: Smallest sum of squares in the correlation.
    """
    kernel = mtf_kernel(gain, optics.ratio, TAPS, normalize=optics.normalize_kernel)
    wide = functional.pad(pan, [_REFLECTED] * 4, mode="reflect")
    wider = functional.pad(wide, [TAPS // 2] * 4, mode="reflect")
    taps = torch.as_tensor(np.array(kernel), dtype=pan.dtype, device=pan.device)
    blurred = functional.conv2d(wider, taps[None, None])
    band = functional.pad(interpolated, [_REFLECTED] * 4, mode="reflect")
    rho = LocalCorrelation(blurred, 3 * optics.ratio, clip=True, floor=floor)(band)
    return (1 - rho)[..., _REFLECTED:-_REFLECTED, _REFLECTED:-_REFLECTED]

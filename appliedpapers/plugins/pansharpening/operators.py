"""Linear operators of the losses as small matrices: two products replace a wide convolution.

A low-pass followed by decimation needs few outputs, and its kernel is a short sum of separable ones; a box
sum is separable outright. As matrix products both cost little beside the network, forwards and backwards.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.plugins.pansharpening.degradation import low_pass_kernel
from appliedpapers.plugins.pansharpening.scene import Optics

_SEPARABLE_TOLERANCE = 1e-13


def loss_taps(ratio: int) -> int:
    """Return the taps of the spectral loss: 61 at ratio 6 as published, as many coarse pixels elsewhere."""
    return 10 * ratio + 1


class Observation:
    """What the hyperspectral sensor sees of a fine band, where its kernel lies within the image.

    Args:
        shape: Height and width of the fine image, multiples of the ratio.
        optics: Ratio, phase and kernel normalisation.
        gain: Gain at Nyquist of the band.
        taps: Taps of the kernel.
        dtype: Of the products.
        device: Of the matrices.

    Attributes:
        rows: Which coarse rows are produced.
        columns: Which coarse columns are produced.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        optics: Optics,
        gain: float,
        taps: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        ratio = optics.ratio
        taps = loss_taps(ratio) if taps is None else taps
        kernel = low_pass_kernel(gain, ratio, optics.phase, taps, normalize=optics.normalize_kernel)
        left, values, right = np.linalg.svd(kernel)
        rank = int((values > _SEPARABLE_TOLERANCE * values[0]).sum())
        self.rows, self.columns = (_covered(size, ratio, taps) for size in shape)
        first = left[:, :rank] * np.sqrt(values[:rank])
        second = right[:rank].T * np.sqrt(values[:rank])
        down = _strided(first, shape[0], ratio, self.rows)
        across = _strided(second, shape[1], ratio, self.columns)
        self._rank = rank
        self._down = torch.as_tensor(down.reshape(-1, shape[0]), dtype=dtype, device=device)
        # (rank, columns, W) -> (rank * W, columns), so that one product sums over the separable terms
        self._across = torch.as_tensor(
            across.transpose(0, 2, 1).reshape(-1, across.shape[1]), dtype=dtype, device=device
        )

    def __call__(self, image: Tensor) -> Tensor:
        """Return the coarse samples of ``rows`` and ``columns``, ``(N, 1, n, m)``, of ``(N, 1, H, W)``."""
        number, _, _, width = image.shape
        partly = (self._down @ image[:, 0]).reshape(number, self._rank, -1, width)
        return (partly.transpose(1, 2).reshape(number, -1, self._rank * width) @ self._across)[:, None]


def _covered(size: int, ratio: int, taps: int) -> slice:
    """Return the coarse samples whose kernel lies within ``size`` fine pixels."""
    half, offset = taps // 2, ratio // 2
    first = max(-(-(half - offset) // ratio), 0)
    last = (size - 1 - half - offset) // ratio
    if last < first:
        raise ValueError(f"{size} fine pixels are fewer than the {taps} taps of the low-pass")
    return slice(first, last + 1)


def _strided(taps: NDArray[np.float64], size: int, ratio: int, rows: slice) -> NDArray[np.float64]:
    """Return ``(rank, samples, size)``: each separable factor placed around each coarse sample."""
    length, rank = taps.shape
    samples = range(rows.start, rows.stop)
    matrix = np.zeros((rank, len(samples), size))
    for place, sample in enumerate(samples):
        begin = ratio * sample + ratio // 2 - length // 2
        matrix[:, place, begin : begin + length] = taps.T
    return matrix


class Box:
    """Means over even windows of ``2 reach`` pixels, from ``1 - reach`` to ``reach``, zero beyond the edges.

    The divisor is ``4 reach^2`` at the edges, too (specification of R-PNN, 2.3).
    """

    def __init__(
        self,
        shape: tuple[int, int],
        reach: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        down, across = (_window_matrix(size, reach) for size in shape)
        self._down = torch.as_tensor(down, dtype=dtype, device=device)
        self._across = torch.as_tensor(across.T.copy(), dtype=dtype, device=device)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the means, in the shape ``(..., H, W)`` of the image."""
        return self._down @ image @ self._across


def _window_matrix(size: int, reach: int) -> NDArray[np.float64]:
    place = np.arange(size)
    away = place[None, :] - place[:, None]
    return ((away >= 1 - reach) & (away <= reach)) / (2.0 * reach)

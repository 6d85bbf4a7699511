"""Q2n, the hypercomplex quality index of a multi-band image (Garzelli and Nencini 2009), one product a block.

Each pixel's bands are one number of the Cayley-Dickson algebra of dimension 2^n. The product is bilinear, so
its mean over a block follows from the bands' covariance matrix and a table of signs: no recursion a pixel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

BLOCK = 32
_FLAT = 1e-10
_LEAST_SEEN = 0.5


def q2n_map(
    reference: NDArray[Any],
    other: NDArray[Any],
    *,
    block: int = BLOCK,
    unit: float = 1.0,
    mask: Mask | None = None,
) -> Floats:
    """Return Q2n of every block; the index of an image is the mean over those that are not NaN.

    Images that blocks do not divide are continued by mirroring at the bottom and at the right.

    Args:
        reference: Shape ``(B, H, W)``; its blocks' means and deviations normalise both.
        other: The same shape.
        block: Side of a block in pixels.
        unit: Both are rounded to whole multiples of it, as stored numbers are; 0 does not round.
        mask: Pixels that count, shape ``(H, W)``. A block of which less than half counts is NaN.

    Returns:
        float64, shape ``(ceil(H / block), ceil(W / block))``, 0 to 1 (1 is equality) or NaN.
    """
    if reference.shape != other.shape:
        raise ValueError(f"the images have shapes {reference.shape} and {other.shape}")
    height, width = reference.shape[1:]
    rows, columns = -(-height // block), -(-width // block)
    seen = np.ones((height, width), dtype=bool) if mask is None else mask
    found = np.full((rows, columns), np.nan)
    for row in range(rows):
        for column in range(columns):
            down, across = _mirrored(row, block, height)[:, None], _mirrored(column, block, width)
            chosen = seen[down, across]
            if chosen.mean() >= _LEAST_SEEN:
                first, second = (image[:, down, across][:, chosen] for image in (reference, other))
                found[row, column] = q2n_of(_rounded(first, unit), _rounded(second, unit))
    return found


def q2n_of(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Return Q2n of one block.

    Args:
        reference: Shape ``(B, pixels)``.
        other: The same shape.
    """
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(other, dtype=np.float64)
    bands, pixels = x.shape
    order = _order(bands)
    mean, spread = x.mean(axis=1, keepdims=True), x.std(axis=1, ddof=1, keepdims=True)
    spread = np.where(spread > 0, spread, _FLAT)
    x, y = (x - mean) / spread, (y - mean) / spread
    offset = y.mean(axis=1)
    y = y - offset[:, None]
    variance = (np.vdot(x, x) + np.vdot(y, y)) / (pixels - 1)
    # both are raised by 1; bands that fill up to 2^n are 1 throughout
    first, second = float(order), float(((offset + 1) ** 2).sum()) + order - bands
    bias = 2 * np.sqrt(first * second) / (first + second)
    if variance == 0:
        return float(bias)
    covariance = np.zeros((order, order))
    covariance[:bands, :bands] = x @ y.T / (pixels - 1)
    return float(np.linalg.norm(conjugate_product(covariance)) * bias * 2 / variance)


def conjugate_product(table: Floats) -> Floats:
    """Return the sum of ``table[i, j]`` times the product of units e_i and conjugate e_j.

    Args:
        table: Shape ``(N, N)``, N a power of 2.

    Returns:
        Shape ``(N,)``.
    """
    partners, signs = _products(len(table))
    parts: Floats = (signs * np.take_along_axis(table, partners, axis=1)).sum(axis=0)
    return parts


@lru_cache(maxsize=12)
def _products(order: int) -> tuple[NDArray[np.intp], Floats]:
    """Return for row i and result k the partner ``j = i xor k``, and the sign of e_i conj(e_j) = +-e_k."""
    unit = np.arange(order)
    partners = unit[:, None] ^ unit[None, :]
    conjugated = _signs(order)
    conjugated[:, 1:] *= -1
    return partners, np.take_along_axis(conjugated, partners, axis=1)


def _signs(order: int) -> Floats:
    """Return s with ``e_i e_j = s[i, j] e_(i xor j)``, by doubling.

    The second half of a product is written without its conjugate, as Garzelli and Nencini have it:
    ``(a, b)(c, d) = (a c - conj(d) b, conj(a) conj(d) + c conj(b))``.
    """
    if order == 1:
        return np.ones((1, 1))
    half = _signs(order // 2)
    turned = np.where(np.arange(order // 2) == 0, 1.0, -1.0)
    upper = np.concatenate([half, turned[:, None] * turned[None, :] * half], axis=1)
    lower = np.concatenate([half.T * turned[:, None], -half.T * turned[None, :]], axis=1)
    return np.concatenate([upper, lower])


def _order(bands: int) -> int:
    return 1 << max(bands - 1, 0).bit_length()


def _mirrored(number: int, block: int, size: int) -> NDArray[np.intp]:
    index = np.arange(number * block, (number + 1) * block) % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def _rounded(values: NDArray[Any], unit: float) -> NDArray[Any]:
    return np.round(values / unit) if unit > 0 else values

"""Least squares on covariances, for bands that are nearly copies of one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# relative deviation below which float32 arithmetic cannot tell an image from a constant
_FLAT = 1e-6
_SMALLEST_EIGENVALUE = 1e-12


def is_flat(variance: float, *magnitudes: float) -> bool:
    """Return whether an image of this variance is constant beside these magnitudes, up to rounding."""
    scale = max((abs(value) for value in magnitudes), default=0.0)
    return not variance > (_FLAT * scale) ** 2


def condition(gram: Floats) -> float:
    """Return the condition number of a symmetric matrix of products, scaled to a unit diagonal."""
    scaled, _ = _scaled(gram)
    values = np.linalg.eigvalsh(scaled)
    return float("inf") if values[0] <= 0 else float(values[-1] / values[0])


def least_squares(gram: Floats, cross: Floats) -> Floats:
    """Return the smallest weights, in units of each regressor's spread, that solve the normal equations.

    Args:
        gram: Products or covariances of the regressors, shape ``(n, n)``.
        cross: Products or covariances of regressors and target, shape ``(n,)``.
    """
    scaled, spread = _scaled(gram)
    values, vectors = np.linalg.eigh(scaled)
    kept = values > _SMALLEST_EIGENVALUE * max(values[-1], 0.0)
    basis = vectors[:, kept]
    weights: Floats = basis @ (basis.T @ (cross / spread) / values[kept]) / spread
    return weights


def nonnegative_least_squares(gram: Floats, cross: Floats) -> Floats:
    """Return the least-squares weights that are not negative; see :func:`least_squares`."""
    from scipy.optimize import nnls

    scaled, spread = _scaled(gram)
    values, vectors = np.linalg.eigh(scaled)
    kept = values > _SMALLEST_EIGENVALUE * max(values[-1], 0.0)
    root = np.sqrt(values[kept])
    design = root[:, None] * vectors[:, kept].T
    target = vectors[:, kept].T @ (cross / spread) / root
    weights: Floats = nnls(design, target)[0] / spread
    return weights


def _scaled(gram: Floats) -> tuple[Floats, Floats]:
    """Return the matrix with a unit diagonal and the scale of each row; rows of zeros keep scale 1."""
    spread = np.sqrt(np.maximum(np.diag(gram), 0.0))
    spread = np.where(spread > 0, spread, 1.0)
    return gram / np.outer(spread, spread), spread

"""Ridge regression, the mathematics alone (Hoerl and Kennard 1970, eq. 2.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fit_ridge(features: Floats, target: Floats, penalty: float, prior: Floats | None = None) -> Floats:
    """Return the weights that minimise squared error plus ``penalty`` times squared distance to ``prior``.

    Args:
        features: ``(rows, columns)``; the last column is the intercept's 1, which is not penalised.
        target: ``(rows,)``.
        penalty: Not negative.
        prior: ``(columns,)``; zero by default.

    Returns:
        ``(columns,)``.
    """
    weight = np.full(features.shape[1], penalty)
    weight[-1] = 0.0
    centre = np.zeros(features.shape[1]) if prior is None else prior
    step, *_ = np.linalg.lstsq(
        np.vstack([features, np.diag(np.sqrt(weight))]),
        np.concatenate([target - features @ centre, np.zeros(features.shape[1])]),
        rcond=None,
    )
    return np.asarray(centre + step)


def apply_ridge(features: Floats, weights: Floats) -> Floats:
    """Return one value a row, shape ``(rows,)``; summed within the row, so that no row feels another."""
    return np.asarray((features * weights).sum(axis=1))

"""Optical density and stains: how light passes haematoxylin and eosin, and what cautery does to both."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _unit_rows() -> Floats:
    rows = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float64)


STAINS = _unit_rows()
"""Haematoxylin, eosin and a residual: optical density in red, green and blue, unit rows."""

_INVERSE = np.linalg.inv(STAINS)


def to_stains(rgb: ArrayLike) -> Floats:
    """Return loads of the three stains, ``(..., 3)``, of RGB in 0 to 255."""
    density = -np.log((np.asarray(rgb, dtype=np.float64) + 1) / 256)
    return np.asarray(density @ _INVERSE, dtype=np.float64)


def from_stains(loads: ArrayLike) -> Floats:
    """Return RGB clipped to 0 to 255, not rounded, of loads ``(..., 3)``."""
    passed = 256 * np.exp(-(np.asarray(loads, dtype=np.float64) @ STAINS)) - 1
    return np.asarray(np.clip(passed, 0, 255), dtype=np.float64)


def cauterise(rgb: ArrayLike, severity: ArrayLike) -> Floats:
    """Darken and char: the step in optical density of the cautery generator.

    Args:
        rgb: ``(..., 3)`` in 0 to 255.
        severity: ``(...)`` in 0 to 1.
    """
    loads = to_stains(rgb)
    z = np.asarray(severity, dtype=np.float64)
    loads[..., 0] *= 1 + 0.9 * z
    loads[..., 1] *= 1 + 0.8 * z
    loads += 0.18 * z[..., None]
    loads[..., 2] += 0.3 * z**3
    return from_stains(loads)


def stain(rgb: ArrayLike, haematoxylin: ArrayLike, eosin: ArrayLike) -> Floats:
    """Multiply the loads of both stains, each a number or ``(...)``, of RGB ``(..., 3)``."""
    loads = to_stains(rgb)
    loads[..., 0] *= np.asarray(haematoxylin, dtype=np.float64)
    loads[..., 1] *= np.asarray(eosin, dtype=np.float64)
    return from_stains(loads)

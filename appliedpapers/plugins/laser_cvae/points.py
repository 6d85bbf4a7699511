"""Points of a standard normal that means over z are taken at, the same for all rows and calls."""

from __future__ import annotations

import numpy as np
import torch

from appliedpapers.plugins.laser_cvae.devices import Floats


def draws(count: int, size: int) -> Floats:
    """Return ``(count, size)`` standard normal numbers that fill space evenly (Sobol), always the same."""
    key = (count, size)
    if key not in _DRAWN:
        engine = torch.quasirandom.SobolEngine(size, scramble=True, seed=0)  # type: ignore[no-untyped-call]
        points = engine.draw(count, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        _DRAWN[key] = torch.special.ndtri(points).numpy()
    return _DRAWN[key]


_DRAWN: dict[tuple[int, int], Floats] = {}


def simplex(size: int) -> Floats:
    """Return the ``(size + 1, size)`` corners of a simplex, whose mean is 0 and whose covariance is 1.

    Their mean of a function is exact up to the second degree, so that a few corners replace many random
    draws where the posterior is narrow (the spherical simplex rule of unscented filters).
    """
    found = np.zeros((size + 1, size))
    for axis in range(size):
        corners = axis + 1
        found[:corners, axis] = -1 / np.sqrt(corners * (corners + 1))
        found[corners, axis] = np.sqrt(corners / (corners + 1))
    return np.asarray(found * np.sqrt(size + 1))

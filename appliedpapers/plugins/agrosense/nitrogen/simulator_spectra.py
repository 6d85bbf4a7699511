"""Spectra of simulated fields: water, clay and organic bands on a slope, with scatter and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.simulator import Fields, stream

Floats = NDArray[np.float64]

GRID = np.arange(1100.0, 2499.0, 2.0)
"""Wavelengths in nm, ``(700,)``."""

_WATER = ((1414.0, 22.0, 0.15), (1932.0, 30.0, 0.3))
_CLAY = (2206.0, 15.0, 0.08)
_ORGANIC = (1726.0, 2055.0, 2180.0, 2310.0)
_ORGANIC_WIDTH, _ORGANIC_HEIGHT = 18.0, 0.02


def spectra(fields: Fields, seed: int) -> Floats:
    """Return absorbance of each field at :data:`GRID`, ``(fields, 700)``."""
    rng = stream(seed, "spectra")
    count = len(fields)
    place = (GRID - GRID[0]) / (GRID[-1] - GRID[0]) - 0.5
    slope = rng.normal(0, 0.03, (count, 1))
    values = 0.35 + 0.1 * fields.clay[:, None] / 100 + slope * place
    for centre, width, height in _WATER:
        values = values + height * fields.moisture[:, None] * _peak(centre, width)
    centre, width, height = _CLAY
    values = values + height * fields.clay[:, None] / 100 * _peak(centre, width)
    organic = _ORGANIC_HEIGHT * (0.7 * fields.organic_carbon + 0.3 * fields.nitrogen)
    for centre in _ORGANIC:
        values = values + organic[:, None] * _peak(centre, _ORGANIC_WIDTH)
    gain, offset = rng.uniform(0.9, 1.1, (count, 1)), rng.normal(0, 0.02, (count, 1))
    return np.asarray(gain * values + offset + rng.normal(0, 3e-4, values.shape))


def _peak(centre: float, width: float) -> Floats:
    return np.exp(-0.5 * ((GRID - centre) / width) ** 2)

"""The embedded dataset of Harvest ridge: plots whose true law is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

SOILS = ("clay", "loam", "sand")
_SOIL_EFFECT = np.array([0.0, 1.0, -0.5])
_MISSING = 0.05


def simulate(plots: int, noise: float, seed: int) -> pa.Table:
    """Draw plots: ``harvest = 1 + 0.2 temperature + 0.01 rain + soil + noise``.

    Args:
        plots: How many rows.
        noise: Standard deviation, t/ha.
        seed: The only source of randomness.

    Returns:
        Columns plot, temperature, rain (5 % missing), soil, harvest.
    """
    rng = np.random.default_rng(seed)
    temperature, rain = rng.normal(14, 4, plots).clip(-10, 40), rng.gamma(4, 80, plots)
    soil = rng.integers(0, len(SOILS), plots)
    harvest = 1 + 0.2 * temperature + 0.01 * rain + _SOIL_EFFECT[soil] + rng.normal(0, noise, plots)
    return pa.table(
        {
            "plot": [f"plot-{number:05d}" for number in range(plots)],
            "temperature": temperature,
            "rain": pa.array(rain, mask=rng.random(plots) < _MISSING),
            "soil": [SOILS[kind] for kind in soil],
            "harvest": harvest,
        }
    )

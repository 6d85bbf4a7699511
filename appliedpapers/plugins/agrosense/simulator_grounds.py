"""What crops bear of the ground: texture, organic carbon, and the limits that come with a soil class.

Coarse stand-ins for what land evaluation lists for each crop: textures that it is grown on, salinity that it
bears (after the classes of FAO Irrigation and Drainage Paper 29), heavy cracking clays, stones and shallow
ground under roots and tubers, and exchangeable aluminium of weathered acid soils. Ratings follow the class
limits of the parametric method (Sys et al., Land Evaluation, 1991): 85, 60 and 40 %. The numbers are
illustrative: none was taken from those tables one by one, and none was fitted to what a model reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.soils import SOILS

Floats = NDArray[np.float64]

TEXTURES: MappingProxyType[str, tuple[float, float, float, float]] = MappingProxyType(
    {
        **{"rice": (10, 30, 80, 100), "sorghum": (5, 20, 70, 100), "teff": (5, 20, 70, 100)},
        **{"wheat": (5, 18, 50, 85), "barley": (5, 12, 45, 80), "maize": (5, 15, 40, 75)},
        **{"chickpea": (5, 20, 65, 95), "bean": (5, 15, 40, 70), "cotton": (8, 20, 65, 95)},
        **{"potato": (0, 5, 30, 60), "groundnut": (0, 5, 25, 55), "cassava": (0, 5, 35, 70)},
        **{"coffee": (10, 25, 60, 90), "banana": (8, 20, 50, 80)},
    }
)
"""Clay in % of each crop: unsuited below a or above d, full from b to c."""

CARBON: MappingProxyType[str, float] = MappingProxyType(
    {
        **{"banana": 1.5, "coffee": 1.5, "potato": 1.5},
        **{"barley": 0.8, "sorghum": 0.8, "teff": 0.8, "chickpea": 0.8, "groundnut": 0.8, "cassava": 0.8},
    }
)
"""Organic carbon in % from which more does not help; 1 for the others."""

LIMITS = ("heavy clay", "salt", "stones", "aluminium")

_SEVERITY = {
    **{"black": {"heavy clay": 2}, "arid": {"salt": 2}, "alluvial": {}},
    **{"mountain": {"stones": 2, "aluminium": 1}, "laterite": {"aluminium": 2, "stones": 1}},
    **{"red": {"aluminium": 1}, "yellow": {"aluminium": 1, "heavy clay": 1}},
}
# yellow soils owe their colour to hydrated iron: they are wet for longer than red ones

_TOLERANT = {
    "heavy clay": ("rice", "sorghum", "teff", "cotton", "chickpea"),
    "salt": ("barley", "cotton"),
    "stones": ("barley", "teff", "chickpea"),
    "aluminium": ("rice", "coffee", "cassava", "potato"),
}
_SENSITIVE = {
    "heavy clay": ("barley", "maize", "bean", "potato", "groundnut", "coffee", "banana", "cassava"),
    "salt": ("bean", "chickpea", "potato", "rice", "coffee", "banana", "cassava"),
    "stones": ("potato", "cassava", "groundnut", "banana", "cotton", "rice"),
    "aluminium": ("barley", "cotton", "chickpea", "bean", "sorghum"),
}
_RATINGS = {1: (1.0, 0.85, 0.6), 2: (0.85, 0.6, 0.4)}
"""Of tolerant, moderate and sensitive crops, where a limit is moderate or severe."""


def ground_ratings(crops: Sequence[str]) -> Floats:
    """Return what the limits of each soil class leave of each crop's suitability.

    Args:
        crops: Their names.

    Returns:
        ``(soils, crops)`` float64 in (0, 1], soils in the order of
        :data:`~appliedpapers.plugins.agrosense.soils.SOILS`.
    """
    found = np.ones((len(SOILS), len(crops)))
    for row, soil in enumerate(SOILS):
        for limit, severity in _SEVERITY[soil].items():
            tolerant, moderate, sensitive = _RATINGS[severity]
            for column, crop in enumerate(crops):
                rating = tolerant if crop in _TOLERANT[limit] else moderate
                found[row, column] *= sensitive if crop in _SENSITIVE[limit] else rating
    return found

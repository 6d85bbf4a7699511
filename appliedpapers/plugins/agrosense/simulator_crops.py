"""What crops need of soil and weather, and how suitable a field is: the simulator's truth.

All envelopes are illustrative textbook values, not advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.simulator_grounds import CARBON, TEXTURES, ground_ratings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Envelope = tuple[float, float, float, float]

ENVELOPES: MappingProxyType[str, tuple[Envelope, Envelope, Envelope]] = MappingProxyType(
    {
        "rice": ((4.5, 5.5, 7, 8.5), (15, 22, 32, 38), (600, 1000, 2000, 3000)),
        "wheat": ((5, 6, 7.5, 8.5), (5, 12, 22, 28), (250, 400, 800, 1200)),
        "maize": ((5, 5.8, 7, 8), (12, 18, 28, 35), (350, 500, 900, 1500)),
        "sorghum": ((5, 5.8, 7.5, 8.5), (16, 22, 32, 40), (250, 350, 700, 1100)),
        "teff": ((4.5, 5.5, 7, 8), (8, 14, 22, 28), (300, 450, 1000, 1800)),
        "barley": ((5.2, 6, 7.8, 8.5), (3, 10, 20, 26), (200, 350, 700, 1000)),
        "chickpea": ((5.3, 6, 8, 9), (8, 15, 25, 32), (200, 300, 600, 1000)),
        "bean": ((5, 5.8, 7, 7.8), (10, 16, 25, 30), (300, 400, 800, 1300)),
        "potato": ((4.5, 5, 6.2, 7.2), (5, 14, 20, 27), (350, 500, 900, 1300)),
        "cotton": ((5.2, 6, 8, 9), (15, 22, 32, 40), (350, 500, 1000, 1500)),
        "groundnut": ((4.8, 5.6, 6.8, 8), (16, 22, 30, 36), (350, 500, 1000, 1600)),
        "coffee": ((4.3, 5, 6.2, 7), (12, 17, 24, 28), (800, 1200, 2000, 2600)),
        "banana": ((4.5, 5.5, 7, 8), (15, 22, 30, 36), (800, 1200, 2400, 3200)),
        "cassava": ((4, 5, 7, 8.5), (15, 22, 30, 36), (500, 800, 1800, 3000)),
    }
)
"""pH, temperature (°C) and rain (mm a season) of each crop: none below a or above d, full from b to c."""

CROPS = tuple(ENVELOPES)

_WEIGHTS = {"ph": 1.0, "temperature": 1.5, "rainfall": 1.5, "nitrogen": 0.5, "phosphorus": 0.3}
_POTASSIUM_WEIGHT = 0.3
# texture and ground multiply as pH does, carbon as the nitrogen that it releases: the parametric method of
# land evaluation gives each characteristic its rating and no exponent beyond
_TEXTURE_WEIGHT, _GROUND_WEIGHT, _CARBON_WEIGHT = 1.0, 1.0, 0.5
_FLOOR = 0.02
_SHARPNESS = 0.35
_NITROGEN = {"chickpea": 0.6, "bean": 0.6, "groundnut": 0.6, "banana": 1.5, "coffee": 1.5}
_PHOSPHORUS = {"cassava": 5.0, "potato": 20.0}
_POTASSIUM = {"potato": 180.0, "banana": 180.0}


def suitability(
    values: Mapping[str, Floats], soil: Integers, temperature: Floats, rainfall: Floats
) -> Floats:
    """Return the suitability of each field for each crop, ``(fields, 14)`` in (0, 1].

    Args:
        values: ``ph``, ``nitrogen`` (total, g/kg), ``phosphorus`` and ``potassium`` (available, mg/kg),
            ``organic_carbon`` and ``clay`` (%), each ``(fields,)``.
        soil: Number of the soil class, ``(fields,)``.
        temperature: Mean of the season in °C, ``(fields,)``.
        rainfall: Of the season in mm, ``(fields,)``.
    """
    grounds = ground_ratings(CROPS)[soil]
    columns = []
    for place, (crop, (acid, warm, wet)) in enumerate(ENVELOPES.items()):
        score = _factor(_trapezoid(values["ph"], acid), _WEIGHTS["ph"])
        score = score * _factor(_trapezoid(temperature, warm), _WEIGHTS["temperature"])
        score = score * _factor(_trapezoid(rainfall, wet), _WEIGHTS["rainfall"])
        score = score * _factor(_trapezoid(values["clay"], TEXTURES[crop]), _TEXTURE_WEIGHT)
        score = score * _factor(grounds[:, place], _GROUND_WEIGHT)
        score = score * _factor(_ramp(values["organic_carbon"], CARBON.get(crop, 1.0)), _CARBON_WEIGHT)
        score = score * _factor(_ramp(values["nitrogen"], _NITROGEN.get(crop, 1.1)), _WEIGHTS["nitrogen"])
        enough = _PHOSPHORUS.get(crop, 12.0), _POTASSIUM.get(crop, 110.0)
        score = score * _factor(_ramp(values["phosphorus"], enough[0]), _WEIGHTS["phosphorus"])
        columns.append(score * _factor(_ramp(values["potassium"], enough[1]), _POTASSIUM_WEIGHT))
    return np.stack(columns, axis=1)


def chances(suitable: Floats, priors: Floats) -> Floats:
    """Return the probability of each crop on each field, ``(fields, 14)``; rows sum to 1.

    Args:
        suitable: What :func:`suitability` returned.
        priors: How common crops are on the site of each field, ``(fields, 14)``.
    """
    weights = suitable ** (1 / _SHARPNESS) * priors
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _trapezoid(values: Floats, envelope: Envelope) -> Floats:
    return np.asarray(np.interp(values, envelope, (0.0, 1.0, 1.0, 0.0)))


def _ramp(values: Floats, enough: float) -> Floats:
    return np.asarray(np.minimum(1.0, values / enough))


def _factor(score: Floats, weight: float) -> Floats:
    return np.asarray(np.maximum(score, _FLOOR) ** weight)

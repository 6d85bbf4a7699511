"""CIE Lab to the 8-bit colours of a picture (D65), for drawing soil by its textbook colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_RGB = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)
_KNEE = 6 / 29


def lab_to_rgb(lab: Floats) -> Floats:
    """Return sRGB in 0 to 255, float64 ``(..., 3)``, of CIE Lab; clipped to what screens show."""
    light = (lab[..., 0] + 16) / 116
    cubes = np.stack([light + lab[..., 1] / 500, light, light - lab[..., 2] / 200], axis=-1)
    xyz = _WHITE * np.where(cubes > _KNEE, cubes**3, 3 * _KNEE**2 * (cubes - 4 / 29))
    linear = np.clip(xyz @ _TO_RGB.T, 0, 1)
    found: Floats = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return found

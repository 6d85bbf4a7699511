"""Which bands make a picture of a scene, and which pixels stand for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.pansharpening.scene import Mask, Scene

Bands = tuple[int, int, int]

TRUE_COLOUR_NM = (640.0, 550.0, 460.0)
# short-wave infrared, near infrared, red: soil, rock and dry against green vegetation
SHORT_WAVE_NM = (1650.0, 860.0, 660.0)
COLOUR_INFRARED_NM = (860.0, 660.0, 560.0)
POINTS = 6

_NEAR_NM = 50.0
_POINT_SHARES = np.linspace(0.05, 0.95, POINTS)


def picture_bands(scene: Scene) -> tuple[Bands, bool]:
    """Return the bands of a picture, and whether they show true colours.

    Living bands nearest to 640, 550 and 460 nm; where one of them is more than 50 nm away, living bands at
    four fifths, half and one fifth of the spectrum.
    """
    true_colours = nearest_bands(scene, TRUE_COLOUR_NM)
    if true_colours is not None:
        return true_colours, True
    living = scene.living
    if scene.wavelengths is not None:
        living = living[np.argsort(scene.wavelengths[living], kind="stable")]
    red, green, blue = (int(living[int(share * (living.size - 1))]) for share in (0.8, 0.5, 0.2))
    return (red, green, blue), False


def false_colour_bands(scene: Scene) -> Bands | None:
    """Return bands of short-wave infrared, near infrared and red; else of near infrared, red and green.

    None where a band is more than 50 nm away, or wavelengths are not known.
    """
    return nearest_bands(scene, SHORT_WAVE_NM) or nearest_bands(scene, COLOUR_INFRARED_NM)


def nearest_bands(scene: Scene, wanted: tuple[float, float, float]) -> Bands | None:
    """Return the living bands nearest to these centres in nm; None where one is more than 50 nm away."""
    if scene.wavelengths is None or not scene.living.size:
        return None
    centres = scene.wavelengths[scene.living]
    places = [int(np.abs(centres - nm).argmin()) for nm in wanted]
    if any(abs(centres[place] - nm) > _NEAR_NM for place, nm in zip(places, wanted, strict=True)):
        return None
    red, green, blue = (int(scene.living[place]) for place in places)
    return red, green, blue


def points_of(pictures: Sequence[NDArray[Any]], seen: Mask) -> NDArray[np.intp]:
    """Return pixels at six shares of brightness, 5 % to 95 %.

    Args:
        pictures: Bands whose mean is the brightness, each of shape ``(h, w)``.
        seen: Pixels that may be chosen, shape ``(h, w)``; there is at least one.

    Returns:
        Row and column of each, shape ``(6, 2)``, from dark to bright.
    """
    places = np.flatnonzero(seen)
    brightness = np.mean([picture.ravel()[places] for picture in pictures], axis=0)
    order = np.argsort(brightness, kind="stable")
    chosen = places[order[np.round(_POINT_SHARES * (places.size - 1)).astype(int)]]
    return np.stack(np.unravel_index(chosen, seen.shape), axis=1)

"""What the colours of a photo say, in 145 numbers: no network, no weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.soil_image.views import Pixels

Floats = NDArray[np.float64]

HUES, SATURATIONS, VALUES = 8, 4, 4
CELLS = HUES * SATURATIONS * VALUES
SIZE = CELLS + 15 + 2
GRADIENTS = slice(SIZE - 2, SIZE)
"""Where the mean changes of grey along both axes stand."""

_QUANTILES = (10, 50, 90)


def colour_descriptor(view: Pixels) -> Floats:
    """Return float64 ``(145,)`` of a view ``(h, w, 3)``.

    A joint histogram of hue, saturation and value (8 x 4 x 4) that sums to 1; mean, standard deviation and
    the 10th, 50th and 90th percentile of each channel, and the mean absolute change of grey from pixel to
    pixel down and across, all in 0 to 1.
    """
    channels = view.reshape(-1, 3) / 255.0
    grey = view.mean(axis=2) / 255.0
    moments = [
        (one.mean(), one.std(), *np.percentile(one, _QUANTILES)) for one in np.ascontiguousarray(channels.T)
    ]
    changes = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
    return np.concatenate([histogram(view), *moments, changes])


def histogram(view: Pixels) -> Floats:
    """Return the share of pixels in each cell of hue, saturation and value, float64 ``(128,)``."""
    from PIL import Image

    hsv = np.asarray(Image.fromarray(view).convert("HSV")).reshape(-1, 3).astype(np.int64)
    hue, saturation, value = (
        hsv[:, place] * bins // 256 for place, bins in enumerate((HUES, SATURATIONS, VALUES))
    )
    cells = (hue * SATURATIONS + saturation) * VALUES + value
    return np.bincount(cells, minlength=CELLS) / len(cells)


def colour_descriptors(views: Iterable[Pixels]) -> Floats:
    """Return float64 ``(n, 145)`` of views."""
    found = [colour_descriptor(view) for view in views]
    return np.stack(found) if found else np.empty((0, SIZE))

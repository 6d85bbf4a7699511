"""Colour, stain and texture of a tile in a few dozen numbers: what a cheap expert looks at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.colour import to_lab
from appliedpapers.plugins.virtual_inking.simulator_stains import to_stains

VERSION = "colour-texture-1"

_EVERY = 2  # pixels: statistics need no more
_GLASS = 220
_QUANTILES = (10, 50, 90)
_SCALES = (1, 2, 4)
DIM = 3 * 2 + 3 * (2 + len(_QUANTILES)) + len(_SCALES) + 3 + 3


def describe(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features ``(DIM,)`` of a tile ``(t, t, 3)``.

    Means and standard deviations in Lab (the first six); mean, deviation and quantiles of both stains and of
    the residual; contrast over 1, 2 and 4 steps; variation between blocks; shares of glass, of pale holes
    and of very dark pixels.
    """
    small = tile[::_EVERY, ::_EVERY]
    glass = small.min(axis=-1) > _GLASS
    tissue = small[~glass] if np.count_nonzero(~glass) > 8 else small.reshape(-1, 3)
    lab, loads = to_lab(tissue), to_stains(tissue)
    grey = small.astype(np.float32).mean(axis=-1)
    found: list[float] = [*lab.mean(axis=0), *lab.std(axis=0)]
    for channel in range(3):
        own = loads[:, channel]
        found += [own.mean(), own.std(), *np.percentile(own, _QUANTILES)]
    for step in _SCALES:
        found.append(
            float(np.abs(grey[step:] - grey[:-step]).mean() + np.abs(grey[:, step:] - grey[:, :-step]).mean())
        )
    side = len(grey) // 4
    blocks = grey[: 4 * side, : 4 * side].reshape(4, side, 4, side)
    means, spreads = blocks.mean(axis=(1, 3)), blocks.std(axis=(1, 3))
    found += [means.std(), spreads.mean(), spreads.std()]
    found += [glass.mean(), float((grey > 200).mean()), float((grey < 80).mean())]
    return np.array(found, dtype=np.float32)

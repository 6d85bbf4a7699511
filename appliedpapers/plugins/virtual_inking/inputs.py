"""What the head sees of a tile: the encoder's features, colour and texture, as differences to the interior.

Slides differ in stain, thickness and scanner more than cut and natural edges differ on one slide. Tissue deep
inside of a slide was not cut, and is known without any label: its mean is subtracted from all tiles.

The paper's head sees the features as they are: ``head.reference=none`` and ``head.colour=false``, as in the
preset ``published``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.config import HeadConfig
from appliedpapers.plugins.virtual_inking.survey import Survey

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

_MOST = 32  # tiles that stand for the interior; a cascade encodes them all
_FEWEST = 4


def reference_rows(found: Survey, config: HeadConfig) -> Rows:
    """Return the tiles that stand for the interior of a slide, spread evenly; none without a reference.

    Where fewer than four tiles are deep enough, the deepest quarter stands for it.
    """
    if config.reference == "none" or not len(found.depth):
        return np.empty(0, dtype=np.int64)
    inner = np.flatnonzero(found.depth > config.interior_um)
    if len(inner) < _FEWEST:
        inner = np.flatnonzero(found.depth >= np.quantile(found.depth, 0.75))
    return inner[np.unique(np.linspace(0, len(inner) - 1, _MOST).astype(np.int64))]


def head_inputs(parts: list[Features], rows: Rows) -> Features:
    """Return what the head sees, ``(N, dim)``.

    Args:
        parts: Features of the same tiles, each ``(N, dim)``.
        rows: As :func:`reference_rows` gives them.
    """
    whole = np.concatenate(parts, axis=1)
    if not len(rows):
        return whole
    found: Features = (whole - whole[rows].mean(axis=0, dtype=np.float64)).astype(np.float32)
    return found

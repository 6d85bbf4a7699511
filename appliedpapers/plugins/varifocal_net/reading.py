"""What the networks say of chromosomes, each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """Calibrated answers for ``N`` chromosomes.

    Attributes:
        types: float64 ``(N, 24)``, probabilities.
        q_down: float64 ``(N,)``, probability that the q-arm points down.
        boxes: float64 ``(N, 4)``: x0, y0, x1, y1 of the local box in pixels of each image, limited to it.
    """

    types: Floats
    q_down: Floats
    boxes: Floats

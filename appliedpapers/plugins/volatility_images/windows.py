"""Anchors, realised volatility before and after them, and the windows that both are of.

At anchor ``k`` everything up to the end of second ``k - 1`` is known; the target is of ``k .. k + W - 1``
(arXiv 2304.02472 leaves the sampling open; one second is ours).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.volatility_images.config import VolatilityConfig
from appliedpapers.plugins.volatility_images.market import Floats, Ints, Session

FLOOR = 1e-5
"""Realised volatility of a minute that counts as none, in return units."""
LEAST_FORECAST = 1e-6
"""Forecasts are held at this from below where their logarithm is taken."""


def floor_of(window: int) -> float:
    """Return the volatility of a window of so many seconds that counts as no movement."""
    return FLOOR * math.sqrt(window / 60)


def history(config: VolatilityConfig) -> int:
    """Return how many seconds an anchor must have behind it, the one before the first return included."""
    return max(max(config.data.windows) + 1, config.data.window + 1, config.image.seconds)


def anchors_of(session: Session, before: int, after: int, stride: int) -> Ints:
    """Return the anchors whose windows lie within one segment.

    Args:
        session: The session.
        before: Seconds that an anchor needs behind it.
        after: Seconds that it needs before it: the window, or 0 where the future is not there yet.
        stride: Seconds between anchors, counted from the first of each segment.
    """
    made = [
        np.arange(first + before, stop - after + 1, stride, dtype=np.int64)
        for first, stop in session.segments()
    ]
    return np.concatenate(made) if made else np.empty(0, np.int64)


def gathered(values: NDArray[np.float64], anchors: Ints, first: int, stop: int) -> Floats:
    """Return ``values[k + first .. k + stop - 1]`` of each anchor, ``(anchors, stop - first)``.

    The rows are copies one after the other in memory, so that a reduction along them gives the same bits
    for one anchor as for thousands.
    """
    return np.ascontiguousarray(values[anchors[:, None] + np.arange(first, stop)])


def squared_sum(returns: Floats, anchors: Ints, first: int, stop: int) -> Floats:
    """Return the sum of squared returns over ``k + first .. k + stop - 1``, ``(anchors,)``."""
    return np.asarray((gathered(returns, anchors, first, stop) ** 2).sum(axis=1))


def realised(session: Session, anchors: Ints, window: int) -> Floats:
    """Return the target: realised volatility of the ``window`` seconds from each anchor on."""
    return np.asarray(np.sqrt(squared_sum(session.returns, anchors, 0, window)))


def trailing(session: Session, anchors: Ints, window: int, length: int) -> Floats:
    """Return realised volatility of the ``length`` seconds before each anchor, scaled to ``window``."""
    past = np.sqrt(squared_sum(session.returns, anchors, -length, 0))
    return np.asarray(past * math.sqrt(window / length))

"""What the residual network sees: the last seconds as the filter understood them, turned to the level frame.

The gyroscope has aligned every block already, so one rotation by the filter's present tilt brings a window to
a frame whose z axis is up as far as the filter knows. What is left in it of gravity's direction is the
filter's error; which way the sensor was mounted cannot be seen there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.rotations import between, matrix, multiply, normalise, rotate

Floats = NDArray[np.float64]
Base = Literal["filter", "window-mean"]

CHANNELS = 7
STATICS = 8

_GRAVITY = 9.81
_RATE_SCALE = 3.0  # rad/s
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Windows:
    """Windows of blocks as the network takes them.

    Attributes:
        series: ``(M, n, CHANNELS)`` float32: force (3, in g, gravity taken off), rate (3), and 1 where there
            was a block.
        statics: ``(M, STATICS)`` float32: velocity (3), position (3), expected tilt error, rest.
        level: ``(M, 4)`` integration frame to level frame.
    """

    series: NDArray[np.float32]
    statics: NDArray[np.float32]
    level: Floats


def windows_at(blocks: Floats, last: NDArray[np.int64], length: int, base: Base = "filter") -> Windows:
    """Return the windows that end with some blocks.

    Args:
        blocks: ``(B, RECORDS)`` records of the filter.
        last: ``(M,)`` index of the newest block of each window.
        length: Blocks of a window; before the first block there is nothing, and the window says so.
        base: Whether the level frame is the filter's, or that of the mean force of the window.
    """
    places = last[:, None] + np.arange(1 - length, 1)
    present = places >= 0
    taken = blocks[np.maximum(places, 0)]
    level = normalise(blocks[last, 15:19])
    if base == "window-mean":
        weight = (taken[..., 12] * present)[..., None]
        mean = np.sum(taken[..., 0:3] * weight, axis=1)
        # the filter's heading, and the mean's up
        level = multiply(between(normalise(rotate(level, mean)), _UP), level)
    turn = matrix(level).transpose(0, 2, 1)
    force, rate = taken[..., 0:3] @ turn, taken[..., 3:6] @ turn
    force[..., 2] -= blocks[last, 14][:, None]
    series = np.concatenate([force / _GRAVITY, rate / _RATE_SCALE, present[..., None]], axis=-1)
    series *= present[..., None]
    return Windows(series.astype(np.float32), _statics(blocks[last], turn, base), level)


def _statics(blocks: Floats, turn: Floats, base: Base) -> NDArray[np.float32]:
    if base == "window-mean":
        return np.zeros((len(blocks), STATICS), dtype=np.float32)
    parts = [(blocks[:, None, 6:9] @ turn)[:, 0], (blocks[:, None, 9:12] @ turn)[:, 0]]
    spread = np.log10(np.maximum(blocks[:, 13:14], 1e-5)) + 2
    return np.concatenate([*parts, spread, blocks[:, 19:20]], axis=1).astype(np.float32)


def network_blocks(count: int, every: int) -> NDArray[np.int64]:
    """Return the blocks of ``count`` at which the network is asked."""
    return np.arange(every - 1, count, every, dtype=np.int64)

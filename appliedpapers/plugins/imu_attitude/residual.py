"""The filter with the residual network on top: one state machine for live steps and for recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude import kernel
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.filter import Answer, Blocks, GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.residual_windows import Base, network_blocks, windows_at
from appliedpapers.plugins.imu_attitude.rotations import (
    between,
    conjugate,
    from_rotation_vector,
    multiply,
    normalise,
    rotate,
)

if TYPE_CHECKING:
    from appliedpapers.plugins.imu_attitude.config import AttitudeConfig

Floats = NDArray[np.float64]

FEWEST = 17
"""Blocks that the convolutions need to answer at all."""

_UP = np.array([0.0, 0.0, 1.0])
_NOTHING = (1.0, 0.0, 0.0, 0.0)
_WINDOWS_A_PART = 1024


class Corrector(Protocol):
    """Answers how far the level frame is off."""

    def __call__(self, series: NDArray[np.float32], statics: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rotations ``(M, 2)`` in radians for windows ``(M, n, channels)`` and ``(M, statics)``."""


class ResidualFilter:
    """A gravity filter whose answer is corrected by a share of what a network says.

    The correction is held between two answers of the network, in the earth frame, where it hardly changes.

    Args:
        gravity: The filter.
        corrector: The network.
        share: Share of its rotation that is kept, 0 to 1.
        length: Blocks of a window.
        every: Blocks between two answers.
        base: What the network corrects.
    """

    def __init__(
        self,
        gravity: GravityFilter,
        corrector: Corrector,
        *,
        share: float,
        length: int,
        every: int,
        base: Base = "filter",
    ) -> None:
        self._gravity, self._corrector, self._share = gravity, corrector, share
        self._length, self._every, self._base = length, every, base
        self._blocks = np.empty((0, kernel.RECORDS))
        self._count = 0
        self._turn = _NOTHING

    def step(self, acc: Sequence[float], gyr: Sequence[float], time: float) -> Answer:
        """Take one sample; see :meth:`GravityFilter.step`."""
        answer = self._gravity.step(acc, gyr, time)
        if self._gravity.closed:
            self._blocks = np.vstack([self._blocks, self._gravity.record()])[-self._length :]
            self._count += 1
            if self._count % self._every == 0:
                turns = self._turns(self._blocks, np.array([len(self._blocks) - 1]))
                self._turn = tuple(turns[0].tolist())
        return answer._replace(quaternion=_product(self._turn, answer.quaternion))

    def batch(self, recording: Recording) -> Estimate:
        """Take every sample of a recording that starts here, as :meth:`step` would."""
        estimate, blocks = self._gravity.batch_with_blocks(recording)
        return self.corrected(estimate, blocks)

    def corrected(self, estimate: Estimate, blocks: Blocks) -> Estimate:
        """Return the filter's answer to a whole recording with the network's correction."""
        last = network_blocks(len(blocks.ends), self._every)
        if not len(last):
            return estimate
        turns = np.vstack([_NOTHING, self._turns(blocks.records, last)])
        held = np.searchsorted(blocks.ends[last], np.arange(len(estimate.quaternion)), side="right")
        return replace(estimate, quaternion=multiply(turns[held], estimate.quaternion))

    def state(self) -> dict[str, Floats]:
        """Return everything needed to go on, as arrays."""
        return {
            **self._gravity.state(),
            "blocks": self._blocks.copy(),
            "count": np.array([float(self._count)]),
            "turn": np.array(self._turn),
        }

    def restore(self, state: Mapping[str, Floats]) -> Self:
        """Go on from :meth:`state`."""
        self._gravity.restore(state)
        self._blocks = np.array(state["blocks"]).reshape(-1, kernel.RECORDS)
        self._count = int(state["count"][0])
        self._turn = tuple(np.asarray(state["turn"]).tolist())
        return self

    def _turns(self, blocks: Floats, last: NDArray[np.int64]) -> Floats:
        """Return earth-frame rotations ``(M, 4)`` from the filter's answer to the corrected one."""
        # an hour of windows at once would take a gigabyte
        parts = np.array_split(last, -(-len(last) // _WINDOWS_A_PART))
        return np.concatenate([self._turns_of(blocks, part) for part in parts])

    def _turns_of(self, blocks: Floats, last: NDArray[np.int64]) -> Floats:
        windows = windows_at(blocks, last, self._length, self._base)
        rotation = self._share * np.asarray(self._corrector(windows.series, windows.statics), np.float64)
        # up as the network sees it, in the level frame, is brought to the vertical
        up = rotate(from_rotation_vector(np.pad(rotation, ((0, 0), (0, 1)))), _UP)
        level = multiply(between(up, _UP), windows.level)
        return normalise(multiply(level, conjugate(normalise(blocks[last, 15:19]))))


def _product(
    first: tuple[float, ...], second: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    aw, ax, ay, az = first
    bw, bx, by, bz = second
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def network_pace(config: AttitudeConfig) -> tuple[int, int]:
    """Return how many blocks a window of the network has, and how many lie between its answers."""
    block, options = config.filter.block, config.model
    return max(math.ceil(options.seconds / block), FEWEST), max(round(1 / (options.rate * block)), 1)

"""Windows of recordings for the paper's models: never across trials, and gathered only when they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.config import ModelConfig
from appliedpapers.plugins.imu_attitude.recording import Floats, Recording

__all__ = ["Batch", "Blocks", "PaperWindows", "answer_offset", "unbroken_blocks", "window_rates"]

Indices = NDArray[np.int64]

_LONGEST_GAP = 1.0  # seconds


@dataclass(frozen=True)
class Batch:
    """Windows side by side, float32: ``acc``, ``gyr`` (N, W, 3), ``fs`` (N,) in Hz, ``quaternion`` (N, 4)."""

    acc: Tensor
    gyr: Tensor
    fs: Tensor
    quaternion: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the windows on another device."""
        return Batch(*(part.to(device) for part in (self.acc, self.gyr, self.fs, self.quaternion)))


@dataclass(frozen=True)
class Blocks:
    """Readings of a part of a trial that has no gap, averaged in blocks.

    Attributes:
        piece: The samples of the part.
        rows: ``(M,)`` int64, the last sample of each block.
        time: ``(M,)`` their time stamps in seconds.
        acc: ``(M, 3)`` mean specific force in m/s^2.
        gyr: ``(M, 3)`` mean angular rate in rad/s.
    """

    piece: slice
    rows: Indices
    time: Floats
    acc: Floats
    gyr: Floats

    def starts(self, config: ModelConfig) -> Indices:
        """Return the first blocks of all windows."""
        return np.arange(0, len(self.rows) - config.window + 1, config.stride, dtype=np.int64)


def answer_offset(config: ModelConfig) -> int:
    """Return how many blocks after its start a window is answered for (arXiv 2302.06037: the centre)."""
    if config.target == "last":
        return config.window - 1
    return max((config.window - config.stride) // 2, 0)


def unbroken_pieces(time: Floats, trial: str) -> list[slice]:
    """Split the samples of one trial where more than a second is missing.

    Raises:
        DataError: The time stamps do not increase, as where one trial follows another.
    """
    steps = np.diff(time)
    wrong = np.flatnonzero(~(steps > 0))
    if wrong.size:
        row = int(wrong[0]) + 1
        raise DataError(
            f"Trial '{trial}', row {row}: time {time[row]:g} s follows {time[row - 1]:g} s.",
            hint="Windows never cross trials: give each trial on its own, with increasing time stamps.",
        )
    cuts = [0, *(np.flatnonzero(steps > _LONGEST_GAP) + 1).tolist(), len(time)]
    return [slice(first, last) for first, last in pairwise(cuts)]


def unbroken_blocks(recording: Recording, average: int) -> list[Blocks]:
    """Average every ``average`` samples of a trial into one, in each part without a gap of over a second.

    Samples at the end that fill no block are left out.

    Raises:
        DataError: The time stamps do not increase, as where one trial follows another.
    """
    blocks = []
    for piece in unbroken_pieces(recording.time, recording.trial):
        count = (piece.stop - piece.start) // average
        rows = piece.start + average * np.arange(1, count + 1, dtype=np.int64) - 1
        used = slice(piece.start, piece.start + average * count)
        acc, gyr = (
            sensor[used].reshape(count, average, 3).mean(axis=1) for sensor in (recording.acc, recording.gyr)
        )
        blocks.append(Blocks(piece, rows, recording.time[rows], acc, gyr))
    return blocks


def window_rates(time: Floats, starts: Indices, window: int) -> Floats:
    """Return the mean sampling rate of each window in Hz, from its own time stamps and never rounded."""
    return np.asarray((window - 1) / (time[starts + window - 1] - time[starts]))


class PaperWindows:
    """All windows of recordings whose target is known; readings are held once, as float32.

    Args:
        recordings: Trials with a reference.
        config: Window, stride and target, and how many samples are averaged into one first.

    Raises:
        DataError: Time stamps do not increase, or no recording has a window with a known target.
    """

    def __init__(self, recordings: Sequence[Recording], config: ModelConfig) -> None:
        window, offset = config.window, answer_offset(config)
        starts, rates, targets, held, first = [], [], [], [], 0
        for recording in recordings:
            if recording.reference is None:
                continue
            for blocks in unbroken_blocks(recording, config.average):
                own = blocks.starts(config)
                target = recording.reference[blocks.rows[own + offset]]
                known = np.isfinite(target).all(axis=1)
                starts.append(first + own[known])
                rates.append(window_rates(blocks.time, own[known], window))
                targets.append(target[known])
                held.append(blocks)
                first += len(blocks.rows)
        if not sum(map(len, starts)):
            raise DataError(
                f"No trial has {window * config.average} samples in a row with a reference to learn from.",
                hint="Give longer trials with a reference quaternion, or set a smaller model.window.",
            )
        self._starts = torch.from_numpy(np.concatenate(starts))
        self._fs = _tensor(np.concatenate(rates))
        self._quaternion = _tensor(np.concatenate(targets))
        self._acc = _tensor(np.concatenate([blocks.acc for blocks in held])).unfold(0, window, 1)
        self._gyr = _tensor(np.concatenate([blocks.gyr for blocks in held])).unfold(0, window, 1)

    def __len__(self) -> int:
        return len(self._starts)

    def gather(self, indices: Tensor) -> Batch:
        """Return some windows side by side; ``indices`` are int64, 0 to the number of windows."""
        starts = self._starts[indices]
        acc, gyr = (view.index_select(0, starts).transpose(1, 2) for view in (self._acc, self._gyr))
        return Batch(acc, gyr, self._fs[indices], self._quaternion[indices])


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))

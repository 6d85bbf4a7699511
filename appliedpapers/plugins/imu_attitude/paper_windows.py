"""Windows of recordings for the paper's models: never across trials, and gathered only when they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.recording import Floats, Recording

__all__ = ["Batch", "PaperWindows", "answer_offset", "unbroken_pieces", "window_rates", "window_starts"]

Target = Literal["centre", "last"]
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


def answer_offset(window: int, stride: int, target: Target) -> int:
    """Return how many samples after its start a window is answered for (arXiv 2302.06037: the centre)."""
    return window - 1 if target == "last" else max((window - stride) // 2, 0)


def unbroken_pieces(time: Floats, trial: str = "") -> list[slice]:
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


def window_starts(time: Floats, window: int, stride: int, trial: str = "") -> Indices:
    """Return the first samples of all windows of one trial, int64; none crosses a gap of over a second.

    Raises:
        DataError: The time stamps do not increase, as where one trial follows another.
    """
    pieces = unbroken_pieces(time, trial)
    return np.concatenate([np.arange(p.start, p.stop - window + 1, stride, dtype=np.int64) for p in pieces])


def window_rates(time: Floats, starts: Indices, window: int) -> Floats:
    """Return the mean sampling rate of each window in Hz, from its own time stamps and never rounded."""
    return np.asarray((window - 1) / (time[starts + window - 1] - time[starts]))


class PaperWindows:
    """All windows of recordings whose target is known; readings are held once, as float32.

    Args:
        recordings: Trials with a reference.
        window: Samples of a window, at least 2.
        stride: Samples between windows.
        target: Which sample of a window is asked for.

    Raises:
        DataError: Time stamps do not increase, or no recording has a window with a known target.
    """

    def __init__(self, recordings: Sequence[Recording], window: int, stride: int, target: Target) -> None:
        offset, first = answer_offset(window, stride, target), 0
        starts, rates, targets = [], [], []
        for recording in recordings:
            own = window_starts(recording.time, window, stride, recording.trial)
            if recording.reference is None:
                own = own[:0]
            else:
                own = own[np.isfinite(recording.reference[own + offset]).all(axis=1)]
                targets.append(recording.reference[own + offset])
            starts.append(first + own)
            rates.append(window_rates(recording.time, own, window))
            first += len(recording)
        if not sum(map(len, starts)):
            raise DataError(
                f"No trial has {window} samples in a row with a reference to learn from.",
                hint="Give longer trials with a reference quaternion, or set a smaller model.window.",
            )
        self._starts = torch.from_numpy(np.concatenate(starts))
        self._fs = _tensor(np.concatenate(rates))
        self._quaternion = _tensor(np.concatenate(targets))
        self._acc = _tensor(np.concatenate([r.acc for r in recordings])).unfold(0, window, 1)
        self._gyr = _tensor(np.concatenate([r.gyr for r in recordings])).unfold(0, window, 1)

    def __len__(self) -> int:
        return len(self._starts)

    def gather(self, indices: Tensor) -> Batch:
        """Return some windows side by side; ``indices`` are int64, 0 to the number of windows."""
        starts = self._starts[indices]
        acc, gyr = (view.index_select(0, starts).transpose(1, 2) for view in (self._acc, self._gyr))
        return Batch(acc, gyr, self._fs[indices], self._quaternion[indices])


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))

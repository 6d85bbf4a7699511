"""Training the residual network on the blocks of recordings with a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.imu_attitude.filter import Blocks
from appliedpapers.plugins.imu_attitude.recording import Floats, Recording
from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork
from appliedpapers.plugins.imu_attitude.residual_windows import Base, network_blocks, windows_at
from appliedpapers.plugins.imu_attitude.rotations import conjugate, multiply, normalise, rotate, up_vector

_ANGLE_WEIGHT, _SIZE_WEIGHT = 0.1, 1e-3
_ROWS_A_BLOCK = 2048


@dataclass(frozen=True)
class Examples:
    """Windows with what was true at their ends.

    Attributes:
        series: ``(M, n, CHANNELS)`` float32.
        statics: ``(M, STATICS)`` float32.
        truth: ``(M, 3)`` float32, true up in the level frame.
    """

    series: Tensor
    statics: Tensor
    truth: Tensor

    def __len__(self) -> int:
        return len(self.truth)


def examples(
    filtered: Sequence[tuple[Recording, Floats, Blocks]], length: int, every: int, base: Base
) -> Examples:
    """Return the windows that end where a recording is judged.

    Args:
        filtered: Recordings with the filter's orientation ``(N, 4)`` and its blocks.
        length: Blocks of a window.
        every: Blocks between windows.
        base: What the level frame is taken from.
    """
    parts = []
    for recording, orientation, blocks in filtered:
        assert recording.reference is not None
        last = network_blocks(len(blocks.ends), every)
        last = last[recording.judged[blocks.ends[last]]]
        windows = windows_at(blocks.records, last, length, base)
        # the filter's tilt at the block, and its orientation at the sample, give the integration frame
        tilt = normalise(blocks.records[last, 15:19])
        carried = multiply(conjugate(tilt), orientation[blocks.ends[last]])
        truth = rotate(carried, up_vector(recording.reference[blocks.ends[last]]))
        parts.append((windows.series, windows.statics, rotate(windows.level, truth).astype(np.float32)))
    series, statics, truths = (
        torch.from_numpy(np.concatenate(values)) for values in zip(*parts, strict=True)
    )
    return Examples(series, statics, truths)


def remaining_angle(rotation: Tensor, truth: Tensor) -> Tensor:
    """Return the angle in radians, ``(rows,)``, between true up and up after the network's rotation.

    Args:
        rotation: ``(rows, 2)`` about the level frame's x and y axes.
        truth: ``(rows, 3)`` true up in the level frame.
    """
    size = torch.sqrt(rotation.square().sum(dim=1) + 1e-20)
    ratio = torch.sin(size) / size
    # z turned about (rx, ry, 0)
    up = torch.stack([rotation[:, 1] * ratio, -rotation[:, 0] * ratio, torch.cos(size)], dim=1)
    across = torch.linalg.cross(up, truth)
    return torch.atan2(torch.sqrt(across.square().sum(dim=1) + 1e-20), (up * truth).sum(dim=1))


class ResidualTask(TrainTask):
    """Fit the network on windows that are turned about up at random, judged on other trials.

    Args:
        network: The untrained network.
        train: Windows to learn from.
        valid: Windows to judge on.
        settings: How it is trained; its rate is the peak of the cycle.
    """

    monitor = "inclination_deg"
    # the cycle ends at its best; where a trial is held out, its best epoch would flatter the network
    keeps_last = True

    def __init__(
        self, network: ResidualNetwork, train: Examples, valid: Examples, settings: TrainingConfig
    ) -> None:
        self.network: ResidualNetwork = network
        self._train, self._valid, self.settings = train, valid, settings

    def optimizer(self) -> Optimizer:
        """Return AdamW."""
        return AdamW(self.network.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """Return one cycle over all epochs."""
        return OneCycleLR(optimizer, self.settings.lr, total_steps=steps + 1)

    def num_steps(self) -> int:
        """Return the number of batches."""
        return -(-len(self._train) // self.settings.batch_size)

    def batches(self, order: torch.Generator) -> Iterator[Any]:
        """Yield indices in random order, each batch with the angles that it is turned by."""
        for rows in shuffled_slices(len(self._train), self.settings.batch_size, order):
            yield rows, 2 * torch.pi * torch.rand(len(rows), generator=order)

    def loss(self, batch: Any) -> Tensor:
        """Return ``1 - u' u`` plus a tenth of the angle, and a little for the size of the rotation."""
        rows, angles = batch
        rows = rows.cpu()
        series, statics, truth = (
            part.to(angles.device)
            for part in (self._train.series[rows], self._train.statics[rows], self._train.truth[rows])
        )
        turn = _about_up(angles)
        series = torch.cat([series[..., 0:3] @ turn, series[..., 3:6] @ turn, series[..., 6:]], dim=-1)
        statics = torch.cat(
            [_turned(statics[:, 0:3], turn), _turned(statics[:, 3:6], turn), statics[:, 6:]], dim=-1
        )
        rotation = self.network(series, statics)
        angle = remaining_angle(rotation, _turned(truth, turn))
        size = rotation.square().sum(dim=1)
        loss: Tensor = (1 - torch.cos(angle) + _ANGLE_WEIGHT * angle + _SIZE_WEIGHT * size).mean()
        return loss

    def validate(self) -> Mapping[str, float]:
        """Return the inclination RMSE in degrees with the network and without: of held-out trials, if any."""
        judged = self._valid if len(self._valid) else self._train
        with_network, without = (rms_deg(angles) for angles in self.remaining(judged, (1.0, 0.0)))
        return {"inclination_deg": with_network, "inclination_deg_without": without}

    def remaining(self, examples: Examples, shares: Sequence[float]) -> list[Tensor]:
        """Return the errors in radians, ``(M,)``, that each share of the network's rotation leaves."""
        found = []
        with torch.inference_mode():
            for rows in torch.split(torch.arange(len(examples)), _ROWS_A_BLOCK):
                series, statics = examples.series[rows], examples.statics[rows]
                found.append(self.network(series.to(self.device), statics.to(self.device)).cpu())
            whole = torch.cat(found)
            return [remaining_angle(share * whole, examples.truth) for share in shares]


def rms_deg(angles: Tensor) -> float:
    """Return the root mean square of angles in radians, in degrees."""
    return float(torch.rad2deg(angles.double().square().mean().sqrt()))


def _about_up(angles: Tensor) -> Tensor:
    cosine, sine, zero, one = angles.cos(), angles.sin(), torch.zeros_like(angles), torch.ones_like(angles)
    rows = [cosine, sine, zero, -sine, cosine, zero, zero, zero, one]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _turned(vectors: Tensor, turn: Tensor) -> Tensor:
    return (vectors[:, None] @ turn)[:, 0]

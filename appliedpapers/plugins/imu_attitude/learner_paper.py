"""Training the paper's models, and an answer of theirs for every sample of a recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.imu_attitude.attitude_loss import (
    paper_angle_deg,
    truncated_l1,
    up_angle,
    up_loss,
)
from appliedpapers.plugins.imu_attitude.config import ModelConfig
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.network import AttitudeNetwork, ModelA, ModelB, Outputs, up_of
from appliedpapers.plugins.imu_attitude.paper_metric import attitude
from appliedpapers.plugins.imu_attitude.paper_mounting import (
    set_upright,
    turned,
    turns_about_up,
    turns_at_random,
)
from appliedpapers.plugins.imu_attitude.paper_windows import (
    Batch,
    Blocks,
    Indices,
    PaperWindows,
    answer_offset,
    unbroken_blocks,
    window_rates,
)
from appliedpapers.plugins.imu_attitude.recording import Floats, Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    between,
    conjugate,
    from_rotation_vector,
    multiply,
    normalise,
    rotate,
    up_vector,
)

__all__ = ["PaperTask", "build_network", "estimate"]

_UP = np.array([0.0, 0.0, 1.0])
_SAMPLES_A_BLOCK = 25_600  # full Model A holds about 4 KB a sample


def build_network(config: ModelConfig, seed: int) -> AttitudeNetwork:
    """Return the untrained network of ``config.kind`` ``paper-a`` or ``paper-b``.

    Its last layer gives what the loss looks at: the direction of up, or the paper's quaternion. With
    ``config.upright`` it starts by answering that up is the z axis.
    """
    model = ModelA if config.kind == "paper-a" else ModelB
    outputs: Outputs = "up" if config.loss == "up" else "quaternion"
    noise = {} if config.input_noise is None else {"input_noise": config.input_noise}
    network = model(config.window, config.width, outputs=outputs, seed=seed, **noise)
    if config.upright:
        with torch.no_grad():
            network.last.weight.zero_()
            network.last.bias[-1 if outputs == "up" else 0] = 1.0
    return network


class PaperTask(TrainTask):
    """Fit a model of the paper on windows, judged by its loss on the windows of other trials.

    Args:
        network: Model A or B.
        train: Windows to learn from.
        valid: Windows to judge on.
        settings: How it is trained.
        config: The loss, and whether windows are turned at random.
    """

    def __init__(
        self,
        network: AttitudeNetwork,
        train: PaperWindows,
        valid: PaperWindows,
        settings: TrainingConfig,
        config: ModelConfig,
    ) -> None:
        self.network: AttitudeNetwork = network
        self._train, self._valid = train, valid
        self.settings, self._config = settings, config

    def optimizer(self) -> Optimizer:
        """Return Adam on the parameters that are trained, its weight decay apart from the gradient."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(parameters, lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """Return the paper's: .7 times the rate after 20 epochs without a better one, unless it decays."""
        if self.settings.lr_decay < 1:
            return None
        return ReduceLROnPlateau(optimizer, factor=0.7, patience=20)

    def num_steps(self) -> int:
        """Return the number of batches."""
        return -(-len(self._train) // self.settings.batch_size)

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield indices of windows in random order."""
        return shuffled_slices(len(self._train), self.settings.batch_size, order)

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean loss of some windows."""
        windows = self._gather(self._train, batch)
        if self._config.random_rotation:
            draw = turns_about_up if self._config.upright else turns_at_random
            windows = turned(windows, draw(len(batch), windows.quaternion))
        return self._losses(self._answers(windows), windows.quaternion).mean()

    def validate(self) -> Mapping[str, float]:
        """Return the mean loss, the RMSE of inclination and the paper's measure, both in degrees."""
        losses, inclinations, angles = [], [], []
        for indices in torch.split(torch.arange(len(self._valid)), _windows_a_block(self._config.window)):
            windows = self._gather(self._valid, indices)
            answers, known = self._answers(windows), windows.quaternion
            losses.append(self._losses(answers, known))
            inclinations.append(up_angle(up_of(answers), up_of(known)))
            angles.append(paper_angle_deg(answers, self.network.attitude(known)))
        inclination = torch.cat(inclinations).double().square().mean().sqrt()
        return {
            "valid_loss": float(torch.cat(losses).double().mean()),
            "valid_inclination_deg": float(torch.rad2deg(inclination)),
            "valid_paper_angle_deg": float(torch.cat(angles).mean()),
        }

    def _gather(self, windows: PaperWindows, indices: Tensor) -> Batch:
        found = windows.gather(indices.cpu()).to(self.device)
        return set_upright(found, answer_offset(self._config)) if self._config.upright else found

    def _answers(self, windows: Batch) -> Tensor:
        answers: Tensor = self.network(windows.acc, windows.gyr, windows.fs)
        return answers.float()

    def _losses(self, answers: Tensor, known: Tensor) -> Tensor:
        if self._config.loss == "up":
            return up_loss(answers, known)
        return truncated_l1(answers, self.network.attitude(known))


def estimate(network: AttitudeNetwork, recording: Recording, config: ModelConfig) -> Estimate:
    """Answer for every sample of a recording.

    A window every ``config.stride`` samples is answered by the network, without yaw. From there the
    gyroscope carries the answer on to the next one; with ``config.smooth`` it also carries earlier answers
    on, and their mean is answered with. Before the first answer, ``centre`` carries that one
    back; ``last`` uses no sample that is still to come, and takes the mean accelerometer so far for up.
    After a gap of more than a second it starts anew.

    Args:
        network: In eval mode.
        recording: Any length.
        config: Window, average and target that the network was trained with, a stride, and smoothing.

    Raises:
        DataError: The time stamps do not increase.
    """
    parts = unbroken_blocks(recording, config.average)
    quaternion = np.concatenate([_estimate_part(network, recording, blocks, config) for blocks in parts])
    behind = (config.window - 1 - answer_offset(config)) * config.average
    short = sum(len(blocks.rows) < config.window for blocks in parts)
    notes = (f"Parts shorter than the window: {short}; mean accelerometer instead.",) if short else ()
    return Estimate(quaternion, latency=behind * recording.step, notes=notes)


def _estimate_part(
    network: AttitudeNetwork, recording: Recording, blocks: Blocks, config: ModelConfig
) -> Floats:
    piece, starts = blocks.piece, blocks.starts(config)
    time, acc, gyr = recording.time[piece], recording.acc[piece], recording.gyr[piece]
    by_mean = _mean_attitude(acc)
    if not starts.size:
        return by_mean
    answers = _answer_windows(network, blocks, starts, config)
    answered_at = blocks.rows[starts + answer_offset(config)] - piece.start
    strapdown = _strapdown(time, gyr)
    if config.smooth > 0:
        answers = _smoothed(answers, strapdown[answered_at], time[answered_at], config.smooth)
    latest = np.searchsorted(answered_at, np.arange(len(time)), side="right") - 1
    source = np.maximum(latest, 0)
    since = multiply(conjugate(strapdown[answered_at[source]]), strapdown)
    carried = normalise(multiply(answers[source], since))
    if config.target == "last":
        carried[latest < 0] = by_mean[latest < 0]
    return carried


@torch.inference_mode()
def _answer_windows(network: AttitudeNetwork, blocks: Blocks, starts: Indices, config: ModelConfig) -> Floats:
    """Return the answers ``(len(starts), 4)`` of one part, a few windows at a time: memory stays bounded."""
    window, device = network.window, next(network.parameters()).device
    rates = window_rates(blocks.time, starts, window).astype(np.float32)
    sensors = [np.lib.stride_tricks.sliding_window_view(s, window, axis=0) for s in (blocks.acc, blocks.gyr)]
    answers, few = [], _windows_a_block(window)
    for first in range(0, len(starts), few):
        some = slice(first, first + few)
        inputs = [view[starts[some]].swapaxes(1, 2).astype(np.float32) for view in sensors]
        acc, gyr, fs = (torch.from_numpy(values).to(device) for values in (*inputs, rates[some]))
        if not config.upright:
            answers.append(functional.normalize(network(acc, gyr, fs).double(), dim=-1).cpu().numpy())
            continue
        here = acc.new_tensor([1.0, 0.0, 0.0, 0.0]).expand(len(acc), 4)
        windows = set_upright(Batch(acc, gyr, fs, here), answer_offset(config))
        upright = network(windows.acc, windows.gyr, windows.fs)
        turns, own = (part.double().cpu().numpy() for part in (windows.quaternion, upright))
        answers.append(attitude(normalise(multiply(own, conjugate(turns)))))
    return np.concatenate(answers)


def _smoothed(answers: Floats, strapdown: Floats, time: Floats, seconds: float) -> Floats:
    """Average each answer with those of the last seconds, which the gyroscope carries to its time."""
    ups = np.cumsum(np.vstack([np.zeros(3), rotate(strapdown, up_vector(answers))]), axis=0)
    first = np.searchsorted(time, time - seconds, side="right")
    total = ups[1:] - ups[first]
    known = np.linalg.norm(total, axis=1) > 1e-9
    mean = normalise(rotate(conjugate(strapdown[known]), total[known]))
    smoothed = answers.copy()
    smoothed[known] = attitude(between(mean, _UP))
    return smoothed


def _windows_a_block(window: int) -> int:
    return max(_SAMPLES_A_BLOCK // window, 1)


def _mean_attitude(acc: Floats) -> Floats:
    """Return the attitude ``(N, 4)`` in which the mean accelerometer up to each sample points up."""
    total = np.cumsum(acc, axis=0)
    up_is_known = np.linalg.norm(total, axis=1, keepdims=True) > 0
    up = normalise(np.where(up_is_known, total, _UP))
    return attitude(between(up, _UP))


def _strapdown(time: Floats, gyr: Floats) -> Floats:
    """Return the rotation from each sample's sensor frame to the first one's, ``(N, 4)``.

    Running products by doubling: 16 multiplications of whole arrays for 60,000 samples.
    """
    steps = np.diff(time, prepend=time[0])[:, None]
    product, reach = from_rotation_vector(gyr * steps), 1
    while reach < len(product):
        product[reach:] = normalise(multiply(product[:-reach], product[reach:]))
        reach *= 2
    return product

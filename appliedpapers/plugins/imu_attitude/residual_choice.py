"""How much of the network's correction is kept: what trials choose that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from appliedpapers.core.device import derive_seed
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import fit
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.filter import Blocks
from appliedpapers.plugins.imu_attitude.learner_residual import Examples, ResidualTask, examples, rms_deg
from appliedpapers.plugins.imu_attitude.recording import Floats, Recording
from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork

_WORTH = 0.01

Filtered = tuple[Recording, Floats, Blocks]


def train_residual(
    filtered: Sequence[Filtered], length: int, every: int, config: AttitudeConfig, run: FitContext
) -> tuple[ResidualNetwork | None, float, dict[float, float]]:
    """Choose the network's share by trials held out in turn, and train it on all where some is kept.

    The share with the least mean error over held-out trials is only taken where it beats no network at all
    by a hundredth, and by more than a standard error of their differences.

    Args:
        filtered: Recordings with a reference, the filter's orientation and its blocks.
        length: Blocks of a window.
        every: Blocks between its answers.
        config: Resolved configuration.
        run: Seed, device, scratch folder, progress and metric sink.

    Returns:
        The network (None where nothing of it is kept), the share, and the mean held-out inclination RMSE in
        degrees by share; fewer than two trials that fill a window cannot choose, and have no such errors.
    """
    parts = [examples([one], length, every, config.model.base) for one in filtered]
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return None, 0.0, {}
    errors = _held_out_errors(parts, config, run)
    share = _choose(errors)
    network = _trained(parts, [], config, run, "network").network if share else None
    return network, share, {share: float(found.mean()) for share, found in errors.items()}


def _held_out_errors(
    parts: Sequence[Examples], config: AttitudeConfig, run: FitContext
) -> dict[float, Floats]:
    """Return the error of each trial, in degrees, by share, while the trial was not learned from."""
    shares = sorted({0.0, *config.model.shares})
    errors = {share: np.zeros(len(parts)) for share in shares}
    folds = min(config.model.folds, len(parts))
    for fold in range(folds):
        held = range(fold, len(parts), folds)
        learned = [part for number, part in enumerate(parts) if number not in held]
        task = _trained(learned, [parts[number] for number in held], config, run, f"fold-{fold}")
        for number in held:
            for share, angles in zip(shares, task.remaining(parts[number], shares), strict=True):
                errors[share][number] = rms_deg(angles)
    return errors


def _choose(errors: dict[float, Floats]) -> float:
    best = min(errors, key=lambda share: (float(errors[share].mean()), share))
    gain = errors[0.0] - errors[best]
    standard_error = float(gain.std(ddof=1)) / math.sqrt(len(gain))
    worth = max(standard_error, _WORTH * float(errors[0.0].mean()))
    return best if float(gain.mean()) > worth else 0.0


def _trained(
    learned: Sequence[Examples],
    held: Sequence[Examples],
    config: AttitudeConfig,
    run: FitContext,
    name: str,
) -> ResidualTask:
    limit = math.radians(config.model.limit_deg)
    network = ResidualNetwork(config.model.head, limit, derive_seed(run.seed, "residual", name))
    train = _joined(learned)
    task = ResidualTask(network, train, _joined(held) if held else _none_of(train), config.training)
    # only the network that is kept is followed by whoever watches the run
    watched = run if name == "network" else replace(run, log_metrics=lambda metrics, step: None)
    fit(task, watched, name=name)
    return task


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        torch.cat([part.series for part in parts]),
        torch.cat([part.statics for part in parts]),
        torch.cat([part.truth for part in parts]),
    )


def _none_of(part: Examples) -> Examples:
    return Examples(part.series[:0], part.statics[:0], part.truth[:0])

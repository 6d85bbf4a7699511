"""Networks that correct by something without having been trained, and machines around them."""

from __future__ import annotations

import numpy as np
import torch

from appliedpapers.core.config import resolve
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, FilterConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.simulator import simulate

OPTIONS = FilterConfig(delay=0.002)


def simulated(seconds=6.0, number=1, fs=100.0, **options):
    wanted = {"sequences": number + 3, "seconds": seconds, "fs": (fs,), "jitter": 0.05, "drops": 0.01}
    return simulate(SimulatorConfig(**{**wanted, **options}), seed=3)[number]


def estimator(*assignments, share=0.5, gain=1.0, seed=1):
    """Return a model as if trained: what its network says is arbitrary, and large where ``gain`` is."""
    model = AttitudeEstimator(resolve(AttitudeConfig, assignments=list(assignments)))
    model.share, model.delay = share, 0.002
    if model.config.model.kind == "residual":
        network = model._new_network(seed)
        with torch.no_grad():
            network.gain.fill_(gain)
        network.eval()
    return model


def rows_of(recording):
    return zip(recording.acc.tolist(), recording.gyr.tolist(), recording.time.tolist(), strict=True)


def stepped(machine, recording):
    return np.array([machine.step(*row).quaternion for row in rows_of(recording)])


def part(recording, keep):
    return Recording(
        recording.trial,
        recording.time[keep],
        recording.acc[keep],
        recording.gyr[keep],
        reference=recording.reference[keep],
        movement=recording.movement[keep],
    )

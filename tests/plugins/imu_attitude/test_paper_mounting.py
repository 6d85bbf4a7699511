"""Windows of the paper's models that are turned upright by their own mean along the gyroscope."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from turning_sensor import SMALL, turning

from appliedpapers.plugins.imu_attitude.config import ModelConfig
from appliedpapers.plugins.imu_attitude.learner_paper import build_network, estimate
from appliedpapers.plugins.imu_attitude.paper_mounting import set_upright
from appliedpapers.plugins.imu_attitude.paper_windows import Batch
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import angle_between, rotate, up_vector


@pytest.mark.parametrize(
    ("kind", "loss", "target"), [("paper-a", "up", "last"), ("paper-b", "l1-trunc", "centre")]
)
def test_upright_windows_start_from_the_mean_along_the_gyroscope(kind, loss, target):
    recording = turning(rows=100, fs=400.0)
    config = ModelConfig(kind=kind, loss=loss, target=target, upright=True, **SMALL)
    answer = estimate(build_network(config, 0).eval(), recording, config)
    error = angle_between(answer.up, up_vector(recording.reference))
    # the mean rate of a step and the rate at its end differ
    assert np.degrees(error[30:].max()) < 0.5


def test_upright_windows_are_answered_alike_however_the_sensor_is_mounted():
    recording = turning(rows=200)
    config = ModelConfig(kind="paper-a", upright=True, **SMALL)
    network = build_network(config, 0).eval()
    with torch.no_grad():
        network.last.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    # yaw apart: what turns the mean upright differs by it from one mounting to another
    turn = np.array([np.cos(0.4), 0.0, 0.0, np.sin(0.4)])
    leaning = Recording("flat", recording.time, np.tile([0.0, 0.0, 9.81], (200, 1)), 0 * recording.gyr)
    mounted = Recording("flat", leaning.time, rotate(turn, leaning.acc), leaning.gyr)
    one, other = (estimate(network, each, config).up for each in (leaning, mounted))
    assert np.abs(one[-1] - [0.0, 0.0, 1.0]).max() > 1e-3
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_window_without_acceleration_or_upside_down_is_turned_all_the_same():
    acc = torch.zeros(3, 20, 3)
    acc[1, :, 2], acc[2, :, 0] = -9.81, 9.81
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(3, 4)
    found = set_upright(Batch(acc, torch.zeros(3, 20, 3), torch.full((3,), 100.0), identity), 19)
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 9.81], [0.0, 0.0, 9.81]])
    torch.testing.assert_close(found.acc[:, -1], expected, atol=1e-5, rtol=0)
    assert torch.isfinite(found.quaternion).all()

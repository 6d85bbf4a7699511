"""The residual network as ONNX: for windows and for steps, as ours, and written only when asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attitude_machines import estimator

from appliedpapers.core.bundle import load_bundle, save_bundle
from appliedpapers.plugins.imu_attitude.onnx import STEP_BLOCKS, STEP_FILE, WINDOW_FILE, export_residual
from appliedpapers.plugins.imu_attitude.residual_network import HIDDEN, KERNELS, STRIDE, ResidualNetwork
from appliedpapers.plugins.imu_attitude.residual_windows import CHANNELS, STATICS

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# the exporter takes seconds for either file
pytestmark = pytest.mark.slow

LENGTH = 40


@pytest.fixture(scope="module")
def network():
    made = ResidualNetwork("mlp", 0.1, seed=2).eval()
    with torch.no_grad():
        made.gain.fill_(1.0)
    return made


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    made = tmp_path_factory.mktemp("onnx")
    export_residual(network, LENGTH, made)
    return made


@pytest.fixture(scope="module")
def windows(network):
    random = torch.Generator().manual_seed(5)
    series = torch.randn(5, LENGTH, CHANNELS, generator=random)
    statics = torch.randn(5, STATICS, generator=random)
    with torch.inference_mode():
        return series.numpy(), statics.numpy(), network(series, statics).numpy()


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_a_window_is_answered_as_by_the_network(folder, windows):
    series, statics, expected = windows
    made = session(folder / WINDOW_FILE)
    assert [item.name for item in made.get_inputs()] == ["series", "statics"]
    for rows in (1, 5):
        (found,) = made.run(["rotation"], {"series": series[:rows], "statics": statics[:rows]})
        np.testing.assert_allclose(found, expected[:rows], rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 1e-3


def test_steps_over_a_window_end_with_its_answer(folder, windows):
    series, statics, expected = windows
    made = session(folder / STEP_FILE)
    state = np.zeros((len(series), HIDDEN), dtype=np.float32)
    # as many steps as the convolutions leave of the window
    first = (LENGTH - KERNELS[0]) // STRIDE + 1
    steps = (first - KERNELS[1]) // STRIDE + 1
    assert steps > 3
    for step in range(steps):
        start = step * STRIDE * STRIDE
        part = np.ascontiguousarray(series[:, start : start + STEP_BLOCKS])
        found, state = made.run(
            ["rotation", "next_state"], {"series": part, "statics": statics, "state": state}
        )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_bundle_has_them_when_asked(tmp_path):
    model = estimator("model.onnx=true", "model.head=linear", "model.seconds=1")
    save_bundle(model, tmp_path / "with", plugin="imu-attitude", task="attitude")
    assert {WINDOW_FILE, STEP_FILE} <= {path.name for path in (tmp_path / "with").rglob("*")}
    loaded, _ = load_bundle(tmp_path / "with")
    assert loaded.share == model.share
    save_bundle(estimator(), tmp_path / "without", plugin="imu-attitude", task="attitude")
    assert not list((tmp_path / "without").rglob("*.onnx"))

"""The residual network as ONNX: for whole windows, and step by step with the recurrent state outside."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliedpapers.core.onnx import export_onnx
from appliedpapers.plugins.imu_attitude.residual_network import HIDDEN, KERNELS, STRIDE, ResidualNetwork
from appliedpapers.plugins.imu_attitude.residual_windows import CHANNELS, STATICS

WINDOW_FILE, STEP_FILE = "model.onnx", "model-step.onnx"

STEP_BLOCKS = (KERNELS[1] - 1) * STRIDE + KERNELS[0]
"""Blocks that one step of the recurrent layer sees; the next step sees them four blocks later."""

_ROWS = 3


class ResidualStep(nn.Module):
    """One step of the recurrent layer; over the steps of a window, from zeros on, it equals the network.

    Shape:
        - ``series``: ``(rows, STEP_BLOCKS, CHANNELS)``
        - ``statics``: ``(rows, STATICS)``
        - ``state``: ``(rows, HIDDEN)``, zeros at first
        - output: rotation ``(rows, 2)`` and the new state
    """

    def __init__(self, network: ResidualNetwork) -> None:
        super().__init__()
        self.network = network
        self.cell = nn.GRUCell(network.recurrent.input_size, HIDDEN)
        weights = network.recurrent.state_dict()
        self.cell.load_state_dict({name.removesuffix("_l0"): value for name, value in weights.items()})

    def forward(self, series: Tensor, statics: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rotation after this step, and the state for the next one."""
        hidden = functional.mish(self.network.first(series.transpose(1, 2)))
        hidden = functional.mish(self.network.second(hidden))
        after: Tensor = self.cell(hidden[:, :, -1], state)
        return self.network.rotation(after, statics), after


def export_residual(network: ResidualNetwork, length: int, folder: Path) -> None:
    """Write ``model.onnx`` (windows of ``length`` blocks) and ``model-step.onnx``, and check their answers.

    Raises:
        PluginError: A library for ONNX is missing.
        RunError: A file does not answer as the network does, to 1e-5.
    """
    own = copy.deepcopy(network).cpu().eval()
    random = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(_ROWS, *shape, generator=random)

    rows = torch.export.Dim("rows", min=1)
    window = {"series": some(length, CHANNELS), "statics": some(STATICS)}
    export_onnx(own, window, ["rotation"], folder / WINDOW_FILE, dynamic_shapes=[{0: rows}] * 2)
    step = {"series": some(STEP_BLOCKS, CHANNELS), "statics": some(STATICS), "state": some(HIDDEN)}
    export_onnx(
        ResidualStep(own).eval(),
        step,
        ["rotation", "next_state"],
        folder / STEP_FILE,
        dynamic_shapes=[{0: rows}] * 3,
    )

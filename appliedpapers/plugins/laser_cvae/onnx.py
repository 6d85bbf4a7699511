"""Encoder and decoder of the abnormality head as ONNX."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from appliedpapers.core.onnx import export_onnx
from appliedpapers.plugins.laser_cvae.ageing import CONDITIONS
from appliedpapers.plugins.laser_cvae.network import AgeingCVAE

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.ageing import AgeingHead

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"

_ROWS, _READINGS = 3, 20


class _Encoder(nn.Module):
    def __init__(self, network: AgeingCVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.network.encode(features)
        return posterior.mean, posterior.log_variance


class _TokenEncoder(_Encoder):
    def forward(self, features: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        posterior = self.network.encode(features, tokens)
        return posterior.mean, posterior.log_variance


class _Decoder(nn.Module):
    def __init__(self, network: AgeingCVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.decode(z, condition)


def export(head: AgeingHead, folder: Path) -> None:
    """Write ``encoder.onnx`` (features to mean and log variance of z) and ``decoder.onnx`` (z to weights).

    Raises:
        PluginError: A library for ONNX is missing.
        RunError: A file does not answer as the network does, to 1e-5.
    """
    network = copy.deepcopy(head.network).cpu().eval()
    order = torch.Generator().manual_seed(0)
    rows = torch.export.Dim("rows", min=1)
    width = 2 * 24 + 3 + CONDITIONS
    inputs = {"features": torch.randn(_ROWS, width, generator=order)}
    encoder: nn.Module = _Encoder(network)
    if head.options.encoder == "gru":
        inputs["tokens"] = torch.rand(_ROWS, _READINGS, 4, generator=order).round(decimals=2)
        inputs["tokens"][..., 3] = 1.0
        encoder = _TokenEncoder(network)
    export_onnx(
        encoder.eval(),
        inputs,
        ["mean", "log_variance"],
        folder / ENCODER_FILE,
        dynamic_shapes=[{0: rows}] * len(inputs),
    )
    given = {
        "z": torch.randn(_ROWS, network.latent, generator=order),
        "condition": torch.randn(_ROWS, CONDITIONS, generator=order),
    }
    export_onnx(
        _Decoder(network).eval(),
        given,
        ["mean_weights", "spread_weights"],
        folder / DECODER_FILE,
        dynamic_shapes=[{0: rows}] * 2,
    )

"""The network as ONNX: encoded rows in, calibrated probabilities out, embeddings included."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from appliedpapers.core.calibration import Line, Steps
from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.onnx import export_onnx as export
from appliedpapers.plugins.finalmlp.network import Batch, FinalMLP

if TYPE_CHECKING:
    from appliedpapers.core.calibration import Calibrator

_TRIED_ROWS = 64


class CalibratedNetworks(nn.Module):
    """The mean logit of some networks, calibrated.

    Shape:
        - ``ids``: ``(rows, categorical fields)`` int64
        - ``numbers``: ``(rows, numeric fields)`` float32
        - ``sequences``: ``(rows, length)`` int64 each
        - output: probabilities ``(rows,)`` float32
    """

    knots: Tensor
    chances: Tensor

    def __init__(self, networks: Sequence[FinalMLP], calibrator: Calibrator) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.line = (calibrator.slope, calibrator.intercept) if isinstance(calibrator, Line) else None
        steps = calibrator if isinstance(calibrator, Steps) else None
        knots = np.zeros(1) if steps is None else steps.knots
        chances = np.zeros(1) if steps is None else steps.probabilities
        self.register_buffer("knots", torch.from_numpy(knots).float())
        self.register_buffer("chances", torch.from_numpy(chances).float())

    def forward(self, ids: Tensor, numbers: Tensor, *sequences: Tensor) -> Tensor:
        """Return probabilities."""
        batch = Batch(ids, numbers, sequences)
        logit = torch.stack([network(batch) for network in self.networks]).mean(dim=0)
        if self.line is not None:
            return torch.sigmoid(self.line[0] * logit + self.line[1])
        if len(self.knots) == 1:
            return self.chances.expand_as(logit)
        above = (logit[:, None] >= self.knots[1:-1]).sum(dim=1)
        low, high = self.knots[above], self.knots[above + 1]
        # knots that differ in 64 bits may be one in 32
        share = torch.where(high > low, (logit - low) / (high - low), (logit >= high).to(logit.dtype))
        share = share.clamp(0.0, 1.0)
        return torch.lerp(self.chances[above], self.chances[above + 1], share)


def export_onnx(
    networks: Sequence[FinalMLP],
    calibrator: Calibrator,
    fields: Sequence[EncodedField],
    path: Path,
) -> None:
    """Write the networks and the calibration as one ONNX file, and check what it answers.

    Args:
        networks: Trained networks.
        calibrator: Fitted calibration.
        fields: The fields in schema order; inputs are ``ids``, ``numbers`` and a ``sequence_NAME`` each.
        path: The file; it appears whole.

    Raises:
        PluginError: A library for ONNX is missing.
        RunError: The file does not answer as the networks do, to 1e-5.
    """
    # copies: the networks stay where they are
    module = CalibratedNetworks([copy.deepcopy(network).cpu() for network in networks], calibrator).eval()
    tried = _random_rows(fields)
    tensors = {name: torch.from_numpy(value) for name, value in onnx_inputs(tried).items()}
    rows = torch.export.Dim("rows", min=1)
    dynamic = [{0: rows} for _ in tensors]
    shapes = (*dynamic[:2], *([tuple(dynamic[2:])] if len(dynamic) > 2 else []))
    export(module, tensors, ["probability"], path, dynamic_shapes=shapes)


def onnx_inputs(rows: EncodedRows) -> dict[str, NDArray[Any]]:
    """Return encoded rows as the inputs of the exported model."""
    names = [field.name for field in rows.fields if field.kind == "sequence"]
    sequences = {
        f"sequence_{name}": one.astype(np.int64) for name, one in zip(names, rows.sequences, strict=True)
    }
    return {"ids": rows.ids.astype(np.int64), "numbers": rows.numbers, **sequences}


def _random_rows(fields: Sequence[EncodedField]) -> EncodedRows:
    random = np.random.default_rng(0)
    categorical = [field for field in fields if field.kind == "categorical"]
    ids = [random.integers(1, field.size, _TRIED_ROWS) for field in categorical]
    numbers = random.normal(size=(_TRIED_ROWS, sum(field.kind == "numeric" for field in fields)))
    sequences = [
        random.integers(0, field.size, (_TRIED_ROWS, field.length)).astype(np.int32)
        for field in fields
        if field.kind == "sequence"
    ]
    for one in sequences:
        # one row without any token
        one[0] = 0
    stacked = np.stack(ids, axis=1) if ids else np.zeros((_TRIED_ROWS, 0))
    return EncodedRows(tuple(fields), stacked.astype(np.int32), numbers.astype(np.float32), tuple(sequences))

"""Scoring with a trained network: gates by table, normalisation folded into the weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from appliedpapers.plugins.finalmlp.layers import bilinear
from appliedpapers.plugins.finalmlp.network import Batch, FinalMLP, Gate, Stream

_TABLE_FLOATS = 16_000_000  # 64 MB a gate


class Scorer:
    """A frozen copy of a network in evaluation mode that computes nothing twice.

    A gate whose context is one categorical field is a function of few ids: all its values are tabulated
    once. Other gates are computed once for each distinct context of a batch. Batch normalisation in running
    mode is a linear map and is folded into the layer before it. Logits differ from the network's by
    rounding alone.

    Args:
        network: A trained network; later changes to it are not seen.
    """

    def __init__(self, network: FinalMLP) -> None:
        network.eval()
        with torch.inference_mode():
            self._tables = network.tables
            self._gates = [_frozen_gate(cast("Gate", gate)) for gate in network.gates or ()]
            self._streams = [_folded(cast("Stream", stream)) for stream in network.streams]
            first, second = (cast("nn.Linear", one) for one in network.outputs)
            self._first = first.weight[0].clone()
            self._second = second.weight[0].clone()
            self._bias = (first.bias + second.bias).clone()
            self._fusion = None
            if network.fusion is not None:
                sizes = network.heads, len(self._first) // network.heads, len(self._second) // network.heads
                self._fusion = network.fusion.view(sizes).clone()

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits ``(batch,)`` of encoded rows."""
        flat = self._tables(batch)
        inputs = [flat * gate(batch) for gate in self._gates] or [flat, flat]
        o1, o2 = (stream(x) for stream, x in zip(self._streams, inputs, strict=True))
        logit = o1 @ self._first + o2 @ self._second + self._bias
        return logit if self._fusion is None else logit + bilinear(o1, o2, self._fusion)


class _TabledGate:
    """A gate of one categorical context field, by id."""

    def __init__(self, gate: Gate) -> None:
        assert gate.tables is not None
        self.column = gate.tables.columns["categorical"][0]
        self.values = gate.of_context(gate.tables.table)

    def __call__(self, batch: Batch) -> Tensor:
        return self.values.index_select(0, batch.ids[:, self.column])


class _ConstantGate:
    """A gate without context."""

    def __init__(self, gate: Gate) -> None:
        assert gate.vector is not None
        self.values = gate.of_context(gate.vector)

    def __call__(self, batch: Batch) -> Tensor:
        return self.values


class _FoldedStream:
    """Linear maps with normalisation folded in, rectified."""

    def __init__(self, stream: Stream) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []
        for layer, norm in zip(stream.layers, stream.norms, strict=True):
            linear = cast("nn.Linear", layer)
            weight: Tensor = linear.weight
            bias: Tensor = linear.bias
            if isinstance(norm, nn.BatchNorm1d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
                weight = weight * factor[:, None]
                bias = (bias - norm.running_mean) * factor + norm.bias
            self.layers.append((weight.t().contiguous(), bias.clone()))

    def __call__(self, x: Tensor) -> Tensor:
        for weight, bias in self.layers:
            x = torch.addmm(bias, x, weight).clamp_min_(0.0)
        return x


def _frozen_gate(gate: Gate) -> _TabledGate | _ConstantGate | Gate:
    if gate.tables is None:
        return _ConstantGate(gate)
    single = gate.shareable and len(gate.sizes) == 1
    if single and gate.sizes[0] * cast("nn.Linear", gate.layers[-1]).out_features <= _TABLE_FLOATS:
        return _TabledGate(gate)
    return gate


def _folded(stream: Stream) -> _FoldedStream | Stream:
    return _FoldedStream(stream) if stream.module is None else stream

"""Scoring with a trained network: gates by table, normalisation folded into the weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from appliedpapers.plugins.finalmlp.network import Batch, FinalMLP, Gate, Stream

_TABLE_FLOATS = 16_000_000  # 64 MB a gate
_FEW_HEADS = 16


class Scorer:
    """A network in evaluation mode that computes nothing twice.

    A gate whose context is one categorical field is a function of few ids: all its values are tabulated
    once. Other gates are computed once for each distinct context of a batch. Batch normalisation in running
    mode is a linear map and is folded into the layer before it. Logits differ from the network's by
    rounding alone.

    Args:
        network: A trained network, put into evaluation mode. Its tables are shared: make a new scorer after
            it has changed.
    """

    def __init__(self, network: FinalMLP) -> None:
        network.eval()
        with torch.inference_mode():
            self._tables = network.tables
            self._gates = [_frozen_gate(cast("Gate", gate)) for gate in network.gates or ()]
            self._streams = [_folded(cast("Stream", stream)) for stream in network.streams]
            first, second = (cast("nn.Linear", one) for one in network.outputs)
            self._first = first.weight[0].clone()
            self._second = second.weight[0][:, None].clone()
            self._bias = (first.bias + second.bias).clone()
            self._fusion = None
            if network.fusion is not None:
                sizes = network.heads, len(self._first) // network.heads, len(self._second) // network.heads
                self._fusion = network.fusion.view(sizes).transpose(1, 2).contiguous()

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits ``(batch,)`` of encoded rows."""
        flat = self._tables(batch)
        gates = [gate(batch) for gate in self._gates] or [None, None]
        o1, o2 = (stream(flat, gate) for stream, gate in zip(self._streams, gates, strict=True))
        mixed = self._second.expand_as(o2) if self._fusion is None else self._mixed(o1).add_(self._second)
        return self._first @ o1 + (mixed * o2).sum(dim=0) + self._bias

    def _mixed(self, o1: Tensor) -> Tensor:
        """Return the products of each head's slice of ``o1`` with its matrix, ``(D2, batch)``."""
        assert self._fusion is not None
        heads, b, a = self._fusion.shape
        if heads > _FEW_HEADS:
            return torch.bmm(self._fusion, o1.view(heads, a, -1)).view(heads * b, -1)
        out = o1.new_empty(heads * b, o1.shape[1])
        for j in range(heads):
            torch.mm(self._fusion[j], o1[j * a : (j + 1) * a], out=out[j * b : (j + 1) * b])
        return out


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
    """Linear maps with normalisation folded in, rectified; outputs stand as ``(width, batch)``.

    Slices of heads are then whole rows, and the bias of the first map rides along as one more input.
    """

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
            self.layers.append((weight.clone(), bias[:, None].clone()))
        weight, bias = self.layers.pop(0)
        self.first = torch.cat([weight, bias], dim=1)

    def __call__(self, flat: Tensor, gate: Tensor | None) -> Tensor:
        rows, width = flat.shape
        gated = flat.new_empty(rows, width + 1)
        gated[:, width] = 1.0
        if gate is None:
            gated[:, :width] = flat
        else:
            torch.mul(flat, gate, out=gated[:, :width])
        x = torch.mm(self.first, gated.t()).clamp_min_(0.0)
        for weight, bias in self.layers:
            x = torch.addmm(bias, weight, x).clamp_min_(0.0)
        return x


class _OtherStream:
    """A shared module."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __call__(self, flat: Tensor, gate: Tensor | None) -> Tensor:
        found: Tensor = self.stream(flat if gate is None else flat * gate)
        return found.t().contiguous()


def _frozen_gate(gate: Gate) -> _TabledGate | _ConstantGate | Gate:
    if gate.tables is None:
        return _ConstantGate(gate)
    single = gate.shareable and len(gate.sizes) == 1
    if single and gate.sizes[0] * cast("nn.Linear", gate.layers[-1]).out_features <= _TABLE_FLOATS:
        return _TabledGate(gate)
    return gate


def _folded(stream: Stream) -> _FoldedStream | _OtherStream:
    return _FoldedStream(stream) if stream.module is None else _OtherStream(stream)

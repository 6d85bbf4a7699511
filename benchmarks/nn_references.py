"""Straightforward formulations of the shared modules' maths, as they are commonly published.

Written from the formulas, in the style that public code has: recursion for splines, a fresh tensor for every
step, broadcasting instead of products, loops over rows. They are what ``nn_peers.py`` compares with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WeightFormSpline(nn.Module):
    """B-splines by recursion, weights on every function, an optional factor for each edge."""

    def __init__(self, inputs: int, outputs: int, grid: int = 5, order: int = 3, scaler: bool = True) -> None:
        super().__init__()
        knots = torch.arange(-order, grid + order + 1) * (2 / grid) - 1
        self.register_buffer("knots", knots.expand(inputs, -1).contiguous())
        self.order, self.outputs = order, outputs
        self.base = nn.Parameter(torch.empty(outputs, inputs))
        self.spline = nn.Parameter(0.02 * torch.randn(outputs, inputs, grid + order))
        self.scaler = nn.Parameter(torch.empty(outputs, inputs)) if scaler else None
        nn.init.kaiming_uniform_(self.base, a=math.sqrt(5))
        if self.scaler is not None:
            nn.init.kaiming_uniform_(self.scaler, a=math.sqrt(5))

    def functions(self, x: Tensor) -> Tensor:
        """Return the B-splines, ``(rows, inputs, functions)``."""
        knots, x = self.knots, x.unsqueeze(-1)
        values = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
        for k in range(1, self.order + 1):
            left = (x - knots[:, : -(k + 1)]) / (knots[:, k:-1] - knots[:, : -(k + 1)])
            right = (knots[:, k + 1 :] - x) / (knots[:, k + 1 :] - knots[:, 1:-k])
            values = left * values[:, :, :-1] + right * values[:, :, 1:]
        return values.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        weight = self.spline if self.scaler is None else self.spline * self.scaler.unsqueeze(-1)
        curves = F.linear(self.functions(x).view(len(x), -1), weight.view(self.outputs, -1))
        return F.linear(F.silu(x), self.base) + curves


class EdgeFormSpline(WeightFormSpline):
    """The authors' form: every edge is evaluated, then scaled, masked and summed."""

    def __init__(self, inputs: int, outputs: int, grid: int = 5, order: int = 3) -> None:
        super().__init__(inputs, outputs, grid, order)
        self.register_buffer("mask", torch.ones(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        curves = torch.einsum("bin,oin->boi", self.functions(x), self.spline)
        edges = self.base * F.silu(x).unsqueeze(1) + self.scaler * curves
        return (self.mask * edges).sum(2)


class ArccosineChebyshev(nn.Module):
    """Chebyshev polynomials as ``cos(d acos(tanh x))``, contracted by einsum."""

    def __init__(self, inputs: int, outputs: int, degree: int = 7) -> None:
        super().__init__()
        scale = 1 / (inputs * (degree + 1))
        self.coefficients = nn.Parameter(scale * torch.randn(inputs, outputs, degree + 1))
        self.register_buffer("degrees", torch.arange(degree + 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        angle = torch.tanh(x).unsqueeze(-1).expand(-1, -1, len(self.degrees)).acos()
        return torch.einsum("bid,iod->bo", (angle * self.degrees).cos(), self.coefficients)


class GaussianLayer(nn.Module):
    """Gaussians of the layer-normed input, one linear map on them and one on silu."""

    def __init__(self, inputs: int, outputs: int, centres: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.register_buffer("centres", torch.linspace(-2, 2, centres))
        self.width = 4 / (centres - 1)
        self.curves = nn.Linear(inputs * centres, outputs, bias=False)
        self.base = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        values = torch.exp(-(((self.norm(x)[..., None] - self.centres) / self.width) ** 2))
        return self.curves(values.view(len(x), -1)) + self.base(F.silu(x))


class BroadcastFourier(nn.Module):
    """Cosines and sines multiplied by all weights at once, then summed."""

    def __init__(self, inputs: int, outputs: int, count: int = 4) -> None:
        super().__init__()
        scale = math.sqrt(inputs) * math.sqrt(count)
        self.coefficients = nn.Parameter(torch.randn(2, outputs, inputs, count) / scale)
        self.bias = nn.Parameter(torch.zeros(1, outputs))
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        k = torch.arange(1, self.count + 1).view(1, 1, 1, self.count)
        angle = k * x.view(len(x), 1, x.shape[1], 1)
        out = (torch.cos(angle) * self.coefficients[0:1]).sum((-2, -1))
        return out + (torch.sin(angle) * self.coefficients[1:2]).sum((-2, -1)) + self.bias


class StackedRational(nn.Module):
    """A rational function of groups of channels, by stacked powers and batched products."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.numerator = nn.Parameter(0.5 * torch.randn(1, 6))
        self.denominator = nn.Parameter(0.5 * torch.randn(groups, 4))
        self.groups, self.channels = groups, channels

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        rows = x.view(len(x), self.groups, -1).permute(1, 0, 2).contiguous().view(self.groups, -1)
        powers = torch.stack([rows**i for i in range(6)], dim=1)
        size = torch.stack([rows.abs() ** i for i in range(1, 5)], dim=1)
        above = torch.bmm(self.numerator.expand(self.groups, -1).unsqueeze(1), powers)
        below = 1 + torch.bmm(self.denominator.abs().unsqueeze(1), size)
        out = (above / below).view(self.groups, len(x), -1)
        return out.permute(1, 0, 2).contiguous().view(x.shape)


class RowwiseFeedforward(nn.Module):
    """A hard tree of small networks, descended level by level and applied row by row."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int = 4) -> None:
        super().__init__()
        leaves = 2**depth
        self.depth = depth
        self.planes = nn.Parameter(torch.randn(leaves - 1, inputs) / math.sqrt(inputs))
        self.shifts = nn.Parameter(torch.zeros(leaves - 1))
        self.first = nn.Parameter(torch.randn(leaves, inputs, hidden) / math.sqrt(inputs))
        self.second = nn.Parameter(torch.randn(leaves, hidden, outputs) / math.sqrt(hidden))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        node = torch.zeros(len(x), dtype=torch.long)
        for _ in range(self.depth):
            right = (x * self.planes[node]).sum(1) + self.shifts[node] >= 0
            node = 2 * node + 1 + right.long()
        leaf = node - (2**self.depth - 1)
        out = x.new_empty(len(x), self.second.shape[2])
        for row in range(len(x)):
            out[row] = F.relu(x[row] @ self.first[leaf[row]]) @ self.second[leaf[row]]
        return out


class StateVectorDaruan(nn.Module):
    """A single-qubit re-uploading circuit by complex 2 x 2 gates on the state vector."""

    def __init__(self, channels: int, repetitions: int = 3) -> None:
        super().__init__()
        self.angles = nn.Parameter(torch.randn(channels, repetitions + 1, 2))
        self.weight = nn.Parameter(torch.ones(channels, repetitions))
        self.shift = nn.Parameter(torch.zeros(channels, repetitions))
        self.repetitions = repetitions

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``."""
        state = torch.full((*x.shape, 2), 1 / math.sqrt(2), dtype=torch.complex64)
        for r in range(self.repetitions):
            state = _turned(_rz(self.angles[:, r, 0].expand_as(x)), state)
            state = _turned(_ry(self.angles[:, r, 1].expand_as(x)), state)
            state = _turned(_rz(self.weight[:, r] * x + self.shift[:, r]), state)
        state = _turned(_rz(self.angles[:, -1, 0].expand_as(x)), state)
        state = _turned(_ry(self.angles[:, -1, 1].expand_as(x)), state)
        return state[..., 0].abs() ** 2 - state[..., 1].abs() ** 2


def _rz(angle: Tensor) -> Tensor:
    half = torch.exp(-0.5j * angle)
    zero = torch.zeros_like(half)
    return torch.stack([torch.stack([half, zero], -1), torch.stack([zero, half.conj()], -1)], -2)


def _ry(angle: Tensor) -> Tensor:
    cosine, sine = torch.cos(angle / 2), torch.sin(angle / 2)
    rows = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    return rows.to(torch.complex64)


def _turned(gate: Tensor, state: Tensor) -> Tensor:
    return torch.einsum("...ij,...j->...i", gate, state)

"""Kolmogorov-Arnold layers for TorchScript: the same function, frozen, in operations that a script holds."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.nn.basis import GaussianBasis, SplineBasis

if TYPE_CHECKING:
    from appliedpapers.nn.kan import KAN
    from appliedpapers.nn.kan_linear import KANLinear


class ScriptableKANLinear(nn.Module):
    """The function of a :class:`KANLinear` as it stands now; masks and scaling are multiplied in.

    Args:
        layer: The layer; it is copied.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations of a class that are kept as text
        weight: Tensor
        base: Tensor
        bias: Tensor
        knots: Tensor
        low_slope: Tensor
        high_slope: Tensor
        centres: Tensor

    def __init__(self, layer: KANLinear) -> None:
        super().__init__()
        basis = layer.basis
        weight = layer.effective_weight().detach()
        base = layer.effective_base_weight()
        empty = weight.new_zeros(0)
        self.kind = layer.basis_name
        self.in_features = layer.in_features
        self.order = basis.order if isinstance(basis, SplineBasis) else 0
        self.outside = basis.outside if isinstance(basis, SplineBasis) else "zero"
        self.width = basis.width if isinstance(basis, GaussianBasis) else 1.0
        self.size = basis.size
        self.norm = nn.Identity() if layer.norm is None else copy.deepcopy(layer.norm)
        self.register_buffer("weight", weight.permute(1, 2, 0).flatten(1))
        self.register_buffer("base", empty if base is None else base.detach().clone())
        self.register_buffer("bias", empty if layer.bias is None else layer.bias.detach().clone())
        knots = basis.knots.to(weight.dtype) if isinstance(basis, SplineBasis) else empty
        self.register_buffer("knots", knots)
        for side in ("low_slope", "high_slope"):
            slope = getattr(basis, side).to(weight.dtype) if isinstance(basis, SplineBasis) else empty
            self.register_buffer(side, slope)
        centres = basis.centres.to(weight.dtype) if isinstance(basis, GaussianBasis) else empty
        self.register_buffer("centres", centres)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        values = self.functions(self.norm(x)).flatten(-2)
        out = F.linear(values, self.weight)
        if self.base.numel() > 0:
            out = out + F.linear(F.silu(x), self.base)
        if self.bias.numel() > 0:
            out = out + self.bias
        return out

    def functions(self, x: Tensor) -> Tensor:
        """Return the functions, ``(..., in_features, size)``."""
        if self.kind == "bspline":
            return self.splines(x)
        if self.kind == "rbf":
            return torch.exp(-(((x.unsqueeze(-1) - self.centres) / self.width) ** 2))
        if self.kind == "fourier":
            k = torch.arange(1, self.size // 2 + 1, dtype=x.dtype, device=x.device)
            angle = x.unsqueeze(-1) * k
            return torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)
        u = torch.tanh(x)
        values = [torch.ones_like(u), u]
        for degree in range(2, self.size):
            values.append(2.0 * u * values[degree - 1] - values[degree - 2])
        return torch.stack(values[: self.size], dim=-1)

    def splines(self, x: Tensor) -> Tensor:
        """Return the B-splines by recursion, linear or constant beyond the domain."""
        knots, order = self.knots, self.order
        low, high = knots[:, order], knots[:, -order - 1]
        inside = x if self.outside == "zero" else torch.minimum(torch.maximum(x, low), high)
        point = inside.unsqueeze(-1)
        values = ((point >= knots[:, :-1]) & (point < knots[:, 1:])).to(x.dtype)
        for degree in range(1, order + 1):
            last = knots.shape[1]
            start, end = knots[:, : last - degree - 1], knots[:, degree : last - 1]
            after, next_start = knots[:, degree + 1 :], knots[:, 1 : last - degree]
            rising = (point - start) / (end - start) * values[..., :-1]
            values = rising + (after - point) / (after - next_start) * values[..., 1:]
        if self.outside == "linear":
            below, above = (x - low).clamp(max=0.0), (x - high).clamp(min=0.0)
            values = values + below.unsqueeze(-1) * self.low_slope + above.unsqueeze(-1) * self.high_slope
        return values


class ScriptableKAN(nn.Module):
    """The function of a :class:`~appliedpapers.nn.kan.KAN` as it stands now.

    Args:
        network: The network; it is copied.
    """

    def __init__(self, network: KAN) -> None:
        super().__init__()
        self.layers = nn.ModuleList(scriptable(layer) for layer in network.layers)
        self.products = list(network.products)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        for number, layer in enumerate(self.layers):
            x = layer(x)
            count = self.products[number]
            if count > 0:
                sums = x.shape[-1] - 2 * count
                pairs = x[..., sums:]
                x = torch.cat([x[..., :sums], pairs[..., ::2] * pairs[..., 1::2]], dim=-1)
        return x


def scriptable(module: nn.Module) -> nn.Module:
    """Return a copy of a module in which every KAN layer is frozen in a form that TorchScript accepts.

    Args:
        module: Any module; KAN layers in it are replaced, other modules must be scriptable themselves.
    """
    from appliedpapers.nn.kan import KAN
    from appliedpapers.nn.kan_linear import KANLinear

    if isinstance(module, KANLinear):
        return ScriptableKANLinear(module)
    if isinstance(module, KAN):
        return ScriptableKAN(module)
    copied = copy.deepcopy(module)
    for name, child in list(copied.named_children()):
        setattr(copied, name, scriptable(child))
    return copied

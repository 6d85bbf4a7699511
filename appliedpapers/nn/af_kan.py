"""AF-KAN: KAN layers that reduce their functions by attention, at about the parameters of an MLP.

Source: Ta et al. 2025, AF-KAN: Activation Function-Based Kolmogorov-Arnold Networks (arXiv 2503.06112).
Written from the formulas.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from appliedpapers.nn.activations import make_activation
from appliedpapers.nn.module import Module, check_choice, check_features, check_positive

COMBINATIONS = ("quad1", "product", "sum", "sum_product")
REDUCTIONS = ("attention", "linear", "sum")


class AFKAN(Module):
    """``Linear(silu(LN(r)))`` with ``r_i`` made of the functions of input i by attention (arXiv 2503.06112).

    The n functions of an input are ``f(a, b)`` with ``a = act(x - l_g)`` and ``b = act(h_g - x)``, for
    ``l = (-order .. grid - 1) / grid`` and ``h = l + (order + 1) / grid``. They are divided by their norm for
    each input, then brought to [0, 1] over all inputs of the row (our default: the authors' implementation
    takes the extremes over the batch, so that its rows depend on one another). A score for each input,
    ``Linear(n -> 1)``, gives by softmax over the inputs the weight of the sum of its functions.

    Args:
        in_features: Inputs I.
        out_features: Outputs O.
        grid: Cells.
        order: Cells that a function reaches beyond its own; there are ``grid + order`` functions.
        function: ``quad1`` is ``(a b)^2``, ``product`` ``a b``, ``sum`` ``a + b``, ``sum_product`` both.
        act: Activation of both arguments.
        reduce: ``attention``, ``linear`` (``Linear(n -> 1)`` is the result itself) or ``sum``.
        bias: Whether the last layer has a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, or a name is unknown.
    """

    lows: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        grid: int = 5,
        order: int = 3,
        function: str = "quad1",
        act: str | nn.Module = "silu",
        reduce: str = "attention",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("AFKAN", in_features=in_features, out_features=out_features, grid=grid, order=order)
        check_choice("AFKAN", "function", function, COMBINATIONS)
        check_choice("AFKAN", "reduce", reduce, REDUCTIONS)
        self.in_features, self.out_features = in_features, out_features
        self.function, self.reduce, self._reach = function, reduce, (order + 1) / grid
        lows = torch.arange(-order, grid, device=device, dtype=torch.float64) / grid
        self.register_buffer("lows", lows.to(dtype or torch.get_default_dtype()), persistent=False)
        self.act = make_activation(act, grid + order, device, dtype)
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.score = nn.Linear(grid + order, 1, **where) if reduce != "sum" else None
        self.norm = nn.LayerNorm(in_features, **where)
        self.linear = nn.Linear(in_features, out_features, bias=bias, **where)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        check_features(x, self.in_features, self)
        dtype = torch.promote_types(x.dtype, torch.float32)
        # scaling by row and LayerNorm magnify rounding, so only the last product is done in low precision
        with torch.autocast(x.device.type, enabled=False):
            reduced = self._reduced(_row_scaled(self.functions(x.to(dtype))))
            weight, bias = self.norm.weight.to(dtype), self.norm.bias.to(dtype)
            shaped = F.silu(F.layer_norm(reduced, (self.in_features,), weight, bias, self.norm.eps))
        out: Tensor = self.linear(shaped.to(x.dtype))
        return out

    def functions(self, x: Tensor) -> Tensor:
        """Return the functions of every input, ``(..., in_features, grid + order)``."""
        rise = x.unsqueeze(-1) - self.lows.to(x.dtype)
        first, second = self.act(rise), self.act(self._reach - rise)
        if self.function == "sum":
            out: Tensor = first + second
        elif self.function == "sum_product":
            out = first + second + first * second
        else:
            out = first * second
        return out.square() if self.function == "quad1" else out

    def _reduced(self, values: Tensor) -> Tensor:
        total = values.sum(-1)
        if self.score is None:
            return total
        score = values @ self.score.weight[0].to(values.dtype) + self.score.bias.to(values.dtype)
        return score if self.reduce == "linear" else score.softmax(-1) * total

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"function={self.function!r}, reduce={self.reduce!r}"
        )


def _row_scaled(values: Tensor) -> Tensor:
    values = F.normalize(values, dim=-1)
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    # a row of equal values has no range
    return (values - low) / (high - low).clamp(min=1e-6)

"""The same node as ``slab_linear`` for few values, where the number of calls counts and not the arithmetic.

All products are one matrix product each, the B-splines themselves are evaluated (a change of basis is more
calls), and their slopes with them, so that the way back is two products and one sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from appliedpapers.nn.features import CubicBSplines
from appliedpapers.nn.slab_linear import SMALL, Layer, plain_linear


class RowLinear(torch.autograd.Function):
    """``y = bias + base silu(x) + sum_j weight_j phi_j(x)`` for cubic splines on equidistant knots."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer
    ) -> Tensor:
        """Map ``x (rows, inputs)`` to ``(rows, outputs)``; ``weight (coefficients, outputs, inputs)``."""
        features = layer.features
        assert isinstance(features, CubicBSplines)
        count, outputs, inputs = weight.shape
        joined = weight if base is None else torch.cat([weight, base.unsqueeze(0)])
        matrix = joined.transpose(0, 1).reshape(outputs, -1)
        slabs = x.new_empty((len(joined), len(x), inputs))
        slopes = torch.empty_like(slabs) if ctx.needs_input_grad[0] else None
        features.fill_all(x, slabs[:count], None if slopes is None else slopes[:count])
        if base is not None:
            torch.ops.aten.silu.out(x, out=slabs[-1])
            if slopes is not None:
                torch.ops.aten.silu_backward.grad_input(
                    slabs.new_ones(()).expand_as(x), x, grad_input=slopes[-1]
                )
        rows = slabs.transpose(0, 1).flatten(1)
        ctx.layer, ctx.has, ctx.inputs = layer, (base is not None, bias is not None), inputs
        given = tuple(tensor for tensor in (base, bias) if tensor is not None)
        ctx.save_for_backward(x, weight, *given, rows, matrix, slopes)
        return rows @ matrix.t() if bias is None else torch.addmm(bias, rows, matrix.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``weight``, ``base`` and ``bias``."""
        has_base, has_bias = ctx.has
        x, weight, *rest = ctx.saved_tensors
        base = rest.pop(0) if has_base else None
        bias = rest.pop(0) if has_bias else None
        needs = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():  # somebody differentiates again: ordinary operations carry on for ever
            inputs = [tensor for tensor, needed in zip((x, weight, base, bias), needs, strict=True) if needed]
            out = plain_linear(x, weight, base, bias, ctx.layer)
            found = iter(torch.autograd.grad(out, inputs, grad, create_graph=True))
            return (*(next(found) if needed else None for needed in needs), None)
        rows, matrix, slopes = rest
        grad_x = grad_weight = grad_base = None
        if needs[0]:
            upstream = (grad @ matrix).view(len(x), -1, ctx.inputs).transpose(0, 1)
            grad_x = (upstream * slopes).sum(0)
        if needs[1] or needs[2]:
            outer = (grad.t() @ rows).view(grad.shape[1], -1, ctx.inputs).transpose(0, 1)
            grad_weight = outer[: len(weight)] if has_base else outer
            grad_base = outer[-1] if has_base else None
        return grad_x, grad_weight, grad_base, grad.sum(0) if has_bias else None, None


def takes_rows(x: Tensor, weight: Tensor, layer: Layer) -> bool:
    """Whether :func:`row_linear` may and should stand for the general form."""
    small = len(weight) * x.numel() <= SMALL and x.device.type == "cpu" and x.numel() > 0
    return small and isinstance(layer.features, CubicBSplines)


def row_linear(x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer) -> Tensor:
    """Apply :class:`RowLinear`, typed; arguments as for ``slab_linear``."""
    out: Tensor = RowLinear.apply(x, weight, base, bias, layer)  # type: ignore[no-untyped-call]
    return out

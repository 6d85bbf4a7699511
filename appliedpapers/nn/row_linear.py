"""The same node as ``slab_linear`` for few values, where the number of calls counts and not the arithmetic.

All products are one matrix product each, the constant is a function like the others, and the slopes are
evaluated on the way forward, so that the way back is two products and one sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from appliedpapers.nn.features import TruncatedPowers
from appliedpapers.nn.slab_linear import SMALL, Layer, plain_linear


class RowLinear(torch.autograd.Function):
    """``y = bias + base silu(x) + sum_j weight_j phi_j(x)`` for splines on one shared grid."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer
    ) -> Tensor:
        """Map ``x (rows, inputs)`` to ``(rows, outputs)``; ``weight (coefficients, outputs, inputs)``."""
        features, change = layer.features, layer.change
        assert isinstance(features, TruncatedPowers)
        assert change is not None
        turned = change[0] @ weight.flatten(1)
        if base is not None:
            turned = torch.cat([turned, base.view(1, -1)])
        matrix = turned.view(-1, *weight.shape[1:]).transpose(0, 1).flatten(1)
        slabs = torch.empty((len(turned), *x.shape), dtype=x.dtype, device=x.device)
        slopes = torch.empty_like(slabs) if ctx.needs_input_grad[0] else None
        features.fill_all(x, slabs, slopes)
        if base is not None:
            torch.ops.aten.silu.out(x, out=slabs[-1])
            if slopes is not None:
                torch.ops.aten.silu_backward.grad_input(
                    slabs.new_ones(()).expand_as(x), x, grad_input=slopes[-1]
                )
        rows = slabs.transpose(0, 1).flatten(1)
        ctx.layer, ctx.has, ctx.inputs = layer, (base is not None, bias is not None), x.shape[1]
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
            count = len(weight)
            flat = outer[:count].flatten(1)
            grad_weight = (ctx.layer.change[0].t() @ flat).view_as(weight)
            grad_base = outer[count] if has_base else None
        return grad_x, grad_weight, grad_base, grad.sum(0) if has_bias else None, None


def takes_rows(x: Tensor, weight: Tensor, layer: Layer) -> bool:
    """Whether :func:`row_linear` may and should stand for the general form."""
    small = len(weight) * x.numel() <= SMALL and x.device.type == "cpu"
    return small and layer.change is not None and len(layer.change) == 1 and x.numel() > 0


def row_linear(x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer) -> Tensor:
    """Apply :class:`RowLinear`, typed; arguments as for ``slab_linear``."""
    out: Tensor = RowLinear.apply(x, weight, base, bias, layer)  # type: ignore[no-untyped-call]
    return out

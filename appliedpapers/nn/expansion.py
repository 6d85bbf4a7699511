"""The functions of a basis as features of their own, for layers that multiply them by other things."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from appliedpapers.nn.basis import Basis, SplineBasis
from appliedpapers.nn.slab_linear import Features, needs_plain

_LOW = (torch.bfloat16, torch.float16)


class Expansion(torch.autograd.Function):
    """``(rows, inputs)`` to ``(rows, size, inputs)``; keeps only input and result for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, features: Features, constant: bool) -> Tensor:
        """Evaluate the functions, the constant 1 before them if there is one."""
        first = int(constant)
        out = x.new_empty(x.shape[0], first + features.size, x.shape[1])
        out[:, :first] = 1.0
        features.fill(x, out[:, first:].transpose(0, 1))
        ctx.features, ctx.first = features, first
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of ``x``."""
        x, out = ctx.saved_tensors
        features: Features = ctx.features
        upstream = grad[:, ctx.first :]
        if torch.is_grad_enabled():  # somebody differentiates again: ordinary operations carry on for ever
            (found,) = torch.autograd.grad(features.plain(x), x, upstream, create_graph=True)
            return found, None, None
        slabs = out[:, ctx.first :].transpose(0, 1)
        # contiguous even where it is so already: pulling back overwrites it
        upstream = upstream.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        return features.pull(x, slabs, upstream), None, None


def expand(basis: Basis, x: Tensor) -> Tensor:
    """Return the functions of every input, ``(rows, size, inputs)`` for ``x (rows, inputs)``.

    A basis of one input serves all of them. Low precision is evaluated in float32 and rounded.
    """
    if x.dtype in _LOW:
        with torch.autocast(x.device.type, enabled=False):
            return expand(basis, x.float()).to(x.dtype)
    if not isinstance(basis, SplineBasis):
        return _evaluated(basis.features(x, compact=True), x, basis.constant)
    # on other devices a look at the data would wait for them
    inside = not needs_plain() and x.device.type == "cpu" and basis.is_inside(x)
    return _evaluated(basis.features(x, compact=False, inside=inside), x, False)


def _evaluated(features: Features, x: Tensor, constant: bool) -> Tensor:
    if not needs_plain():
        out: Tensor = Expansion.apply(x, features, constant)  # type: ignore[no-untyped-call]
        return out
    values = features.plain(x)
    return torch.cat([torch.ones_like(values[..., :1, :]), values], dim=-2) if constant else values

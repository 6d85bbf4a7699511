"""One differentiable node for "evaluate basis functions, multiply by the weights": the core of KAN layers.

The features are kept basis-major, ``(size, rows, inputs)``: each slab is contiguous, so that evaluating and
differentiating runs in place at memory speed, and the products are plain matrix products. Between forward and
backward either the slabs are kept (fast) or the input alone (lean, which computes them again block by block).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

# rows per block of the lean path: the slabs of a block stay in the cache
_BLOCK_ELEMENTS = 1 << 18
# below this many feature elements the number of calls counts and not the arithmetic
_SMALL = 1 << 16


class Features(Protocol):
    """A family of functions of one variable, evaluated for every input.

    ``fill`` and ``pull`` work in place and are not differentiable; ``plain`` is the same in ordinary
    operations, and differentiable as often as one likes.
    """

    size: int

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``, ``(rows, inputs)``; ``grad`` may be overwritten."""

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)`` for ``x (..., inputs)``."""


class SlabLinear(torch.autograd.Function):
    """``y[b, o] = sum_j sum_i weight[j, o, i] * feature_j(x[b, i])``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, features: Features, lean: bool) -> Tensor:
        """Map ``x (rows, inputs)`` and ``weight (size, outputs, inputs)`` to ``(rows, outputs)``."""
        ctx.features, ctx.lean = features, lean
        if lean:
            ctx.save_for_backward(x, weight)
            blocks = [_product(_filled(features, block), weight) for block in _blocks(x, features.size)]
            return torch.cat(blocks)
        slabs = _filled(features, x)
        ctx.save_for_backward(x, weight, slabs)
        return _product(slabs, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x`` and ``weight``."""
        x, weight = ctx.saved_tensors[:2]
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # somebody differentiates again: ordinary operations carry on for ever
            inputs = [tensor for tensor, wanted in ((x, wants_x), (weight, wants_weight)) if wanted]
            found = iter(
                torch.autograd.grad(
                    plain_product(ctx.features.plain(x), weight), inputs, grad, create_graph=True
                )
            )
            return (next(found) if wants_x else None, next(found) if wants_weight else None, None, None)
        if not ctx.lean:
            slabs = ctx.saved_tensors[2]
            grad_x = _pulled(ctx.features, x, slabs, grad, weight) if wants_x else None
            return grad_x, torch.matmul(grad.t(), slabs) if wants_weight else None, None, None
        grad_weight = torch.zeros_like(weight) if wants_weight else None
        parts = []
        blocks = _blocks(x, ctx.features.size)
        for rows, part in zip(blocks, _split_like(grad, blocks), strict=True):
            slabs = _filled(ctx.features, rows)
            if grad_weight is not None:
                grad_weight += torch.matmul(part.t(), slabs)
            if wants_x:
                parts.append(_pulled(ctx.features, rows, slabs, part, weight))
        return (torch.cat(parts) if wants_x else None), grad_weight, None, None


def slab_linear(x: Tensor, weight: Tensor, features: Features, *, lean: bool = False) -> Tensor:
    """Apply :class:`SlabLinear`, typed.

    Args:
        x: ``(rows, inputs)``.
        weight: ``(size, outputs, inputs)`` of the same dtype.
        features: The functions.
        lean: Keep only ``x`` for the way back.

    Returns:
        ``(rows, outputs)``.
    """
    out: Tensor = SlabLinear.apply(x, weight, features, lean)  # type: ignore[no-untyped-call]
    return out


def plain_product(features: Tensor, weight: Tensor) -> Tensor:
    """Multiply ``features (..., size, inputs)`` by ``weight (size, outputs, inputs)``, one matrix product."""
    return torch.nn.functional.linear(features.flatten(-2), weight.transpose(0, 1).flatten(1))


def _filled(features: Features, x: Tensor) -> Tensor:
    slabs = torch.empty((features.size, *x.shape), dtype=x.dtype, device=x.device)
    features.fill(x, slabs)
    return slabs


def _product(slabs: Tensor, weight: Tensor) -> Tensor:
    if slabs.numel() <= _SMALL or slabs.is_cuda:
        return torch.bmm(slabs, weight.transpose(1, 2)).sum(0)
    out = torch.mm(slabs[0], weight[0].t())
    for slab, matrix in zip(slabs[1:], weight[1:], strict=True):
        out.addmm_(slab, matrix.t())
    return out


def _pulled(features: Features, x: Tensor, slabs: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    return features.pull(x, slabs, torch.matmul(grad, weight))


def _blocks(x: Tensor, size: int) -> tuple[Tensor, ...]:
    rows = max(_BLOCK_ELEMENTS // max(size * x.shape[1], 1), 64)
    return torch.split(x, rows)


def _split_like(grad: Tensor, blocks: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.split(grad, [len(block) for block in blocks])

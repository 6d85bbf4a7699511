"""One differentiable node for "evaluate basis functions, multiply by the weights": the core of KAN layers.

The features are kept basis-major, ``(size, rows, inputs)``: each slab is contiguous, so that evaluating and
differentiating runs in place at memory speed, and the products are plain matrix products. Between forward and
backward either the slabs are kept (fast) or the input alone (lean, which computes them again block by block).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# rows per block of the lean path: the slabs of a block stay in the cache
_BLOCK_ELEMENTS = 1 << 18
# below this many feature elements the number of calls counts and not the arithmetic
SMALL = 1 << 16


class Slabs(Protocol):
    """A tensor ``(size, rows, inputs)``, or something that gives its slabs one after the other."""

    def __len__(self) -> int:
        """Return the number of slabs."""

    def __getitem__(self, key: Any, /) -> Tensor:
        """Return one slab, or a tensor of several."""


class Features(Protocol):
    """A family of functions of one variable, evaluated for every input.

    ``fill`` and ``pull`` work in place and are not differentiable; ``plain`` is the same in ordinary
    operations, and differentiable as often as one likes.
    """

    size: int

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``, ``(rows, inputs)``.

        Args:
            x: ``(rows, inputs)``.
            slabs: What ``fill`` wrote.
            grad: ``(size, rows, inputs)``; a slab taken by its number holds until the next is taken, a slice
                is a tensor. It may be overwritten.
        """

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)`` for ``x (..., inputs)``."""


def needs_plain() -> bool:
    """Whether a compiler, a tracer or a functional transform watches, which needs ordinary operations."""
    return (
        torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


@dataclass(frozen=True)
class Layer:
    """What a layer is made of beside its parameters.

    Attributes:
        features: The functions.
        change: Turns coefficients into weights of the features, ``(1 or inputs, functions, coefficients)``;
            function 0 is the constant. None where the coefficients are the weights.
        constant: Without ``change``: whether coefficient 0 belongs to the constant 1.
    """

    features: Features
    change: Tensor | None = None
    constant: bool = False

    def turned(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the weights ``(size, outputs, inputs)`` of the features, and the constant ``(outputs,)``."""
        if self.change is None:
            return (weight[1:], weight[0].sum(1)) if self.constant else (weight, None)
        if len(self.change) == 1:
            powers = (self.change[0] @ weight.flatten(1)).view_as(weight)
        else:
            powers = torch.einsum("ipn,noi->poi", self.change, weight)
        return powers[1:], powers[0].sum(1)

    def returned(self, grad: Tensor, constant: Tensor) -> Tensor:
        """Return the gradient of the coefficients; the adjoint of :meth:`turned`.

        Args:
            grad: Gradient of the weights of the features, ``(size, outputs, inputs)``.
            constant: Gradient of the constant, ``(outputs,)``.
        """
        if self.change is None and not self.constant:
            return grad
        whole = torch.cat([constant[None, :, None].expand_as(grad[:1]), grad])
        if self.change is None:
            return whole
        if len(self.change) == 1:
            return (self.change[0].t() @ whole.flatten(1)).view(-1, *grad.shape[1:])
        return torch.einsum("ipn,poi->noi", self.change, whole)


class SlabLinear(torch.autograd.Function):
    """``y[b, o] = bias[o] + sum_i base[o, i] silu(x[b, i]) + sum_j sum_i weight[j, o, i] phi_j(x[b, i])``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        base: Tensor | None,
        bias: Tensor | None,
        layer: Layer,
        lean: bool,
    ) -> Tensor:
        """Map ``x (rows, inputs)`` to ``(rows, outputs)``; ``weight (coefficients, outputs, inputs)``."""
        ctx.layer, ctx.lean, ctx.has = layer, lean, (base is not None, bias is not None)
        turned, constant = layer.turned(weight)
        if base is not None:
            turned = torch.cat([turned, base.unsqueeze(0)])
        shift = bias if constant is None else constant if bias is None else bias + constant
        features = layer.features
        saved = (x, weight, *(tensor for tensor in (base, bias) if tensor is not None), turned)
        if lean:
            ctx.save_for_backward(*saved)
            blocks = _blocks(x, len(turned))
            return torch.cat(
                [_product(_filled(features, block, len(turned)), turned, shift) for block in blocks]
            )
        slabs = _filled(features, x, len(turned))
        ctx.save_for_backward(*saved, slabs)
        return _product(slabs, turned, shift)

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
            return (*(next(found) if needed else None for needed in needs), None, None)
        turned = rest[0]
        if ctx.lean:
            grad_x, grad_turned = _backward_in_blocks(ctx.layer.features, x, grad, turned, needs)
        else:
            slabs = rest[1]
            grad_turned = _outer(grad, slabs) if needs[1] or needs[2] else None
            grad_x = _pulled(ctx.layer.features, x, slabs, grad, turned) if needs[0] else None
        total = grad.sum(0)
        grad_base = grad_weight = None
        if grad_turned is not None:
            grad_base = grad_turned[-1] if has_base else None
            grad_weight = ctx.layer.returned(grad_turned[:-1] if has_base else grad_turned, total)
        return grad_x, grad_weight, grad_base, total if has_bias else None, None, None


def slab_linear(
    x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer, *, lean: bool = False
) -> Tensor:
    """Apply :class:`SlabLinear`, typed.

    Args:
        x: ``(rows, inputs)``.
        weight: Coefficients ``(coefficients, outputs, inputs)``, of the same dtype.
        base: Weights of silu, ``(outputs, inputs)``.
        bias: ``(outputs,)``.
        layer: The functions and their change of basis.
        lean: Keep only ``x`` for the way back.

    Returns:
        ``(rows, outputs)``.
    """
    out: Tensor = SlabLinear.apply(x, weight, base, bias, layer, lean)  # type: ignore[no-untyped-call]
    return out


class _Evaluated(torch.autograd.Function):
    """All functions side by side, with a gradient that is given: the derived one keeps and computes far more.

    One matrix takes one product, where a product for every function writes its sum as often.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, features: Any, silu: bool) -> Tensor:
        """Evaluate the functions in ordinary operations, ``(rows, size * inputs)``, silu last."""
        ctx.features, ctx.silu = features, silu
        ctx.save_for_backward(x)
        slabs = [*features.slabs(x), *((F.silu(x),) if silu else ())]
        return torch.cat(slabs, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of ``x``."""
        (x,) = ctx.saved_tensors
        slopes = list(ctx.features.slopes(x))
        if ctx.silu:
            share = torch.sigmoid(x)
            slopes.append(share * (1.0 + x * (1.0 - share)))
        upstream = torch.split(grad, x.shape[1], dim=1)
        terms = [part * slope for part, slope in zip(upstream, slopes, strict=True)]
        return functools.reduce(torch.add, terms), None, None


def compiled_linear(
    x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer
) -> Tensor:
    """Do the same in operations that a compiler fuses, ``x (rows, inputs)``; differentiable once."""
    turned, constant = layer.turned(weight)
    if base is not None:
        turned = torch.cat([turned, base.unsqueeze(0)])
    values: Tensor = _Evaluated.apply(x, layer.features, base is not None)  # type: ignore[no-untyped-call]
    shift = bias if constant is None else constant if bias is None else bias + constant
    return F.linear(values, turned.transpose(0, 1).flatten(1), shift)


def plain_linear(x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer) -> Tensor:
    """Do the same in ordinary operations, for ``x (..., inputs)``."""
    turned, constant = layer.turned(weight)
    return _joined(layer.features.plain(x), turned, x, base, bias, constant)


def _joined(
    values: Tensor,
    weight: Tensor,
    x: Tensor,
    base: Tensor | None,
    bias: Tensor | None,
    constant: Tensor | None,
) -> Tensor:
    shift = bias if constant is None else constant if bias is None else bias + constant
    out = plain_product(values, weight, shift)
    if base is None:
        return out
    if out.ndim == 2:
        return torch.addmm(out, F.silu(x), base.t())
    return out + F.linear(F.silu(x), base)


def plain_product(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply ``features (..., size, inputs)`` by ``weight (size, outputs, inputs)``, one matrix product."""
    return F.linear(features.flatten(-2), weight.transpose(0, 1).flatten(1), bias)


def _backward_in_blocks(
    features: Features, x: Tensor, grad: Tensor, turned: Tensor, needs: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    grad_turned = torch.zeros_like(turned) if needs[1] or needs[2] else None
    parts = []
    blocks = _blocks(x, len(turned))
    for rows, part in zip(blocks, torch.split(grad, [len(block) for block in blocks]), strict=True):
        slabs = _filled(features, rows, len(turned))
        if grad_turned is not None:
            grad_turned += _outer(part, slabs)
        if needs[0]:
            parts.append(_pulled(features, rows, slabs, part, turned))
    return (torch.cat(parts) if needs[0] else None), grad_turned


def _filled(features: Features, x: Tensor, count: int) -> Tensor:
    """Return the slabs of ``x``, with silu as the last one if ``count`` says so."""
    slabs = torch.empty((count, *x.shape), dtype=x.dtype, device=x.device)
    features.fill(x, slabs[: features.size])
    if count > features.size:
        torch.ops.aten.silu.out(x, out=slabs[-1])
    return slabs


def _product(slabs: Tensor, weight: Tensor, shift: Tensor | None) -> Tensor:
    if _is_small(slabs):
        rows, matrix = slabs.transpose(0, 1).flatten(1), weight.transpose(0, 1).flatten(1).t()
        return rows @ matrix if shift is None else torch.addmm(shift, rows, matrix)
    first = weight[0].t()
    out = torch.mm(slabs[0], first) if shift is None else torch.addmm(shift, slabs[0], first)
    for slab, matrix in zip(slabs[1:], weight[1:], strict=True):
        out.addmm_(slab, matrix.t())
    return out


def _outer(grad: Tensor, slabs: Tensor) -> Tensor:
    """Return the gradient of the weights, ``(size, outputs, inputs)``."""
    if _is_small(slabs):
        product = grad.t() @ slabs.transpose(0, 1).flatten(1)
        return product.view(-1, len(slabs), slabs.shape[2]).transpose(0, 1)
    # one product a slab: measured a third faster than a batched one that shares the gradient
    out = slabs.new_empty(len(slabs), grad.shape[1], slabs.shape[2])
    for slab, part in zip(slabs, out, strict=True):
        torch.mm(grad.t(), slab, out=part)
    return out


class _Upstream:
    """Gradients of the slabs, each multiplied out when it is asked for: one of them fits the cache.

    By a number it gives one slab, which holds until the next is asked for; by a slice, a tensor of its own.
    """

    def __init__(self, grad: Tensor, weight: Tensor) -> None:
        self._grad, self._weight = grad, weight
        self._scratch = grad.new_empty(len(grad), weight.shape[2])

    def __len__(self) -> int:
        return len(self._weight)

    def __getitem__(self, key: int | slice) -> Tensor:
        if isinstance(key, slice):
            return torch.matmul(self._grad, self._weight[key])
        return torch.mm(self._grad, self._weight[key], out=self._scratch)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))


def _pulled(features: Features, x: Tensor, slabs: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    upstream: Any
    if _is_small(slabs):
        product = grad @ weight.transpose(0, 1).flatten(1)
        upstream = product.view(-1, len(slabs), slabs.shape[2]).transpose(0, 1).contiguous()[: features.size]
    else:
        upstream = _Upstream(grad, weight[: features.size])
    out = features.pull(x, slabs[: features.size], upstream)
    if len(slabs) == features.size:
        return out
    return out.add_(torch.ops.aten.silu_backward(grad @ weight[-1], x))


def _is_small(slabs: Tensor) -> bool:
    return slabs.numel() <= SMALL or slabs.is_cuda


def _blocks(x: Tensor, size: int) -> tuple[Tensor, ...]:
    rows = max(_BLOCK_ELEMENTS // max(size * x.shape[1], 1), 64)
    return torch.split(x, rows)

"""The costly steps of the network with hand-written gradients, and the plain form of each.

On the CPU a training step at the published Frappe setting spends more time in masks, copies and table
gradients than in its matrix products. These forms make the same numbers with fewer passes over memory. A
compiler, an exporter, autocast or another device gets the plain operations.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LEVELS = 1 << 16  # dropout on the CPU compares 16 random bits: a rate is met to 1/65536
_FEW_HEADS = 16


def is_lean(x: Tensor) -> bool:
    """Whether the hand-written forms apply: on the CPU, in 32 or 64 bits, watched by nobody."""
    return not (
        x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
    )


def look_up(table: Tensor, ids: Tensor, offsets: Tensor, padding: Tensor) -> Tensor:
    """Return embeddings from tables that stand one below the other; padding gets no gradient.

    Args:
        table: All tables, ``(rows, dim)``; rows of padding are zero.
        ids: Ids within each table, int32 or int64, 0 is padding.
        offsets: First row of each id's table; broadcast against ``ids``.
        padding: Rows of padding, int64 ``(tables,)``.

    Returns:
        ``(*ids.shape, dim)``.
    """
    if is_lean(table):
        return cast("Tensor", _LookUp.apply(table, ids + offsets, padding))  # type: ignore[no-untyped-call]
    rows = F.embedding(ids + offsets, table)
    return rows * (ids != 0).unsqueeze(-1).to(rows.dtype) if table.requires_grad else rows


def spread(rows: Tensor, places: Tensor) -> Tensor:
    """Return ``rows[places]``, with a gradient that sums rows at once.

    Args:
        rows: ``(distinct, width)``.
        places: int64 ``(batch,)``.
    """
    return cast("Tensor", _LookUp.apply(rows, places, places.new_zeros(0)))  # type: ignore[no-untyped-call]


def hidden_layer(z: Tensor, norm: nn.BatchNorm1d | None, dropout: float, *, training: bool) -> Tensor:
    """Return dropout(relu(norm(z))) of ``(batch, width)``.

    Args:
        z: Output of a linear layer.
        norm: Batch normalisation, or None.
        dropout: Share of units that are dropped in training.
        training: Use the batch's statistics and drop units.
    """
    if training and is_lean(z):
        keep = None
        if dropout > 0:
            keep = draw_mask(z.shape, 1.0 - dropout, z.dtype)
        if norm is None:
            return cast("Tensor", _ReluDrop.apply(z, keep, dropout))  # type: ignore[no-untyped-call]
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        return cast("Tensor", _NormReluDrop.apply(z, norm.weight, norm.bias, norm, keep, dropout))  # type: ignore[no-untyped-call]
    out = F.relu(z if norm is None else norm(z))
    return F.dropout(out, dropout, training) if dropout > 0 else out


def bilinear(o1: Tensor, o2: Tensor, weight: Tensor) -> Tensor:
    """Return the sum over heads of ``o1_j^T W_j o2_j``, ``(batch,)``.

    Args:
        o1: ``(batch, heads * a)``; head j is its j-th contiguous slice.
        o2: ``(batch, heads * b)``.
        weight: ``(heads, a, b)``.
    """
    heads, a, b = weight.shape
    if heads <= _FEW_HEADS and is_lean(o1):
        return cast("Tensor", _Bilinear.apply(o1, o2, weight))  # type: ignore[no-untyped-call]
    left = o1.reshape(-1, heads, a).transpose(0, 1)
    mixed = torch.bmm(left, weight).transpose(0, 1).reshape(-1, heads * b)
    return (mixed * o2).sum(dim=1)


def half_square(*tensors: Tensor) -> Tensor:
    """Return half the sum of the squares of all elements; the gradient of each tensor is itself."""
    if tensors and is_lean(tensors[0]):
        return cast("Tensor", _HalfSquare.apply(*tensors))  # type: ignore[no-untyped-call]
    return 0.5 * torch.stack([tensor.square().sum() for tensor in tensors]).sum()


def draw_mask(shape: torch.Size, keep: float, dtype: torch.dtype) -> Tensor:
    """Return 0 and 1 with the probability ``keep`` of 1, from torch's global generator.

    One number of that generator seeds a faster one, so that a restored generator draws the same mask.
    """
    count = shape.numel()
    seed = int(torch.randint(0, 2**63 - 1, ()))
    bits = np.random.SFC64(seed).random_raw((count + 3) // 4).view(np.uint16)[:count]
    mask = np.less(bits, round(keep * _LEVELS)).view(np.uint8)
    return torch.from_numpy(mask).view(shape).to(dtype)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, padding: Tensor) -> Tensor:
        ctx.save_for_backward(ids, padding)
        ctx.rows = table.shape[0]
        return F.embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ids, padding = ctx.saved_tensors
        out = torch.ops.aten.embedding_dense_backward(grad.contiguous(), ids, ctx.rows, -1, False)
        return out.index_fill_(0, padding, 0.0), None, None


class _ReluDrop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, keep: Tensor | None, dropout: float) -> Tensor:
        out = z.clamp_min(0.0)
        ctx.scale = 1.0 / (1.0 - dropout)
        if keep is not None:
            out.mul_(keep).mul_(ctx.scale)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _through(grad, ctx.saved_tensors[0], ctx.scale), None, None


class _NormReluDrop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, gamma: Tensor, beta: Tensor, norm: nn.BatchNorm1d, keep: Tensor | None, p: float
    ) -> Tensor:
        if len(z) < 2:
            raise ValueError("batch normalisation needs at least two rows in training")
        ctx.scale, ctx.eps = 1.0 / (1.0 - p), norm.eps
        momentum = cast("float", norm.momentum)
        out, mean, inverse = torch.native_batch_norm(
            z, gamma, beta, norm.running_mean, norm.running_var, True, momentum, norm.eps
        )
        out.clamp_min_(0.0)
        if keep is not None:
            out.mul_(keep).mul_(ctx.scale)
        ctx.save_for_backward(z, gamma, mean, inverse, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        z, gamma, mean, inverse, out = ctx.saved_tensors
        inner = _through(grad, out, ctx.scale)
        dz, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            inner, z, gamma, None, None, mean, inverse, True, ctx.eps, [True, True, True]
        )
        return dz, dgamma, dbeta, None, None, None


def _through(grad: Tensor, out: Tensor, scale: float) -> Tensor:
    # an output is positive just where the unit was active and kept
    inner: Tensor = torch.ops.aten.threshold_backward(grad, out, 0.0)
    return inner.mul_(scale) if scale != 1.0 else inner


class _Bilinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o1: Tensor, o2: Tensor, weight: Tensor) -> Tensor:
        heads, a, b = weight.shape
        mixed = torch.empty_like(o2)
        for j in range(heads):
            torch.mm(o1[:, j * a : (j + 1) * a], weight[j], out=mixed[:, j * b : (j + 1) * b])
        ctx.save_for_backward(o1, o2, weight, mixed)
        return (mixed * o2).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        o1, o2, weight, mixed = ctx.saved_tensors
        heads, a, b = weight.shape
        scaled = o2 * grad[:, None]
        d1, dweight = torch.empty_like(o1), torch.empty_like(weight)
        for j in range(heads):
            part = scaled[:, j * b : (j + 1) * b]
            torch.mm(part, weight[j].t(), out=d1[:, j * a : (j + 1) * a])
            torch.mm(o1[:, j * a : (j + 1) * a].t(), part, out=dweight[j])
        return d1, mixed * grad[:, None], dweight


class _HalfSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        flat = [tensor.reshape(-1) for tensor in tensors]
        return 0.5 * torch.stack([torch.dot(one, one) for one in flat]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor * grad for tensor in ctx.saved_tensors)

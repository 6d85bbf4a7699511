"""Measuring qubits that are turned by constants and by data: exact, in real numbers, on the Bloch vector.

A pure qubit is a unit vector ``(across, ahead, up)``. ``Rz(a)`` turns the first two by a, ``Ry(b)`` turns the
last towards the first by b, and ``<Z>`` is ``up``. The way back turns the adjoint by the same angles.
Source: Nielsen and Chuang, Quantum Computation and Quantum Information, sections 1.2 and 4.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from appliedpapers.nn.slab_linear import needs_plain

# elements of a block of rows: what one step works on stays in the cache
_BLOCK_ELEMENTS = 1 << 15


class Circuit(NamedTuple):
    """Qubits with their constants merged, each ``(*edges)`` or ``(reps, *edges)``.

    Attributes:
        across: Component of the state before the first turn by data.
        ahead: The same.
        up: The same.
        weight: Factors of the data.
        shift: Constant turns about z that happen together with those by data.
        tilt: Turns about y after each.
    """

    across: Tensor
    ahead: Tensor
    up: Tensor
    weight: Tensor
    shift: Tensor
    tilt: Tensor


class _Step(NamedTuple):
    cosine: Tensor
    sine: Tensor
    turned: Tensor
    ahead: Tensor
    across: Tensor
    up: Tensor


def measure(x: Tensor, theta: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``<Z>`` of ``|+>`` after ``reps`` times ``Rz(t0) Ry(t1) Rz(weight x + bias)``, then ``Rz Ry``.

    Args:
        x: ``(..., features)``.
        theta: ``(reps + 1, 2, features)``.
        weight: ``(reps, features)``.
        bias: ``(reps, features)``.

    Returns:
        ``(..., features)`` within [-1, 1], in float32 or float64.
    """
    x, theta, weight, bias = _promoted(x, theta, weight, bias)
    qubits = circuit(theta, weight, bias)
    if needs_plain():
        return plain_measure(x, qubits)
    out: Tensor = Measurement.apply(x.reshape(-1, x.shape[-1]), None, *qubits)  # type: ignore[no-untyped-call]
    return out.view(x.shape)


def measured_sum(x: Tensor, theta: Tensor, weight: Tensor, bias: Tensor, post: Tensor) -> Tensor:
    """Return ``sum_i post_oi <Z>_oi(x_i)`` with a qubit for each edge, see :func:`measure`.

    Args:
        x: ``(..., inputs)``.
        theta: ``(reps + 1, 2, outputs, inputs)``.
        weight: ``(reps, outputs, inputs)``.
        bias: ``(reps, outputs, inputs)``.
        post: ``(outputs, inputs)``.

    Returns:
        ``(..., outputs)`` in float32 or float64.
    """
    x, theta, weight, bias, post = _promoted(x, theta, weight, bias, post)
    qubits = circuit(theta, weight, bias)
    if needs_plain():
        return (plain_measure(x.unsqueeze(-2), qubits) * post).sum(-1)
    rows = x.reshape(-1, 1, x.shape[-1])
    out: Tensor = Measurement.apply(rows, post, *qubits)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], post.shape[0])


def circuit(theta: Tensor, weight: Tensor, bias: Tensor) -> Circuit:
    """Merge what does not depend on the data, differentiably; shapes as for :func:`measure`."""
    turn, tilt = theta[0, 0], theta[0, 1]
    # |+> is (1, 0, 0)
    flat = torch.cos(turn)
    across, up = flat * torch.cos(tilt), -flat * torch.sin(tilt)
    return Circuit(across, torch.sin(turn), up, weight, bias + theta[1:, 0], theta[1:, 1])


def plain_measure(x: Tensor, qubits: Circuit) -> Tensor:
    """Return ``<Z>`` in ordinary operations, for an ``x`` that broadcasts against the edges."""
    across, ahead, up, weight, shift, tilt = qubits
    cos, sin = torch.cos(tilt), torch.sin(tilt)
    last = weight.shape[0] - 1
    for step in range(last + 1):
        angle = x * weight[step] + shift[step]
        cosine, sine = torch.cos(angle), torch.sin(angle)
        turned = across * cosine - ahead * sine
        if step < last:
            ahead = across * sine + ahead * cosine
            across = up * sin[step] + turned * cos[step]
        up = up * cos[step] - turned * sin[step]
    return up


class Measurement(torch.autograd.Function):
    """:func:`plain_measure` by blocks of rows; keeps only the input for the way back.

    With ``post`` the measurements are multiplied by it and summed over the last axis.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, post: Tensor | None, *qubits: Tensor) -> Tensor:
        """Map ``x (rows, [1,] inputs)`` to ``(rows, *edges)``, or with ``post`` to ``(rows, outputs)``."""
        ctx.has_post = post is not None
        ctx.save_for_backward(x, *(() if post is None else (post,)), *qubits)
        run = Circuit(*qubits)
        return torch.cat([_summed(_traced(block, run)[-1].up, post) for block in _blocks(x, run)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``post`` and the circuit."""
        x, *rest = ctx.saved_tensors
        post = rest.pop(0) if ctx.has_post else None
        run = Circuit(*rest)
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # somebody differentiates again: ordinary operations carry on for ever
            out = _summed(plain_measure(x, run), post)
            wanted = [tensor for tensor, need in zip((x, post, *run), needs, strict=True) if need]
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            return tuple(next(found) if need else None for need in needs)
        totals = Circuit(*(torch.zeros_like(tensor) for tensor in run))
        grad_post = None if post is None else torch.zeros_like(post)
        parts = []
        blocks = _blocks(x, run)
        for block, upstream in zip(blocks, torch.split(grad, [len(block) for block in blocks]), strict=True):
            steps = _traced(block, run)
            if post is not None and grad_post is not None:
                upstream = upstream.unsqueeze(-1)
                grad_post += (steps[-1].up * upstream).sum(0)
                upstream = upstream * post
            parts.append(_pulled(block, run, steps, upstream, totals))
        return (torch.cat(parts), grad_post, *totals)


def _traced(x: Tensor, run: Circuit) -> list[_Step]:
    across, ahead, up = run.across, run.ahead, run.up
    cos, sin = torch.cos(run.tilt), torch.sin(run.tilt)
    steps = []
    for step in range(len(run.weight)):
        angle = torch.addcmul(run.shift[step], x, run.weight[step])
        cosine, sine = torch.cos(angle), angle.sin_()
        turned = (across * cosine).addcmul_(ahead, sine, value=-1.0)
        ahead = (ahead * cosine).addcmul_(across, sine)
        across = (turned * cos[step]).addcmul_(up, sin[step])
        up = torch.addcmul(up * cos[step], turned, sin[step], value=-1.0)
        steps.append(_Step(cosine, sine, turned, ahead, across, up))
    return steps


def _pulled(x: Tensor, run: Circuit, steps: list[_Step], grad: Tensor, totals: Circuit) -> Tensor:
    """Return the gradient of ``x`` and add the others to ``totals``."""
    cos, sin = torch.cos(run.tilt), torch.sin(run.tilt)
    total = torch.zeros_like(steps[0].up)
    across, ahead, up = torch.zeros_like(total), torch.zeros_like(total), grad
    for number in range(len(steps) - 1, -1, -1):
        step, weight = steps[number], run.weight[number]
        totals.tilt[number].add_((across * step.up).addcmul_(up, step.across, value=-1.0).sum(0))
        turned = (across * cos[number]).addcmul_(up, sin[number], value=-1.0)
        up = (up * cos[number]).addcmul_(across, sin[number])
        angle = (ahead * step.turned).addcmul_(turned, step.ahead, value=-1.0)
        across = (turned * step.cosine).addcmul_(ahead, step.sine)
        ahead = (ahead * step.cosine).addcmul_(turned, step.sine, value=-1.0)
        totals.shift[number].add_(angle.sum(0))
        totals.weight[number].add_((angle * x).sum(0))
        total.addcmul_(angle, weight)
    for sum_, part in zip(totals[:3], (across, ahead, up), strict=True):
        sum_.add_(part.sum(0))
    return total if total.shape == x.shape else total.sum(1, keepdim=True)


def _summed(z: Tensor, post: Tensor | None) -> Tensor:
    return z if post is None else (z * post).sum(-1)


def _blocks(x: Tensor, run: Circuit) -> tuple[Tensor, ...]:
    return torch.split(x, max(_BLOCK_ELEMENTS // max(run.up.numel(), 1), 1))


def _promoted(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    # angles in low precision are noise
    dtype = torch.promote_types(torch.promote_types(x.dtype, tensors[0].dtype), torch.float32)
    return tuple(tensor.to(dtype) for tensor in (x, *tensors))

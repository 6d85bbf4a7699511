"""Values and gradients of rational functions, by Horner's rule over slabs of rows that fit the cache."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

NUMERATOR_SIZE, DENOMINATOR_SIZE = 6, 4

# Bytes in a slab of rows: with fewer the calls cost more than they save, with more the cache overflows.
_SLAB_BYTES = 512 * 1024


def rational(x: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool) -> Tensor:
    """Evaluate ``P(x) / Q(x)`` by Horner's rule with ordinary operations.

    Args:
        x: ``(..., features)``.
        numerator: ``(6,)``, the constant first.
        denominator: ``(4, features)``, the linear term first; not negative where ``absolute``.
        absolute: ``Q = 1 + Σ b_i |x|^i`` (version A), else ``1 + |Σ b_i x^i|``.
    """
    above = numerator[5] * x + numerator[4]
    above = ((above * x + numerator[3]) * x + numerator[2]) * x
    above = (above + numerator[1]) * x + numerator[0]
    t = x.abs() if absolute else x
    below = ((denominator[3] * t + denominator[2]) * t + denominator[1]) * t
    below = (below + denominator[0]) * t
    return above / (1 + (below if absolute else below.abs()))


def _gradients(
    x: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of :func:`rational` by its three tensors, with ordinary operations."""
    t = x.abs() if absolute else x
    powers, t_powers = _powers(x, NUMERATOR_SIZE), _powers(t, DENOMINATOR_SIZE + 1)
    above, slope = _polynomial(numerator, powers), _slope(numerator, powers, first=0)
    below = _polynomial(denominator, t_powers[1:])
    steep = _slope(denominator, t_powers, first=1)
    by_above = grad / (1 + (below if absolute else below.abs()))
    by_below = -by_above * above / (1 + (below if absolute else below.abs()))
    if not absolute:
        by_below = by_below * below.sign()
    by_x = by_above * slope + by_below * (steep * x.sign() if absolute else steep)
    by_rows = [(by_below * power).reshape(-1, x.shape[-1]).sum(0) for power in t_powers[1:]]
    return by_x, torch.stack([(by_above * power).sum() for power in powers]), torch.stack(by_rows)


def _powers(x: Tensor, count: int) -> list[Tensor]:
    powers = [torch.ones_like(x)]
    for _ in range(count - 1):
        powers.append(powers[-1] * x)
    return powers


def _polynomial(coefficients: Tensor, powers: list[Tensor]) -> Tensor:
    terms = [coefficient * power for coefficient, power in zip(coefficients, powers, strict=True)]
    return torch.stack(terms).sum(0)


def _slope(coefficients: Tensor, powers: list[Tensor], first: int) -> Tensor:
    """Return the derivative of a polynomial whose first coefficient belongs to the power ``first``."""
    terms = [
        power * coefficient * powers[power - 1]
        for power, coefficient in enumerate(coefficients, start=first)
        if power
    ]
    return torch.stack(terms).sum(0)


def _is_mapped(tensor: Tensor) -> bool:
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor)


class Rational(torch.autograd.Function):
    """:func:`rational` in slabs of rows, forward and backward."""

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool) -> Tensor:
        """Return the values; arguments as for :func:`rational`."""
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        out = torch.empty_like(rows)
        slabs = _Slabs(rows, numerator, denominator, absolute)
        for start, stop in slabs.bounds:
            x_slab, y_slab = rows[start:stop], out[start:stop]
            slabs.numerator(x_slab, y_slab)
            y_slab.div_(slabs.denominator(x_slab)[0])
        return out.view(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        """Keep the arguments and nothing else."""
        ctx.save_for_backward(*inputs[:3])
        ctx.absolute = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients by the three tensors."""
        x, numerator, denominator = ctx.saved_tensors
        # ordinary operations where the gradient is itself differentiated or mapped over
        if torch.is_grad_enabled() or _is_mapped(grad):
            return (*_gradients(x, numerator, denominator, ctx.absolute, grad), None)
        need_x, need_above, need_below, _ = ctx.needs_input_grad
        slabs = _Slabs(x.reshape(-1, x.shape[-1]).contiguous(), numerator, denominator, ctx.absolute)
        g = grad.reshape(slabs.rows.shape).contiguous()
        return (*slabs.gradients(g, x.shape, need_x, need_above or need_below), None)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None, int | None, None],
        x: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        absolute: bool,
    ) -> tuple[Tensor, int]:
        """Take a mapped axis of ``x`` for one more leading axis; mapped coefficients go the plain way."""
        if in_dims[0] is not None and in_dims[1] is None and in_dims[2] is None:
            moved = x.movedim(in_dims[0], 0)
            return Rational.apply(moved, numerator, denominator, absolute), 0  # type: ignore[no-untyped-call]
        mapped = torch.vmap(functools.partial(rational, absolute=absolute), in_dims=in_dims[:3])
        return mapped(x, numerator, denominator), 0


class _Slabs:
    """Scratch space and steps of one pass over the rows, a slab at a time."""

    def __init__(self, rows: Tensor, numerator: Tensor, denominator: Tensor, absolute: bool) -> None:
        count, features = rows.shape
        row_bytes = max(1, features * rows.element_size())
        size = max(1, _SLAB_BYTES // row_bytes) if rows.device.type == "cpu" else max(1, count)
        self.rows, self.absolute = rows, absolute
        self.bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
        self.size = min(size, count)
        self.above, self.below = numerator.unbind(), denominator.unbind()
        self.one = numerator.new_ones(())
        self.t, self.q, self.w = (rows.new_empty(self.size, features) for _ in range(3))

    def numerator(self, x: Tensor, out: Tensor) -> None:
        torch.mul(x, self.above[5], out=out).add_(self.above[4])
        for coefficient in self.above[3::-1]:
            torch.addcmul(coefficient, out, x, out=out)

    def denominator(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q, the variable t of its polynomial, and the sign of the polynomial (B) or of x (A)."""
        count = x.shape[0]
        t = torch.abs(x, out=self.t[:count]) if self.absolute else x
        q, sign = self.q[:count], self.w[:count]
        torch.mul(t, self.below[3], out=q).add_(self.below[2])
        for coefficient in self.below[1::-1]:
            torch.addcmul(coefficient, q, t, out=q)
        if self.absolute:
            return torch.addcmul(self.one, q, t, out=q), t, sign
        q.mul_(t)
        torch.sign(q, out=sign)
        return q.abs_().add_(1), t, sign

    def gradients(
        self, grad: Tensor, shape: torch.Size, need_x: bool, need_weights: bool
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients by x, numerator and denominator for the gradient by the output."""
        rows = self.rows
        by_x = torch.empty_like(rows) if need_x else None
        by_above = rows.new_zeros(len(self.bounds), NUMERATOR_SIZE)
        by_below = rows.new_zeros(len(self.bounds), DENOMINATOR_SIZE, rows.shape[1])
        u_space, v_space, d_space = (rows.new_empty(self.size, rows.shape[1]) for _ in range(3))
        slopes = [index * self.above[index] for index in range(1, NUMERATOR_SIZE)]
        steeps = [(index + 1) * self.below[index] for index in range(DENOMINATOR_SIZE)]
        for number, (start, stop) in enumerate(self.bounds):
            x, count = rows[start:stop], stop - start
            u, v, d = u_space[:count], v_space[:count], d_space[:count]
            q, t, sign = self.denominator(x)
            self.numerator(x, v)
            torch.div(grad[start:stop], q, out=u)  # by P
            v.div_(q).mul_(u)  # by Q, but for the sign
            if not self.absolute:
                v.mul_(sign)
            if by_x is not None:
                target = by_x[start:stop]
                torch.mul(x, slopes[4], out=target).add_(slopes[3])
                for slope in slopes[2::-1]:
                    torch.addcmul(slope, target, x, out=target)
                target.mul_(u)
                torch.mul(t, steeps[3], out=d).add_(steeps[2])
                for steep in steeps[1::-1]:
                    torch.addcmul(steep, d, t, out=d)
                if self.absolute:
                    d.mul_(torch.sign(x, out=sign))
                target.addcmul_(d, v, value=-1)
            if need_weights:
                for power in range(NUMERATOR_SIZE):
                    if power:
                        u.mul_(x)
                    torch.sum(u, (0, 1), out=by_above[number, power])
                for power in range(DENOMINATOR_SIZE):
                    torch.sum(v.mul_(t), 0, out=by_below[number, power])
        return (
            None if by_x is None else by_x.view(shape),
            by_above.sum(0) if need_weights else None,
            -by_below.sum(0) if need_weights else None,
        )

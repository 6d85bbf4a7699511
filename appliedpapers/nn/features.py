"""The functions of one variable that KAN layers are made of: truncated powers, B-splines and others.

Each class evaluates all its functions for a block of inputs and pulls gradients back, in place
(:class:`appliedpapers.nn.slab_linear.Features`); ``plain`` is the same in ordinary operations.
Sources: KAN (arXiv 2404.19756) for splines, ChebyKAN, FastKAN and FourierKAN for the other families; the
recurrences are standard (Abramowitz and Stegun 22.7.4, 4.3.16-17).
"""

from __future__ import annotations

import torch
from torch import Tensor


class TruncatedPowers:
    """``z, ..., z^order`` and a truncated power at each inner knot; the constant is left to a bias.

    Args:
        middle: Middle of the domain, ``(inputs,)``.
        low: Low end relative to the middle, ``(inputs,)``.
        high: High end relative to the middle, ``(inputs,)``.
        offsets: ``-side * break`` of each inner knot, ``(grid - 1, 1, inputs)``.
        sides: +1 or -1, the same shape.
        order: Spline order.
        inside: Whether all values are known to lie in the domain.
    """

    def __init__(
        self,
        middle: Tensor | None,
        low: Tensor,
        high: Tensor,
        offsets: Tensor,
        sides: Tensor,
        order: int,
        inside: bool,
    ) -> None:
        self._middle, self._low, self._high = middle, low, high
        self._offsets, self._sides, self._order, self._inside = offsets, sides, order, inside
        self.size = order + len(offsets)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        z = self._local(x, out[0])
        for power in range(1, self._order):
            torch.mul(out[power - 1], z, out=out[power])
        tail = out[self._order :]
        torch.addcmul(self._offsets, z, self._sides, out=tail)
        tail.clamp_(min=0.0).pow_(self._order)

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``; beyond the domain the functions are constant."""
        z, order = slabs[0], self._order
        total = grad[order - 1] * float(order)
        for power in range(order - 1, 0, -1):
            total.mul_(z).add_(grad[power - 1], alpha=float(power))
        scratch = torch.empty_like(z)
        for offset, side, upstream in zip(self._offsets, self._sides, grad[order:], strict=True):
            torch.addcmul(offset, z, side, out=scratch)
            scratch.clamp_(min=0.0)
            if order > 1:
                scratch.pow_(order - 1).mul_(side)
            else:
                scratch.sign_().mul_(side)
            total.addcmul_(scratch, upstream, value=float(order))
        return total if self._inside else self._masked(total, x)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        z = x if self._middle is None else x - self._middle
        if not self._inside:
            z = torch.minimum(torch.maximum(z, self._low), self._high)
        powers = torch.stack([z**power for power in range(1, self._order + 1)], dim=-2)
        if not len(self._offsets):
            return powers
        offsets, sides = self._offsets[:, 0], self._sides[:, 0]
        tail = (offsets + z.unsqueeze(-2) * sides).clamp(min=0.0) ** self._order
        return torch.cat([powers, tail], dim=-2)

    def _local(self, x: Tensor, out: Tensor) -> Tensor:
        if self._middle is None:
            out.copy_(x)
        else:
            torch.sub(x, self._middle, out=out)
        if not self._inside:
            torch.clamp(out, self._low, self._high, out=out)
        return out

    def _masked(self, total: Tensor, x: Tensor) -> Tensor:
        z = x if self._middle is None else x - self._middle
        return total.mul_((z >= self._low) & (z <= self._high))


class CubicBSplines:
    """Cubic B-splines on equidistant knots in closed form, ``(a^3 - 4 b^3) / 6``.

    ``a = max(2 - |s|, 0)`` and ``b = max(a - 1, 0)`` for the distance s to the centre in cells.

    Args:
        start: First centre, ``(inputs,)``.
        step: Cell width, ``(inputs,)``.
        size: Number of functions.
    """

    def __init__(self, start: Tensor, step: Tensor, size: int) -> None:
        self._start, self._step, self.size = start, step, size

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        self._distance(x, out)
        out.abs_().neg_().add_(2.0).clamp_(min=0.0)
        inner = (out - 1.0).clamp_(min=0.0).pow_(3)
        out.pow_(3).sub_(inner, alpha=4.0).div_(6.0)

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``, with ``-sign(s) (a^2 - 4 b^2) / 2`` per cell width."""
        outer = torch.empty_like(slabs)
        self._distance(x, outer)
        grad.mul_(outer.sign())
        outer.abs_().neg_().add_(2.0).clamp_(min=0.0)
        inner = (outer - 1.0).clamp_(min=0.0).square_()
        slope = outer.square_().sub_(inner, alpha=4.0)
        return grad.mul_(slope).sum(0).div_(-2.0 * self._step)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        t = ((x - self._start) / self._step).unsqueeze(-2)
        outer = (2.0 - (t - _steps(self.size, x).unsqueeze(-1)).abs()).clamp(min=0.0)
        inner = (outer - 1.0).clamp(min=0.0)
        return (outer**3 - 4.0 * inner**3) / 6.0

    def _distance(self, x: Tensor, out: Tensor) -> None:
        t = (x - self._start).div_(self._step)
        torch.sub(t, _steps(self.size, x).view(-1, 1, 1), out=out)


class Chebyshev:
    """``T_1(u), ..., T_degree(u)`` with ``u = tanh(x)``, by recurrence; ``T_0`` is left to a bias.

    Args:
        degree: Highest degree.
    """

    def __init__(self, degree: int) -> None:
        self.size = degree

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        torch.tanh(x, out=out[0])
        if self.size > 1:
            torch.mul(out[0], out[0], out=out[1]).mul_(2.0).sub_(1.0)
        for degree in range(2, self.size):
            torch.mul(out[0], out[degree - 1], out=out[degree]).mul_(2.0).sub_(out[degree - 2])

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_d grad[d] T_d'(u) (1 - u^2)``, with the second kind by its own recurrence."""
        u = slabs[0]
        total = grad[0].clone()
        older, newer = torch.ones_like(u), 2.0 * u
        for degree in range(2, self.size + 1):
            total.addcmul_(grad[degree - 1], newer, value=float(degree))
            if degree < self.size:
                older = torch.mul(u, newer).mul_(2.0).sub_(older)
                older, newer = newer, older
        return total.addcmul_(total, u.square(), value=-1.0)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        u = torch.tanh(x)
        values = [u, 2.0 * u * u - 1.0]
        while len(values) < self.size:
            values.append(2.0 * u * values[-1] - values[-2])
        return torch.stack(values[: self.size], dim=-2)


class Gaussians:
    """``exp(-((x - centre_j) / width)^2)``.

    Args:
        centres: ``(size,)``.
        width: One width for all.
    """

    def __init__(self, centres: Tensor, width: float) -> None:
        self._centres, self._width, self.size = centres, width, len(centres)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        torch.sub(x, self._centres.view(-1, 1, 1), out=out)
        out.mul_(1.0 / self._width).square_().neg_().exp_()

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        grad.mul_(slabs)
        total = grad[0] * (x - self._centres[0])
        for centre, weighted in zip(self._centres[1:], grad[1:], strict=True):
            total.addcmul_(weighted, x - centre)
        return total.mul_(-2.0 / self._width**2)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        scaled = (x.unsqueeze(-2) - self._centres.unsqueeze(-1)) / self._width
        return torch.exp(-scaled.square())


class Harmonics:
    """``cos(x), ..., cos(g x), sin(x), ..., sin(g x)`` by angle addition from one pair.

    Args:
        count: Highest frequency g.
    """

    def __init__(self, count: int) -> None:
        self._count, self.size = count, 2 * count

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        cosines, sines = out[: self._count], out[self._count :]
        torch.cos(x, out=cosines[0])
        torch.sin(x, out=sines[0])
        for k in range(1, self._count):
            torch.mul(cosines[k - 1], cosines[0], out=cosines[k])
            cosines[k].addcmul_(sines[k - 1], sines[0], value=-1.0)
            torch.mul(sines[k - 1], cosines[0], out=sines[k])
            sines[k].addcmul_(cosines[k - 1], sines[0])

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_k k (grad_sin[k] cos(k x) - grad_cos[k] sin(k x))``."""
        total = torch.zeros_like(x)
        for k in range(self._count):
            total.addcmul_(grad[self._count + k], slabs[k], value=k + 1.0)
            total.addcmul_(grad[k], slabs[self._count + k], value=-(k + 1.0))
        return total

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        first = torch.cos(x), torch.sin(x)
        pairs = [first]
        for _ in range(1, self._count):
            cosine, sine = pairs[-1]
            pairs.append((cosine * first[0] - sine * first[1], sine * first[0] + cosine * first[1]))
        return torch.stack([*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)], dim=-2)


def _steps(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device)

"""The functions of one variable that KAN layers are made of: truncated powers, B-splines and others.

Each class evaluates all its functions for a block of inputs and pulls gradients back, in place
(:class:`appliedpapers.nn.slab_linear.Features`); ``plain`` is the same in ordinary operations.
Sources: KAN (arXiv 2404.19756) for splines, ChebyKAN, FastKAN and FourierKAN for the other families; the
recurrences are standard (Abramowitz and Stegun 22.7.4, 4.3.16-17).
"""

from __future__ import annotations

import torch
from torch import Tensor

# up to so many values, one call for all knots is faster than one for each
_FEW = 1 << 14


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
        degrees = torch.arange(1.0, order + 1.0, dtype=offsets.dtype, device=offsets.device)
        self._degrees, self._steepness = degrees.view(-1, 1, 1), order * sides

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        z = self._local(x, out[0])
        for power in range(1, self._order):
            torch.mul(out[power - 1], z, out=out[power])
        tail = out[self._order :]
        torch.addcmul(self._offsets, z, self._sides, out=tail)
        tail.clamp_(min=0.0).pow_(self._order)

    def fill_all(self, x: Tensor, out: Tensor, slopes: Tensor | None) -> None:
        """Write the constant and all functions into ``out``, and their slopes where wanted; few calls.

        Args:
            x: ``(rows, inputs)``.
            out: ``(1 + size, rows, inputs)``, or longer.
            slopes: The same.
        """
        order, last = self._order, 1 + self.size
        out[0].fill_(1.0)
        z = self._local(x, out[1])
        for power in range(2, order + 1):
            torch.mul(out[power - 1], z, out=out[power])
        steep = torch.addcmul(self._offsets, z, self._sides).clamp_(min=0.0)
        lower = steep.sign() if order == 1 else steep.pow(order - 1)
        torch.mul(lower, steep, out=out[order + 1 : last])
        if slopes is None:
            return
        slopes[0].fill_(0.0)
        torch.mul(out[:order], self._degrees, out=slopes[1 : order + 1])
        torch.mul(lower, self._steepness, out=slopes[order + 1 : last])
        if not self._inside:
            slopes[1:last].mul_(self._is_within(x))

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``; beyond the domain the functions are constant."""
        z, order = slabs[0], self._order
        total = grad[order - 1] * float(order)
        for power in range(order - 1, 0, -1):
            total.mul_(z).add_(grad[power - 1], alpha=float(power))
        if not len(self._offsets):
            return total if self._inside else self._masked(total, x)
        if total.numel() <= _FEW:
            steep = torch.addcmul(self._offsets, z, self._sides)
            self._slope(steep, self._sides)
            total.add_(steep.mul_(grad[order:]).sum(0), alpha=float(order))
        else:
            scratch = torch.empty_like(z)
            for offset, side, upstream in zip(self._offsets, self._sides, grad[order:], strict=True):
                torch.addcmul(offset, z, side, out=scratch)
                self._slope(scratch, side)
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

    def _slope(self, values: Tensor, sides: Tensor) -> None:
        values.clamp_(min=0.0)
        if self._order == 1:
            values.sign_()
        else:
            values.pow_(self._order - 1)
        values.mul_(sides)

    def _local(self, x: Tensor, out: Tensor) -> Tensor:
        if self._middle is None:
            out.copy_(x)
        else:
            torch.sub(x, self._middle, out=out)
        if not self._inside:
            torch.clamp(out, self._low, self._high, out=out)
        return out

    def _masked(self, total: Tensor, x: Tensor) -> Tensor:
        return total.mul_(self._is_within(x))

    def _is_within(self, x: Tensor) -> Tensor:
        z = x if self._middle is None else x - self._middle
        return (z >= self._low) & (z <= self._high)


class CubicBSplines:
    """Cubic B-splines on equidistant knots in closed form, ``(a^3 - 4 b^3) / 6``.

    ``a = max(2 - |s|, 0)`` and ``b = max(a - 1, 0)`` for the distance s to the centre in cells. Lengths are
    scaled by the cube root of 1/6, so that no division is left.

    Args:
        offsets: ``-centre_j / cell``, times the root, ``(size, 1, inputs)``.
        rate: ``1 / cell``, times the root, ``(inputs,)``.
    """

    root = 6.0 ** (-1.0 / 3.0)

    def __init__(self, offsets: Tensor, rate: Tensor) -> None:
        self._offsets, self._rate, self.size = offsets, rate, len(offsets)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        torch.addcmul(self._offsets, x, self._rate, out=out)
        out.abs_().sub_(2.0 * self.root).clamp_(max=0.0)
        inner = (out + self.root).clamp_(max=0.0).pow_(3)
        torch.sub(inner.mul_(4.0), out.pow_(3), out=out)

    def pull(self, x: Tensor, slabs: Tensor, grad: Tensor) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``, with ``-3 sign(s) (a^2 - 4 b^2)`` per cell width."""
        outer = torch.addcmul(self._offsets, x, self._rate)
        grad.mul_(outer.sign())
        outer.abs_().sub_(2.0 * self.root).clamp_(max=0.0)
        inner = (outer + self.root).clamp_(max=0.0).square_()
        slope = outer.square_().sub_(inner, alpha=4.0)
        return grad.mul_(slope).sum(0).mul_(-3.0 * self._rate)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        distance = (self._offsets[:, 0] + x.unsqueeze(-2) * self._rate).abs()
        outer = (2.0 * self.root - distance).clamp(min=0.0)
        inner = (outer - self.root).clamp(min=0.0)
        return outer**3 - 4.0 * inner**3


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

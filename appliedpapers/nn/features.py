"""The functions of one variable that KAN layers are made of: truncated powers, B-splines and others.

Each class evaluates all its functions for a block of inputs and pulls gradients back, in place
(:class:`appliedpapers.nn.slab_linear.Features`); ``plain`` is the same in ordinary operations.
Sources: KAN (arXiv 2404.19756) for splines, ChebyKAN, FastKAN and FourierKAN for the other families; the
recurrences are standard (Abramowitz and Stegun 22.7.4, 4.3.16-17).

Above 400 lines because the families are read side by side: all fill and pull in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from appliedpapers.nn.slab_linear import Slabs

# functions of a block of Gaussians, and the distance in widths beyond which they are all below 1e-30
_BLOCK = 8
_VANISHED = 13.0


@dataclass(frozen=True)
class Domain:
    """Where splines are defined, and what they do beyond.

    Attributes:
        low: Low end, ``(1 or inputs,)``.
        high: High end, the same.
        linear: Whether functions go on linearly; else they stay as they are at the end.
        inside: Whether all values are known to lie within.
        numbers: Both ends as numbers, where all inputs have the same; compilers make constants of them.
    """

    low: Tensor
    high: Tensor
    linear: bool = True
    inside: bool = False
    numbers: tuple[float, float] | None = None

    def clamped(self, x: Tensor) -> Tensor:
        """Return the nearest points of the domain."""
        return x if self.inside else torch.clamp(x, self.low, self.high)

    def extend(self, x: Tensor, clamped: Tensor, slabs: Tensor, slopes: Tensor) -> None:
        """Add to ``slabs``, evaluated at the clamped points, what the functions rise by beyond the ends."""
        if self.linear and not self.inside:
            slabs.addcmul_(slopes, x - clamped)

    def mask(self, grad: Tensor, x: Tensor) -> Tensor:
        """Take the gradient out where the functions are constant; in place."""
        if self.linear or self.inside:
            return grad
        return grad.mul_((x >= self.low) & (x <= self.high))

    def plain(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the nearest points, and how far beyond the ends ``x`` lies where that matters."""
        if self.inside:
            return x, None
        low, high = (self.low, self.high) if self.numbers is None else self.numbers
        clamped = torch.clamp(x, low, high)  # type: ignore[arg-type]
        return clamped, x - clamped if self.linear else None


class TruncatedPowers:
    """``z, ..., z^order`` and a truncated power at each inner knot; the constant is left to a bias.

    Args:
        middle: Middle of the domain, ``(inputs,)``; None where it is 0.
        domain: The domain, relative to the middle.
        offsets: ``-side * break`` of each inner knot, ``(grid - 1, 1, inputs)``.
        sides: +1 or -1, the same shape.
        order: Spline order.
    """

    def __init__(
        self, middle: Tensor | None, domain: Domain, offsets: Tensor, sides: Tensor, order: int
    ) -> None:
        self._middle, self._domain, self._order = middle, domain, order
        self._offsets, self._sides = offsets, sides
        self.size = order + len(offsets)
        degrees = torch.arange(1.0, order + 1.0, dtype=offsets.dtype, device=offsets.device)
        self._degrees, self._steepness = degrees.view(-1, 1, 1), order * sides
        self._uniform = _uniform_form(offsets, sides, order)
        # sides as numbers where all inputs have the same: a scalar is several times faster than a broadcast
        self._shared: list[float] | None = None
        if sides.numel() == len(sides):
            self._shared = sides.flatten().tolist()
            self._places: list[float] = offsets.flatten().tolist()

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        z = self._local(x)
        clamped = self._domain.clamped(z)
        out[0].copy_(clamped)
        for power in range(1, self._order):
            torch.mul(out[power - 1], clamped, out=out[power])
        tail = out[self._order :]
        for number in range(len(tail)):
            self._argument(number, clamped, tail[number])
        tail.clamp_(min=0.0)
        if not self._domain.inside and self._domain.linear:
            slopes = torch.empty_like(out)
            self._fill_slopes(out, tail, slopes)
            tail.pow_(self._order)
            self._domain.extend(z, clamped, out, slopes)
        else:
            tail.pow_(self._order)

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        z, order = self._local(x), self._order
        clamped = self._domain.clamped(z)
        total = grad[order - 1] * float(order)
        for power in range(order - 1, 0, -1):
            total.mul_(clamped).add_(grad[power - 1], alpha=float(power))
        scratch = torch.empty_like(clamped)
        for number in range(len(self._offsets)):
            upstream = grad[order + number]
            self._argument(number, clamped, scratch)
            scratch.clamp_(min=0.0)
            if order == 1:
                scratch.sign_()
            else:
                scratch.pow_(order - 1)
            if self._shared is None:
                scratch.mul_(self._sides[number])
                total.addcmul_(scratch, upstream, value=float(order))
            else:
                total.addcmul_(scratch, upstream, value=order * self._shared[number])
        return self._domain.mask(total, z)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``; one expression for all functions, which compilers fuse."""
        z, beyond = self._domain.plain(self._local(x))
        lower, share, offsets, sides, floor = self._uniform
        steep = torch.maximum(offsets + z.unsqueeze(-2) * sides, floor)
        values = share * steep**self._order
        for power, coefficient in enumerate(lower, start=1):
            values = values + coefficient * z.unsqueeze(-2) ** power
        return values if beyond is None else values + self._steepness_at(z) * beyond.unsqueeze(-2)

    def slabs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the functions one by one, each ``(rows, inputs)``, in ordinary operations."""
        z, beyond = self._domain.plain(self._local(x))
        values = [z**power for power in range(1, self._order + 1)]
        values += [steep**self._order for steep in self._steep(z)]
        if beyond is None:
            return tuple(values)
        slopes = self._slabs_of_slopes(z)
        return tuple(value + slope * beyond for value, slope in zip(values, slopes, strict=True))

    def slopes(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the derivatives of :meth:`slabs`."""
        local = self._local(x)
        z, _ = self._domain.plain(local)
        slopes = self._slabs_of_slopes(z)
        if self._domain.linear or self._domain.inside:
            return slopes
        return tuple(slope * (local == z) for slope in slopes)

    def _slabs_of_slopes(self, z: Tensor) -> tuple[Tensor, ...]:
        order = self._order
        slopes = [order_ * z ** (order_ - 1) for order_ in range(1, order + 1)]
        for steep, (_, side) in zip(self._steep(z), self._knots(), strict=True):
            power = (steep > 0).to(z.dtype) if order == 1 else steep ** (order - 1)
            slopes.append((order * side) * power)
        return tuple(slopes)

    def _steep(self, z: Tensor) -> list[Tensor]:
        return [(offset + z * side).clamp(min=0.0) for offset, side in self._knots()]

    def _knots(self) -> list[tuple[Any, Any]]:
        """Return offset and side of each knot, as numbers where all inputs have the same."""
        if self._shared is not None:
            return list(zip(self._places, self._shared, strict=True))
        return list(zip(self._offsets[:, 0], self._sides[:, 0], strict=True))

    def _local(self, x: Tensor) -> Tensor:
        return x if self._middle is None else x - self._middle

    def _steepness_at(self, z: Tensor) -> Tensor:
        lower, share, offsets, sides, floor = self._uniform
        z = z.unsqueeze(-2)
        steep = torch.maximum(offsets + z * sides, floor)
        slopes = (self._order * share * sides) * steep ** (self._order - 1)
        if self._order == 1:
            slopes = slopes * (steep > floor)
        for power, coefficient in enumerate(lower, start=1):
            slopes = slopes + (power * coefficient) * z ** (power - 1)
        return slopes

    def _fill_slopes(self, out: Tensor, steep: Tensor, slopes: Tensor) -> None:
        """Write the slopes, from the powers in ``out`` and the truncated arguments in ``steep``."""
        order = self._order
        slopes[0].fill_(1.0)
        if order > 1:
            torch.mul(out[: order - 1], self._degrees[1:], out=slopes[1:order])
        lower = steep.sign() if order == 1 else steep.pow(order - 1)
        torch.mul(lower, self._steepness, out=slopes[order:])

    def _argument(self, number: int, z: Tensor, out: Tensor) -> None:
        """Write ``offset + side z`` of one knot."""
        if self._shared is None:
            torch.addcmul(self._offsets[number], z, self._sides[number], out=out)
        else:
            torch.add(self._offsets[number, 0, 0], z, alpha=self._shared[number], out=out)


def _uniform_form(
    offsets: Tensor, sides: Tensor, order: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return constants that make one expression of all functions, which compilers fuse.

    Every function is ``sum_p lower_p z^p + share max(offset + side z, floor)^order``.

    Returns:
        ``lower (order - 1, size, 1)``, ``share (size, 1)``, ``offsets``, ``sides`` and ``floor``, each
        ``(size, inputs)`` or ``(size, 1)``.
    """
    size = order + len(offsets)
    index = torch.arange(size, device=offsets.device)
    lower = [(index == power).to(offsets.dtype).unsqueeze(1) for power in range(order - 1)]
    share = (index >= order - 1).to(offsets.dtype).unsqueeze(1)
    width = offsets.shape[2] if len(offsets) else 1
    zeros, ones = offsets.new_zeros(order, width), offsets.new_ones(order, width)
    floor = torch.where(index >= order, 0.0, -torch.inf).to(offsets.dtype).unsqueeze(1)
    stacked = torch.stack(lower) if lower else offsets.new_zeros(0, size, 1)
    return (
        stacked,
        share,
        torch.cat([zeros, offsets[:, 0]]) if len(offsets) else zeros,
        torch.cat([ones, sides[:, 0]]) if len(offsets) else ones,
        floor,
    )


class CubicBSplines:
    """Cubic B-splines on equidistant knots in closed form, ``(a^3 - 4 b^3) / 6``.

    ``a = max(2 - |s|, 0)`` and ``b = max(a - 1, 0)`` for the distance s to the centre in cells. Lengths are
    scaled by the cube root of 1/6, so that no division is left.

    Args:
        domain: The domain; None where the splines fade to zero beyond it.
        offsets: ``-centre_j / cell``, times the root, ``(size, 1, inputs)``.
        rate: ``1 / cell``, times the root, ``(inputs,)``.
    """

    root = 6.0 ** (-1.0 / 3.0)

    def __init__(self, domain: Domain | None, offsets: Tensor, rate: Tensor) -> None:
        self._domain, self._offsets, self._rate, self.size = domain, offsets, rate, len(offsets)
        self._fall = -3.0 * rate
        # at an end of the domain two functions change, those next to the one that has its centre there
        steep = rate.reshape(1, -1) / (2.0 * self.root)
        self._low_slopes = steep.new_zeros(self.size, steep.shape[1])
        self._low_slopes[0:1], self._low_slopes[2:3] = -steep, steep
        self._high_slopes = -self._low_slopes.flip(0)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        domain = self._domain
        clamped = x if domain is None else domain.clamped(x)
        torch.addcmul(self._offsets, clamped, self._rate, out=out)
        out.abs_().sub_(2.0 * self.root).clamp_(max=0.0)
        inner = (out + self.root).clamp_(max=0.0).pow_(3)
        torch.sub(inner.mul_(4.0), out.pow_(3), out=out)
        if domain is not None and domain.linear and not domain.inside:
            domain.extend(x, clamped, out, self._slopes(clamped))

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        domain = self._domain
        slopes = self._slopes(x if domain is None else domain.clamped(x))
        total = grad[:].mul_(slopes).sum(0)
        return total if domain is None else domain.mask(total, x)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        x, beyond = (x, None) if self._domain is None else self._domain.plain(x)
        signed = torch.addcmul(self._offsets[:, 0], x.unsqueeze(-2), self._rate)
        outer = torch.rsub(signed.abs(), 2.0 * self.root).relu()
        # what is above the root, in one call
        inner = F.softshrink(outer, self.root)
        values = torch.sub(outer.pow(3), inner.pow(3), alpha=4.0)
        if beyond is None:
            return values
        above = beyond.relu()
        below = beyond - above
        values = torch.addcmul(values, below.unsqueeze(-2), self._low_slopes)
        return torch.addcmul(values, above.unsqueeze(-2), self._high_slopes)

    def _slopes(self, x: Tensor) -> Tensor:
        """Return ``-3 sign(s) (a^2 - 4 b^2)`` per cell width, ``(size, rows, inputs)``."""
        outer = torch.addcmul(self._offsets, x, self._rate)
        sign = outer.sign()
        outer.abs_().sub_(2.0 * self.root).clamp_(max=0.0)
        inner = (outer + self.root).clamp_(max=0.0).square_()
        return outer.square_().sub_(inner, alpha=4.0).mul_(sign).mul_(self._fall)


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

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
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
    """``exp(-((x - centre_j) / width)^2)`` on centres that are one width apart.

    Neighbours differ by a factor ``exp(2 t - 1 - 2 k)`` of the distance t to a common centre, k centres
    further on; so two exponentials serve a block of eight functions.

    Args:
        centres: ``(size,)``.
        width: One width for all, the distance between neighbours.
    """

    def __init__(self, centres: Tensor, width: float) -> None:
        self._centres, self._width, self.size = centres, width, len(centres)

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        for start in range(0, self.size, _BLOCK):
            block = out[start : start + _BLOCK]
            middle = len(block) // 2
            # beyond the limit all functions of the block have vanished, and the factor would overflow
            t = (x - self._centres[start + middle]).mul_(1.0 / self._width).clamp_(-_VANISHED, _VANISHED)
            torch.mul(t, t, out=block[middle]).neg_().exp_()
            up = t.mul_(2.0).exp_()
            for k in range(middle + 1, len(block)):
                torch.mul(block[k - 1], up, out=block[k]).mul_(math.exp(1 - 2 * (k - middle)))
            down = up.reciprocal_()
            for k in range(middle - 1, -1, -1):
                torch.mul(block[k + 1], down, out=block[k]).mul_(math.exp(1 - 2 * (middle - k)))

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        total, moment = torch.zeros_like(x), torch.zeros_like(x)
        for number, (slab, centre) in enumerate(zip(slabs, self._centres.tolist(), strict=True)):
            upstream = grad[number]
            total.addcmul_(slab, upstream)
            moment.addcmul_(slab, upstream, value=centre)
        return moment.addcmul_(total, x, value=-1.0).mul_(2.0 / self._width**2)

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

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
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

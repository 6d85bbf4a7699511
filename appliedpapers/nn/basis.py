"""The bases of KAN layers, one protocol for all of them.

A basis has ``size`` functions of one variable, a ``domain``, and turns the coefficients of a layer into the
weights of the :class:`~appliedpapers.nn.slab_linear.Features` that are cheapest to evaluate: splines in
truncated powers need a third of the element-wise work of B-splines and one product less, at equal values.
Source: KAN (arXiv 2404.19756), sections 2.2 and 2.5, and the families named in each class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from appliedpapers.nn import splines
from appliedpapers.nn.features import Chebyshev, CubicBSplines, Domain, Gaussians, Harmonics, TruncatedPowers
from appliedpapers.nn.slab_linear import SMALL, Features, Layer, Slabs

Outside = Literal["linear", "clamp", "zero"]

# Largest loss of precision that the change to truncated powers may cost, as a factor on rounding: beyond it
# the B-splines themselves are evaluated. In single precision that keeps errors below 1e-5 of the output.
# finer grids never qualify
_MOST_CELLS = 30
_TABLES = (
    "change",
    "middle",
    "low",
    "high",
    "offsets",
    "sides",
    "low_slope",
    "high_slope",
    "centres",
    "rate",
)
_AMPLIFICATION = {torch.float32: 128.0, torch.float64: 1e4}


class Basis(nn.Module, ABC):
    """Functions of one variable, evaluated for every input.

    Attributes:
        size: Number of functions.
        constant: Whether function 0 is the constant 1, whose weights a layer adds up into its bias.
        domain: Low and high end for every input, each ``(inputs,)``; infinite where there is none.
    """

    size: int
    constant = False

    @property
    def domain(self) -> tuple[Tensor, Tensor]:
        """Low and high end for every input."""
        limit = torch.full((1,), float("inf"))
        return -limit, limit

    def forward(self, x: Tensor) -> Tensor:
        """Return the values ``(..., inputs, size)`` for ``x (..., inputs)``, in ordinary operations."""
        values = self.features(x, compact=False).plain(x)
        if self.constant:
            values = torch.cat([torch.ones_like(values[..., :1, :]), values], dim=-2)
        return values.transpose(-1, -2)

    def slabs(self, x: Tensor) -> Tensor:
        """Return the values basis-major, ``(size, ..., inputs)``."""
        return self.forward(x).movedim(-1, 0)

    def derivative(self, x: Tensor, order: int = 1) -> Tensor:
        """Return the derivatives of the given order, ``(..., inputs, size)``."""
        if order == 0:
            return self.forward(x)
        function: Callable[[Tensor], Tensor] = self.forward
        for _ in range(order):
            function = _differentiated(function)
        return function(x)

    @abstractmethod
    def features(self, x: Tensor, *, compact: bool) -> Features:
        """Return the functions as a family that evaluates ``x (..., inputs)``, the constant left out.

        Args:
            x: The input, for its dtype and range.
            compact: Whether the cheaper family may stand for the basis.
        """

    def layer(self, x: Tensor, *, compact: bool) -> Layer:
        """Return the functions with the change from coefficients to their weights."""
        return Layer(self.features(x, compact=compact), constant=self.constant)

    def extension(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the slopes beyond the low and the high end, each ``(outputs, inputs)``, where there are."""
        return None


class SplineBasis(Basis):
    """B-splines of any order on a grid for every input.

    Args:
        inputs: Number of inputs.
        grid: Number of cells G; there are ``grid + order`` functions.
        order: Spline order k, at least 1.
        low: Low end of the initial domain.
        high: High end of the initial domain.
        outside: Beyond the domain go on ``"linear"``, stay at the end (``"clamp"``), or let the splines
            fade to ``"zero"`` as the paper's implementation does.

    Shape:
        - input: ``(..., inputs)``
        - output: ``(..., inputs, grid + order)``
    """

    knots: Tensor
    change: Tensor
    middle: Tensor
    low: Tensor
    high: Tensor
    offsets: Tensor
    sides: Tensor
    low_slope: Tensor
    high_slope: Tensor
    centres: Tensor
    rate: Tensor

    def __init__(
        self,
        inputs: int,
        grid: int = 5,
        order: int = 3,
        low: float = -1.0,
        high: float = 1.0,
        outside: Outside = "linear",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.order, self.outside = order, outside
        knots = splines.uniform_knots(inputs, grid, order, low, high)
        self.register_buffer("knots", knots)
        for name in _TABLES:
            self.register_buffer(name, torch.zeros(0), persistent=False)
        self.set_knots(knots, device, dtype or torch.get_default_dtype())

    @property
    def grid(self) -> int:
        """Number of cells."""
        return self.knots.shape[1] - 2 * self.order - 1

    @property
    def domain(self) -> tuple[Tensor, Tensor]:
        """Low and high end for every input, each ``(inputs,)``."""
        return self.knots[:, self.order], self.knots[:, -self.order - 1]

    def set_knots(self, knots: Tensor, device: Any, dtype: torch.dtype) -> None:
        """Take new knots ``(inputs, grid + 2 * order + 1)`` and prepare everything that follows from them."""
        order = self.order
        # in double precision on the host, whatever the layer computes in: a grid is no place to round
        exact = knots.detach().double().cpu()
        compute = torch.float64 if dtype == torch.float64 else torch.float32
        device = knots.device if device is None else device
        self.knots = exact.to(device)
        self.size = exact.shape[1] - order - 1
        self.shared = bool((exact == exact[:1]).all())
        widths = exact.diff(dim=1)
        self.uniform = bool((widths - widths.mean(1, keepdim=True)).abs().max() < 1e-9 * widths.abs().max())
        rows = exact[:1] if self.shared else exact
        low, high = rows[:, order], rows[:, -order - 1]
        step = rows[:, order + 1 : order + 2] - rows[:, order : order + 1]
        self.bounds = (float(low.max()), float(high.min()))
        starts = rows[:, :1] + step * (2 + torch.arange(self.size))
        tables = {
            "centres": (-CubicBSplines.root * starts / step).t().unsqueeze(1),
            "rate": CubicBSplines.root / step[:, 0],
            "low_slope": splines.edge_slopes(exact, order)[0],
            "high_slope": splines.edge_slopes(exact, order)[1],
            **self._power_tables(rows, low, high, compute),
        }
        for name, table in tables.items():
            setattr(self, name, table.to(device, compute))
        self._cubics = {inside: self._cubic(compute, inside) for inside in (False, True)}
        if self.compact_dtype:
            self._powers = {inside: self._truncated_powers(inside) for inside in (False, True)}

    def _power_tables(
        self, rows: Tensor, low: Tensor, high: Tensor, compute: torch.dtype
    ) -> dict[str, Tensor]:
        self.compact_dtype = self.grid <= _MOST_CELLS
        if not self.compact_dtype:
            return {"change": low.new_zeros(0)}
        order = self.order
        change, middle, breaks, sides = splines.power_form(rows, order)
        degrees = torch.tensor([*range(order + 1), *[order] * (self.size - order - 1)], dtype=torch.float64)
        magnitude = ((high - low) / 2)[:, None] ** degrees
        amplification = (change.abs() * magnitude[:, :, None]).sum(1).max()
        self.compact_dtype = bool(amplification <= _AMPLIFICATION[compute])
        self.centred = bool((middle == 0).all())
        return {
            "change": change,
            "middle": middle,
            "low": low - middle,
            "high": high - middle,
            "offsets": (-breaks * sides).unsqueeze(1),
            "sides": sides.unsqueeze(1),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return the values ``(..., inputs, size)``, linear or constant beyond the domain by ``outside``."""
        low, high = (end.to(x.dtype) for end in self.domain)
        inside = x if self.outside == "zero" else torch.minimum(torch.maximum(x, low), high)
        values = splines.basis(inside, self.knots.to(x.dtype), self.order)
        if self.outside != "linear":
            return values
        # what lies beyond is a difference, so that at an end itself both halves of the gradient add up to one
        beyond = (x - inside).unsqueeze(-1)
        slopes = torch.where((x <= low).unsqueeze(-1), self.low_slope, self.high_slope)
        return values + beyond * slopes.to(x.dtype)

    def _cubic(self, dtype: torch.dtype, inside: bool) -> CubicBSplines:
        return CubicBSplines(self._span(dtype, inside), self.centres.to(dtype), self.rate.to(dtype))

    def _span(self, dtype: torch.dtype, inside: bool) -> Domain | None:
        if self.outside == "zero":
            return None
        low, high = (end.to(dtype) for end in self.domain)
        return Domain(low, high, self.outside == "linear", inside)

    def _truncated_powers(self, inside: bool) -> TruncatedPowers:
        middle = None if self.centred else self.middle
        numbers = (float(self.low[0]), float(self.high[0])) if self.shared else None
        domain = Domain(self.low, self.high, self.outside == "linear", inside, numbers)
        return TruncatedPowers(middle, domain, self.offsets, self.sides, self.order)

    def compact(self, x: Tensor, *, few: bool = True) -> bool:
        """Whether truncated powers may stand for the splines, for this input.

        Args:
            x: The input.
            few: Prefer the splines for few values, where the change of basis costs more than it saves. Asks
                for the number of rows, which graphs should not depend on.
        """
        fits = self.compact_dtype and x.dtype == self.change.dtype and self.outside != "zero"
        return fits and not (few and self.is_few(x))

    def is_few(self, x: Tensor) -> bool:
        """Whether the closed form is there and there are so few values that the number of calls counts."""
        return self.uniform and self.order == 3 and self.size * x.numel() <= SMALL

    def is_inside(self, x: Tensor) -> bool:
        """Whether all values lie in every input's domain; looks at the data."""
        if x.numel() == 0:
            return True
        low, high = torch.aminmax(x.detach())
        return float(low) >= self.bounds[0] and float(high) <= self.bounds[1]

    def features(self, x: Tensor, *, compact: bool, inside: bool = False) -> Features:
        """Return truncated powers (compact), B-splines in closed form, or B-splines by recursion."""
        if compact:
            return self._powers[inside]
        if self.uniform and self.order == 3:
            if x.dtype == self.centres.dtype:
                return self._cubics[inside]
            return self._cubic(x.dtype, inside)
        return _Recursive(self, self._span(x.dtype, inside))

    def layer(self, x: Tensor, *, compact: bool, inside: bool = False) -> Layer:
        """Return the functions with the change from coefficients to their weights."""
        features = self.features(x, compact=compact, inside=inside)
        return Layer(features, change=self.change if compact else None)

    def extension(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the slopes beyond both ends, each ``(outputs, inputs)``; None unless they go on linear."""
        if self.outside != "linear":
            return None
        return tuple(  # type: ignore[return-value]
            torch.einsum("noi,in->oi", weight, slope.to(weight.dtype))
            for slope in (self.low_slope, self.high_slope)
        )

    def _apply(self, fn: Any, recurse: bool = True) -> SplineBasis:
        exact = self.knots
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.set_knots(exact, self.change.device, self.change.dtype)
        return self

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state, prefix, *args)
        if prefix + "knots" in state:
            self.set_knots(self.knots, self.change.device, self.change.dtype)


class _Recursive:
    """B-splines by recursion: any order, any grid."""

    def __init__(self, owner: SplineBasis, domain: Domain | None) -> None:
        self._owner, self._domain, self.size = owner, domain, owner.size

    def fill(self, x: Tensor, out: Tensor) -> None:
        """Write the functions of ``x (rows, inputs)`` into ``out (size, rows, inputs)``."""
        out.copy_(self._owner.forward(x).permute(2, 0, 1))

    def pull(self, x: Tensor, slabs: Tensor, grad: Slabs) -> Tensor:
        """Return ``sum_j grad[j] * slabs[j]'(x)``."""
        clamped = x if self._domain is None else self._domain.clamped(x)
        slopes = splines.basis_derivative(clamped, self._owner.knots.to(x.dtype), self._owner.order)
        total = torch.einsum("nbi,bin->bi", grad[:], slopes)
        return total if self._domain is None else self._domain.mask(total, x)

    def plain(self, x: Tensor) -> Tensor:
        """Return ``(..., size, inputs)``."""
        return self._owner.forward(x).transpose(-1, -2)


class GaussianBasis(Basis):
    """Gaussians on equidistant centres, as in FastKAN.

    Args:
        count: Number of centres, at least 2.
        low: First centre.
        high: Last centre; the width is the distance between neighbours.
    """

    centres: Tensor

    def __init__(
        self, count: int = 8, low: float = -2.0, high: float = 2.0, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.size, self.low, self.high = count, low, high
        self.width = (high - low) / (count - 1)
        centres = torch.linspace(low, high, count, device=device, dtype=dtype)
        self.register_buffer("centres", centres, persistent=False)

    def features(self, x: Tensor, *, compact: bool) -> Features:
        """Return the Gaussians."""
        return Gaussians(self.centres.to(x.dtype), self.width)


class ChebyshevBasis(Basis):
    """Chebyshev polynomials of ``tanh(x)``, degrees 0 to ``degree``, as in ChebyKAN; by recurrence."""

    constant = True

    def __init__(self, degree: int = 5) -> None:
        super().__init__()
        self.size = degree + 1

    def features(self, x: Tensor, *, compact: bool) -> Features:
        """Return the polynomials of degree 1 and up."""
        return Chebyshev(self.size - 1)


class FourierBasis(Basis):
    """Cosines, then sines, of 1 to ``count`` times the input, as in FourierKAN; by angle addition."""

    def __init__(self, count: int = 5) -> None:
        super().__init__()
        self.size = 2 * count

    def features(self, x: Tensor, *, compact: bool) -> Features:
        """Return cosines and sines."""
        return Harmonics(self.size // 2)


def _differentiated(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def derivative(x: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(function, (x,), (torch.ones_like(x),))[1]
        return tangent

    return derivative

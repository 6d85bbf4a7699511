"""KANLinear: a layer whose edges are learned functions, for splines, Gaussians, polynomials and harmonics.

Source: KAN (arXiv 2404.19756), section 2.2; the weight form follows its common fast variant, the other bases
ChebyKAN, FastKAN and FourierKAN. Written from the formulas.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.nn import splines
from appliedpapers.nn.basis import Basis, ChebyshevBasis, FourierBasis, GaussianBasis, Outside, SplineBasis
from appliedpapers.nn.features import TruncatedPowers
from appliedpapers.nn.gather import gathered, gathers
from appliedpapers.nn.kan_grid import GridReport, refine_grid, update_grid
from appliedpapers.nn.kan_penalty import penalty, weight_penalty
from appliedpapers.nn.module import Module, check_choice, check_features, check_positive
from appliedpapers.nn.slab_linear import (
    Layer,
    compiled_linear,
    needs_plain,
    plain_linear,
    plain_product,
    slab_linear,
)

Path = Literal["auto", "fast", "lean", "plain", "gather"]
Scaling = Literal["none", "spline", "edge"]

_BASES = ("bspline", "rbf", "chebyshev", "fourier")
_LOW = (torch.bfloat16, torch.float16)
_DEFAULT_GRID = {"bspline": 5, "rbf": 8, "chebyshev": 5, "fourier": 5}
_DEFAULT_DOMAIN = {"bspline": (-1.0, 1.0), "rbf": (-2.0, 2.0)}


class KANLinear(Module):
    """``y_o = sum_i [ b_oi silu(x_i) + sum_j c_joi phi_j(x_i) ] + bias_o`` (KAN, eq. 2.10).

    Bases: ``bspline`` with ``grid`` cells and ``order``; ``rbf`` with ``grid`` Gaussians on the layer-normed
    input (FastKAN); ``chebyshev`` of degree ``grid`` in ``tanh(x)``; ``fourier`` with ``grid`` frequencies.

    Scaling of the splines: ``none``; ``spline``, a trained factor for each edge on the splines; ``edge``, a
    trained factor on splines and on silu, as the authors' implementation has it. Beyond the domain splines
    go on linearly (our default; the public implementations let them fade to zero).

    Paths, all with the same values: ``fast`` keeps the evaluated functions for the way back, ``lean`` the
    input alone, ``plain`` is ordinary operations (taken when compiling, exporting, under functional
    transforms and in low precision, where the functions are evaluated in float32), ``gather`` reads only the
    ``order + 1`` functions that are not zero (inference with B-splines), ``auto`` chooses.

    Args:
        in_features: Inputs I.
        out_features: Outputs O.
        basis: ``bspline``, ``rbf``, ``chebyshev`` or ``fourier``.
        grid: Cells, centres, degree or frequencies; by default 5, 8, 5, 5.
        order: Order of the B-splines.
        domain: Initial domain of the splines, or first and last centre.
        base: Whether the silu branch exists; by default for ``bspline`` and ``rbf``.
        scaling: ``none``, ``spline`` or ``edge``.
        outside: ``linear``, ``clamp`` or ``zero``, for B-splines.
        smooth: Divide the initial coefficients of frequency k by k^2 (``fourier``).
        reg: Weight of the regularisation that :meth:`aux_loss` returns.
        path: See above.
        bias: Whether there is a bias.
        device: Where the parameters live.
        dtype: Their dtype.

    Shape:
        - input: ``(..., in_features)`` floating point
        - output: ``(..., out_features)``

    Raises:
        ValueError: An option is out of range, or the last axis of the input is not ``in_features``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        basis: str = "bspline",
        grid: int | None = None,
        order: int = 3,
        domain: tuple[float, float] | None = None,
        base: bool | None = None,
        scaling: Scaling = "none",
        outside: Outside = "linear",
        smooth: bool = False,
        reg: float = 0.0,
        path: Path = "auto",
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("KANLinear", "basis", basis, _BASES)
        check_choice("KANLinear", "scaling", scaling, ("none", "spline", "edge"))
        check_choice("KANLinear", "outside", outside, ("linear", "clamp", "zero"))
        check_choice("KANLinear", "path", path, ("auto", "fast", "lean", "plain", "gather"))
        grid = _DEFAULT_GRID[basis] if grid is None else grid
        check_positive(
            "KANLinear", in_features=in_features, out_features=out_features, grid=grid, order=order
        )
        low, high = domain or _DEFAULT_DOMAIN.get(basis, (-1.0, 1.0))
        if not low < high:
            raise ValueError(f"KANLinear: domain must rise, not ({low}, {high})")
        self.in_features, self.out_features = in_features, out_features
        self.basis_name, self.scaling, self.smooth, self.reg, self.path = basis, scaling, smooth, reg, path
        where = {"device": device, "dtype": dtype}
        self.basis = _basis(basis, in_features, grid, order, low, high, outside, where)
        edges = (out_features, in_features)
        has_base = basis in ("bspline", "rbf") if base is None else base
        self.norm = nn.LayerNorm(in_features, **where) if basis == "rbf" else None
        self.weight = nn.Parameter(torch.empty((self.basis.size, *edges), **where))
        self.base_weight = nn.Parameter(torch.empty(edges, **where)) if has_base else None
        self.scale = nn.Parameter(torch.empty(edges, **where)) if scaling != "none" else None
        self.bias = nn.Parameter(torch.empty(out_features, **where)) if bias else None
        self.register_buffer("mask", torch.ones(edges, **where))
        self._masked = False
        self._activity: Tensor | None = None
        self.reset_parameters()

    mask: Tensor

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights as the papers do; splines start as a fit of small noise at the knots."""
        inputs = self.in_features
        if self.basis_name == "bspline":
            self._reset_splines()
        elif self.basis_name == "rbf":
            nn.init.trunc_normal_(self.weight, std=0.1)
        elif self.basis_name == "chebyshev":
            nn.init.normal_(self.weight, std=1.0 / (inputs * self.basis.size))
        else:
            nn.init.normal_(self.weight, std=1.0 / math.sqrt(inputs * self.basis.size / 2))
            if self.smooth:
                count = self.basis.size // 2
                k = torch.arange(1, count + 1, dtype=self.weight.dtype, device=self.weight.device).repeat(2)
                self.weight.div_((k * k)[:, None, None])
        if self.base_weight is not None:
            if self.scaling == "edge":
                nn.init.uniform_(self.base_weight, -(inputs**-0.5), inputs**-0.5)
            else:
                nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        if self.scale is not None:
            if self.scaling == "edge":
                nn.init.constant_(self.scale, inputs**-0.5)
            else:
                nn.init.kaiming_uniform_(self.scale, a=math.sqrt(5))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.mask.fill_(1.0)
        self._masked = False

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        check_features(x, self.in_features, self)
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        weight, base = self.effective_weight(), self.effective_base_weight()
        low = rows.dtype in _LOW or torch.is_autocast_enabled(rows.device.type)
        if self.norm is not None:
            out = self._curves(self.norm(rows), weight, None, self.bias, low)
            out = out if base is None else out + F.linear(F.silu(rows), base)
        else:
            out = self._curves(rows, weight, base, self.bias, low)
        if self.reg and self.training and not torch.compiler.is_compiling():
            self._activity = self.activity(rows)
        return out if x.ndim == 2 else out.view(*x.shape[:-1], self.out_features)

    def edges(self, x: Tensor) -> Tensor:
        """Return what every edge contributes, ``(rows, outputs, inputs)`` for ``x (rows, inputs)``."""
        values = self.basis(x if self.norm is None else self.norm(x))
        out = torch.einsum("bin,noi->boi", values, self.effective_weight())
        base = self.effective_base_weight()
        return out if base is None else out + F.silu(x).unsqueeze(1) * base

    def activity(self, x: Tensor) -> Tensor:
        """Return the mean absolute contribution of every edge over a sample, ``(outputs, inputs)``."""
        rows = x.reshape(-1, self.in_features)
        total = rows.new_zeros(self.out_features, self.in_features)
        for block in torch.split(rows, max((1 << 22) // max(self.mask.numel(), 1), 16)):
            total = total + self.edges(block).abs().sum(0)
        return total / max(len(rows), 1)

    def regularization(self, activity: Tensor, **weights: float) -> Tensor:
        """Return the penalty of KAN on activities, see :func:`~appliedpapers.nn.kan_penalty.penalty`."""
        return penalty(activity, self.weight, **weights)

    def weight_regularization(self, sparsity: float = 1.0, entropy: float = 1.0) -> Tensor:
        """Return the penalty on coefficients, see :func:`~appliedpapers.nn.kan_penalty.weight_penalty`."""
        return weight_penalty(self.weight, sparsity, entropy)

    def aux_loss(self) -> Tensor:
        """Return ``reg`` times the regularisation of the last training batch; 0 without ``reg``."""
        if not self.reg or self._activity is None:
            return self.weight.new_zeros(())
        return self.reg * self.regularization(self._activity)

    def update(self, x: Tensor, *, uniform_share: float = 0.02, max_drift: float = 0.02) -> GridReport:
        """Move the grid to where the data are and fit the splines again; other bases do nothing.

        The functions are kept as they are on the sample, and, with a vanishing weight, on the whole new
        domain, so that cells without data stay harmless.

        Args:
            x: Sample ``(..., in_features)``; rows with values that are not finite are left out.
            uniform_share: Share of the uniform grid; the rest follows the quantiles.
            max_drift: Largest relative change of the output on the sample that is accepted; else an
                even grid over the sample's range is tried, else the old one is kept.
        """
        return update_grid(self, x, uniform_share, max_drift)

    def refine(self, grid: int) -> None:
        """Change the number of cells, the functions staying the same on the domain (KAN, section 2.5).

        The coefficients become a new parameter, so optimisers must be made anew.

        Raises:
            ValueError: The basis has no grid, or ``grid`` is not positive.
        """
        refine_grid(self, grid)
        self.__dict__["_remembered"]["grid"] = grid

    @torch.no_grad()
    def prune(self, keep: Tensor) -> None:
        """Switch edges off.

        Args:
            keep: ``(out_features, in_features)``, true where an edge stays.
        """
        self.mask.mul_(keep.to(self.mask))
        self._masked = bool((self.mask != 1).any())

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last batch's activity, which belongs to its graph, out of copies."""
        return {**self.__dict__, "_activity": None}

    def extra_repr(self) -> str:
        """Describe the module for ``print``."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, basis={self.basis_name!r}, "
            f"size={self.basis.size}, path={self.path!r}, bias={self.bias is not None}"
        )

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        knots, basis = state.get(prefix + "basis.knots"), self.basis
        if isinstance(basis, SplineBasis) and knots is not None and knots.shape[1] != basis.knots.shape[1]:
            cells = knots.shape[1] - 2 * basis.order - 1
            args[-1].append(
                f"{prefix or 'KANLinear'}: the state has a grid of {cells} cells, the layer {basis.grid}; "
                f"call refine({cells}) before loading, and refine({basis.grid}) after it"
            )
        super()._load_from_state_dict(state, prefix, *args)
        if prefix + "mask" in state:
            self._masked = bool((self.mask != 1).any())

    def _curves(
        self, x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, low_precision: bool
    ) -> Tensor:
        basis = self.basis
        if low_precision:
            with torch.autocast(x.device.type, enabled=False):
                values = basis(x.float()).transpose(-1, -2).to(x.dtype)
            return _plus(plain_product(values, weight), x, base, bias)
        plain = self.path == "plain" or needs_plain() or x.dtype != weight.dtype
        if not isinstance(basis, SplineBasis):
            return self._multiply(x, weight, base, bias, basis.layer(x, compact=True), plain)
        if not plain and gathers(self.path, basis, x, weight):
            return _plus(gathered(basis, x, weight), x, base, bias)
        # exported graphs may be run in low precision elsewhere, where truncated powers cancel
        compact = not torch.compiler.is_exporting() and basis.compact(x, few=not plain)
        # on other devices a look at the data would wait for them
        look = not plain and x.device.type == "cpu" and basis.shared and basis.outside != "zero"
        inside = look and basis.is_inside(x)
        layer = basis.layer(x, compact=compact, inside=inside)
        # few values are a matter of calls, and autograd's own are cheaper than Python's
        few = not plain and self.path == "auto" and basis.is_few(x)
        return self._multiply(x, weight, base, bias, layer, plain or few)

    def _multiply(
        self, x: Tensor, weight: Tensor, base: Tensor | None, bias: Tensor | None, layer: Layer, plain: bool
    ) -> Tensor:
        if plain:
            fuse = torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting()
            if fuse and isinstance(layer.features, TruncatedPowers):
                return compiled_linear(x, weight, base, bias, layer)
            return plain_linear(x, weight, base, bias, layer)
        return slab_linear(x, weight, base, bias, layer, lean=self.path == "lean")

    def effective_weight(self) -> Tensor:
        """Return the coefficients with scaling and mask multiplied in, ``(size, outputs, inputs)``."""
        weight: Tensor = self.weight
        if self.scale is not None:
            weight = weight * (self.scale * self.mask if self._masked else self.scale)
        elif self._masked:
            weight = weight * self.mask
        return weight

    def effective_base_weight(self) -> Tensor | None:
        """Return the weights of silu with the mask multiplied in, ``(outputs, inputs)``."""
        if self.base_weight is None or not self._masked:
            return self.base_weight
        return self.base_weight * self.mask

    def _reset_splines(self) -> None:
        assert isinstance(self.basis, SplineBasis)
        basis = self.basis
        grid = basis.grid
        size = (0.5 if self.scaling == "edge" else 0.1) / grid
        edges = (grid + 1, self.out_features * self.in_features)
        noise = (torch.rand(edges, dtype=self.weight.dtype, device=self.weight.device) - 0.5) * size
        # every input starts on the same grid, so one small pseudo-inverse serves all edges
        row = basis.knots[:1]
        points = row[0, basis.order : -basis.order]
        values = splines.basis(points[:, None], row, basis.order)[:, 0]
        inverse = torch.linalg.pinv(values).to(noise)
        self.weight.copy_((inverse @ noise).view_as(self.weight))


def _plus(out: Tensor, x: Tensor, base: Tensor | None, bias: Tensor | None) -> Tensor:
    if base is not None:
        out = out + F.linear(F.silu(x), base)
    return out if bias is None else out + bias


def _basis(
    name: str, inputs: int, grid: int, order: int, low: float, high: float, outside: Outside, where: Any
) -> Basis:
    if name == "bspline":
        return SplineBasis(inputs, grid, order, low, high, outside, **where)
    if name == "rbf":
        if grid < 2:
            raise ValueError(f"KANLinear: basis='rbf' needs grid >= 2 centres, not {grid}")
        return GaussianBasis(grid, low, high, **where)
    return ChebyshevBasis(grid) if name == "chebyshev" else FourierBasis(grid)

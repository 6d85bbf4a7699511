"""KAN layers whose nodes choose their family of functions among several (S-KAN).

Source: Yang et al. 2024, Activation Space Selectable Kolmogorov-Arnold Networks (arXiv 2408.08338); no code
of the authors is public.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from appliedpapers.nn.basis import GaussianBasis, SplineBasis
from appliedpapers.nn.features import Chebyshev
from appliedpapers.nn.kan_pool import WAVELETS, Pool, Wavelets
from appliedpapers.nn.mlp import layer_widths
from appliedpapers.nn.module import Module, check_choice, check_features, check_positive
from appliedpapers.nn.slab_linear import Features, Layer, needs_plain, plain_linear, slab_linear

FAMILIES = ("spline", "rbf", "chebyshev", *WAVELETS)
STAGES = ("mix", "select")
_LOW = (torch.bfloat16, torch.float16)


class SelectableKANLinear(Module):
    """``y_o = sum_m p_om f_om(x) + sum_i b_oi silu(x_i) + bias_o``: every output mixes families of functions.

    ``f_om(x) = sum_i sum_j c_moij phi_mj(x_i)`` with the functions of family m, and ``p_o = softmax(s_o)``
    learned. Three stages: ``mix`` trains all; ``select`` lets every output use its strongest family alone
    while the choice may still change (straight-through gradient, our default); :meth:`prune` keeps that one
    for good and drops the coefficients of the others.

    The functions of all families are multiplied in one product. Splines go on linearly beyond the domain, and
    wavelets sit at fixed places of it instead of at learned ones, so that edges share them (our defaults).

    Args:
        in_features: Inputs I.
        out_features: Outputs O.
        pool: Families: ``spline``, ``rbf``, ``chebyshev``, ``mexican_hat``, ``dog``.
        grid: Functions of each family: cells of the splines, centres, or degree.
        order: Order of the splines.
        domain: Domain of the splines and ends of the centres; (-2, 2) is our default.
        base: Whether there is a silu branch.
        stage: ``mix`` or ``select``.
        choice: Number of the family in ``pool`` for each output of a pruned layer.
        bias: Whether there is a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: A size is not positive or does not fit the input, or a family or stage is unknown.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        pool: Sequence[str] = ("spline", "rbf", "chebyshev", "mexican_hat"),
        grid: int = 5,
        order: int = 3,
        domain: Sequence[float] = (-2.0, 2.0),
        base: bool = True,
        stage: str = "mix",
        choice: Sequence[int] | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        check_positive(kind, in_features=in_features, out_features=out_features, grid=grid, order=order)
        check_choice(kind, "stage", stage, STAGES)
        if isinstance(pool, str) or not pool or len(set(pool)) != len(pool):
            raise ValueError(
                f"{kind}: pool must be different families of {', '.join(FAMILIES)}, not {pool!r}"
            )
        for family in pool:
            check_choice(kind, "pool", family, FAMILIES)
        if grid < 2 or not domain[0] < domain[1]:
            raise ValueError(f"{kind}: grid must be at least 2 and domain must rise, not {grid} and {domain}")
        self.in_features, self.out_features, self.pool, self.stage = (
            in_features,
            out_features,
            tuple(pool),
            stage,
        )
        self._grid, self._low, self._high = grid, float(domain[0]), float(domain[1])
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.splines = SplineBasis(1, grid, order, self._low, self._high, "linear", **where)
        self.gaussians = GaussianBasis(grid, self._low, self._high, **where)
        self._sizes = [grid + order if family == "spline" else grid for family in pool]
        self.weight = nn.Parameter(torch.empty(sum(self._sizes), out_features, in_features, **where))
        self.logits = nn.Parameter(torch.empty(out_features, len(pool), **where))
        self.base = nn.Linear(in_features, out_features, bias=False, **where) if base else None
        self.bias = nn.Parameter(torch.empty(out_features, **where)) if bias else None
        self.choice: tuple[int, ...] | None = None
        self.kept: nn.ParameterList | None = None
        self.reset_parameters()
        if choice is not None:
            self._drop_others(torch.as_tensor(choice))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw small coefficients for all families, all equally strong; a pruned layer keeps its choice."""
        std = 0.1 / math.sqrt(self.in_features)
        for weight in self.kept if self.kept is not None else (self.weight,):
            nn.init.normal_(weight, std=std)
        if self.kept is None:
            nn.init.zeros_(self.logits)
        if self.base is not None:
            self.base.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def shares(self) -> Tensor:
        """Return how much each family counts for each output, ``(out_features, families)``, rows sum to 1."""
        if self.choice is not None:
            some = next(self.parameters())
            index = torch.tensor(self.choice, device=some.device)
            return F.one_hot(index, len(self.pool)).to(some.dtype)
        soft = self.logits.softmax(-1)
        if self.stage == "mix":
            return soft
        hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
        return hard + soft - soft.detach()

    def select(self) -> None:
        """Go on to the second stage: every output uses its strongest family; the choice still learns."""
        if self.choice is not None:
            raise ValueError("SelectableKANLinear: the layer is pruned; its choice is final")
        self.stage = self.__dict__["_remembered"]["stage"] = "select"

    def prune(self) -> None:
        """Go on to the third stage: keep the strongest family of every output, drop the others.

        The coefficients become new parameters, so optimisers must be made anew.
        """
        if self.choice is None:
            self._drop_others(self.logits.detach().argmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_features)`` to ``(..., out_features)``."""
        check_features(x, self.in_features, self)
        rows = x.reshape(-1, self.in_features)
        out = self._chosen(rows) if self.choice is not None else self._mixed(rows)
        if self.base is not None:
            out = out + self.base(F.silu(rows))
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return the sizes and the stage."""
        stage = "pruned" if self.choice is not None else self.stage
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"pool={self.pool}, stage={stage!r}"
        )

    def _mixed(self, rows: Tensor) -> Tensor:
        shares = self.shares().t().unsqueeze(-1)
        weights = [
            part * share for part, share in zip(torch.split(self.weight, self._sizes), shares, strict=True)
        ]
        return self._product(rows, Pool([self._family(name, rows) for name in self.pool]), torch.cat(weights))

    def _chosen(self, rows: Tensor) -> Tensor:
        assert self.kept is not None
        parts = [
            self._product(rows, self._family(self.pool[number], rows), weight)
            for number, weight in zip(sorted(set(self.choice or ())), self.kept, strict=True)
        ]
        return torch.cat(parts, dim=-1).index_select(-1, self.places)

    def _product(self, rows: Tensor, features: Features, weight: Tensor) -> Tensor:
        if rows.dtype in _LOW or torch.is_autocast_enabled(rows.device.type):
            with torch.autocast(rows.device.type, enabled=False):
                wide = features.plain(rows.float()).to(rows.dtype)
            return F.linear(wide.flatten(-2), weight.transpose(0, 1).flatten(1))
        multiply = plain_linear if needs_plain() else slab_linear
        return multiply(rows, weight, None, None, Layer(features))

    def _family(self, name: str, x: Tensor) -> Features:
        dtype = torch.float32 if x.dtype in _LOW else x.dtype
        probe = x.new_empty(0, dtype=dtype)
        if name == "spline":
            return self.splines.features(probe, compact=False)
        if name == "rbf":
            return self.gaussians.features(probe, compact=True)
        if name == "chebyshev":
            return Chebyshev(self._grid)
        centres = self.gaussians.centres.to(dtype)
        return Wavelets(centres, self.gaussians.width, name)

    @torch.no_grad()
    def _drop_others(self, choice: Tensor) -> None:
        numbers = [int(number) for number in choice]
        if len(numbers) != self.out_features or not all(0 <= n < len(self.pool) for n in numbers):
            raise ValueError(
                f"{type(self).__name__}: choice must be {self.out_features} numbers from 0 to "
                f"{len(self.pool) - 1}, not {numbers}"
            )
        used, order, kept = sorted(set(numbers)), [], []
        for number, part in zip(range(len(self.pool)), torch.split(self.weight, self._sizes), strict=True):
            outputs = [output for output, own in enumerate(numbers) if own == number]
            order += outputs
            if number in used:
                kept.append(nn.Parameter(part[:, outputs].clone()))
        self.kept = nn.ParameterList(kept)
        places = torch.tensor(order, device=self.weight.device).argsort()
        self.register_buffer("places", places, persistent=False)
        self.choice = tuple(numbers)
        self.__dict__["_remembered"]["choice"] = numbers
        del self.weight, self.logits

    places: Tensor


class SelectableKAN(Module):
    """Stack of :class:`SelectableKANLinear` (S-KAN, arXiv 2408.08338).

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Widths between the layers, or one width; ``()`` for one layer.
        pool: Families, see :class:`SelectableKANLinear`.
        grid: Functions of each family.
        order: Order of the splines.
        domain: Domain of the splines and ends of the centres.
        base: Whether the layers have a silu branch.
        stage: ``mix`` or ``select``.
        choices: Of a pruned network: the choice of each layer.
        bias: Whether the layers have a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., in_features)``
        - output: ``(..., out_features)``

    Raises:
        ValueError: As for :class:`SelectableKANLinear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: int | Sequence[int] = (16,),
        pool: Sequence[str] = ("spline", "rbf", "chebyshev", "mexican_hat"),
        grid: int = 5,
        order: int = 3,
        domain: Sequence[float] = (-2.0, 2.0),
        base: bool = True,
        stage: str = "mix",
        choices: Sequence[Sequence[int]] | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        widths = (in_features, *layer_widths("SelectableKAN", hidden), out_features)
        if choices is not None and len(choices) != len(widths) - 1:
            raise ValueError(f"SelectableKAN: choices must be {len(widths) - 1} lists, not {len(choices)}")
        self.layers = nn.ModuleList(
            SelectableKANLinear(
                width,
                wider,
                pool=pool,
                grid=grid,
                order=order,
                domain=domain,
                base=base,
                stage=stage,
                choice=None if choices is None else choices[number],
                bias=bias,
                device=device,
                dtype=dtype,
            )
            for number, (width, wider) in enumerate(pairwise(widths))
        )

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        for layer in self._selectable():
            layer.reset_parameters()

    def select(self) -> None:
        """Go on to the second stage, see :meth:`SelectableKANLinear.select`."""
        for layer in self._selectable():
            layer.select()
        self.__dict__["_remembered"]["stage"] = "select"

    def prune(self) -> None:
        """Go on to the third stage, see :meth:`SelectableKANLinear.prune`."""
        for layer in self._selectable():
            layer.prune()
        self.__dict__["_remembered"]["choices"] = [layer.choice for layer in self._selectable()]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers."""
        for layer in self.layers:
            x = layer(x)
        return x

    def _selectable(self) -> list[SelectableKANLinear]:
        return [layer for layer in self.layers if isinstance(layer, SelectableKANLinear)]

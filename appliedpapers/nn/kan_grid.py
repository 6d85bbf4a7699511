"""Moving and refining the grid of a spline layer while its functions stay the same (KAN, section 2.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from appliedpapers.nn import splines
from appliedpapers.nn.basis import SplineBasis
from appliedpapers.nn.module import check_positive

if TYPE_CHECKING:
    from appliedpapers.nn.kan_linear import KANLinear

_SAMPLE = 1 << 14
_MIN_WIDTH = 0.02


@dataclass(frozen=True)
class GridReport:
    """What a grid update did.

    Attributes:
        outside: Share of the sample that lay outside the old domain.
        drift: Root mean square change of the output on the sample, relative to the output's.
        updated: Whether the new grid was taken; the old one is kept where the drift would be too large.
    """

    outside: float
    drift: float
    updated: bool


@torch.no_grad()
def update_grid(layer: KANLinear, x: Tensor, uniform_share: float, max_drift: float) -> GridReport:
    """Move the grid to a sample; see :meth:`KANLinear.update`."""
    basis = layer.basis
    rows = x.detach().reshape(-1, layer.in_features).double()
    rows = rows[torch.isfinite(rows).all(1)]
    if not isinstance(basis, SplineBasis) or not len(rows):
        return GridReport(0.0, 0.0, False)
    low, high = basis.domain
    outside = float(((rows < low) | (rows > high)).double().mean())
    sample = rows[torch.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE), device=rows.device).long()]
    drift = 0.0
    for share in (uniform_share, 1.0):
        knots = splines.adaptive_knots(rows, basis.grid, basis.order, share, _MIN_WIDTH)
        new, weight = _moved(layer, basis, knots, sample)
        drift = _drift(layer, basis, new, sample, weight)
        if drift <= max_drift:
            # in place, so that optimisers keep their hold on the parameter
            layer.weight.copy_(weight)
            basis.set_knots(knots, basis.knots.device, basis.change.dtype)
            return GridReport(outside, drift, True)
    return GridReport(outside, drift, False)


@torch.no_grad()
def refine_grid(layer: KANLinear, grid: int) -> None:
    """Change the number of cells; see :meth:`KANLinear.refine`."""
    basis = layer.basis
    if not isinstance(basis, SplineBasis):
        raise ValueError(f"refine needs basis='bspline', this layer has '{layer.basis_name}'")
    check_positive("refine", grid=grid)
    inner = basis.knots[:, basis.order : -basis.order]
    places = torch.linspace(0, inner.shape[1] - 1, grid + 1, dtype=inner.dtype, device=inner.device)
    left = places.long().clamp(max=inner.shape[1] - 2)
    share = places - left
    finer = inner[:, left] * (1 - share) + inner[:, left + 1] * share
    knots = splines.extended(finer, basis.order)
    _, weight = _moved(layer, basis, knots, None)
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype).contiguous(), layer.weight.requires_grad)
    basis.set_knots(knots, basis.knots.device, basis.change.dtype)


def _moved(
    layer: KANLinear, old: SplineBasis, knots: Tensor, sample: Tensor | None
) -> tuple[SplineBasis, Tensor]:
    """Return the basis on new knots and the coefficients there, in double precision."""
    new = SplineBasis(len(knots), 1, old.order, outside=old.outside, dtype=torch.float64)
    new.set_knots(knots, knots.device, torch.float64)
    matrix = _projection(old, new, sample)
    return new, torch.einsum("ipn,noi->poi", matrix, layer.weight.double())


def _projection(old: SplineBasis, new: SplineBasis, sample: Tensor | None) -> Tensor:
    """Return the matrices that turn old into new coefficients, ``(inputs, new size, old size)`` float64."""
    low, high = new.domain
    spots = torch.linspace(0.0, 1.0, 8 * max(new.grid, old.grid) + 1, dtype=torch.float64, device=low.device)
    everywhere = low + (high - low) * spots[:, None]
    targets, features = old(everywhere).transpose(0, 1), new(everywhere).transpose(0, 1)
    if sample is not None:
        # the sample decides; where it says nothing, the old function on the new domain does
        faint = 1e-6 * math.sqrt(len(sample) / len(spots))
        targets = torch.cat([old(sample).transpose(0, 1), faint * targets], dim=1)
        features = torch.cat([new(sample).transpose(0, 1), faint * features], dim=1)
    return splines.fit(features, targets)


def _drift(layer: KANLinear, old: SplineBasis, new: SplineBasis, sample: Tensor, weight: Tensor) -> float:
    scale = layer.mask.double() if layer.scale is None else (layer.scale * layer.mask).double()
    change = torch.einsum("bin,noi->bo", new(sample), weight * scale)
    change -= torch.einsum("bin,noi->bo", old(sample), layer.weight.double() * scale)
    size = layer(sample.to(layer.weight.dtype)).double().square().mean().sqrt()
    moved = change.square().mean().sqrt()
    return float(moved / size) if size > 0 else float(moved)

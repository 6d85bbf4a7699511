"""B-splines in numbers: knots, basis functions, derivatives, fits and changes of basis.

Sources: de Boor, A Practical Guide to Splines, chapter IX (recursion, derivative); Liu et al., KAN
(arXiv 2404.19756), sections 2.2 and 2.5 (grids on every edge, extension by ``order`` knots, adaptive grids).

Throughout, ``knots`` is ``(inputs, grid + 2 * order + 1)``, strictly increasing along the last axis; the
domain of input i is ``[knots[i, order], knots[i, -order - 1]]`` and there are ``grid + order`` functions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def uniform_knots(inputs: int, grid: int, order: int, low: float, high: float) -> Tensor:
    """Return equidistant knots ``(inputs, grid + 2 * order + 1)`` float64, ``order`` extra on each side."""
    step = (high - low) / grid
    row = low + step * torch.arange(-order, grid + order + 1, dtype=torch.float64)
    return row.repeat(inputs, 1)


def extended(inner: Tensor, order: int) -> Tensor:
    """Extend ``(inputs, grid + 1)`` knots by ``order`` on each side, with the mean cell width as step."""
    grid = inner.shape[1] - 1
    step = (inner[:, -1:] - inner[:, :1]) / grid
    reach = step * torch.arange(1, order + 1, dtype=inner.dtype, device=inner.device)
    return torch.cat([inner[:, :1] - reach.flip(1), inner, inner[:, -1:] + reach], dim=1)


def adaptive_knots(x: Tensor, grid: int, order: int, uniform_share: float, min_width: float) -> Tensor:
    """Place knots at quantiles of a sample, mixed with a uniform grid over its range.

    Args:
        x: Sample ``(rows, inputs)`` float64, finite.
        grid: Number of cells.
        order: Spline order.
        uniform_share: Share of the uniform grid, 0 to 1 (0.02 in the paper's implementation).
        min_width: Smallest cell as a share of the mean cell; a constant input gets a range of 1 around it.

    Returns:
        ``(inputs, grid + 2 * order + 1)`` float64.
    """
    ordered = x.sort(dim=0).values
    rows = len(ordered)
    positions = [rows * cell // grid for cell in range(grid)] + [rows - 1]
    quantiles = ordered[positions].t()
    low, high = quantiles[:, :1], quantiles[:, -1:]
    narrow = (high - low) <= 1e-6 * torch.maximum(high.abs(), low.abs()).clamp(min=1.0)
    low, high = torch.where(narrow, low - 0.5, low), torch.where(narrow, high + 0.5, high)
    share = torch.linspace(0.0, 1.0, grid + 1, dtype=x.dtype, device=x.device)
    even = low + (high - low) * share
    inner = uniform_share * even + (1.0 - uniform_share) * torch.where(narrow, even, quantiles)
    widths = inner.diff(dim=1)
    floor = min_width * (high - low) / grid
    if bool((widths < floor).any()):
        widths = widths.clamp(min=0.0)
        # raise narrow cells to the floor and take it from the width above the floor, so that the range stays
        excess = (widths - floor).clamp(min=0.0)
        room = (high - low) - grid * floor
        widths = floor + excess * (room / excess.sum(1, keepdim=True).clamp(min=1e-300))
        inner = torch.cat([low, low + widths.cumsum(1)], dim=1)
    return extended(inner, order)


def basis(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """Evaluate all functions by the recursion of Cox and de Boor.

    Cells are half open; outside the support of all functions the result is zero.

    Args:
        x: ``(..., inputs)``.
        knots: See the module.
        order: Spline order.

    Returns:
        ``(..., inputs, grid + order)`` in the dtype of ``x``.
    """
    x = x.unsqueeze(-1)
    values = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
    for degree in range(1, order + 1):
        rising = (x - knots[:, : -degree - 1]) / (knots[:, degree:-1] - knots[:, : -degree - 1])
        falling = (knots[:, degree + 1 :] - x) / (knots[:, degree + 1 :] - knots[:, 1:-degree])
        values = rising * values[..., :-1] + falling * values[..., 1:]
    return values


def basis_derivative(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """Return the first derivatives of all functions, ``(..., inputs, grid + order)``."""
    lower = basis(x, knots, order - 1)
    widths = knots[:, order:] - knots[:, :-order]
    scaled = order * lower / widths
    return scaled[..., :-1] - scaled[..., 1:]


def edge_slopes(knots: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return the slopes of all functions at the low and at the high end of the domain.

    Returns:
        Two tensors ``(inputs, grid + order)``.
    """
    low, high = knots[:, order], knots[:, -order - 1]
    # the last cell is half open, so its end is approached from inside, where slopes are continuous
    inside = high - (high - knots[:, -order - 2]) * 1e-12
    return basis_derivative(low, knots, order), basis_derivative(inside, knots, order)


def fit(features: Tensor, values: Tensor) -> Tensor:
    """Solve ``features @ coefficients = values`` per input by least squares.

    The directions of each input's normal matrix that hold less than 1e-13 of its largest are left at zero,
    so the result is finite for any rank.

    Args:
        features: ``(inputs, rows, functions)`` float64.
        values: ``(inputs, rows, outputs)`` float64.

    Returns:
        ``(inputs, functions, outputs)``.
    """
    size, directions = torch.linalg.eigh(features.transpose(1, 2) @ features)
    floor = 1e-13 * size[:, -1:].clamp(min=1e-300)
    inverse = torch.where(size > floor, 1.0 / size.clamp(min=1e-300), torch.zeros_like(size))
    right = directions.transpose(1, 2) @ (features.transpose(1, 2) @ values)
    solution: Tensor = directions @ (inverse.unsqueeze(-1) * right)
    return solution


def truncated_powers(z: Tensor, breaks: Tensor, sides: Tensor, order: int) -> Tensor:
    """Evaluate ``1, z, ..., z^order`` and one truncated power at each inner knot.

    A knot right of the middle has ``max(z - knot, 0)^order``, one left of it ``max(knot - z, 0)^order``; so
    all values stay as small as they can be. They span the same splines on the domain.

    Args:
        z: ``(..., inputs)`` relative to the middle of the domain.
        breaks: Inner knots relative to the middle, ``(grid - 1, inputs)``.
        sides: +1 or -1 for each knot, ``(grid - 1, inputs)``.
        order: Spline order.

    Returns:
        ``(..., inputs, grid + order)``.
    """
    powers = [z**power for power in range(order + 1)]
    powers += [((z - at) * side).clamp(min=0.0) ** order for at, side in zip(breaks, sides, strict=True)]
    return torch.stack(powers, dim=-1)


def power_form(knots: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Express the basis functions in truncated powers, on the domain.

    Returns:
        ``change (inputs, functions, functions)``, with ``B_j = sum_p psi_p change[:, p, j]``;
        ``middle (inputs,)``; ``breaks`` and ``sides``, each ``(grid - 1, inputs)``; all float64.
    """
    knots = knots.double()
    low, high = knots[:, order], knots[:, -order - 1]
    middle, half = (low + high) / 2, (high - low) / 2
    scaled = (knots - middle[:, None]) / half[:, None]
    breaks = scaled[:, order + 1 : -order - 1].t()
    sides = torch.where(breaks >= 0, 1.0, -1.0).to(breaks)
    count = knots.shape[1] - order - 1
    # Chebyshev nodes in every cell, so that the system is determined however uneven the cells are
    nodes = torch.cos(torch.pi * (torch.arange(order + 2, dtype=torch.float64) + 0.5) / (order + 2))
    left, right = scaled[:, order : -order - 1], scaled[:, order + 1 : -order]
    points = ((left + right) / 2)[..., None] + ((right - left) / 2)[..., None] * nodes.to(knots.device)
    points = points.flatten(1).t()
    psi = truncated_powers(points, breaks, sides, order).transpose(0, 1)
    target = basis(points, scaled, order).transpose(0, 1)
    change = torch.linalg.lstsq(psi, target, driver="gelsd" if psi.device.type == "cpu" else None).solution
    degrees = [*range(order + 1), *[order] * (count - order - 1)]
    rescale = half[:, None] ** -torch.tensor(degrees, dtype=torch.float64, device=knots.device)
    return change * rescale[:, :, None], middle, breaks * half, sides

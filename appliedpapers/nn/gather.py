"""B-spline layers by their local support: at any point only ``order + 1`` functions differ from zero.

Worth it for inference on fine grids, where the dense product multiplies mostly zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from appliedpapers.nn.basis import SplineBasis

# from this many functions on, reading four rows an input beats the dense product (benchmarks/nn_peers.py)
_WORTHWHILE = 23


def gathers(path: str, basis: SplineBasis, x: Tensor, weight: Tensor) -> bool:
    """Whether the layer should read the active functions only."""
    possible = basis.uniform and basis.order == 3 and basis.outside != "zero"
    differentiates = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if path == "gather":
        return possible and not differentiates
    return path == "auto" and possible and not differentiates and basis.size >= _WORTHWHILE


def gathered(basis: SplineBasis, x: Tensor, weight: Tensor) -> Tensor:
    """Return the spline part ``(rows, outputs)`` for ``x (rows, inputs)``; cubic, equidistant knots.

    Args:
        basis: The splines.
        x: ``(rows, inputs)``.
        weight: ``(size, outputs, inputs)``.
    """
    rows, inputs = x.shape
    low, high = (end.to(x.dtype) for end in basis.domain)
    step = (high - low) / basis.grid
    inside = torch.minimum(torch.maximum(x, low), high)
    t = (inside - low) / step
    cell = t.floor().clamp_(min=0.0, max=basis.grid - 1.0)
    u = t - cell
    v = 1.0 - u
    u3, v3 = u**3, v**3
    values = torch.stack([v3, 3.0 * u3 - 6.0 * u * u + 4.0, 3.0 * v3 - 6.0 * v * v + 4.0, u3], dim=-1).div_(
        6.0
    )
    first = cell.long() + torch.arange(inputs, device=x.device) * basis.size
    index = first.unsqueeze(-1) + torch.arange(4, device=x.device)
    table = weight.permute(2, 0, 1).reshape(inputs * basis.size, -1)
    shape = (rows, 4 * inputs)
    out = F.embedding_bag(index.view(shape), table, mode="sum", per_sample_weights=values.view(shape))
    slopes = basis.extension(weight)
    if slopes is not None:
        out = out + F.linear((x - low).clamp(max=0.0), slopes[0])
        out = out + F.linear((x - high).clamp(min=0.0), slopes[1])
    return out

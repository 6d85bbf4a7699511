"""Penalties that make a Kolmogorov-Arnold layer sparse (KAN, arXiv 2404.19756, section 2.5.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def penalty(
    activity: Tensor,
    weight: Tensor,
    sparsity: float = 1.0,
    entropy: float = 2.0,
    size: float = 0.0,
    step: float = 0.0,
) -> Tensor:
    """Return the penalty on mean absolute edge activities (eq. 2.17-2.20).

    The entropies are taken over rows and over columns, with ``activity / (sum + 1)`` as shares and base 2,
    as the authors' implementation does.

    Args:
        activity: Mean absolute contribution of every edge, ``(outputs, inputs)``.
        weight: Coefficients, ``(size, outputs, inputs)``.
        sparsity: Weight of the sum of activities.
        entropy: Weight of the entropies.
        size: Weight of the mean absolute coefficient, summed over edges.
        step: Weight of the mean absolute difference of neighbouring coefficients.

    Returns:
        A scalar, finite also where an edge is exactly zero.
    """
    total = sparsity * activity.sum()
    for axis in (0, 1):
        share = activity / (activity.sum(axis, keepdim=True) + 1.0)
        total = total - entropy * (share * torch.log2(share + 1e-4)).sum(axis).mean()
    if size:
        total = total + size * weight.abs().mean(0).sum()
    if step:
        total = total + step * weight.diff(dim=0).abs().mean(0).sum()
    return total


def weight_penalty(weight: Tensor, sparsity: float = 1.0, entropy: float = 1.0) -> Tensor:
    """Return the penalty on coefficients instead of activities, as the fast weight form has it.

    The entropy is natural, of the mean absolute coefficients of the edges as shares of their sum, with
    ``0 log 0 = 0``: an edge that is exactly zero has a finite value and a finite gradient.

    Args:
        weight: ``(size, outputs, inputs)``.
        sparsity: Weight of the sum.
        entropy: Weight of the entropy.
    """
    strength = weight.abs().mean(0)
    total = strength.sum()
    tiny = torch.finfo(strength.dtype).tiny
    share = strength / total.clamp(min=tiny)
    # the slope of -p log p at 0 is infinite, so exact zeros are taken out of the gradient
    logarithm = torch.where(share > 0, share.clamp(min=tiny).log(), torch.zeros_like(share))
    return sparsity * total - entropy * (share * logarithm).sum()

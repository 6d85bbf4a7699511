"""What the networks are shown of an image: turned, flipped and stretched at random, then normalised."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from appliedpapers.plugins.varifocal_net.chromosomes import WHITE

_LEAST_SPREAD = 1e-5


def normalise(images: Tensor) -> Tensor:
    """Return float32 images ``(B, 1, S, S)`` of mean 0 and deviation 1 each, of ``(B, S, S)`` in 0 to 255."""
    values = images.to(torch.float32)[:, None]
    spread, mean = torch.std_mean(values, dim=(2, 3), keepdim=True, correction=0)
    return (values - mean) / spread.clamp_min(_LEAST_SPREAD)


def vary(images: Tensor, rotation: float, stretch: float, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Turn, stretch and mirror images at random; what comes in from outside is white.

    Args:
        images: uint8 ``(B, S, S)``.
        rotation: Largest turn in degrees, either way.
        stretch: Largest relative change of scale, either way.
        draws: In [0, 1), ``(4, B)``: turn, scale, mirror, upside down.

    Returns:
        float32 ``(B, S, S)`` in 0 to 255, and whether each was flipped upside down, bool ``(B,)``.
    """
    draws = draws.to(images.device)
    angle = (2 * draws[0] - 1) * math.radians(rotation)
    scale = 1 + (2 * draws[1] - 1) * stretch
    mirror = torch.where(draws[2] < 0.5, -1.0, 1.0)
    upside_down = draws[3] < 0.5
    flip = torch.where(upside_down, -1.0, 1.0)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    zero = torch.zeros_like(cos)
    turn = torch.stack(
        [
            torch.stack([cos * mirror, -sin * flip, zero], dim=-1),
            torch.stack([sin * mirror, cos * flip, zero], dim=-1),
        ],
        dim=1,
    )
    # sampled as ink on nothing, so that what lies outside becomes white
    ink = WHITE - images.to(torch.float32)[:, None]
    grid = F.affine_grid(turn, list(ink.shape), align_corners=False)
    return WHITE - F.grid_sample(ink, grid, align_corners=False)[:, 0], upside_down

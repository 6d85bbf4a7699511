"""The varifocal box, the crop of it, and the two gradients through the crop (arXiv 1810.05943, section II-C).

Coordinates are those of pixels at side S: pixel ``j`` covers ``[j, j + 1)`` and is centred at ``j + .5``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

STEEPNESS = 10.0
"""k of the logistic edges of the paper's mask."""


class Box(NamedTuple):
    """Centres and half sides, each ``(B,)`` in pixels."""

    xc: Tensor
    yc: Tensor
    t: Tensor

    def corners(self) -> Tensor:
        """Return ``(B, 4)``: x0, y0, x1, y1."""
        return torch.stack([self.xc - self.t, self.yc - self.t, self.xc + self.t, self.yc + self.t], dim=-1)


def box_of(u: Tensor, size: int) -> Box:
    """Return the float box of ``u`` in [0, 1], ``(B, 3)``: it never leaves an image of side ``size``."""
    quarter, half = size / 4, size / 2
    ux, uy, ul = u.unbind(-1)
    return Box(quarter + ux * half, quarter + uy * half, ul * quarter / 2 + quarter / 2)


def integer_box(box: Box, size: int) -> Tensor:
    """Return int64 ``(B, 4)`` corners: a square of whole pixels, moved inside the image."""
    side = torch.floor(2 * box.t + 0.5)
    starts = [
        torch.minimum(torch.floor(centre - box.t + 0.5).clamp_min(0), size - side)
        for centre in (box.xc, box.yc)
    ]
    return torch.stack([*starts, *(start + side for start in starts)], dim=-1).long()


def localiser_target(width: Tensor, height: Tensor, size: int) -> Tensor:
    """Return ``(B, 3)``: the middle of the image, as large as the chromosome's tight box is there."""
    quarter = size / 4
    longest = torch.maximum(width, height).to(torch.get_default_dtype())
    ul = (longest / quarter - 1).clamp(0, 1)
    middle = torch.full_like(ul, 0.5)
    return torch.stack([middle, middle, ul], dim=-1)


def sample(images: Tensor, corners: Tensor, side: int, low: Tensor, high: Tensor) -> Tensor:
    """Resize boxes of images bilinearly, half-pixel centres, without antialiasing.

    The box is axis-aligned, so sampling is a product with two thin matrices; it has the exact gradient with
    respect to the corners (and to the images).

    Args:
        images: ``(B, C, S, S)``.
        corners: ``(B, 4)`` x0, y0, x1, y1 in pixels.
        side: Side of the result.
        low: Smallest pixel that is read in x and y, ``(B, 2)`` or ``(1, 2)``.
        high: Largest pixel that is read, likewise; what lies beyond takes the value at the edge.

    Returns:
        ``(B, C, side, side)``.
    """
    size = images.shape[-1]
    steps = (torch.arange(side, dtype=corners.dtype, device=corners.device) + 0.5) / side
    start, end = corners[:, :2, None], corners[:, 2:, None]
    at = start + steps * (end - start) - 0.5
    at = torch.minimum(torch.maximum(at, low[..., None]), high[..., None])
    pixels = torch.arange(size, dtype=at.dtype, device=at.device)
    weights = (1 - (at[..., None] - pixels).abs()).clamp_min(0).to(images.dtype)
    columns, rows = weights[:, 0, None], weights[:, 1, None]
    found: Tensor = rows @ images @ columns.transpose(-1, -2)
    return found


def crop_float(images: Tensor, box: Box, side: int) -> Tensor:
    """Return the float boxes, resized; gradients to the box are exact (``crop_grad="grid"``)."""
    corners = box.corners()
    first = torch.zeros_like(corners[:1, :2])
    return sample(images, corners, side, first, first + (images.shape[-1] - 1))


def crop_integer(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Return whole-pixel boxes ``(B, 4)`` cut out and resized, with the box's own edge continued."""
    whole = corners.to(images.dtype)
    return sample(images, whole, side, whole[:, :2], whole[:, 2:] - 1)


class MaskEdges(NamedTuple):
    """The mask along one axis, ``(B, n)``, and how it changes as the box moves and as it grows."""

    inside: Tensor
    moved: Tensor
    grown: Tensor


def mask_edges(at: Tensor, centre: Tensor, t: Tensor) -> MaskEdges:
    """Return the mask at places ``(B, n)`` of one axis, for boxes with centres and half sides ``(B,)``."""
    low = torch.sigmoid(STEEPNESS * (at - centre[:, None] + t[:, None]))
    high = torch.sigmoid(STEEPNESS * (at - centre[:, None] - t[:, None]))
    low_slope, high_slope = STEEPNESS * low * (1 - low), STEEPNESS * high * (1 - high)
    return MaskEdges(low - high, high_slope - low_slope, high_slope + low_slope)


def mask_gradient(u: Tensor, gradient: Tensor, size: int, *, limit: float | None = 1.0) -> Tensor:
    """Return the paper's gradient of the loss with respect to ``u`` (our exact reading of its text).

    The crop is thought of as a product with a mask that has logistic edges; each pixel pulls with minus its
    squared gradient.

    Args:
        u: ``(B, 3)``.
        gradient: Of the loss with respect to L-Net's input, ``(B, C, n, n)``.
        size: Side S of the image.
        limit: Largest norm of each sample's gradient; None leaves it.

    Returns:
        ``(B, 3)``.
    """
    box = box_of(u, size)
    corners = integer_box(box, size).to(u.dtype)
    side = gradient.shape[-1]
    steps = (torch.arange(side, dtype=u.dtype, device=u.device) + 0.5) / side
    start, end = corners[:, :2, None], corners[:, 2:, None]
    at = start + steps * (end - start) - 0.5
    pull = -gradient.to(u.dtype).square().sum(1)
    x = mask_edges(at[:, 0], box.xc, box.t)
    y = mask_edges(at[:, 1], box.yc, box.t)
    total = [
        (pull * part).sum((1, 2))
        for part in (
            y.inside[:, :, None] * x.moved[:, None, :],
            y.moved[:, :, None] * x.inside[:, None, :],
            y.inside[:, :, None] * x.grown[:, None, :] + y.grown[:, :, None] * x.inside[:, None, :],
        )
    ]
    found: Tensor = torch.stack([size / 2 * total[0], size / 2 * total[1], size / 8 * total[2]], dim=-1)
    if limit is None:
        return found
    norm = torch.linalg.vector_norm(found, dim=-1, keepdim=True)
    return torch.where(norm > limit, found * (limit / norm), found)


class PaperCrop(torch.autograd.Function):
    """The integer crop whose gradient to ``u`` is :func:`mask_gradient`; none goes to the image."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, images: Tensor, side: int) -> Tensor:
        """Return the crop ``(B, C, side, side)``."""
        ctx.save_for_backward(u)
        ctx.size = images.shape[-1]
        return crop_integer(images, integer_box(box_of(u, ctx.size), ctx.size), side)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient with respect to ``u``."""
        (u,) = ctx.saved_tensors
        return mask_gradient(u, gradients[0], ctx.size), None, None

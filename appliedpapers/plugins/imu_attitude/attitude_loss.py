"""What the attitude networks are trained with, and the paper's measure (arXiv 2302.06037)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from appliedpapers.plugins.imu_attitude.network import up_of

__all__ = ["hamilton", "paper_angle_deg", "truncated_l1", "up_angle", "up_loss"]

_LARGEST_COSINE = 1 - 1e-11
_ANGLE_WEIGHT = 0.1


def up_angle(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return the angle between vectors ``(..., 3)`` in radians; its gradient is 0 at 0 and at 180 deg."""
    sine = torch.linalg.vector_norm(torch.linalg.cross(estimate, reference), dim=-1)
    return torch.atan2(sine, (estimate * reference).sum(-1))


def up_loss(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return our loss ``1 - u.u' + .1 angle(u, u')`` of both directions of up.

    It sees neither yaw nor the sign of a quaternion.

    Args:
        estimate: ``(..., 4)`` unit quaternions.
        reference: ``(..., 4)`` unit quaternions.

    Returns:
        ``(...)`` losses, 0 to 2.32.
    """
    ours, theirs = up_of(estimate), up_of(reference)
    return 1 - (ours * theirs).sum(-1) + _ANGLE_WEIGHT * up_angle(ours, theirs)


def truncated_l1(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return the paper's loss ``L1-trunc``: how far the error is from (1, 0, 0, 0), each part at most 1.

    A quaternion and its negative get different losses, as published. What is not known costs nothing.

    Args:
        estimate: ``(..., 4)`` quaternions of any length but zero.
        reference: ``(..., 4)`` unit quaternions; rows with NaN cost 0.

    Returns:
        ``(...)`` losses, 0 to 4.
    """
    known = torch.isfinite(reference).all(-1) & torch.isfinite(estimate).all(-1)
    error = _error(estimate, torch.where(known[..., None], reference, 1.0))
    parts = (error - error.new_tensor([1.0, 0.0, 0.0, 0.0])).abs().clamp(max=1.0)
    return torch.where(known, parts.sum(-1), 0.0)


def paper_angle_deg(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return the paper's ``Quat_error_angle`` in degrees, in float64; not a loss: it is flat at no error.

    Args:
        estimate: ``(..., 4)`` quaternions of any length but zero, after the attitude layer.
        reference: ``(..., 4)`` the same.
    """
    known = reference.double()
    if reference.dtype != torch.float64:  # the rounded length alone would cost .01 deg near no error
        known = functional.normalize(known, dim=-1)
    error = _error(estimate.double(), known)
    return torch.rad2deg(2 * torch.acos(error[..., 0].abs().clamp(max=_LARGEST_COSINE)))


def hamilton(first: Tensor, second: Tensor) -> Tensor:
    """Return the Hamilton product of quaternions ``(..., 4)``."""
    aw, ax, ay, az = first.unbind(-1)
    bw, bx, by, bz = second.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def _error(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return ``conj(estimate / |estimate|) * reference``."""
    unit = functional.normalize(estimate, dim=-1, eps=1e-30)
    return hamilton(unit * unit.new_tensor([1.0, -1.0, -1.0, -1.0]), reference)

"""Windows of the paper's models as a sensor that was mounted otherwise would have seen them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from appliedpapers.plugins.imu_attitude.attitude_loss import hamilton
from appliedpapers.plugins.imu_attitude.paper_windows import Batch

__all__ = ["set_upright", "turned", "turns_about_up", "turns_at_random"]


def turned(windows: Batch, turns: Tensor) -> Batch:
    """Return windows with each sensor turned its own way, the known orientation with it.

    Args:
        windows: N windows.
        turns: ``(N, 4)`` unit quaternions from the sensor frame to the new one.
    """
    back = turns * turns.new_tensor([1.0, -1.0, -1.0, -1.0])
    acc, gyr = (_rotate(turns[:, None], sensor) for sensor in (windows.acc, windows.gyr))
    return Batch(acc, gyr, windows.fs, hamilton(windows.quaternion, back))


def turns_at_random(count: int, like: Tensor) -> Tensor:
    """Return ``(count, 4)`` unit quaternions, any rotation being as likely as any other."""
    return functional.normalize(torch.randn(count, 4, dtype=like.dtype, device=like.device), dim=-1)


def turns_about_up(count: int, like: Tensor) -> Tensor:
    """Return ``(count, 4)`` unit quaternions that turn by any angle about the z axis."""
    half = math.pi * torch.rand(count, dtype=like.dtype, device=like.device)
    none = torch.zeros_like(half)
    return torch.stack([half.cos(), none, none, half.sin()], dim=-1)


def set_upright(windows: Batch, answered: int) -> Batch:
    """Turn each window so that its mean acceleration, carried along its gyroscope, is along z.

    The mean is that of the whole window in the frame of the sample that is answered for. Readings are turned
    as a whole: inside the window they are as raw as before. How a sensor is mounted, yaw apart, then makes no
    difference to a network.

    Args:
        windows: N windows of W samples.
        answered: Sample of a window that is answered for, 0 to W - 1.
    """
    along = windows.gyr / windows.fs[:, None, None]
    product, reach = _quaternions(along), 1
    while reach < product.shape[1]:
        product = torch.cat([product[:, :reach], hamilton(product[:, :-reach], product[:, reach:])], dim=1)
        reach *= 2
    back = product[:, answered : answered + 1] * product.new_tensor([1.0, -1.0, -1.0, -1.0])
    mean = _rotate(hamilton(back.expand_as(product), product), windows.acc).mean(dim=1)
    return turned(windows, _to_z(mean))


def _quaternions(vectors: Tensor) -> Tensor:
    """Return the rotations ``(..., 4)`` by rotation vectors ``(..., 3)`` in radians."""
    half = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) / 2
    # sin(x) / x, at 0, too
    return torch.cat([half.cos(), vectors / 2 * torch.sinc(half / math.pi)], dim=-1)


def _to_z(vectors: Tensor) -> Tensor:
    """Return the least rotations ``(N, 4)`` that take ``(N, 3)`` to the z axis; none for a zero vector."""
    x, y, z = functional.normalize(vectors, dim=-1).unbind(-1)
    length = torch.linalg.vector_norm(vectors, dim=-1)
    turn = torch.stack([1 + z, y, -x, torch.zeros_like(z)], dim=-1)
    over = turn.new_tensor([0.0, 1.0, 0.0, 0.0])
    turn = torch.where((turn.abs().amax(dim=-1) > 1e-6)[:, None], turn, over)
    none = turn.new_tensor([1.0, 0.0, 0.0, 0.0])
    return functional.normalize(torch.where((length > 0)[:, None], turn, none), dim=-1)


def _rotate(turns: Tensor, vectors: Tensor) -> Tensor:
    w, v = turns[..., :1], turns[..., 1:].expand_as(vectors)
    twice = 2 * torch.linalg.cross(v, vectors)
    rotated: Tensor = vectors + w * twice + torch.linalg.cross(v, twice)
    return rotated

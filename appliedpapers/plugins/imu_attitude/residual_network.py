"""The residual network: how far, and which way, the filter's up is off."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliedpapers.core.weights import drawn_by
from appliedpapers.nn import build
from appliedpapers.plugins.imu_attitude.residual_windows import CHANNELS, STATICS

FIRST, SECOND, HIDDEN = 32, 48, 64
KERNELS, STRIDE = (9, 5), 2


class ResidualNetwork(nn.Module):
    """Two convolutions, a recurrent layer, and a head of any kind on its last state.

    Its answer is the horizontal part of a small rotation, in radians, that brings the level frame's z axis to
    true up. ``gain`` is zero at first: untrained, it answers with no rotation at all.

    Args:
        head: Name of the shared module that ends it, such as ``"mlp"``.
        limit: Largest rotation in radians.
        seed: Of the first weights.

    Shape:
        - ``series``: ``(rows, n, CHANNELS)`` with n of 17 or more
        - ``statics``: ``(rows, STATICS)``
        - output: ``(rows, 2)``
    """

    def __init__(self, head: str, limit: float, seed: int) -> None:
        super().__init__()
        self.limit = limit
        # other threads draw from the global generator, too: it is put back, and nothing else reads it here
        with drawn_by(seed):
            self.first = nn.Conv1d(CHANNELS, FIRST, KERNELS[0], stride=STRIDE)
            self.second = nn.Conv1d(FIRST, SECOND, KERNELS[1], stride=STRIDE)
            self.recurrent = nn.GRU(SECOND, HIDDEN, batch_first=True)
            self.head = build(head, HIDDEN + STATICS, 2)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, series: Tensor, statics: Tensor) -> Tensor:
        """Return rotations."""
        hidden = functional.mish(self.first(series.transpose(1, 2)))
        hidden = functional.mish(self.second(hidden))
        states, _ = self.recurrent(hidden.transpose(1, 2))
        return self.rotation(states[:, -1], statics)

    def rotation(self, state: Tensor, statics: Tensor) -> Tensor:
        """Return rotations ``(rows, 2)`` for the last states ``(rows, HIDDEN)`` of windows."""
        raw = self.gain * self.head(torch.cat([state, statics], dim=1))
        # tanh(|raw|) / |raw|, smooth at zero, too
        size = torch.sqrt(raw.square().sum(dim=1, keepdim=True) + 1e-12)
        limited: Tensor = self.limit * torch.tanh(size) / size * raw
        return limited

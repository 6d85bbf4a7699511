"""The networks: a residual on the interpolated band (arXiv 2311.06510 and 2505.16658, section III)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BandNetwork", "RPnn", "RhoPnn"]


class BandNetwork(nn.Module, ABC):
    """A network that sharpens one band at a time.

    Attributes:
        halo: Fine pixels around a window that its output depends on.
    """

    halo: int
    layers: nn.ModuleList

    @classmethod
    def seeded(cls, seed: int) -> Self:
        """Return a network whose first weights depend on ``seed`` alone, whatever other threads draw."""
        with torch.device("meta"):
            network = cls()
        network.to_empty(device="cpu")
        random = torch.Generator().manual_seed(seed)
        for layer in network.layers:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=random)
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.bias, -bound, bound, generator=random)
        return network

    @abstractmethod
    def residual(self, interpolated: Tensor, pan: Tensor) -> Tensor:
        """Return what the network adds, shape ``(N, 1, H, W)``."""

    def forward(self, interpolated: Tensor, pan: Tensor, base: Tensor | None = None) -> Tensor:
        """Sharpen a band.

        Args:
            interpolated: The band on the fine grid, shape ``(N, 1, H, W)``.
            pan: The panchromatic band, the same shape.
            base: What the residual is added to; the interpolated band by default.

        Returns:
            The sharpened band, the same shape.
        """
        return (interpolated if base is None else base) + self.residual(interpolated, pan)


class RPnn(BandNetwork):
    """Three convolutions of 7, 5 and 3 pixels after one reflection of 6 pixels; 43,473 parameters."""

    halo = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(2, 48, 7), nn.Conv2d(48, 32, 5), nn.Conv2d(32, 1, 3)])

    def residual(self, interpolated: Tensor, pan: Tensor) -> Tensor:
        """Return what the network adds; see :class:`BandNetwork`."""
        first, second, last = self.layers
        both = functional.pad(torch.cat([interpolated, pan], dim=1), [self.halo] * 4, mode="reflect")
        hidden: Tensor = last(torch.relu(second(torch.relu(first(both)))))
        return hidden


class RhoPnn(BandNetwork):
    """Three convolutions of 7, 7 and 5 pixels, each with reflected edges; 80,849 parameters."""

    halo = 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(2, 48, 7), nn.Conv2d(48, 32, 7), nn.Conv2d(32, 1, 5)])

    def residual(self, interpolated: Tensor, pan: Tensor) -> Tensor:
        """Return what the network adds; see :class:`BandNetwork`."""
        first, second, last = self.layers
        hidden = torch.relu(_same(first, torch.cat([interpolated, pan], dim=1)))
        return _same(last, torch.relu(_same(second, hidden)))


def _same(layer: nn.Module, image: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    edge = layer.kernel_size[0] // 2
    result: Tensor = layer(functional.pad(image, [edge] * 4, mode="reflect"))
    return result

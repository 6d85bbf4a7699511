"""The networks of Varifocal-Net (arXiv 1810.05943, section II): G-Net, L-Net, localiser, classifiers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from appliedpapers.nn.factory import build
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES
from appliedpapers.plugins.varifocal_net.config import NetworkConfig

POOLED = 4
"""Side of the last map where it is classified, ``4 x 4``."""

_LOCATED = 8

Widths = tuple[int, int, int, int]


class Unit(nn.Module):
    """A pre-activation residual unit.

    Shape: ``(B, inputs, H, W)`` to ``(B, outputs, H, W)``, or ``(B, outputs, H / 2, W / 2)`` for the first
    unit of a block.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        first: Whether it is the first unit of a block: it halves the map. Its shortcut is projected where the
            number of channels changes, and else every second pixel.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool) -> None:
        super().__init__()
        self.stride = stride = 2 if first else 1
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of shortcut and residual."""
        activated = F.relu(self.norm1(x))
        every = self.stride
        straight = x[..., ::every, ::every] if self.shortcut is None else self.shortcut(activated)
        residual: Tensor = self.conv2(F.relu(self.norm2(self.conv1(activated)), inplace=True))
        return straight + residual


class Backbone(nn.Module):
    """A wide residual network: a stem, three blocks that halve the map, normalisation and ReLU.

    Shape: ``(B, 1, S, S)`` to ``(B, c3, S / 8, S / 8)``; with a stem of stride 2 half of that.

    Args:
        width: Channels ``(c0, c1, c2, c3)`` of the stem and of the blocks; the paper has 16, 160, 320, 640.
        units: Residual units a block; the paper has 4.
        stem_stride: Stride of the first convolution; the paper has 1.
    """

    def __init__(self, width: Widths, units: int, stem_stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width[0], 3, stem_stride, padding=1, bias=False)
        self.units = nn.Sequential(
            *(
                Unit(before if number == 0 else after, after, first=number == 0)
                for before, after in pairwise(width)
                for number in range(units)
            )
        )
        self.norm = nn.BatchNorm2d(width[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map."""
        return F.relu(self.norm(self.units(self.stem(x))), inplace=True)


class Branch(nn.Module):
    """G-Net or L-Net: a backbone with two linear classifiers on its map, pooled to ``4 x 4``.

    Args:
        options: Width and units.
        stem_stride: Stride of the first convolution.
    """

    def __init__(self, options: NetworkConfig, stem_stride: int) -> None:
        super().__init__()
        self.backbone = Backbone(options.width, options.units_per_block, stem_stride)
        features = options.width[-1] * POOLED**2
        self.to_type, self.to_polarity = nn.Linear(features, len(TYPES)), nn.Linear(features, 2)

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled map ``(B, 16 c3)`` of images ``(B, 1, S, S)``."""
        return pooled(self.backbone(x), POOLED)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the type ``(B, 24)`` and of the polarity ``(B, 2)``: q-arm up, q-arm down."""
        found = self.features(x)
        return self.to_type(found), self.to_polarity(found)


class Localiser(nn.Module):
    """Says where L-Net looks: ``(ux, uy, ul)`` in (0, 1) from the last map of G-Net.

    Args:
        channels: Channels of that map.
        hidden: Units between its two linear layers; the paper has 1024.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels * _LOCATED**2, hidden)
        self.last = nn.Linear(hidden, 3)

    def forward(self, last_map: Tensor) -> Tensor:
        """Return ``u``, shape ``(B, 3)``, of a map ``(B, c3, h, w)``."""
        return torch.sigmoid(self.last(F.relu(self.first(pooled(last_map, _LOCATED)))))


class Joint(nn.Module):
    """Two separate classifiers on the features of both networks; the paper has 512 hidden units and ReLU.

    Args:
        features: Features of both networks together.
        options: Head, hidden units and dropout.
    """

    def __init__(self, features: int, options: NetworkConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(options.dropout)
        self.to_type, self.to_polarity = _head(options, features, len(TYPES)), _head(options, features, 2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(B, 24)`` and ``(B, 2)`` of features ``(B, features)``."""
        kept = self.dropout(features)
        return self.to_type(kept), self.to_polarity(kept)


class VarifocalNet(nn.Module):
    """All four networks."""

    def __init__(self, g: Branch, local: Branch, localiser: Localiser, joint: Joint) -> None:
        super().__init__()
        self.g, self.l, self.localiser, self.joint = g, local, localiser, joint

    @classmethod
    def of(cls, options: NetworkConfig) -> Self:
        """Make networks of the sizes that the options state."""
        channels = options.width[-1]
        return cls(
            Branch(options, options.stem_stride),
            Branch(options, options.local_stem_stride),
            Localiser(channels, options.localiser_hidden),
            Joint(2 * channels * POOLED**2, options),
        )


def initialise(network: nn.Module) -> None:
    """Draw He's initial weights from the global generator; biases start as 0.

    Modules that are neither convolutions nor linear layers keep what they started with.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def pooled(last_map: Tensor, side: int) -> Tensor:
    """Return the maximum in each of ``side x side`` cells, flattened: ``(B, C side²)``."""
    return F.adaptive_max_pool2d(last_map, side).flatten(1)


def _head(options: NetworkConfig, features: int, classes: int) -> Callable[[Tensor], Tensor]:
    hidden = {"hidden": options.head_hidden} if options.head == "mlp" else {}
    made: Callable[[Tensor], Tensor] = build(
        options.head, in_features=features, out_features=classes, **hidden
    )
    return made

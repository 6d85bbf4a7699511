"""The paper's classifier: features, standardised, through two layers (arXiv 2511.22131, abstract)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TileHead(nn.Module):
    """A head over frozen features, with their mean and standard deviation inside.

    The paper says "a compact two-layer MLP"; width, dropout and standardisation are ours.

    Args:
        dim: Features of a tile.
        kind: ``mlp`` for two layers, or a module of the shelf such as ``kan(grid=5)``.
        hidden: Width of the two layers.
        dropout: Share of its hidden units that are left out in training.

    Shape:
        - input: ``(tiles, dim)``
        - output: ``(tiles,)`` logits of cut
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, kind: str = "mlp", hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.layers: nn.Module = _layers(dim, kind, hidden, dropout)

    def standardise(self, features: Tensor) -> None:
        """Take over mean and standard deviation of training features ``(tiles, dim)``."""
        self.mean.copy_(features.mean(0))
        spread = features.std(0, unbiased=False)
        # a feature that does not vary says nothing, and must not be blown up elsewhere
        self.std.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        found: Tensor = self.layers((features - self.mean) / self.std)
        return found.squeeze(-1)


def _layers(dim: int, kind: str, hidden: int, dropout: float) -> nn.Module:
    if kind == "mlp":
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))
    from appliedpapers import nn as shelf

    found: Any = shelf.build(kind, in_features=dim, out_features=1)
    module: nn.Module = found
    return module

"""Heads of FreTS other than the paper's: any shared module, on the first layer's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from appliedpapers.nn import build


class NamedHead(nn.Module):
    """A shared module and a trained factor for each step ahead.

    The factor may start at zero, so that the network starts from its skip whatever the module is.

    Args:
        spec: Such as ``kan(grid=5)``.
        hidden: Features in.
        horizon: Features out.
        zero: Whether the factors start at zero.

    Shape:
        - input: ``(..., hidden)``
        - output: ``(..., horizon)``

    Raises:
        SpecError: The specification names no module or option.
    """

    def __init__(self, spec: str, hidden: int, horizon: int, *, zero: bool = False) -> None:
        super().__init__()
        self.zero = zero
        self.norm = nn.LayerNorm(hidden)
        self.module = build(spec, in_features=hidden, out_features=horizon)
        self.factor = nn.Parameter(torch.empty(horizon))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the module's weights; the factors are 0 or 1."""
        self.norm.reset_parameters()
        self.module.reset_parameters()
        nn.init.constant_(self.factor, 0.0 if self.zero else 1.0)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(..., hidden)`` to ``(..., horizon)``."""
        out: Tensor = self.module(self.norm(features)) * self.factor
        return out

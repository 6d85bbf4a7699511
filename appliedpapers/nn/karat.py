"""KArAt: a learned map in the place of the softmax over attention scores.

Source: Maity et al. 2025, Kolmogorov-Arnold Attention: Is Learnable Attention Better For Vision
Transformers? (arXiv 2503.10632). Written from the formulas; its results are not verified here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from appliedpapers.nn.kan_linear import KANLinear
from appliedpapers.nn.module import Module, check_positive


class KArAt(Module):
    """``W KAN(a)`` for each row ``a`` of attention scores: Fourier edges R^N -> R^r, then linear R^r -> R^N.

    In the place of ``softmax(scores)``, for every head a map of its own (``heads``) or one for all. Used
    blockwise, every block has an instance; universal, all blocks share one instance.

    Limits: N is fixed, so the sequence has one length and there is no padding; masked scores of minus
    infinity have no value here, so causal attention is impossible; rows need not be positive nor sum to 1,
    so they are no probabilities; a row of scores is read by position, so a token's place matters.

    Args:
        length: Keys N in each row.
        heads: Heads with a map each; 1 is one map for all.
        rank: Rank r.
        grid: Frequencies of the edges.
        bias: Whether the KAN layer has a bias.
        device: Device of the weights.
        dtype: Type of the weights.

    Shape:
        - input: ``(..., queries, length)``; with ``heads`` above 1 ``(..., heads, queries, length)``
        - output: the same

    Raises:
        ValueError: A size is not positive, or the last axis is not ``length``, or axis -3 not ``heads``.
    """

    def __init__(
        self,
        length: int,
        *,
        heads: int = 1,
        rank: int = 12,
        grid: int = 3,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_positive("KArAt", length=length, heads=heads, rank=rank, grid=grid)
        self.length, self.heads, self.rank = length, heads, rank
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        self.down = nn.ModuleList(
            KANLinear(length, rank, basis="fourier", grid=grid, bias=bias, **where) for _ in range(heads)
        )
        self.up = nn.ModuleList(nn.Linear(rank, length, bias=False, **where) for _ in range(heads))

    def reset_parameters(self) -> None:
        """Draw the weights of all maps anew."""
        for part in (*self.down, *self.up):
            part.reset_parameters()

    def forward(self, scores: Tensor) -> Tensor:
        """Map every row of scores."""
        if scores.ndim < 1 or scores.shape[-1] != self.length:
            raise ValueError(
                f"KArAt: the last axis of the scores must be length={self.length}, for which it learns, "
                f"got shape {tuple(scores.shape)}; build another for another length"
            )
        if not scores.is_floating_point():
            raise TypeError(f"KArAt: the scores must be floating point, got {scores.dtype}; use x.float()")
        if self.heads == 1:
            out: Tensor = self.up[0](self.down[0](scores))
            return out
        if scores.ndim < 3 or scores.shape[-3] != self.heads:
            raise ValueError(
                f"KArAt: axis -3 of the scores must be heads={self.heads}, got shape {tuple(scores.shape)}"
            )
        maps = zip(self.down, self.up, scores.unbind(-3), strict=True)
        return torch.stack([up(down(rows)) for down, up, rows in maps], -3)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"length={self.length}, heads={self.heads}, rank={self.rank}"

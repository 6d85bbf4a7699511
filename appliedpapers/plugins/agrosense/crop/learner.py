"""What is trained: a network of classes on rows of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.plugins.agrosense.crop.tabnet import TabNet

if TYPE_CHECKING:
    from appliedpapers.core.training_config import TrainingConfig


class ClassTask(TrainTask):
    """Cross-entropy of classes.

    Args:
        network: Columns to logits; TabNet's masks are made sparse.
        settings: How it is trained.
        train: Columns ``(rows, width)`` float32 and classes ``(rows,)`` int64 to learn from.
        watched: Likewise, for the epoch at which it stops; None keeps the last one.
        sparsity: Weight of the masks' entropy.
    """

    monitor = "valid_loss"

    def __init__(
        self,
        network: nn.Module,
        settings: TrainingConfig,
        train: tuple[Tensor, Tensor],
        watched: tuple[Tensor, Tensor] | None,
        sparsity: float = 0.0,
    ) -> None:
        self.network, self.settings = network, settings
        self._x, self._y = train
        self._watched, self._sparsity = watched, sparsity
        self.keeps_last = watched is None

    def optimizer(self) -> Optimizer:
        """Return Adam, as in the paper."""
        rate, decay = self.settings.lr, self.settings.weight_decay
        return Adam(self.network.parameters(), lr=rate, weight_decay=decay, fused=True)

    def num_steps(self) -> int:
        """Return the number of batches; a last one of a single row joins the one before."""
        return max(1, -(-len(self._x) // self.settings.batch_size) - int(self._lonely))

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield row numbers."""
        parts = list(shuffled_slices(len(self._x), self.settings.batch_size, order))
        if self._lonely:
            parts[-2:] = [torch.cat(parts[-2:])]
        yield from parts

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean cross-entropy, with the entropy of the masks."""
        device = self.device
        x, y = self._x[batch].to(device), self._y[batch].to(device)
        if isinstance(self.network, TabNet):
            logits, entropy, _ = self.network.look(x)
            return F.cross_entropy(logits, y) + self._sparsity * entropy
        return F.cross_entropy(self.network(x), y)

    def validate(self) -> Mapping[str, float]:
        """Return the cross-entropy of the watched rows, or of those that were learned from."""
        x, y = self._watched or (self._x, self._y)
        loss = F.cross_entropy(self.network(x.to(self.device)), y.to(self.device))
        return {self.monitor if self._watched else "valid_loss": float(loss)}

    @property
    def _lonely(self) -> bool:
        # normalisation over one row is no normalisation
        return len(self._x) > self.settings.batch_size and len(self._x) % self.settings.batch_size == 1

"""How a head learns: weighted cross-entropy or focal loss, AdamW, the best epoch by AUPRC on valid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW, Optimizer

from appliedpapers.core.errors import DataError
from appliedpapers.core.metrics import auc, auprc
from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.plugins.virtual_inking.config import HeadConfig
from appliedpapers.plugins.virtual_inking.network import TileHead

_FOCUS = 2.0


@dataclass(frozen=True)
class Tiles:
    """Labelled tiles of several slides.

    Attributes:
        features: float32 ``(N, dim)``.
        labels: float32 ``(N,)``: 1 cut, 0 natural.
    """

    features: Tensor
    labels: Tensor

    @classmethod
    def of(cls, features: list[NDArray[np.float32]], labels: list[NDArray[np.int8]], part: str) -> Tiles:
        """Join slides; tiles that are neither are left out.

        Raises:
            DataError: There is no tile of one of the two kinds.
        """
        told = np.concatenate(labels) if labels else np.empty(0, dtype=np.int8)
        known = told >= 0
        rows = np.concatenate(features)[known] if features else np.empty((0, 0), dtype=np.float32)
        truth = told[known].astype(np.float32)
        for kind, count in (("cut", truth.sum()), ("natural", (1 - truth).sum())):
            if not count:
                raise DataError(
                    f"no tile of the {part} slides is {kind}.",
                    hint="Bring annotations that mark the cut surface and leave other edges free; "
                    "labels.cut lists the names that mean it.",
                )
        return cls(torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(truth))

    def __len__(self) -> int:
        return len(self.labels)


class HeadTask(TrainTask):
    """Trains a head on features that no longer change.

    Args:
        network: The head; its mean and standard deviation are set here.
        train: What is learned from.
        valid: What is watched, of other blocks.
        config: Loss and settings.
    """

    monitor = "valid_auprc"
    higher_is_better = True

    def __init__(self, network: TileHead, train: Tiles, valid: Tiles, config: HeadConfig) -> None:
        self.network, self.settings, self._config = network, config.training, config
        self._train, self._valid = train, valid
        network.standardise(train.features)
        positives = float(train.labels.sum())
        self._weight = (len(train) - positives) / positives

    def optimizer(self) -> Optimizer:
        """Return AdamW."""
        return AdamW(self.network.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def num_steps(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self._train) // self.settings.batch_size)

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield rows in random order."""
        yield from shuffled_slices(len(self._train), self.settings.batch_size, order)

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean loss of some tiles."""
        logits = self.network(self._train.features[batch].to(self.device))
        return self._losses(logits, self._train.labels[batch].to(self.device)).mean()

    def validate(self) -> Mapping[str, float]:
        """Return loss, AUROC and AUPRC of the validation tiles."""
        logits = self.network(self._valid.features.to(self.device))
        labels = self._valid.labels
        loss = float(self._losses(logits, labels.to(self.device)).mean())
        scores = logits.float().cpu().numpy()
        return {
            "valid_loss": loss,
            "valid_auc": auc(labels.numpy(), scores),
            "valid_auprc": auprc(labels.numpy(), scores),
        }

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        weight = torch.tensor(self._weight, device=logits.device)
        losses = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight, reduction="none")
        if self._config.loss == "bce":
            return losses
        chance = torch.sigmoid(torch.where(labels > 0.5, logits, -logits))
        return (1 - chance) ** _FOCUS * losses

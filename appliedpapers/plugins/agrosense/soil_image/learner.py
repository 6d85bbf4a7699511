"""Training a network on photos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from appliedpapers.core.temperature import softmax
from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.plugins.agrosense.soil_image.networks import SoilNetwork, logits_of, tensor_of
from appliedpapers.plugins.agrosense.soil_image.photos import Photos

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from appliedpapers.plugins.agrosense.soil_image.config import FineTuning


class SoilTask(TrainTask):
    """Training by cross-entropy with random crops, flips and turns; hue is the signal and stays.

    Args:
        network: What is trained.
        settings: How.
        size: Side of the input.
        learned: Photos to learn from.
        chosen: Photos to stop by.
        pretrained: Whether the trunk has learned before, and learns slower now.
    """

    def __init__(
        self,
        network: SoilNetwork,
        settings: FineTuning,
        size: int,
        learned: Photos,
        chosen: Photos,
        pretrained: bool,
    ) -> None:
        self.network, self.settings, self._tuning = network, settings, settings
        self._images, self._labels = tensor_of(list(learned.views()), size), torch.from_numpy(learned.labels)
        self.valid_images, self._valid = tensor_of(list(chosen.views()), size), chosen.labels
        self._trunk_rate = settings.trunk_lr if pretrained else settings.lr

    def optimizer(self) -> Optimizer:
        """Return AdamW or Adam with a rate for the trunk and one for the head."""
        network: Any = self.network
        groups = [
            {"params": network.trunk.parameters(), "lr": self._trunk_rate},
            {"params": network.head.parameters(), "lr": self._tuning.lr},
        ]
        made = torch.optim.AdamW if self._tuning.optimiser == "adamw" else torch.optim.Adam
        return made(groups, weight_decay=self._tuning.weight_decay)

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler | None:
        """Return a cosine over all epochs, or a rate that stays."""
        if self._tuning.schedule == "constant":
            return None
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def num_steps(self) -> int:
        """Return the number of batches of an epoch."""
        return math.ceil(len(self._images) / self._tuning.batch_size)

    def batches(self, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield photos in random order with random crops, flips and turns."""
        for rows in shuffled_slices(len(self._images), self._tuning.batch_size, order):
            images = self._images[rows].float()
            yield varied(images, self._tuning.crop, self._tuning.rotation, order), self._labels[rows]

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the cross-entropy with label smoothing."""
        images, labels = (one.to(self.device) for one in batch)
        logits = self.network(images)
        return F.cross_entropy(logits, labels, label_smoothing=self._tuning.label_smoothing)

    def validate(self) -> dict[str, float]:
        """Return logloss and accuracy of the photos that are chosen on."""
        logits = logits_of(self.network, self.valid_images, str(self.device))
        chances = softmax(logits)[np.arange(len(self._valid)), self._valid]
        return {
            "valid_loss": float(-np.log(np.maximum(chances, 1e-12)).mean()),
            "valid_accuracy": float(np.mean(logits.argmax(axis=1) == self._valid)),
        }


def varied(images: Tensor, crop: float, rotation: float, generator: torch.Generator) -> Tensor:
    """Return images ``(B, 3, S, S)`` randomly cropped (area from ``crop`` to 1), flipped and turned.

    One affine sampling does it all; pixels from outside repeat the border.
    """
    count = len(images)

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    scale = drawn(crop, 1).sqrt()
    shift_x, shift_y = drawn(-1, 1) * (1 - scale), drawn(-1, 1) * (1 - scale)
    angle = drawn(-rotation, rotation) * math.pi / 180
    flip = torch.where(drawn(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack(
        [torch.stack([cos * flip, -sin, shift_x], 1), torch.stack([sin * flip, cos, shift_y], 1)], 1
    )
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

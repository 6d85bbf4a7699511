"""How R-PNN's first weights are learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from appliedpapers.core.model import FitContext
from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.inputs import BandPatches, NetworkInputs, Normalisation
from appliedpapers.plugins.pansharpening.network import RPnn
from appliedpapers.plugins.pansharpening.rhopnn import first_windows
from appliedpapers.plugins.pansharpening.splits import SceneSplit

Example = tuple[BandPatches, Tensor]

_LAST_LR_SHARE = 0.1


class PatchTask(TrainTask):
    """R-PNN on patches of many scenes and ratios, with the loss that it adapts with.

    Args:
        network: What is trained.
        train: Scenes to learn from.
        valid: Scenes that decide which epoch is best.
        settings: Of the training.
        config: Options ``initial`` and ``adaptation``.
        run: Device and progress.
    """

    def __init__(
        self,
        network: RPnn,
        train: SceneSplit,
        valid: SceneSplit,
        settings: TrainingConfig,
        config: PansharpeningConfig,
        run: FitContext,
    ) -> None:
        self.network, self.settings = network, settings
        self._weight, patch = config.adaptation.r.struct_visible, config.initial.patch
        with run.progress.task("patches", train.num_rows + valid.num_rows) as progress:
            self._learn = _examples(train, patch, run.device, progress.advance)
            self._judge = _examples(valid, patch, run.device, progress.advance)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.network.parameters(), lr=self.settings.lr)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        """Return a cosine that ends at a tenth of the rate."""
        return CosineAnnealingLR(optimizer, steps, eta_min=self.settings.lr * _LAST_LR_SHARE)

    def num_steps(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self._learn) // self.settings.batch_size)

    def batches(self, order: torch.Generator) -> Iterator[Any]:
        """Yield patches in a random order, each with one of its bands."""
        for places in shuffled_slices(len(self._learn), self.settings.batch_size, order):
            drawn = torch.rand(len(places), generator=order)
            yield [
                self._learn[int(place)][int(share * len(self._learn[int(place)]))]
                for place, share in zip(places, drawn.tolist(), strict=True)
            ]

    def loss(self, batch: Any) -> Tensor:
        """Return the mean loss of patches."""
        return self._loss(batch)

    def validate(self) -> Mapping[str, float]:
        """Return the mean loss of each judged patch, in its first band."""
        firsts = [bands[0] for bands in self._judge]
        size = self.settings.batch_size
        parts = [firsts[start : start + size] for start in range(0, len(firsts), size)]
        sums = [self._loss(part).item() * len(part) for part in parts]
        return {"valid_loss": sum(sums) / len(firsts)}

    def _loss(self, batch: list[Example]) -> Tensor:
        interpolated = torch.cat([band.interpolated for band, _ in batch])
        sharp = self.network(interpolated, torch.cat([pan for _, pan in batch]))
        losses = [
            band.spectral(one) + self._weight * band.structural(one)
            for (band, _), one in zip(batch, sharp.split(1), strict=True)
        ]
        return torch.stack(losses).mean()


def _examples(split: SceneSplit, side: int, device: str, advance: Any) -> list[list[Example]]:
    """Return, for each patch of each scene, one example a band."""
    found = []
    for scene in split.scenes():
        inputs = NetworkInputs(scene, Normalisation.of(scene), thresholded=True, device=device)
        for window in first_windows(scene, side):
            fine = type(window)(*(edge * scene.optics.ratio for edge in window))
            found.append(
                [(inputs.patches(int(band), [window]), inputs.pans([fine])) for band in scene.living]
            )
        advance()
    return found

"""R-PNN's first weights: those that are shipped, and how they are trained (``--preset r-pnn-init``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import DataError
from appliedpapers.core.fingerprint import arrays_sha256
from appliedpapers.core.model import FitContext
from appliedpapers.core.training import TrainTask, fit, shuffled_slices
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.inputs import BandPatches, NetworkInputs, Normalisation
from appliedpapers.plugins.pansharpening.network import RPnn
from appliedpapers.plugins.pansharpening.rhopnn import first_windows
from appliedpapers.plugins.pansharpening.scene_split import SceneSplit

Weights = dict[str, NDArray[np.float32]]
Example = tuple[BandPatches, Tensor]

_SHIPPED = "r-pnn.safetensors"
_LAST_LR_SHARE = 0.1


def shipped_weights() -> tuple[Weights, dict[str, str]]:
    """Return the weights in the package and their provenance.

    Raises:
        DataError: The file was altered.
    """
    from safetensors import safe_open

    path = files("appliedpapers.plugins.pansharpening").joinpath("weights", _SHIPPED)
    with safe_open(str(path), framework="numpy") as file:
        provenance = dict(file.metadata() or {})
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if arrays_sha256(weights) != provenance.get("sha256"):
        raise DataError(f"{_SHIPPED}: the weights do not match their checksum.", hint="Install anew.")
    return weights, provenance


def train_first_weights(
    train: SceneSplit, valid: SceneSplit, config: PansharpeningConfig, run: FitContext
) -> tuple[Weights, dict[str, str]]:
    """Train R-PNN on the loss that it adapts with, on patches of many scenes and ratios (2.5).

    Args:
        train: Scenes to learn from.
        valid: Scenes that decide which epoch is best.
        config: Options ``initial`` and ``adaptation``.
        run: Seed, device and where checkpoints go.

    Returns:
        Weights by name, and what they were made from.

    Raises:
        DataError: There is no scene to learn from.
        RunError: Training diverged.
    """
    if not train.num_rows or not valid.num_rows:
        raise DataError(
            "first weights need scenes to learn from and scenes to choose on.",
            hint="Use apps run pansharpening --preset r-pnn-init without --data or --dataset.",
        )
    options = config.initial
    network = RPnn.seeded(derive_seed(run.seed, "network"))
    settings = TrainingConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        patience=options.patience,
        checkpoint_every_steps=0,
    )
    task = _FirstWeights(network, train, valid, settings, config, run)
    history = fit(task, run, name="first-weights")
    weights = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    provenance = {
        "network": "R-PNN, 2-48-32-1 channels, kernels 7-5-3",
        "seed": str(run.seed),
        "options": json.dumps(options.model_dump(), sort_keys=True),
        "scenes": f"{train.num_rows} to learn from, {valid.num_rows} to choose on",
        "train_fingerprint": train.fingerprint(),
        "epochs": str(len(history.epochs)),
        "licence": "Apache-2.0",
        "sha256": arrays_sha256(weights),
    }
    return weights, provenance


class _FirstWeights(TrainTask):
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
        return torch.optim.Adam(self.network.parameters(), lr=self.settings.lr)

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        return CosineAnnealingLR(optimizer, steps, eta_min=self.settings.lr * _LAST_LR_SHARE)

    def num_steps(self) -> int:
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
        return self._loss(batch)

    def validate(self) -> Mapping[str, float]:
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

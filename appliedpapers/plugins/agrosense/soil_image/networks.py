"""Networks trained on photos: the paper's three convolutions, and timm's by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.model import FitContext
from appliedpapers.core.temperature import fit_temperature, softmax
from appliedpapers.core.training import TrainTask, fit, shuffled_slices
from appliedpapers.core.vision.networks import create
from appliedpapers.core.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD
from appliedpapers.core.weights import drawn_by, load_network, parameter_count, save_network, start_from
from appliedpapers.nn.factory import build
from appliedpapers.plugins.agrosense.soil_image.answers import Reading
from appliedpapers.plugins.agrosense.soil_image.eyes import COLOUR, Eye
from appliedpapers.plugins.agrosense.soil_image.novelty import Novelty
from appliedpapers.plugins.agrosense.soil_image.photos import MEMORY, Photos
from appliedpapers.plugins.agrosense.soil_image.views import Pixels

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from appliedpapers.plugins.agrosense.soil_image.config import FineTuning, ModelConfig, SoilImageConfig
    from appliedpapers.plugins.agrosense.soil_image.reader import Answering

Floats = NDArray[np.float64]

WEIGHTS, _NOVELTY = "soil-network.safetensors", "soil-novelty.safetensors"

_CHANNELS = (16, 32, 64)
_HIDDEN, _DROPOUT = 256, 0.5


class SoilCnn(nn.Module):
    """The custom network of the paper's public code: three convolutions, then 256 units.

    Three times convolution 3 x 3 (16, 32, 64 channels), batch norm, ReLU and max pooling by 2; then a linear
    layer to 256, ReLU and dropout of one half.

    Shape: ``(B, 3, S, S)`` to ``(B, 256)``; with S = 224 the first linear layer has 50,176 inputs.

    Args:
        size: Side S of the input, a multiple of 8.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for after in _CHANNELS:
            layers += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            before = after
        self.maps = nn.Sequential(*layers)
        self.to_hidden = nn.Linear(before * (size // 8) ** 2, _HIDDEN)
        self.dropout = nn.Dropout(_DROPOUT)
        self.num_features = _HIDDEN

    def forward(self, x: Tensor) -> Tensor:
        """Return features."""
        found: Tensor = self.dropout(F.relu(self.to_hidden(self.maps(x).flatten(1))))
        return found


class SoilNetwork(nn.Module):
    """A trunk and a head; takes uint8 views, normalises them by ImageNet's mean and std.

    Shape: ``(B, 3, S, S)`` in 0 to 255 to ``(B, classes)``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        found: Tensor = self.head(self.trunk((images / 255 - self.mean) / self.std))
        return found


def new_network(options: ModelConfig, classes: int, seed: int, *, weights: bool = True) -> SoilNetwork:
    """Return an untrained network; a timm trunk has the weights of a file, where one is named.

    Args:
        options: Which network, and how large its input is.
        classes: Outputs.
        seed: Draws what is not read.
        weights: Whether the file is read; not needed where all weights follow.

    Raises:
        ConfigError: timm has no such network, or the input's side does not fit it.
    """
    if options.network == "cnn":
        if options.input_size % 8:
            raise ConfigError("model.input_size must be a multiple of 8 for the cnn.", hint="Such as 224.")
        with drawn_by(derive_seed(seed, "cnn")):
            trunk: nn.Module = SoilCnn(options.input_size)
    else:
        file = Path(options.weights).expanduser() if options.weights and weights else None
        sized = {"img_size": options.input_size} if options.network.startswith("vit_") else {}
        trunk = create(options.network, seed=seed, weights=file, arguments=sized)
    features: int = trunk.num_features  # type: ignore[assignment]
    with drawn_by(derive_seed(seed, "head")):
        if options.head == "linear":
            head: nn.Module = nn.Linear(features, classes)
        else:
            head = build(options.head, in_features=features, out_features=classes)
    return SoilNetwork(trunk, head)


class NetworkReader:
    """A trained network as a reader of photos; what is new is told by colour and grain.

    Args:
        classes: Names in the order of probabilities.
        network: Trained.
        size: Side of its input.
        temperature: Logits are divided by it.
        novelty: What photos that were learned from look like.
        device: Where the network is.
        facts: For the report.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        network: SoilNetwork,
        size: int,
        temperature: float,
        novelty: Novelty,
        device: str,
        facts: Mapping[str, str],
    ) -> None:
        self.classes, self.network, self.size = classes, network, size
        self.temperature, self.novelty, self.device, self.facts = temperature, novelty, device, dict(facts)

    def logits(self, views: Sequence[Pixels]) -> Floats:
        """Return ``(n, classes)`` before the temperature; each photo passes by itself."""
        # a batch would be rounded by its size
        found = [logits_of(self.network, _tensor([view], self.size), self.device) for view in views]
        return np.concatenate(found) if found else np.empty((0, len(self.classes)))

    def read(self, photos: Photos) -> Reading:
        """Return what is read of photos."""
        return self.read_views(list(photos.views()))

    def read_views(self, views: Sequence[Pixels]) -> Reading:
        """Return what is read of views."""
        if not views:
            return Reading(np.empty((0, len(self.classes))), (), np.empty(0))
        colours = Eye(COLOUR).look(views).astype(np.float32).astype(np.float64)
        chances = softmax(self.logits(views), self.temperature)
        return Reading(chances, self.novelty.reasons(colours), self.novelty.distances(colours))

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the network and the known photos as safetensors."""
        save_network(self.network, folder / WEIGHTS)
        self.novelty.write(folder / _NOVELTY)
        return {"classes": list(self.classes), "temperature": self.temperature, "facts": self.facts}

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was trained."""
        yield "parameters", parameter_count(self.network)
        yield "temperature", f"{self.temperature:.3f}"
        yield from self.facts.items()


def train_network(
    config: SoilImageConfig, learned: Photos, chosen: Photos, run: FitContext, earlier: Answering | None
) -> NetworkReader:
    """Train a network on photos, stop and calibrate by those that are chosen on.

    Args:
        config: Which network, and how it is trained.
        learned: Photos of soil to learn from.
        chosen: Photos of soil to choose on.
        run: Seed, device, scratch folder, progress and metric sink.
        earlier: A network to go on from.

    Raises:
        ConfigError: ``earlier`` is of another kind or size.
        RunError: Training diverged.
    """
    options = config.model
    network = new_network(options, len(learned.classes), run.seed, weights=earlier is None)
    if earlier is not None:
        if not isinstance(earlier, NetworkReader) or earlier.classes != learned.classes:
            raise ConfigError(
                "--init-from: that model is no network, or knows other soils.",
                hint="Start from a model of --method network with the same classes.",
            )
        start_from(network, earlier.network.state_dict())
    task = SoilTask(
        network, config.training, options.input_size, learned, chosen, options.weights is not None
    )
    history = fit(task, run, "soil")
    logits = logits_of(network, task.valid_images, run.device)
    colours = MEMORY.features(learned, Eye(COLOUR))
    known = "ImageNet weights of a file" if options.weights else "drawn weights: from scratch"
    facts = {"network": f"{options.network}, {known}", "best epoch": str(history.best_epoch)}
    return NetworkReader(
        learned.classes,
        network,
        options.input_size,
        fit_temperature(logits, chosen.labels),
        Novelty.fit(colours, learned.groups),
        run.device,
        facts,
    )


def read_network(
    config: SoilImageConfig, state: Mapping[str, Any], folder: Path, device: str
) -> NetworkReader:
    """Read what :meth:`NetworkReader.write` wrote."""
    options = config.model
    network = new_network(options, len(state["classes"]), 0, weights=False)
    return NetworkReader(
        tuple(state["classes"]),
        load_network(network, folder / WEIGHTS, device).requires_grad_(False),
        options.input_size,
        state["temperature"],
        Novelty.read(folder / _NOVELTY),
        device,
        state["facts"],
    )


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
        self._images, self._labels = _tensor(list(learned.views()), size), torch.from_numpy(learned.labels)
        self.valid_images, self._valid = _tensor(list(chosen.views()), size), chosen.labels
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


def logits_of(network: nn.Module, images: Tensor, device: str, block: int = 32) -> Floats:
    """Return float64 logits of uint8 images ``(N, 3, S, S)``, some at a time, in eval mode."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network(images[at : at + block].to(device).float()).cpu() for at in range(0, len(images), block)
        ]
    found: Floats = torch.cat(parts).double().numpy()
    return found


def _tensor(views: Sequence[Pixels], size: int) -> Tensor:
    """Return uint8 ``(N, 3, size, size)`` of views."""
    from appliedpapers.core.vision.preprocess import resized

    if not views:
        return torch.empty((0, 3, size, size), dtype=torch.uint8)
    return torch.from_numpy(np.stack([resized(view, size, size).transpose(2, 0, 1) for view in views]))

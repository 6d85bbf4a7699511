"""Networks trained on photos: the paper's three convolutions, and timm's by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from appliedpapers.core.training import fit
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
    from appliedpapers.plugins.agrosense.soil_image.config import ModelConfig, SoilImageConfig
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
        found = [logits_of(self.network, tensor_of([view], self.size), self.device) for view in views]
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
    from appliedpapers.plugins.agrosense.soil_image.learner import SoilTask

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


def logits_of(network: nn.Module, images: Tensor, device: str, block: int = 32) -> Floats:
    """Return float64 logits of uint8 images ``(N, 3, S, S)``, some at a time, in eval mode."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network(images[at : at + block].to(device).float()).cpu() for at in range(0, len(images), block)
        ]
    found: Floats = torch.cat(parts).double().numpy()
    return found


def tensor_of(views: Sequence[Pixels], size: int) -> Tensor:
    """Return uint8 ``(N, 3, size, size)`` of views."""
    from appliedpapers.core.vision.preprocess import resized

    if not views:
        return torch.empty((0, 3, size, size), dtype=torch.uint8)
    return torch.from_numpy(np.stack([resized(view, size, size).transpose(2, 0, 1) for view in views]))

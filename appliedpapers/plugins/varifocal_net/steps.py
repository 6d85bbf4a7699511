"""The paper's training in four steps and a second stage (arXiv 1810.05943, section II-D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from appliedpapers.core.device import derive_seed
from appliedpapers.core.training import TrainTask, fit
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.core.weights import drawn_by
from appliedpapers.plugins.varifocal_net.augment import normalise, vary
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig, NetworkConfig
from appliedpapers.plugins.varifocal_net.learner import (
    BranchTask,
    Examples,
    FirstTargetTask,
    FollowTask,
    JointTask,
    half_flipped,
    turned,
)
from appliedpapers.plugins.varifocal_net.looking import Crop, Looker
from appliedpapers.plugins.varifocal_net.network import Branch, Joint, VarifocalNet, initialise

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext

_ROWS = 256


@dataclass(frozen=True)
class Variant:
    """L-Net and joint classifiers that were trained with one way to choose what L-Net looks at.

    Attributes:
        crop: That way.
        looker: G-Net, this L-Net and the localiser, standing still.
        joint: The classifiers on both, likewise.
        box_offset: Mean distance of the boxes' centres from the middle, as a share; NaN for the simple crop.
    """

    crop: Crop
    looker: Looker
    joint: Joint
    box_offset: float

    def network(self) -> VarifocalNet:
        """Return all of it as one."""
        looker = self.looker
        return VarifocalNet(looker.g, looker.local, looker.localiser, self.joint)


def new_network(options: NetworkConfig, seed: int) -> VarifocalNet:
    """Return untrained networks; the global generator is left alone."""
    with drawn_by(seed):
        network = VarifocalNet.of(options)
        initialise(network)
    # a fifth faster on a CPU; in this layout the gradient of a 1 x 1 convolution of stride 2 that takes 8
    # channels or fewer is written beyond its end (oneDNN of torch 2.13, found with guard pages)
    if all(channels % 16 == 0 for channels in options.width):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def train(
    config: KaryotypeConfig, train: Examples, valid: Examples, run: FitContext, start: VarifocalNet | None
) -> list[Variant]:
    """Train all steps, with each way to choose where L-Net looks that the options ask for.

    Args:
        config: Sizes and steps.
        train: What is learned from.
        valid: What is chosen on.
        run: Seed, device, folder, progress and metric sink.
        start: Networks to go on from; None starts afresh.

    Raises:
        RunError: Training diverged.
    """
    network = new_network(config.network, derive_seed(run.seed, "varifocal-net"))
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.to(run.device)
    return _Trainer(config, network, train, valid, run).variants()


class _Trainer:
    """One run through the steps."""

    def __init__(
        self,
        config: KaryotypeConfig,
        network: VarifocalNet,
        train: Examples,
        valid: Examples,
        run: FitContext,
    ) -> None:
        self._options, self._plan, self._run = config.network, config.steps, run
        self._network, self._train, self._valid = network, train, valid

    def variants(self) -> list[Variant]:
        """Train everything."""
        network, crop = self._network, self._options.crop
        self._branch(network.g, None, self._plan.g, "g-net")
        stand_still(network.g)
        looked: list[tuple[Looker, Joint, float]] = []
        if crop != "simple":
            looker = Looker(self._options, "varifocal", network.g, network.l, network.localiser)
            looked.append((looker, network.joint, self._alternate(looker)))
        if crop != "varifocal":
            # the other variant has taken the first pair
            fresh = new_network(self._options, derive_seed(self._run.seed, "simple crop")).to(
                self._run.device
            )
            pair = (network.l, network.joint) if crop == "simple" else (fresh.l, fresh.joint)
            stand_still(network.localiser)
            looker = Looker(self._options, "simple", network.g, pair[0], network.localiser)
            self._branch(pair[0], looker, self._plan.l, "l-net-simple")
            looked.append((looker, pair[1], float("nan")))
        return self._joined_up(looked)

    def _alternate(self, looker: Looker) -> float:
        """Train localiser and L-Net in turn, and return how far boxes are from the middle."""
        plan, offset = self._plan, 0.0
        self._fit(FirstTargetTask(looker, *self._data, plan.localiser, plan), "localiser")
        self._branch(looker.local, looker, plan.l, "l-net", plan.shift)
        for number in range(1, plan.alternations + 1):
            stand_still(looker.local)
            follow = FollowTask(looker, *self._data, plan.follow, plan)
            offset = self._fit(follow, f"localiser-{number}")["box_offset"]
            self._branch(looker.local, looker, plan.again, f"l-net-{number}")
        stand_still(looker.localiser)
        return offset

    def _branch(
        self, branch: Branch, looker: Looker | None, settings: TrainingConfig, name: str, shift: float = 0.0
    ) -> None:
        branch.requires_grad_(True)
        self._fit(BranchTask(branch, looker, *self._data, settings, self._plan, shift), name)

    def _joined_up(self, looked: Sequence[tuple[Looker, Joint, float]]) -> list[Variant]:
        """Train the joint classifiers on what both networks, now standing still, make of varied images."""
        lookers = [looker for looker, _, _ in looked]
        for looker in lookers:
            stand_still(looker.local)
        learned, chosen = self._varied_features(lookers), self._valid_features(lookers)
        for (looker, joint, _), train, valid in zip(looked, learned, chosen, strict=True):
            name = "joint" if looker.crop == "varifocal" else "joint-simple"
            self._fit(JointTask(joint, train, valid, self._plan.fusion, self._plan), name)
            stand_still(joint)
        return [Variant(looker.crop, looker, joint, offset) for looker, joint, offset in looked]

    def _fit(self, task: TrainTask, name: str) -> dict[str, float]:
        """Train one step, and return what its kept epoch gave on the validation part."""
        history = fit(task, self._run, name)
        return history.epochs[history.best_epoch - 1]

    def _varied_features(self, lookers: Sequence[Looker]) -> list[Examples]:
        draws = torch.Generator().manual_seed(derive_seed(self._run.seed, "features"))
        blocks = [
            rows
            for _ in range(self._plan.copies)
            for rows in torch.split(torch.arange(len(self._train)), _ROWS)
        ]
        parts = []
        with self._run.progress.task("features", total=len(blocks)) as bar:
            for rows in blocks:
                parts.append(self._features_of(lookers, rows, torch.rand(4, len(rows), generator=draws)))
                bar.advance(1)
        return [_joined(own) for own in zip(*parts, strict=True)]

    def _features_of(self, lookers: Sequence[Looker], rows: Tensor, draws: Tensor) -> list[Examples]:
        images, flipped = vary(
            self._train.images[rows].to(self._run.device), self._plan.rotation, self._plan.stretch, draws
        )
        types, polarity = self._train.types[rows], turned(self._train.polarity[rows], flipped.cpu())
        return [Examples(features, types, polarity) for features in _halved(lookers, images)]

    def _valid_features(self, lookers: Sequence[Looker]) -> list[Examples]:
        parts = [
            [
                Examples(features, part.types.cpu(), part.polarity.cpu())
                for features in _halved(lookers, part.images)
            ]
            for part in half_flipped(self._valid, torch.device(self._run.device))
        ]
        return [_joined(own) for own in zip(*parts, strict=True)]

    @property
    def _data(self) -> tuple[Examples, Examples]:
        return self._train, self._valid


def stand_still(module: nn.Module) -> None:
    """Let a network neither learn nor move its running statistics."""
    module.requires_grad_(False).eval()


def _halved(lookers: Sequence[Looker], images: Tensor) -> list[Tensor]:
    # half precision: the features of two networks of full size would else take tens of gigabytes
    with torch.inference_mode():
        inputs = normalise(images)
        # one G-Net serves them all
        last_map = lookers[0].g.backbone(inputs)
        seen = [looker.see_on(images, inputs, last_map) for looker in lookers]
        return [one.features.to("cpu", torch.float16) for one in seen]


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        torch.cat([part.images for part in parts]),
        torch.cat([part.types for part in parts]),
        torch.cat([part.polarity for part in parts]),
    )

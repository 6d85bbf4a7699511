"""What is trained in each of the paper's steps (arXiv 1810.05943, section II-D)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from appliedpapers.core.training import TrainTask
from appliedpapers.core.training_config import TrainingConfig
from appliedpapers.plugins.varifocal_net.augment import normalise, vary
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN
from appliedpapers.plugins.varifocal_net.config import StepsConfig
from appliedpapers.plugins.varifocal_net.looking import Logits, Looker, branch_logits, first_target
from appliedpapers.plugins.varifocal_net.network import Branch

_ROWS = 256
_WARM_UP = 0.3
_FIRST_RATE = 0.04
_LAST_RATE = 1e-3
_STEP_EPOCHS = 10


@dataclass(frozen=True)
class Examples:
    """Labelled images.

    Attributes:
        images: uint8 ``(N, S, S)`` on white.
        types: int64 ``(N,)``, or ``UNKNOWN``.
        polarity: int64 ``(N,)``: 1 q-arm down, 0 up, or ``UNKNOWN``.
    """

    images: Tensor
    types: Tensor
    polarity: Tensor

    def __len__(self) -> int:
        return len(self.images)


class ScheduledTask(TrainTask):
    """A step with the plan's schedule: one-cycle with AdamW, or Adam with a tenth every 10 epochs.

    Args:
        network: What is trained.
        train: What is learned from.
        valid: What is watched.
        settings: Of this step.
        plan: Schedule, augmentation and losses of all steps.
    """

    monitor = "valid_loss"

    def __init__(
        self,
        network: nn.Module,
        train: Examples,
        valid: Examples,
        settings: TrainingConfig,
        plan: StepsConfig,
    ) -> None:
        self.network, self.settings, self.plan = network, settings, plan
        self._train, self._valid = train, valid
        self.keeps_last = self.schedules_steps = plan.schedule == "one-cycle"

    def optimizer(self) -> Optimizer:
        """Return AdamW for the one-cycle schedule and the paper's Adam else."""
        kind = AdamW if self.schedules_steps else Adam
        return kind(self.network.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay)

    def scheduler(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Return the schedule."""
        if not self.schedules_steps:
            return LambdaLR(optimizer, lambda epoch: 0.1 ** (epoch // _STEP_EPOCHS))
        return LambdaLR(optimizer, lambda step: one_cycle(step / steps))

    def num_steps(self) -> int:
        """Return the number of batches in an epoch."""
        return max(round(len(self._train) / self.settings.batch_size), 1)

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield indices of examples, about equally many each: normalisation needs whole batches."""
        yield from torch.randperm(len(self._train), generator=order).tensor_split(self.num_steps())


def one_cycle(share: float) -> float:
    """Return the factor on the rate after a share of all steps, in [0, 1]: up by a cosine, and down again."""
    if share < _WARM_UP:
        return _FIRST_RATE + (1 - _FIRST_RATE) * (1 - math.cos(math.pi * share / _WARM_UP)) / 2
    left = (1 + math.cos(math.pi * min((share - _WARM_UP) / (1 - _WARM_UP), 1.0))) / 2
    return _LAST_RATE + (1 - _LAST_RATE) * left


class ImageTask(ScheduledTask):
    """A step that learns from images, each varied anew whenever it is seen."""

    def varied(self, batch: Tensor) -> tuple[Examples, Tensor]:
        """Return varied examples, their images in 0 to 255, and the networks' inputs."""
        draws, device = torch.rand(4, len(batch)), self.device
        chosen = batch.to(self._train.images.device)
        images, flipped = vary(
            self._train.images[chosen].to(device), self.plan.rotation, self.plan.stretch, draws
        )
        types, polarity = self._train.types[chosen].to(device), self._train.polarity[chosen].to(device)
        return Examples(images, types, turned(polarity, flipped)), normalise(images)

    def judged(self) -> Iterator[Examples]:
        """Yield the validation part in blocks, every other image upside down."""
        yield from half_flipped(self._valid, self.device)


class BranchTask(ImageTask):
    """Steps 2 and 4a: a network with its two classifiers.

    Args:
        branch: G-Net or L-Net.
        looker: Chooses what L-Net sees, and stands still; None for G-Net.
        train: What is learned from.
        valid: What is watched.
        settings: Of this step.
        plan: Of all steps.
        shift: Largest random shift of L-Net's box while it learns, in ``u``.
    """

    def __init__(
        self,
        branch: Branch,
        looker: Looker | None,
        train: Examples,
        valid: Examples,
        settings: TrainingConfig,
        plan: StepsConfig,
        shift: float = 0.0,
    ) -> None:
        super().__init__(branch, train, valid, settings, plan)
        self._branch, self._looker, self._shift = branch, looker, shift

    def loss(self, batch: Tensor) -> Tensor:
        """Return the classification loss of varied images."""
        examples, inputs = self.varied(batch)
        return classification_loss(self._answer(examples, inputs, self._shift), examples, self.plan)

    def validate(self) -> Mapping[str, float]:
        """Return loss and accuracies on the validation part."""
        found = [(self._answer(part, normalise(part.images)), part) for part in self.judged()]
        return judge(found, self.plan)

    def _answer(self, examples: Examples, inputs: Tensor, shift: float = 0.0) -> Logits:
        seen = inputs if self._looker is None else self._looker.local_inputs(examples.images, inputs, shift)
        return branch_logits(self._branch, self._branch.features(seen))


class LocaliserTask(ImageTask):
    """A step in which the localiser learns, and all else stands still."""

    def __init__(
        self, looker: Looker, train: Examples, valid: Examples, settings: TrainingConfig, plan: StepsConfig
    ) -> None:
        super().__init__(looker.localiser, train, valid, settings, plan)
        self._looker = looker


class FirstTargetTask(LocaliserTask):
    """Step 3: the localiser learns to look at the middle, as closely as the chromosome is large."""

    def loss(self, batch: Tensor) -> Tensor:
        """Return the distance to the first target."""
        examples, inputs = self.varied(batch)
        return self._distance(examples.images, inputs)

    def validate(self) -> Mapping[str, float]:
        """Return that distance on the validation part."""
        found = [
            (self._distance(part.images, normalise(part.images)).item(), len(part)) for part in self.judged()
        ]
        return {"valid_loss": sum(value * rows for value, rows in found) / sum(rows for _, rows in found)}

    def _distance(self, images: Tensor, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            last_map = self._looker.g.backbone(inputs)
        return target_loss(self._looker.localiser(last_map), images)


class FollowTask(LocaliserTask):
    """Step 4b: the localiser follows what L-Net makes of its crops; all else stands still."""

    def loss(self, batch: Tensor) -> Tensor:
        """Return L-Net's loss and a little of the distance to the first target."""
        examples, inputs = self.varied(batch)
        logits, u = self._answer(examples, inputs)
        pull = target_loss(u, examples.images)
        return classification_loss(logits, examples, self.plan) + self.plan.box_weight * pull

    def validate(self) -> Mapping[str, float]:
        """Return L-Net's loss and accuracies, and how far boxes are from the middle."""
        found, moved = [], []
        for part in self.judged():
            logits, u = self._answer(part, normalise(part.images))
            found.append((logits, part))
            moved.append((u[:, :2] - 0.5).abs())
        return {**judge(found, self.plan), "box_offset": float(torch.cat(moved).mean())}

    def _answer(self, examples: Examples, inputs: Tensor) -> tuple[Logits, Tensor]:
        with torch.no_grad():
            last_map = self._looker.g.backbone(inputs)
        local, _, u = self._looker.look(examples.images, inputs, last_map)
        assert u is not None
        branch = self._looker.local
        return branch_logits(branch, branch.features(local)), u


class JointTask(ScheduledTask):
    """Stage 2: the joint classifiers, on features ``(M, F)`` that no longer change."""

    def loss(self, batch: Tensor) -> Tensor:
        """Return the classification loss."""
        return self._loss_of(_rows_of(self._train, batch, self.device))

    def validate(self) -> Mapping[str, float]:
        """Return loss and accuracies on the validation part."""
        blocks = torch.split(torch.arange(len(self._valid)), _ROWS)
        parts = [_rows_of(self._valid, rows, self.device) for rows in blocks]
        return judge([(Logits(*self.network(part.images)), part) for part in parts], self.plan)

    def _loss_of(self, part: Examples) -> Tensor:
        return classification_loss(Logits(*self.network(part.images)), part, self.plan)


def _rows_of(examples: Examples, rows: Tensor, device: torch.device) -> Examples:
    rows = rows.to(examples.types.device)
    return Examples(
        examples.images[rows].to(device, torch.float32),
        examples.types[rows].to(device),
        examples.polarity[rows].to(device),
    )


def half_flipped(examples: Examples, device: torch.device) -> Iterator[Examples]:
    """Yield blocks of examples on a device, every other image upside down: labels come one way up."""
    for rows in torch.split(torch.arange(len(examples)), _ROWS):
        images = examples.images[rows].to(device, torch.float32)
        flipped = (rows % 2 == 1).to(device)
        images = torch.where(flipped[:, None, None], images.flip(1), images)
        polarity = turned(examples.polarity[rows].to(device), flipped)
        yield Examples(images, examples.types[rows].to(device), polarity)


def turned(polarity: Tensor, flipped: Tensor) -> Tensor:
    """Return the polarity of images of which some were flipped upside down; unknown ones stay so."""
    return torch.where(flipped & (polarity != UNKNOWN), 1 - polarity, polarity)


def target_loss(u: Tensor, images: Tensor) -> Tensor:
    """Return the smooth L1 distance to the first target, summed over its three parts (mean over images)."""
    return F.smooth_l1_loss(u, first_target(images).to(u.dtype), reduction="sum") / len(u)


def classification_loss(logits: Logits, examples: Examples, plan: StepsConfig) -> Tensor:
    """Return the types' cross-entropy and a share of that of the polarity; unknown labels are left out."""
    types = _cross_entropy(logits.types, examples.types, plan.label_smoothing)
    return types + plan.polarity_weight * _cross_entropy(logits.polarity, examples.polarity, 0.0)


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    total = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, label_smoothing=smoothing, reduction="sum")
    return total / (labels != UNKNOWN).sum().clamp_min(1)


def judge(found: list[tuple[Logits, Examples]], plan: StepsConfig) -> dict[str, float]:
    """Return the mean loss and the accuracies of some blocks."""
    logits = Logits(torch.cat([one.types for one, _ in found]), torch.cat([one.polarity for one, _ in found]))
    labels = Examples(
        torch.empty(0),
        torch.cat([part.types for _, part in found]),
        torch.cat([part.polarity for _, part in found]),
    )
    return {
        "valid_loss": float(classification_loss(logits, labels, plan)),
        "type_accuracy": _accuracy(logits.types, labels.types),
        "polarity_accuracy": _accuracy(logits.polarity, labels.polarity),
    }


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    known = labels != UNKNOWN
    return float((logits.argmax(1) == labels)[known].float().mean()) if bool(known.any()) else 0.0

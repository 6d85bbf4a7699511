"""How the two heads learn: their losses over prefixes of devices, as tasks of the common fit loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliedpapers.core.training import TrainTask, shuffled_slices
from appliedpapers.plugins.laser_cvae.network import (
    MEAN_KNOTS,
    SPREAD_KNOTS,
    STEPS,
    AgeingCVAE,
    ForecastCVAE,
    hats,
)

if TYPE_CHECKING:
    from appliedpapers.plugins.laser_cvae.config import LaserTraining

_WARM_UP = 0.3
_DRAWS = 4
_CROSSING_EDGE = 1e-5
_FAR = 30.0  # standard deviations beyond which a reading does not count more
_KL_WEIGHT, _HAZARD_WEIGHT = 0.3, 0.09


@dataclass(frozen=True)
class AgeingRows:
    """Prefixes of healthy devices, as tensors.

    Attributes:
        features: ``(R, F)``.
        condition: ``(R, 4)``.
        size: ``(R, 1)``.
        damage: ``(R, L)``, 0 where there is none.
        weight: ``(R, L)``, 1 for readings that count.
        shares: ``(R, L)``, time as a share of the reference.
        tokens: ``(R, L, 4)`` for a recurrent encoder, else empty.
        limit: Damage at the failure criterion: what is healthy stays below it.
        floor: Smallest standard deviation of a reading.
    """

    features: Tensor
    condition: Tensor
    size: Tensor
    damage: Tensor
    weight: Tensor
    shares: Tensor
    tokens: Tensor
    limit: float
    floor: float

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> AgeingRows:
        """Return some of the rows."""
        return self.each(lambda one: one[rows] if len(one) else one)

    def each(self, change: Callable[[Tensor], Tensor]) -> AgeingRows:
        """Return the rows with every tensor changed."""
        return AgeingRows(
            change(self.features),
            change(self.condition),
            change(self.size),
            change(self.damage),
            change(self.weight),
            change(self.shares),
            change(self.tokens),
            self.limit,
            self.floor,
        )


def reading_losses(network: AgeingCVAE, rows: AgeingRows, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the negative log-likelihood of each reading ``(..., R, L)`` without its constant, and the mean.

    The mean is what is expected of a healthy device, which stays below the failure criterion.
    """
    mean_weights, spread_weights = network.decode(z, rows.condition)
    # four hats over the square root of time are lines between the sixteen: one product does for both
    weights = torch.stack([mean_weights, spread_weights @ wide_hats(z)], dim=-2)
    mean, spread = torch.einsum("...rpk,rlk->p...rl", weights, _grid_hats(rows.shares)).unbind(0)
    mean = (mean * rows.size).clamp(max=rows.limit)
    variance = rows.size**2 * torch.exp(spread.clamp(-20, 4)) + rows.floor**2
    return 0.5 * ((rows.damage - mean) ** 2 / variance + torch.log(variance)), mean


def _grid_hats(shares: Tensor) -> Tensor:
    """Return the hats of the mean ``(R, L, 16)``; those of rows that were read at the same times but once."""
    # in training rows are cut at random, and a look at them would wait for the device
    if torch.is_inference_mode_enabled() and torch.equal(shares, shares[:1].expand_as(shares)):
        return hats(shares[:1], MEAN_KNOTS).expand(len(shares), -1, -1)
    return hats(shares, MEAN_KNOTS)


def wide_hats(like: Tensor) -> Tensor:
    """Return the hats of the spread at the knots of the mean, ``(4, 16)``."""
    knots = torch.linspace(0, 1, MEAN_KNOTS, device=like.device, dtype=like.dtype)
    return hats(knots**2, SPREAD_KNOTS).T


class PrefixTask(TrainTask):
    """What both heads share: AdamW, a one-cycle schedule over all steps, batches of prefixes.

    Args:
        network: What is trained.
        settings: How it is trained.
        count: Prefixes to learn from.
    """

    keeps_last = True
    schedules_steps = True
    shown = "train_loss"

    def __init__(self, network: nn.Module, settings: LaserTraining, count: int) -> None:
        self.network = network
        self.settings: LaserTraining = settings
        self._count = count

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        settings = self.settings
        return torch.optim.AdamW(
            self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
        )

    def scheduler(self, optimizer: torch.optim.Optimizer, steps: int) -> Any:
        """Return a one-cycle schedule over all steps."""
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, self.settings.lr, total_steps=steps + 1)

    def num_steps(self) -> int:
        """Return the batches of an epoch."""
        return max(-(-self._count // self.settings.batch_size), 1)

    def batches(self, order: torch.Generator) -> Iterator[Tensor]:
        """Yield row numbers."""
        yield from shuffled_slices(self._count, self.settings.batch_size, order)

    def validate(self) -> Mapping[str, float]:
        """Return nothing to choose on: the schedule ends low, and the last weights are kept."""
        return {"valid_loss": 0.0}


class AgeingTask(PrefixTask):
    """The evidence bound of prefixes; the KL term is warmed up over the first 30 % of the epochs.

    Args:
        network: What is trained.
        rows: Prefixes to learn from.
        settings: How it is trained.
        beta: Weight of the KL term after the warm-up.
        trim: Share of the largest losses of a batch that is left out.
    """

    def __init__(
        self, network: AgeingCVAE, rows: AgeingRows, settings: LaserTraining, *, beta: float, trim: float
    ) -> None:
        super().__init__(network, settings, len(rows))
        self.network: AgeingCVAE = network
        self._rows, self._beta, self._trim = rows, beta, trim

    def loss(self, batch: Tensor) -> Tensor:
        """Return the trimmed mean loss of a batch."""
        rows = self._rows.take(batch)
        posterior = self.network.encode(rows.features, rows.tokens)
        z = posterior.draw(torch.randn_like(posterior.mean))
        losses, _ = reading_losses(self.network, rows, z)
        count = rows.weight.sum(dim=1).clamp(min=1)
        fit = (losses * rows.weight).sum(dim=1) / count * rows.weight.shape[1]
        warm = 0.1 + self.network.epochs / max(_WARM_UP * self.settings.epochs, 1)
        total = fit + warm.clamp(max=1) * self._beta * posterior.divergence()
        if self._trim > 0:
            kept = max(int(len(total) * (1 - self._trim)), 1)
            total = total.topk(kept, largest=False).values
        return total.mean()

    def validate(self) -> Mapping[str, float]:
        """Count the epoch for the warm-up."""
        self.network.epochs += 1
        return super().validate()


@dataclass(frozen=True)
class ForecastRows:
    """Prefixes with their future, as tensors.

    Attributes:
        features: ``(R, F)``.
        level: ``(R,)``.
        increments: Of the path prior, ``(R, STEPS)``.
        future: Damage at the steps ahead, ``(R, STEPS)``.
        seen: ``(R, STEPS)``, 1 where the future was read, before any sudden failure.
        sudden: ``(R,)``, step of the sudden failure; the number of read steps where there was none.
        jumped: ``(R,)``, 1 where there was one.
        crossed: ``(R,)``, 1 where the device failed by the end.
        judged: ``(R,)``, 1 where that is known.
        limit: Damage at the failure criterion.
    """

    features: Tensor
    level: Tensor
    increments: Tensor
    future: Tensor
    seen: Tensor
    sudden: Tensor
    jumped: Tensor
    crossed: Tensor
    judged: Tensor
    limit: float

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> ForecastRows:
        """Return some of the rows."""
        return ForecastRows(
            self.features[rows],
            self.level[rows],
            self.increments[rows],
            self.future[rows],
            self.seen[rows],
            self.sudden[rows],
            self.jumped[rows],
            self.crossed[rows],
            self.judged[rows],
            self.limit,
        )


def crossing(mean: Tensor, log_sd: Tensor, hazard: Tensor, limit: float, steps: Tensor | int) -> Tensor:
    """Return the chance that a path is beyond the criterion, or that the device failed suddenly before."""
    beyond: Tensor = torch.special.ndtr((mean - limit) / torch.exp(log_sd))
    beyond = beyond.clamp(_CROSSING_EDGE, 1 - _CROSSING_EDGE)
    survived = (1 - beyond) * torch.exp(steps * functional.logsigmoid(-hazard))
    return 1 - survived


class ForecastTask(PrefixTask):
    """Evidence bound of the future given a prefix, hazard with censoring, and the crossing itself.

    Args:
        network: What is trained.
        rows: Prefixes to learn from.
        settings: How it is trained.
        decision: Weight of the cross-entropy of crossing, z drawn as it will be: from the prefix.
    """

    def __init__(
        self, network: ForecastCVAE, rows: ForecastRows, settings: LaserTraining, *, decision: float
    ) -> None:
        super().__init__(network, settings, len(rows))
        self.network: ForecastCVAE = network
        self._rows, self._decision = rows, decision

    def loss(self, batch: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        rows, network = self._rows.take(batch), self.network
        code, prefix = network.read(rows.features)
        ahead = (rows.future - rows.level[:, None]) / rows.limit * rows.seen
        whole = network.read_whole(rows.features, ahead, rows.jumped)
        path = network.decode(whole.draw(torch.randn_like(whole.mean)), code, rows.level, rows.increments)
        off = ((rows.future - path.mean) / torch.exp(path.log_sd)).clamp(-_FAR, _FAR)
        fit = ((0.5 * off**2 + path.log_sd) * rows.seen).sum(dim=1) / rows.seen.sum(dim=1).clamp(min=1)
        survived = rows.sudden * functional.logsigmoid(-path.hazard)
        lived = survived + rows.jumped * functional.logsigmoid(path.hazard)
        bound = fit + _KL_WEIGHT * whole.divergence_to(prefix) - _HAZARD_WEIGHT * lived
        return bound.mean() + self._decision * self._crossing_loss(rows, code, prefix)

    def _crossing_loss(self, rows: ForecastRows, code: Tensor, prefix: Any) -> Tensor:
        noise = torch.randn(_DRAWS, *prefix.mean.shape, device=code.device)
        path = self.network.decode(prefix.draw(noise), code, rows.level, rows.increments)
        chance = crossing(path.mean[..., -1], path.log_sd[..., -1], path.hazard, rows.limit, STEPS)
        mean = chance.mean(dim=0).clamp(_CROSSING_EDGE, 1 - _CROSSING_EDGE)
        losses = functional.binary_cross_entropy(mean, rows.crossed, reduction="none")
        return (losses * rows.judged).sum() / rows.judged.sum().clamp(min=1)

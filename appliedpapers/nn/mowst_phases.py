"""The phases in which a mixture is trained: its options, one phase of gradient descent, and their data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from appliedpapers.nn.module import check_choice
from appliedpapers.nn.mowst import ConfidenceGatedMixture, Side
from appliedpapers.nn.mowst_checks import check_pair
from appliedpapers.nn.mowst_experts import take_inputs
from appliedpapers.nn.mowst_gates import ConfidenceGate
from appliedpapers.nn.mowst_routing import Evidence, Weight, scores

SIDES: tuple[Side, Side] = ("weak", "strong")
Rows = tuple[Any, Tensor]


@dataclass(frozen=True)
class MixtureTraining:
    """How a mixture is trained.

    Attributes:
        lr: Learning rate of AdamW for pretraining.
        lr_divisor: By how much it is divided for the mixture.
        lr_gate: Learning rate of the gate; None takes ``lr`` undivided, since the gate starts fresh while
            the experts go on (ours: with a tenth it hardly moves before the patience ends).
        weight_decay: Of AdamW.
        epochs: Most epochs of each phase.
        patience: Epochs of a phase without a better validation score before it ends.
        rounds: Most pairs of turns of the mode ``mowst``.
        round_patience: Rounds without a better validation score before they end.
        pretrain: Experts that are trained alone first: ``none``, ``weak``, ``strong`` or ``both``.
        batch_size: Rows a step; None takes all at once, as graphs need.
        seed: Of everything random.
    """

    lr: float = 0.01
    lr_divisor: float = 10.0
    lr_gate: float | None = None
    weight_decay: float = 1e-3
    epochs: int = 150
    patience: int = 30
    rounds: int = 10
    round_patience: int = 3
    pretrain: Literal["none", "weak", "strong", "both"] = "both"
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse options out of range."""
        check_choice("MixtureTraining", "pretrain", self.pretrain, ("none", "weak", "strong", "both"))
        for name in ("lr", "lr_divisor", "epochs", "patience", "rounds", "round_patience"):
            if not getattr(self, name) > 0:
                raise ValueError(f"MixtureTraining: {name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: ``weak``, ``strong``, ``star``, ``weak turn 1``, ...
        losses: Training loss of each epoch.
        scores: Validation score of each epoch.
        best: Index of the epoch whose state was restored.
    """

    name: str
    losses: tuple[float, ...]
    scores: tuple[float, ...]
    best: int


def descend(
    modules: Sequence[nn.Module],
    steps: Callable[[], Iterator[Tensor]],
    score: Callable[[], float],
    *,
    name: str,
    lr: float,
    options: MixtureTraining,
) -> Phase:
    """Run AdamW over some modules until the score has not risen for ``patience`` epochs; restore the best.

    Args:
        modules: What is trained; in training mode during steps and in evaluation mode while scored.
        steps: Yields the loss of each step of an epoch.
        score: The validation score.
        name: Name of the phase.
        lr: Learning rate; a gate has its own, see :class:`MixtureTraining`.
        options: Epochs, patience and weight decay.
    """
    gate_lr = options.lr_gate or options.lr
    rates = [gate_lr if isinstance(module, ConfidenceGate) else lr for module in modules]
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
        for module, rate in zip(modules, rates, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=options.weight_decay)
    losses: list[float] = []
    found: list[float] = []
    best, kept = -math.inf, _states(modules)
    for epoch in range(options.epochs):
        for module in modules:
            module.train()
        total = []
        for loss in steps():
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total.append(float(loss.detach()))
        losses.append(sum(total) / len(total))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"phase '{name}', epoch {epoch + 1}: the loss is {losses[-1]}; lower lr")
        for module in modules:
            module.eval()
        with torch.no_grad():
            found.append(score())
        if found[-1] > best:
            best, kept = found[-1], _states(modules)
        elif epoch - found.index(best) >= options.patience:
            break
    for module, state in zip(modules, kept, strict=True):
        module.load_state_dict(state)
    return Phase(name, tuple(losses), tuple(found), found.index(best) if found else 0)


class Work:
    """The data of one training, and the answers of experts that are held still."""

    def __init__(
        self,
        mixture: ConfidenceGatedMixture,
        train: Rows,
        valid: Rows,
        options: MixtureTraining,
        weights: Tensor | None,
    ) -> None:
        self.mixture, self.train, self.valid, self.options = mixture, train, valid, options
        self.weights = weights
        self.held: dict[str, tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]] = {}
        for side in mixture.frozen:
            self.hold(side)  # type: ignore[arg-type]

    def hold(self, side: Side) -> None:
        """Keep an expert's answers of evaluation mode, computed once: it does not move meanwhile."""
        self.mixture.expert(side).eval()
        with torch.no_grad():
            self.held[side] = (
                self.mixture.answer(side, self.train[0]),
                self.mixture.answer(side, self.valid[0]),
            )

    def release(self, side: Side) -> None:
        """Let an expert move again, unless it is frozen."""
        if side not in self.mixture.frozen:
            self.held.pop(side, None)

    def batches(self) -> Iterator[Tensor | None]:
        """Yield the rows of each step, None for all."""
        count, size = len(self.train[1]), self.options.batch_size
        if size is None or size >= count:
            yield None
            return
        order = torch.randperm(count)
        # a last batch of a few rows would have no variance for BatchNorm
        for start in range(0, max(count - size // 2, 1), size):
            yield order[start : start + size]

    def on_train(self, side: Side, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return an expert's answers on training rows, kept ones where it is held still."""
        if side in self.held:
            answer, variance = self.held[side][0]
            return (answer, variance) if rows is None else (answer[rows], _of(variance, rows))
        return self.mixture.answer(side, self.train[0], rows)

    def on_valid(self, side: Side) -> tuple[Tensor, Tensor | None]:
        """Return an expert's answers on the validation rows."""
        return self.held[side][1] if side in self.held else self.mixture.answer(side, self.valid[0])

    def pretrain(self, side: Side) -> Phase:
        """Train one expert alone."""
        mixture = self.mixture

        def steps() -> Iterator[Tensor]:
            for rows in self.batches():
                loss = mixture.row_loss(self.on_train(side, rows)[0], _some(self.train[1], rows))
                yield self._mean(loss, rows) + _auxiliary(mixture.expert(side))

        def score() -> float:
            return mean_score(mixture._final(self.on_valid(side)[0]), self.valid[1])

        return descend(
            [mixture.expert(side)], steps, score, name=side, lr=self.options.lr, options=self.options
        )

    def star(self) -> list[Phase]:
        """Train the gate and what is not frozen together."""
        trained = [self.mixture.expert(side) for side in SIDES if side not in self.mixture.frozen]
        return [self._joint([*trained, self.mixture.gate], "star")]

    def turns(self) -> list[Phase]:
        """Train the weak expert and the gate, then the strong expert, and so on; keep the best round."""
        mixture, options = self.mixture, self.options
        phases: list[Phase] = []
        best, kept, since = -math.inf, state_of(mixture), 0
        for turn in range(1, options.rounds + 1):
            self.hold("strong")
            weak = [] if "weak" in mixture.frozen else [mixture.weak]
            phases.append(self._joint([*weak, mixture.gate], f"weak turn {turn}"))
            self.release("strong")
            if "strong" not in mixture.frozen:
                self.hold("weak")
                phases.append(self._joint([mixture.strong], f"strong turn {turn}"))
                self.release("weak")
            last = phases[-1].scores[phases[-1].best]
            if last > best:
                best, since = last, 0
                kept = state_of(mixture)
            else:
                since += 1
            # without a strong turn the next weak turn would only go on with the same
            if since >= options.round_patience or "strong" in mixture.frozen:
                break
        mixture.load_state_dict(kept)
        return phases

    def _joint(self, modules: list[nn.Module], name: str) -> Phase:
        mixture = self.mixture
        mixture.eval()
        gate_moves = mixture.gate in modules

        def confidence(weak: tuple[Tensor, Tensor | None], rows: Tensor | None) -> Tensor:
            inputs = self.train[0]
            if mixture.gate.features and rows is not None:
                inputs = take_inputs(inputs, rows)
            with torch.set_grad_enabled(gate_moves):
                return mixture.confidence(weak, inputs)

        def steps() -> Iterator[Tensor]:
            for rows in self.batches():
                weak, strong = self.on_train("weak", rows), self.on_train("strong", rows)
                check_pair(weak[0], strong[0])
                y = _some(self.train[1], rows)
                weights = None if self.weights is None else _some(self.weights, rows)
                loss = mixture.mixture_loss(weak[0], strong[0], confidence(weak, rows), y, weights)
                yield loss + sum(_auxiliary(module) for module in modules)

        def score() -> float:
            weak, strong = self.on_valid("weak"), self.on_valid("strong")
            c = mixture.confidence(weak, self.valid[0])
            found = Evidence(mixture._final(weak[0]), mixture._final(strong[0]), c, {})
            if mixture.mode == "star":
                return weighted_score(found, "gate", self.valid[1])
            return found.expected_score(self.valid[1])

        lr = self.options.lr / self.options.lr_divisor
        return descend(modules, steps, score, name=name, lr=lr, options=self.options)

    def _mean(self, loss: Tensor, rows: Tensor | None) -> Tensor:
        if self.weights is None:
            return loss.mean()
        weights = _some(self.weights, rows)
        return (loss * weights).sum() / weights.sum()


def weighted_score(evidence: Evidence, weight: Weight, y: Tensor) -> float:
    """Return the mean score with the gate's or a fixed weight of the weak expert."""
    return mean_score(evidence.mixed(weight), y)


def mean_score(prediction: Tensor, y: Tensor) -> float:
    """Return the mean score of predictions."""
    return float(scores(prediction, y).mean())


def _states(modules: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    return [state_of(module) for module in modules]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights."""
    return {key: value.clone() for key, value in module.state_dict().items()}


def _auxiliary(module: nn.Module) -> Tensor | float:
    auxiliary = getattr(module, "aux_loss", None)
    loss: Tensor | float = auxiliary() if callable(auxiliary) else 0.0
    return loss


def _some(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _of(variance: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if variance is None else variance[rows]

"""Training a mixture of a weak and a strong expert, and choosing on validation rows what ships.

Source: "Mixture of Weak and Strong Experts on Graphs" (ICLR 2024, arXiv 2311.05185), section 3.
Deviations: both experts are pretrained by default, each to its own early stop on validation rows (the
released code stops on training rows); the mixture goes on at a tenth of the learning rate; its early stop
counts patience in both modes; what ships is chosen among the mixture and its plain rivals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from appliedpapers.nn.module import check_choice
from appliedpapers.nn.mowst import ConfidenceGatedMixture, Side
from appliedpapers.nn.mowst_experts import take_inputs
from appliedpapers.nn.mowst_gates import ConfidenceGate
from appliedpapers.nn.mowst_routing import Evidence, Weight, scores

SIDES: tuple[Side, Side] = ("weak", "strong")
CONSTANTS = tuple(step / 20 for step in range(21))
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


PRESETS = {
    "default": MixtureTraining(),
    "quick": MixtureTraining(epochs=30, patience=10, rounds=2, round_patience=1),
    "released": MixtureTraining(
        lr_divisor=1.0, epochs=1000, patience=100, rounds=100, round_patience=10, pretrain="none"
    ),
}


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


@dataclass(frozen=True)
class Selection:
    """What ships, chosen on validation rows; ties go to the cheaper one.

    Attributes:
        name: ``weak``, ``strong``, ``average``, ``constant`` or ``mixture``.
        weight: Weight of the weak expert, ``"gate"`` for the mixture.
        constant: The best constant weight.
        valid: Validation score of each candidate.
    """

    name: str
    weight: Weight
    constant: float
    valid: dict[str, float]


@dataclass
class Training:
    """What :func:`train_mixture` did.

    Attributes:
        phases: Its phases, in order.
        selection: What was selected, None before the end.
        single: Weights of the mixture with each expert as it was trained alone; the plain candidates.
        joint: Weights after the mixture's training.
    """

    phases: list[Phase] = field(default_factory=list)
    selection: Selection | None = None
    single: dict[str, Tensor] = field(default_factory=dict, repr=False)
    joint: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def compare(self, mixture: ConfidenceGatedMixture, x: Any, y: Tensor) -> dict[str, float]:
        """Return the score of each candidate on other rows, and of what ships (``shipped``)."""
        assert self.selection is not None
        kept = _state(mixture)
        signal = mixture.signal
        try:
            mixture.signal = "gate"
            mixture.load_state_dict(self.single)
            plain = mixture.evidence(x)
            mixture.load_state_dict(self.joint)
            found = _valued(plain, mixture.evidence(x), self.selection.constant, y)
        finally:
            mixture.load_state_dict(kept)
            mixture.signal = signal
        return {**found, "shipped": found[self.selection.name]}


def train_mixture(
    mixture: ConfidenceGatedMixture,
    train: Rows,
    valid: Rows,
    options: MixtureTraining | str = "default",
    *,
    weights: Tensor | None = None,
) -> Training:
    """Pretrain the experts, train the mixture, and select what ships.

    Where a plain candidate wins, the experts return to what they were before the mixture's training, and
    thresholds read the variance of the weak expert's probabilities instead of the gate (``mixture.signal``),
    which was trained for other experts.

    Args:
        mixture: Trained in place and left in evaluation mode.
        train: Inputs and labels of the training rows.
        valid: Those of the validation rows.
        options: The options or the name of a preset.
        weights: Weights of the training rows.

    Raises:
        ValueError: There are no rows, labels are outside the classes, or training rows have one class only.
        ExpertError: An expert raised or gave NaN.
        FloatingPointError: The training loss became NaN; the message names the phase and epoch.
    """
    if isinstance(options, str):
        check_choice("train_mixture", "options", options, tuple(PRESETS))
        options = PRESETS[options]
    _check_rows(mixture, train, valid)
    torch.manual_seed(options.seed)
    mixture.weight, mixture.signal = "gate", "gate"
    work = _Work(mixture, train, valid, options, weights)
    done = Training()
    alone = [side for side in SIDES if options.pretrain in (side, "both") and side not in mixture.frozen]
    done.phases += [work.pretrain(side) for side in alone]
    before, plain = _state(mixture), mixture.evidence(valid[0])
    done.phases += work.star() if mixture.mode == "star" else work.turns()
    mixture.eval()
    done.joint, joint = _state(mixture), mixture.evidence(valid[0])
    if set(alone) | mixture.frozen != set(SIDES):
        # an expert that was never trained alone is no rival: its trained form is
        before, plain = done.joint, joint
    done.single = before
    done.selection = select(plain, joint, valid[1])
    mixture.weight = done.selection.weight
    if done.selection.name != "mixture":
        mixture.load_state_dict(done.single)
        mixture.signal = "variance"
    return done


def pretrain_expert(
    mixture: ConfidenceGatedMixture, side: Side, train: Rows, valid: Rows, options: MixtureTraining
) -> Phase:
    """Train one expert of a mixture alone, or go on training it.

    Raises:
        ValueError: As for :func:`train_mixture`, or the expert is frozen.
    """
    if side in mixture.frozen:
        raise ValueError(f"the {side} expert is frozen and cannot be trained")
    _check_rows(mixture, train, valid)
    torch.manual_seed(options.seed)
    return _Work(mixture, train, valid, options, None).pretrain(side)


def select(plain: Evidence, joint: Evidence, y: Tensor) -> Selection:
    """Choose among the weak and the strong expert, their average, a constant weight and the mixture.

    Args:
        plain: Answers of the experts, each trained alone, for the validation rows.
        joint: Answers after the mixture's training.
        y: The labels of these rows.
    """
    found = {c: _score(plain, c, y) for c in CONSTANTS}
    # of equally good weights the one nearest the middle, which is the least sure of either expert
    constant = max(CONSTANTS, key=lambda c: (found[c], -abs(c - 0.5)))
    valid = _valued(plain, joint, constant, y)
    # max takes the first of equals, and the candidates are ordered by their cost
    name = max(valid, key=lambda key: valid[key])
    return Selection(name, _candidates(constant)[name], constant, valid)


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


class _Work:
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
        if side not in self.mixture.frozen:
            self.held.pop(side, None)

    def batches(self) -> Iterator[Tensor | None]:
        count, size = len(self.train[1]), self.options.batch_size
        if size is None or size >= count:
            yield None
            return
        order = torch.randperm(count)
        # a last batch of a few rows would have no variance for BatchNorm
        for start in range(0, max(count - size // 2, 1), size):
            yield order[start : start + size]

    def on_train(self, side: Side, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if side in self.held:
            answer, variance = self.held[side][0]
            return (answer, variance) if rows is None else (answer[rows], _of(variance, rows))
        return self.mixture.answer(side, self.train[0], rows)

    def on_valid(self, side: Side) -> tuple[Tensor, Tensor | None]:
        return self.held[side][1] if side in self.held else self.mixture.answer(side, self.valid[0])

    def pretrain(self, side: Side) -> Phase:
        mixture = self.mixture

        def steps() -> Iterator[Tensor]:
            for rows in self.batches():
                loss = mixture.row_loss(self.on_train(side, rows)[0], _some(self.train[1], rows))
                yield self._mean(loss, rows) + _auxiliary(mixture.expert(side))

        def score() -> float:
            return _mean_score(mixture._final(self.on_valid(side)[0]), self.valid[1])

        return descend(
            [mixture.expert(side)], steps, score, name=side, lr=self.options.lr, options=self.options
        )

    def star(self) -> list[Phase]:
        trained = [self.mixture.expert(side) for side in SIDES if side not in self.mixture.frozen]
        return [self._joint([*trained, self.mixture.gate], "star")]

    def turns(self) -> list[Phase]:
        mixture, options = self.mixture, self.options
        phases: list[Phase] = []
        best, kept, since = -math.inf, _state(mixture), 0
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
                kept = _state(mixture)
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
                mixture.check_pair(weak[0], strong[0])
                y = _some(self.train[1], rows)
                weights = None if self.weights is None else _some(self.weights, rows)
                loss = mixture.mixture_loss(weak[0], strong[0], confidence(weak, rows), y, weights)
                yield loss + sum(_auxiliary(module) for module in modules)

        def score() -> float:
            weak, strong = self.on_valid("weak"), self.on_valid("strong")
            c = mixture.confidence(weak, self.valid[0])
            found = Evidence(mixture._final(weak[0]), mixture._final(strong[0]), c, {})
            if mixture.mode == "star":
                return _score(found, "gate", self.valid[1])
            return found.expected_score(self.valid[1])

        lr = self.options.lr / self.options.lr_divisor
        return descend(modules, steps, score, name=name, lr=lr, options=self.options)

    def _mean(self, loss: Tensor, rows: Tensor | None) -> Tensor:
        if self.weights is None:
            return loss.mean()
        weights = _some(self.weights, rows)
        return (loss * weights).sum() / weights.sum()


def _check_rows(mixture: ConfidenceGatedMixture, train: Rows, valid: Rows) -> None:
    for name, (_, y) in (("training", train), ("validation", valid)):
        if not len(y):
            raise ValueError(f"there are no labelled {name} rows")
    y = train[1]
    if mixture.task == "classification" and int(y.min()) == int(y.max()):
        raise ValueError(f"all training rows are of class {int(y[0])}; at least two classes are needed")
    with mixture._evaluating():
        for inputs, labels in (train, valid):
            answers = [mixture.answer(side, inputs)[0] for side in SIDES]
            mixture.check_pair(answers[0], answers[1])
            mixture.check_labels(labels, answers[0])


def _candidates(constant: float) -> dict[str, Weight]:
    return {"weak": 1.0, "strong": 0.0, "average": 0.5, "constant": constant, "mixture": "gate"}


def _valued(plain: Evidence, joint: Evidence, constant: float, y: Tensor) -> dict[str, float]:
    weights = _candidates(constant)
    return {name: _score(joint if name == "mixture" else plain, c, y) for name, c in weights.items()}


def _score(evidence: Evidence, weight: Weight, y: Tensor) -> float:
    return _mean_score(evidence.mixed(weight), y)


def _mean_score(prediction: Tensor, y: Tensor) -> float:
    return float(scores(prediction, y).mean())


def _states(modules: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    return [_state(module) for module in modules]


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def _auxiliary(module: nn.Module) -> Tensor | float:
    auxiliary = getattr(module, "aux_loss", None)
    loss: Tensor | float = auxiliary() if callable(auxiliary) else 0.0
    return loss


def _some(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _of(variance: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if variance is None else variance[rows]

"""Training a mixture of a weak and a strong expert, and choosing on validation rows what ships.

Source: "Mixture of Weak and Strong Experts on Graphs" (ICLR 2024, arXiv 2311.05185), section 3.
Deviations: both experts are pretrained by default, each to its own early stop on validation rows (the
released code stops on training rows); the mixture goes on at a tenth of the learning rate; its early stop
counts patience in both modes; what ships is chosen among the mixture and its plain rivals.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from appliedpapers.nn.module import check_choice
from appliedpapers.nn.mowst import ConfidenceGatedMixture, Side
from appliedpapers.nn.mowst_checks import check_labels, check_pair
from appliedpapers.nn.mowst_phases import (
    SIDES,
    MixtureTraining,
    Phase,
    Rows,
    Work,
    state_of,
    weighted_score,
)
from appliedpapers.nn.mowst_routing import Evidence, Weight

CONSTANTS = tuple(step / 20 for step in range(21))
PRESETS = {
    "default": MixtureTraining(),
    "quick": MixtureTraining(epochs=30, patience=10, rounds=2, round_patience=1),
    "released": MixtureTraining(
        lr_divisor=1.0, epochs=1000, patience=100, rounds=100, round_patience=10, pretrain="none"
    ),
}


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
        kept = state_of(mixture)
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
    work = Work(mixture, train, valid, options, weights)
    done = Training()
    alone = [side for side in SIDES if options.pretrain in (side, "both") and side not in mixture.frozen]
    done.phases += [work.pretrain(side) for side in alone]
    before, plain = state_of(mixture), mixture.evidence(valid[0])
    done.phases += work.star() if mixture.mode == "star" else work.turns()
    mixture.eval()
    done.joint, joint = state_of(mixture), mixture.evidence(valid[0])
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
    return Work(mixture, train, valid, options, None).pretrain(side)


def select(plain: Evidence, joint: Evidence, y: Tensor) -> Selection:
    """Choose among the weak and the strong expert, their average, a constant weight and the mixture.

    Args:
        plain: Answers of the experts, each trained alone, for the validation rows.
        joint: Answers after the mixture's training.
        y: The labels of these rows.
    """
    found = {c: weighted_score(plain, c, y) for c in CONSTANTS}
    # of equally good weights the one nearest the middle, which is the least sure of either expert
    constant = max(CONSTANTS, key=lambda c: (found[c], -abs(c - 0.5)))
    valid = _valued(plain, joint, constant, y)
    # max takes the first of equals, and the candidates are ordered by their cost
    name = max(valid, key=lambda key: valid[key])
    return Selection(name, _candidates(constant)[name], constant, valid)


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
            check_pair(answers[0], answers[1])
            check_labels(labels, answers[0], mixture.task)


def _candidates(constant: float) -> dict[str, Weight]:
    return {"weak": 1.0, "strong": 0.0, "average": 0.5, "constant": constant, "mixture": "gate"}


def _valued(plain: Evidence, joint: Evidence, constant: float, y: Tensor) -> dict[str, float]:
    weights = _candidates(constant)
    return {name: weighted_score(joint if name == "mixture" else plain, c, y) for name, c in weights.items()}

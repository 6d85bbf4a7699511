"""Cost against quality: thresholds, the curve, a look into the gate; arithmetic on given answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from appliedpapers.nn.mowst import ConfidenceGatedMixture

Weight = float | Literal["gate"]

SHARES = tuple(step / 20 for step in range(21))
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Evidence:
    """What both experts and the gate say of the same rows.

    Attributes:
        weak: ``(rows, classes)`` probabilities of the weak expert (means in regression).
        strong: Those of the strong expert.
        confidence: ``(rows,)`` confidence in the weak expert.
        seconds: Time of the parts ``weak``, ``gate`` and ``strong`` over all rows.
    """

    weak: Tensor
    strong: Tensor
    confidence: Tensor
    seconds: dict[str, float]

    def mixed(self, weight: Weight = "gate") -> Tensor:
        """Return the mixture with the gate's or with a fixed weight of the weak expert."""
        if weight == "gate":
            share = self.confidence.unsqueeze(-1)
            return share * self.weak + (1 - share) * self.strong
        if weight in (0.0, 1.0):
            return self.weak if weight else self.strong
        return weight * self.weak + (1 - weight) * self.strong

    def expected_score(self, y: Tensor) -> float:
        """Return the exact expectation of the score over the gate's choice."""
        c = self.confidence.double()
        return float((c * scores(self.weak, y) + (1 - c) * scores(self.strong, y)).mean())


@dataclass(frozen=True)
class Routed:
    """What routing gives.

    Attributes:
        prediction: ``(..., classes)`` probabilities (means in regression).
        confidence: ``(...)`` confidence in the weak expert.
        routed: ``(...)`` bool; where the strong expert was run.
        seconds: Time of the parts ``weak``, ``gate`` and ``strong``.
    """

    prediction: Tensor
    confidence: Tensor
    routed: Tensor
    seconds: dict[str, float]

    @property
    def share(self) -> float:
        """Share of the rows on which the strong expert was run."""
        return float(self.routed.double().mean()) if self.routed.numel() else 0.0


def scores(prediction: Tensor, y: Tensor) -> Tensor:
    """Return the score of each row, float64: 1 where the class is right; minus the squared error for targets.

    Args:
        prediction: ``(rows, classes)`` probabilities, or ``(rows, targets)`` means.
        y: ``(rows,)`` integer classes, or floating-point targets.
    """
    if y.is_floating_point():
        return -(prediction - y.reshape(prediction.shape)).double().square().mean(-1)
    return (prediction.argmax(-1) == y).double()


def choose_threshold(
    evidence: Evidence,
    y: Tensor | None = None,
    *,
    budget: float | None = None,
    max_loss: float | None = None,
    answer: Weight = 0.0,
) -> float:
    """Choose a threshold; see ``ConfidenceGatedMixture.tau_for``."""
    if (budget is None) == (max_loss is None):
        raise ValueError("tau_for: give either budget (a share of the rows) or max_loss (points)")
    order = evidence.confidence.double().sort().values
    if not order.numel():
        raise ValueError("tau_for: there are no rows to choose the threshold on")
    if budget is not None:
        if not 0 <= budget <= 1:
            raise ValueError(f"tau_for: budget must be a share from 0 to 1, not {budget}")
        # 1e-9 makes up for budgets such as 0.3, which are a little less than what is written
        return _above(order, int(budget * len(order) + 1e-9))
    if y is None:
        raise ValueError("tau_for: max_loss needs the labels y")
    routed, kept = scores(evidence.mixed(answer), y), scores(evidence.weak, y)
    by_confidence = evidence.confidence.double().argsort(stable=True)
    gain = (routed - kept)[by_confidence]
    # quality when the k least confident rows are routed, k = 0..rows
    quality = torch.cat([gain.new_zeros(1), gain.cumsum(0)]) / len(gain) + kept.mean()
    points = 1.0 if y.is_floating_point() else 100.0
    enough = quality[-1] - quality <= (max_loss or 0.0) / points + 1e-12
    # equal confidences are routed together, so that only ends of runs of ties can be cut at
    end = torch.ones_like(enough)
    end[1:-1] = order[1:] > order[:-1]
    return _above(order, int((enough & end).nonzero()[0]))


def _above(order: Tensor, count: int) -> float:
    """Return the threshold below which at most ``count`` of the sorted confidences lie."""
    return math.inf if count >= len(order) else float(order[count])


def confidences(mixture: ConfidenceGatedMixture, weak: NDArray[Any], rows: int = 256) -> NDArray[np.float64]:
    """Return the confidence in the weak expert alone, float64 ``(n,)``; the strong expert is not asked.

    Rows pass in blocks of one size, of which the last is filled up, so that a row's is the same alone and in
    company.

    Args:
        mixture: In evaluation mode; its gate reads no features.
        weak: What the weak expert reads, ``(n, width)``.
        rows: Rows of a block.
    """
    found = np.empty(len(weak))
    block = np.zeros((rows, weak.shape[1]), dtype=weak.dtype)
    for start in range(0, len(weak), rows):
        part = weak[start : start + rows]
        block[: len(part)] = part
        with torch.inference_mode():
            inputs = {"weak": torch.from_numpy(block)}
            sure = mixture.confidence(mixture.answer("weak", inputs), inputs).numpy()
        found[start : start + len(part)] = sure[: len(part)]
    return found


def cost_curve(
    evidence: Evidence, y: Tensor, shares: tuple[float, ...] | None = None, answer: Weight = 0.0
) -> list[dict[str, float]]:
    """Return cost against quality, a point for each share of rows routed.

    Args:
        evidence: Answers for the rows.
        y: Their labels.
        shares: Budgets; by default 0, .05 .. 1.
        answer: Weight of the weak expert on routed rows.

    Returns:
        For each budget: ``tau``, ``share`` routed, ``score`` (accuracy, or minus the MSE) with a 95 %
        interval ``low``, ``high``, ``logloss`` (classification), ``loss`` against routing every row with
        ``loss_low`` and ``loss_high`` (paired, normal), and ``ms_per_1000`` rows, from the measured time of
        the parts.
    """
    every = scores(evidence.mixed(answer), y)
    rows = []
    for budget in SHARES if shares is None else shares:
        tau = choose_threshold(evidence, budget=budget)
        routed = evidence.confidence.double() < tau
        prediction = torch.where(routed.unsqueeze(-1), evidence.mixed(answer), evidence.weak)
        score = scores(prediction, y)
        low, high = _interval(score)
        loss_low, loss_high = _interval(every - score)
        share = float(routed.double().mean())
        parts = evidence.seconds
        cost = parts["weak"] + parts["gate"] + share * parts["strong"]
        rows.append(
            {
                "budget": budget,
                "tau": tau,
                "share": share,
                "score": float(score.mean()),
                "low": low,
                "high": high,
                "loss": float((every - score).mean()),
                "loss_low": loss_low,
                "loss_high": loss_high,
                "ms_per_1000": 1e6 * cost / max(len(score), 1),
                **({} if y.is_floating_point() else {"logloss": logloss(prediction, y)}),
            }
        )
    return rows


def logloss(probabilities: Tensor, y: Tensor) -> float:
    """Return the mean negative logarithm of the right class's probability, clipped at 1e-7."""
    right = probabilities.double().gather(-1, y.unsqueeze(-1)).clamp(min=1e-7)
    return float(-right.log().mean())


def look_into_gate(evidence: Evidence, y: Tensor, bins: int = 10) -> list[dict[str, Any]]:
    """Return, by bins of the confidence, how many rows there are and how good each expert is on them.

    Returns:
        ``low``, ``high``, ``rows``, ``weak`` and ``strong`` (scores; None in empty bins).
    """
    weak, strong = scores(evidence.weak, y), scores(evidence.strong, y)
    place = (evidence.confidence.double() * bins).long().clamp(0, bins - 1)
    table = []
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        table.append(
            {
                "low": index / bins,
                "high": (index + 1) / bins,
                "rows": count,
                "weak": float(weak[inside].mean()) if count else None,
                "strong": float(strong[inside].mean()) if count else None,
            }
        )
    return table


def _interval(values: Tensor) -> tuple[float, float]:
    mean = float(values.mean())
    half = _NORMAL_95 * float(values.std(correction=0)) / math.sqrt(max(len(values), 1))
    return mean - half, mean + half

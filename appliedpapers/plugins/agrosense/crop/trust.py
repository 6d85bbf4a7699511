"""From logits to what may be trusted: calibration, sets that hold the truth, and when to say nothing.

Everything here is fitted on answers to rows that the model had not learned from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.calibration import Calibrator, fit_calibrator, logit_of
from appliedpapers.core.temperature import fit_temperature, softmax

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_EDGE = 1e-12


@dataclass(frozen=True)
class Calibration:
    """One temperature, or a rising map a class.

    Attributes:
        method: How it was fitted.
        temperature: Logits are divided by it; 1 for the others.
        maps: One a class for ``isotonic``.
    """

    method: Literal["none", "temperature", "isotonic"]
    temperature: float = 1.0
    maps: tuple[Calibrator, ...] = ()

    @classmethod
    def fit(
        cls,
        method: Literal["auto", "none", "temperature", "isotonic"],
        logits: Floats,
        labels: Integers,
        *,
        seed: int,
    ) -> Self:
        """Fit on logits of rows that the model had not seen.

        Args:
            method: ``auto`` takes what gives the lower negative log-likelihood on the other half of the rows.
            logits: ``(rows, classes)``.
            labels: ``(rows,)``.
            seed: Of the halves.
        """
        if method == "auto":
            half = np.random.default_rng(seed).permutation(len(labels)) % 2 == 0
            kinds: tuple[Literal["temperature", "isotonic"], ...] = ("temperature", "isotonic")
            losses = [
                sum(
                    _loss(cls.fit(kind, logits[part], labels[part], seed=seed)(logits[~part]), labels[~part])
                    for part in (half, ~half)
                )
                for kind in kinds
            ]
            method = kinds[int(np.argmin(losses))]
        if method == "temperature":
            return cls("temperature", fit_temperature(logits, labels))
        if method == "isotonic":
            scores = logit_of(softmax(logits))
            return cls("isotonic", maps=tuple(_one_against_rest(scores, labels)))
        return cls("none")

    def __call__(self, logits: Floats) -> Floats:
        """Return probabilities ``(rows, classes)``; rows sum to 1."""
        if self.method != "isotonic":
            return softmax(logits, self.temperature)
        scores = logit_of(softmax(logits))
        found = np.stack([one(scores[:, place]) for place, one in enumerate(self.maps)], axis=1) + _EDGE
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that keeps every bit."""
        maps = [one.to_json() for one in self.maps]
        return {"method": self.method, "temperature": self.temperature, "maps": maps}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a calibration from :meth:`to_json`."""
        maps = tuple(Calibrator.from_json(one) for one in document["maps"])
        return cls(document["method"], float(document["temperature"]), maps)


def threshold_for(probabilities: Floats, labels: Integers, risk: float) -> float:
    """Return the smallest confidence above which at most a share ``risk`` of the answers is wrong.

    One error more than was seen is counted, so that a handful of lucky rows proves nothing.

    Args:
        probabilities: Of rows not learned from, ``(rows, classes)``.
        labels: ``(rows,)``.
        risk: Share of wrong answers among those that are given.

    Returns:
        In [0, 1]; infinity where no confidence is high enough.
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    wrong = (probabilities.argmax(axis=1) != labels)[order]
    share = (np.cumsum(wrong) + 1) / (np.arange(len(order)) + 1)
    # rows of one confidence are answered together
    last = np.append(np.diff(confidence[order]) != 0, True)
    fine = np.flatnonzero((share <= risk) & last)
    return float(confidence[order][fine[-1]]) if fine.size else math.inf


def set_threshold(probabilities: Floats, labels: Integers, alpha: float) -> float:
    """Return the probability from which a class belongs to the split-conformal set (Sadinle et al. 2019).

    Args:
        probabilities: Of rows not learned from, ``(rows, classes)``.
        labels: ``(rows,)``.
        alpha: Share of rows whose class may lie outside.
    """
    scores = np.sort(1 - probabilities[np.arange(len(labels)), labels])
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return 0.0 if rank > len(scores) else float(1 - scores[rank - 1])


def pool_weights(logits: Sequence[Floats], labels: Integers) -> Floats:
    """Return weights, not negative, under which the weighted sum of logits makes the labels likeliest.

    Args:
        logits: Of rows not learned from, one array ``(rows, classes)`` a member.
        labels: ``(rows,)``.
    """
    from scipy.optimize import minimize

    rows = np.arange(len(labels))
    centred = np.stack([one - one.max(axis=1, keepdims=True) for one in logits])

    def loss(weights: Floats) -> tuple[float, Floats]:
        chances = softmax(np.tensordot(weights, centred, axes=1))
        picked = np.maximum(chances[rows, labels], _EDGE)
        gap = (chances[None] * centred).sum(axis=2) - centred[:, rows, labels]
        return float(-np.log(picked).mean()), gap.mean(axis=1)

    start = np.full(len(logits), 1 / len(logits))
    found = minimize(loss, start, jac=True, bounds=[(0.0, 10.0)] * len(logits), method="L-BFGS-B")
    return np.asarray(found.x, dtype=np.float64)


def _one_against_rest(scores: Floats, labels: Integers) -> list[Calibrator]:
    maps = []
    for place in range(scores.shape[1]):
        truth = (labels == place).astype(np.float64)
        method: Literal["isotonic", "none"] = "isotonic" if 0 < truth.sum() < len(truth) else "none"
        maps.append(fit_calibrator(method, scores[:, place], truth))
    return maps


def _loss(probabilities: Floats, labels: Integers) -> float:
    picked = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(picked, _EDGE)).sum())

"""How recommendations are judged: right crops, probabilities, and what was answered at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import metrics
from appliedpapers.core.metrics import register_metric
from appliedpapers.core.scores import MetricScores, Scored

Floats = NDArray[np.float64]

PRIMARY = "accuracy"
BINS = 15

register_metric(
    "top3_accuracy",
    unit="",
    higher_is_better=True,
    description="share of rows whose class is among the three likeliest",
)
register_metric(
    "answered", unit="", higher_is_better=None, description="share of rows that get an answer at all"
)
register_metric(
    "selective_risk", unit="", higher_is_better=False, description="share of wrong answers among those given"
)
register_metric(
    "set_coverage", unit="", higher_is_better=None, description="share of rows whose class is in the set"
)
register_metric(
    "set_size", unit="", higher_is_better=None, description="mean number of classes in the conformal set"
)
register_metric(
    "photos_used", unit="", higher_is_better=None, description="share of rows whose photo was looked at"
)
register_metric(
    "accuracy_photo_used",
    unit="",
    higher_is_better=None,
    description="accuracy of the rows whose photo was looked at",
)
register_metric(
    "accuracy_photo_unused",
    unit="",
    higher_is_better=None,
    description="accuracy of the rows that were answered by the table alone",
)
register_metric(
    "warned", unit="", higher_is_better=None, description="share of rows with a warning of novelty"
)


@dataclass(frozen=True)
class Told:
    """What a model says of rows.

    Attributes:
        probabilities: ``(rows, classes)``.
        advised: Rows that get an answer, ``(rows,)``; None where a model always answers.
        set_from: Probability from which a class belongs to the conformal set; None without sets.
        warned: Rows with a warning of novelty, ``(rows,)``; None where a model knows none.
        looked: Rows whose photo was looked at, ``(rows,)``; None where every photo is, or none.
    """

    probabilities: Floats
    advised: NDArray[np.bool_] | None = None
    set_from: float | None = None
    warned: NDArray[np.bool_] | None = None
    looked: NDArray[np.bool_] | None = None


def score(told: Told, labels: NDArray[np.int64], groups: NDArray[Any] | None) -> Scored:
    """Score rows; groups are resampled together.

    Args:
        told: What a model says.
        labels: ``(rows,)``.
        groups: Of the rows, ``(rows,)``.
    """
    chances, rows = told.probabilities, np.arange(len(labels))
    order = np.argsort(-chances, axis=1, kind="stable")
    right = (order[:, 0] == labels).astype(np.float64)
    picked = np.maximum(chances[rows, labels], 1e-12)
    guesses = order[:, 0]

    def macro_f1(chosen: NDArray[np.intp]) -> float:
        return metrics.macro_f1(labels[chosen], guesses[chosen])

    def ece(chosen: NDArray[np.intp]) -> float:
        return metrics.ece(labels[chosen], chances[chosen], BINS)

    found = {
        PRIMARY: MetricScores.mean(right),
        "macro_f1": MetricScores.of(macro_f1, len(labels)),
        "top3_accuracy": MetricScores.mean((order[:, :3] == labels[:, None]).any(axis=1)),
        "logloss": MetricScores.mean(-np.log(picked)),
        "ece": MetricScores.of(ece, len(labels)),
    }
    if told.advised is not None:
        answered = told.advised.astype(np.float64)
        found["answered"] = MetricScores.mean(answered)
        if answered.any():
            found["selective_risk"] = MetricScores.mean(1 - right, answered)
    if told.set_from is not None:
        sets = chances >= told.set_from
        sets[rows, order[:, 0]] = True
        found["set_coverage"] = MetricScores.mean(sets[rows, labels])
        found["set_size"] = MetricScores.mean(sets.sum(axis=1))
    if told.looked is not None:
        used = told.looked.astype(np.float64)
        found["photos_used"] = MetricScores.mean(used)
        for name, some in (("accuracy_photo_used", used), ("accuracy_photo_unused", 1 - used)):
            if some.any():
                found[name] = MetricScores.mean(right, some)
    if told.warned is not None:
        found["warned"] = MetricScores.mean(told.warned)
    return Scored(found, groups)

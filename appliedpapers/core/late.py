"""Scores of earlier predictions against labels that arrived later, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from appliedpapers.core import metrics
from appliedpapers.core.counted import auc_scores, ece_scores
from appliedpapers.core.scores import MetricScores, Scored


def late_scores(
    predicted: pa.ChunkedArray,
    truth: pa.ChunkedArray,
    *,
    probability: bool = False,
    clusters: NDArray[Any] | None = None,
) -> Scored:
    """Score numbers, probabilities or classes; a unit is a row.

    Args:
        predicted: What was predicted, no null.
        truth: What came true, no null.
        probability: Numbers are probabilities: where every label is 0 or 1 they are judged as such.
        clusters: Ids of rows that are resampled together, such as those of a series, shape ``(rows,)``.
    """
    if not _numeric(predicted) or not _numeric(truth):
        right = np.array(_texts(predicted) == _texts(truth), dtype=float)
        return Scored(
            {"accuracy": MetricScores.mean(right), "macro_f1": _macro_f1(predicted, truth)}, clusters
        )
    values, labels = _numbers(predicted), _numbers(truth)
    if probability and np.isin(labels, (0, 1)).all():
        return Scored(
            {
                "auc": auc_scores(labels, values),
                "logloss": MetricScores.mean(metrics.log_losses(labels.astype(np.int64), values)),
                "brier": MetricScores.mean((values - labels) ** 2),
                "ece": ece_scores(labels, values),
            },
            clusters,
        )
    errors = values - labels
    return Scored(
        {
            "mse": MetricScores.mean(errors**2),
            "rmse": MetricScores.root_mean(errors**2),
            "mae": MetricScores.mean(np.abs(errors)),
        },
        clusters,
    )


def _macro_f1(predicted: pa.ChunkedArray, truth: pa.ChunkedArray) -> MetricScores:
    guesses, labels = _texts(predicted), _texts(truth)

    def aggregate(chosen: NDArray[np.intp]) -> float:
        return metrics.macro_f1(labels[chosen], guesses[chosen])

    return MetricScores.of(aggregate, len(labels))


def _numeric(values: pa.ChunkedArray) -> bool:
    kind = values.type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _numbers(values: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(values.to_numpy().astype(np.float64))


def _texts(values: pa.ChunkedArray) -> NDArray[Any]:
    return np.array(values.cast(pa.string()).to_pylist())

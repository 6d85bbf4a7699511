"""Calibrated probabilities of many classes: one temperature, fitted by likelihood (Guo et al. 2017)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_RANGE = (0.05, 20.0)


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Return probabilities ``(N, K)`` of logits ``(N, K)`` divided by a temperature, in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    found: Floats = raised / raised.sum(axis=1, keepdims=True)
    return found


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the temperature in [0.05, 20] under which labels are most likely.

    Args:
        logits: ``(N, K)``.
        labels: ``(N,)`` in 0 to K - 1; rows with other labels do not count. Without any row it is 1.
    """
    from scipy.optimize import minimize_scalar

    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    known = (truth >= 0) & (truth < scores.shape[1])
    if not known.any():
        return 1.0
    scores, truth = scores[known], truth[known]
    rows = np.arange(len(truth))

    def loss(exponent: float) -> float:
        scaled = scores / math.exp(exponent)
        top = scaled.max(axis=1)
        total = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
        return float(np.mean(total - scaled[rows, truth]))

    bounds = (math.log(_RANGE[0]), math.log(_RANGE[1]))
    return math.exp(float(minimize_scalar(loss, bounds=bounds, method="bounded").x))

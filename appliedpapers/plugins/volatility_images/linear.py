"""Linear forecasts of volatility: least squares, weighted, on logarithms, and by QLIKE with a ridge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliedpapers.plugins.volatility_images.market import Floats

_STEPS = 60
_LARGEST_STEP = 5.0


def with_constant(inputs: Floats) -> Floats:
    """Return ``(rows, inputs + 1)`` with a column of ones behind."""
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def least_squares(inputs: Floats, targets: Floats, weights: Floats | None = None) -> Floats:
    """Return coefficients and constant of (weighted) least squares, ``(inputs + 1,)``.

    Args:
        inputs: ``(rows, inputs)``.
        targets: ``(rows,)``.
        weights: ``(rows,)``, of the squared errors; None for equal ones.
    """
    design = with_constant(inputs)
    root = np.ones(len(targets)) if weights is None else np.sqrt(weights)
    solution = np.linalg.lstsq(design * root[:, None], targets * root, rcond=None)[0]
    return np.asarray(solution)


def qlike_losses(truth: Floats, forecast: Floats) -> Floats:
    """Return the usual QLIKE of variances for each pair of volatilities; 0 for a perfect forecast."""
    ratio = truth / forecast
    return np.asarray(ratio**2 - 2 * np.log(ratio) - 1)


def fit_by_qlike(inputs: Floats, log_targets: Floats, penalty: float) -> Floats:
    """Return coefficients and constant of ``ln volatility`` that minimise QLIKE with a ridge.

    The loss is convex in them (it is that of a gamma regression of the variance with a logarithmic link);
    Newton's steps are damped until it falls.

    Args:
        inputs: Standardised, ``(rows, inputs)``.
        log_targets: ``(rows,)``.
        penalty: On the squared coefficients, not on the constant.
    """
    design = with_constant(inputs)
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 0.0
    weights = np.zeros(design.shape[1])
    weights[-1] = float(log_targets.mean())

    def loss(of: Floats) -> float:
        apart = np.clip(2 * (log_targets - design @ of), -700, 700)
        return float(np.mean(np.exp(apart) - apart - 1) + (ridge * of**2).sum())

    best = loss(weights)
    for _ in range(_STEPS):
        excess = np.exp(np.clip(2 * (log_targets - design @ weights), -700, 700))
        slope = -2 * design.T @ (excess - 1) / len(design) + 2 * ridge * weights
        curve = 4 * (design.T * excess) @ design / len(design) + np.diag(2 * ridge + 1e-9)
        move = np.linalg.solve(curve, slope)
        move *= min(1.0, _LARGEST_STEP / max(float(np.abs(move).max()), 1e-12))
        while loss(weights - move) > best and float(np.abs(move).max()) > 1e-12:
            move = move / 2
        weights = weights - move
        now = loss(weights)
        if best - now < 1e-12:
            break
        best = now
    return np.asarray(weights)


@dataclass(frozen=True)
class LinearForecast:
    """A linear forecast of the logarithm on standardised features, fitted by QLIKE.

    Attributes:
        weights: Coefficients and constant.
        penalty: The ridge that validation chose.
    """

    weights: Floats
    penalty: float

    @classmethod
    def choose(
        cls,
        train: tuple[Floats, Floats],
        valid: tuple[Floats, Floats],
        penalties: tuple[float, ...] = (0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    ) -> LinearForecast:
        """Choose the ridge on valid; inputs and logarithms of targets of each part."""
        found = []
        for penalty in penalties:
            weights = fit_by_qlike(*train, penalty)
            apart = 2 * (valid[1] - with_constant(valid[0]) @ weights)
            found.append((float(np.mean(np.exp(np.clip(apart, -50, 50)) - apart - 1)), penalty, weights))
        _, penalty, weights = min(found, key=lambda item: item[0])
        return cls(weights, penalty)

    def __call__(self, inputs: Floats) -> Floats:
        """Return the logarithm of the forecast, ``(rows,)``."""
        return np.asarray(with_constant(inputs) @ self.weights)

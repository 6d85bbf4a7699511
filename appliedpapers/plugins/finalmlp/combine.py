"""Two models as one: a blend of logits, or a cascade that asks the dear model only where it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from appliedpapers.core import metrics
from appliedpapers.core.calibration import Calibrator, fit_calibrator
from appliedpapers.nn.mowst_gates import dispersion
from appliedpapers.nn.mowst_routing import SHARES

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """A weighted sum of the logits of the network and of boosted trees.

    Attributes:
        network: Weight of the network's logit, not negative.
        trees: Weight of the trees' logit, not negative.
        intercept: Constant.
    """

    network: float
    trees: float
    intercept: float

    def __str__(self) -> str:
        """Return the weights in words; a model that the other makes superfluous is named."""
        said = f"{self.network:.2f} x network + {self.trees:.2f} x lightgbm (logits)"
        for weight, idle in ((self.network, "the network"), (self.trees, "lightgbm")):
            said += f"; {idle} adds nothing here" if weight == 0 else ""
        return said

    def __call__(self, network: Floats, trees: Floats) -> Floats:
        """Return the blended logits."""
        return self.network * network + self.trees * trees + self.intercept


def fit_blend(network: Floats, trees: Floats, labels: NDArray[Any]) -> Blend:
    """Fit a blend by maximum likelihood on valid rows, weights kept at 0 or above.

    Args:
        network: Logits of the network, ``(rows,)``.
        trees: Logits of the trees, ``(rows,)``.
        labels: 0 or 1, ``(rows,)``.
    """
    from scipy.optimize import minimize

    columns = np.stack([network, trees, np.ones_like(network)], axis=1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = columns @ weights
        residual = 1.0 / (1.0 + np.exp(-logits)) - labels
        return float(np.mean(np.logaddexp(0.0, logits) - labels * logits)), columns.T @ residual / len(labels)

    bounds = [(0.0, None), (0.0, None), (None, None)]
    found = minimize(loss, np.array([0.5, 0.5, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds)
    return Blend(*(float(value) for value in found.x))


@dataclass(frozen=True)
class Cascade:
    """The cheap model for rows where it is sure, the strong one for the others (arXiv 2311.05185).

    Attributes:
        weak: Line from the cheap model's logit to a calibrated one, so that both speak of one scale.
        strong: That of the strong model.
        threshold: Rows with a confidence of the cheap model below it are sent to the strong one.
        share: Share of the valid rows that were.
        curve: Points on valid: ``share`` sent and ``auc``.
    """

    weak: tuple[float, float]
    strong: tuple[float, float]
    threshold: float
    share: float
    curve: tuple[Mapping[str, float], ...]

    def weak_logits(self, logits: Floats) -> Floats:
        """Return the cheap model's logits on the common scale."""
        return self.weak[0] * logits + self.weak[1]

    def strong_logits(self, logits: Floats) -> Floats:
        """Return the strong model's logits on the common scale."""
        return self.strong[0] * logits + self.strong[1]

    def unsure(self, weak: Floats) -> NDArray[np.bool_]:
        """Return which rows go to the strong model, by the cheap model's logits on the common scale."""
        return confidence(weak) < self.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the numbers of the cascade."""
        # JSON has no infinity: a cascade that sends every row has a threshold above every confidence
        return asdict(self) | {"threshold": min(self.threshold, 2.0)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Cascade:
        """Rebuild a cascade from :meth:`to_json`."""
        values = dict(document)
        values["weak"], values["strong"] = tuple(values["weak"]), tuple(values["strong"])
        return Cascade(**{**values, "curve": tuple(values["curve"])})


def confidence(logits: Floats) -> Floats:
    """Return ``(2p - 1)^2`` of each row: the dispersion of two class probabilities, in [0, 1]."""
    both = torch.from_numpy(np.stack([np.zeros_like(logits), logits], axis=1))
    found: Floats = dispersion(both)[:, 0].numpy()
    return found


def fit_cascade(
    weak: Floats,
    strong: Floats,
    labels: NDArray[Any],
    *,
    share: float | None,
    tolerance: float,
) -> Cascade:
    """Choose on valid rows which share goes to the strong model.

    Args:
        weak: Logits of the cheap model, ``(rows,)``.
        strong: Logits of the strong model, ``(rows,)``.
        labels: 0 or 1, ``(rows,)``.
        share: The share; None takes the smallest whose AUC is within ``tolerance`` of the best.
        tolerance: AUC that may be given up for fewer rows.
    """
    lines = [_line(fit_calibrator("platt", logits, labels)) for logits in (weak, strong)]
    (a, b), (c, d) = lines
    weak, strong = a * weak + b, c * strong + d
    sure = confidence(weak)
    order = np.sort(sure)

    def at(portion: float) -> float:
        count = round(portion * len(order))
        if count == 0:
            # the least sure valid row is no bound for rows to come
            return 0.0
        return float("inf") if count == len(order) else float(order[count])

    def routed(threshold: float) -> tuple[float, float]:
        sent = sure < threshold
        return float(sent.mean()), metrics.auc(labels, np.where(sent, strong, weak))

    curve = []
    for portion in SHARES:
        sent, auc = routed(at(portion))
        curve.append({"share": sent, "auc": auc, "asked": portion})
    if share is None:
        best = max(point["auc"] for point in curve)
        share = min(point["asked"] for point in curve if point["auc"] >= best - tolerance)
    threshold = at(share)
    points = tuple({"share": point["share"], "auc": point["auc"]} for point in curve)
    return Cascade(lines[0], lines[1], threshold, routed(threshold)[0], points)


def _line(calibrator: Calibrator) -> tuple[float, float]:
    document = calibrator.to_json()
    return float(document["slope"]), float(document["intercept"])

"""Calibration: maps from a model's logits to probabilities that mean what they say.

A calibrator is fitted on rows that the model was not fitted on, and is stored as numbers. None of them ever
turns the order of two rows round: temperature and Platt scaling keep it, isotonic regression makes ties.

Sources: Platt (1999) for the logistic line, here by plain maximum likelihood; Zadrozny and Elkan (2002) for
isotonic regression; Guo et al. (2017) for the temperature; Cox (1958) for judging by slope and intercept.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Method = Literal["none", "platt", "isotonic", "temperature"]

MIN_ROWS, MIN_POSITIVES = 5_000, 500

_NEAREST = 0.05 - 1e-9  # between knots of an isotonic map, in logits
_ISOTONIC_EDGE = 1e-4  # a block without positives does not prove that there are none
_LOGIT_EDGE = 1e-12
_SMALLEST, _LARGEST = 1e-2, 1e2  # of the slope that belongs to a temperature
_NEWTON_STEPS = 100


class Calibrator(ABC):
    """A rising map from logits to probabilities.

    Attributes:
        method: How it was fitted.
    """

    method: Method

    @abstractmethod
    def __call__(self, logits: ArrayLike) -> Floats:
        """Return the calibrated probabilities of class 1, float64 in the shape of ``logits``."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return numbers that :meth:`from_json` reads back exactly."""

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Calibrator:
        """Rebuild a calibrator from :meth:`to_json`.

        Raises:
            ValueError: The method is unknown, or the numbers are no rising map.
        """
        method = document.get("method")
        if method == "isotonic":
            knots = np.array(document["knots"], dtype=np.float64)
            return Steps(knots, np.array(document["probabilities"], dtype=np.float64))
        if method in ("none", "platt", "temperature"):
            return Line(method, float(document["slope"]), float(document["intercept"]))
        raise ValueError(f"calibration method {method!r} is not known")


@dataclass(frozen=True)
class Line(Calibrator):
    """``sigmoid(slope * logit + intercept)``: no calibration, a temperature (1 / slope) or Platt's line.

    Attributes:
        method: Which of the three.
        slope: Not negative.
        intercept: 0 but for Platt.
    """

    method: Literal["none", "platt", "temperature"]
    slope: float = 1.0
    intercept: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.slope < math.inf and math.isfinite(self.intercept)):
            raise ValueError(f"no rising line: slope {self.slope}, intercept {self.intercept}")

    def __call__(self, logits: ArrayLike) -> Floats:
        """Return the calibrated probabilities, float64 in the shape of ``logits``."""
        from scipy.special import expit

        values = np.asarray(logits, dtype=np.float64)
        return np.asarray(expit(self.slope * values + self.intercept), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the method and its two numbers."""
        return {"method": self.method, "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Steps(Calibrator):
    """Isotonic regression: linear between knots, constant outside them.

    Attributes:
        knots: Logits, strictly rising, shape ``(knots,)``, at least one.
        probabilities: At the knots, never falling, in [0, 1], shape ``(knots,)``.
        method: Always ``"isotonic"``.
    """

    knots: Floats
    probabilities: Floats
    method: Literal["isotonic"] = field(default="isotonic", init=False)

    def __post_init__(self) -> None:
        knots, chances = self.knots, self.probabilities
        if knots.ndim != 1 or not knots.size or knots.shape != chances.shape:
            raise ValueError(f"{knots.shape} knots for {chances.shape} probabilities")
        rising = np.isfinite(knots).all() and (np.diff(knots) > 0).all() and (np.diff(chances) >= 0).all()
        if not rising or not (chances[0] >= 0 and chances[-1] <= 1):
            raise ValueError("the knots or the probabilities of the isotonic map do not rise")

    def __call__(self, logits: ArrayLike) -> Floats:
        """Return the calibrated probabilities, float64 in the shape of ``logits``."""
        values = np.asarray(logits, dtype=np.float64)
        return np.asarray(np.interp(values, self.knots, self.probabilities), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the method, the knots and their probabilities."""
        return {
            "method": self.method,
            "knots": self.knots.tolist(),
            "probabilities": self.probabilities.tolist(),
        }


def fit_calibrator(
    method: Literal["auto"] | Method, logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None
) -> Calibrator:
    """Fit a calibrator on rows that the model was not fitted on.

    Args:
        method: ``"none"`` is the sigmoid itself. ``"platt"`` fits slope and intercept by maximum likelihood,
            the slope not below 0; rows that the logit separates without error have no such line, so they are
            fitted with Platt's smoothed targets, which bound it. ``"temperature"`` fits one factor, kept in
            [0.01, 100]. ``"isotonic"`` is pool-adjacent-violators, kept in [1e-4, 1 - 1e-4]. ``"auto"`` is
            isotonic from 5,000 rows with 500 positives on, below that Platt.
        logits: Finite, shape ``(rows,)``.
        labels: 0 or 1, shape ``(rows,)``.
        weights: Of the rows, not negative, shape ``(rows,)``; None for equal ones.

    Raises:
        ValueError: The labels hold one class only, shapes differ, or a number is not usable.
    """
    values, truth, share = _rows(logits, labels, weights)
    if method == "none":
        return Line("none")
    positives = int(truth.sum())
    if positives in (0, truth.size):
        raise ValueError(
            f"cannot calibrate on {truth.size} rows that all have the label {int(positives > 0)}"
        )
    if method == "auto":
        method = "isotonic" if truth.size >= MIN_ROWS and positives >= MIN_POSITIVES else "platt"
    if method == "isotonic":
        return _isotonic(values, truth, share)
    if method == "temperature":
        return Line("temperature", _temperature_slope(values, truth, share))
    if method == "platt":
        return Line("platt", *_platt(values, truth, share))
    raise ValueError(f"calibration method {method!r} is not known")


def logit_of(probabilities: ArrayLike) -> Floats:
    """Return the logits of probabilities that are kept off 0 and 1 by 1e-12, float64 of the same shape.

    Raises:
        ValueError: A probability is not in 0 .. 1.
    """
    from scipy.special import logit

    chances = np.asarray(probabilities, dtype=np.float64)
    if not ((chances >= 0) & (chances <= 1)).all():
        raise ValueError("probabilities must lie in 0 .. 1")
    return np.asarray(logit(np.clip(chances, _LOGIT_EDGE, 1 - _LOGIT_EDGE)), dtype=np.float64)


def calibration_line(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of the label on the logit of the probability.

    Perfect calibration has slope 1 and intercept 0; a slope below 1 means overconfidence. Probabilities are
    kept off 0 and 1 by 1e-12. Where they separate the labels without error the slope is bounded by Platt's
    smoothed targets.

    Args:
        labels: 0 or 1, shape ``(rows,)``.
        probabilities: Of class 1, shape ``(rows,)``.
        weights: Of the rows, not negative, shape ``(rows,)``; None for equal ones.

    Returns:
        NaN twice where only one class or only one probability is present.

    Raises:
        ValueError: Shapes differ, or a number is not usable.
    """
    values, truth, share = _rows(logit_of(probabilities), labels, weights)
    if truth.min() == truth.max() or _is_constant(values):
        return math.nan, math.nan
    return _maximum_likelihood(values, truth, share)


def _rows(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Return logits, labels and weights of the rows that carry weight, float64, shape ``(rows,)``."""
    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    share = np.ones(values.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or values.shape != truth.shape or values.shape != share.shape:
        raise ValueError(f"logits have shape {values.shape}, labels {truth.shape}, weights {share.shape}")
    if not np.isfinite(share).all() or (share < 0).any():
        raise ValueError("weights must be finite and not negative")
    if weights is not None:
        values, truth, share = values[share > 0], truth[share > 0], share[share > 0]
    if not values.size:
        raise ValueError("no rows to calibrate on")
    if not np.isfinite(values).all():
        raise ValueError("logits must be finite")
    if not ((truth == 0) | (truth == 1)).all():
        raise ValueError("labels must be 0 or 1")
    return values, truth, share


def _isotonic(values: Floats, truth: Floats, share: Floats) -> Steps:
    from scipy.optimize import isotonic_regression

    knots, group = np.unique(values, return_inverse=True)
    total = np.bincount(group, share)
    pooled = isotonic_regression(np.bincount(group, share * truth) / total, weights=total).x
    chances = np.clip(pooled, _ISOTONIC_EDGE, 1 - _ISOTONIC_EDGE)
    # inside a flat stretch a knot says nothing
    changes = np.diff(chances) != 0
    needed = np.concatenate([[True], changes]) | np.concatenate([changes, [True]])
    return Steps(*_apart(knots[needed], chances[needed]))


def _apart(knots: Floats, chances: Floats) -> tuple[Floats, Floats]:
    """Join knots that are closer than a twentieth, each run of them in its middle.

    Between neighbours a step may be so steep that the rounding of a logit would show in the probability.
    """
    first, numbers = knots[0], []
    for knot in knots:
        if knot - first >= _NEAREST:
            first = knot
        numbers.append(first)
    _, run = np.unique(numbers, return_inverse=True)
    size = np.bincount(run)
    return np.bincount(run, knots) / size, np.bincount(run, chances) / size


def _temperature_slope(values: Floats, truth: Floats, share: Floats) -> float:
    from scipy.optimize import brentq
    from scipy.special import expit

    def gradient(power: float) -> float:
        return float(np.dot(share * values, expit(math.exp(power) * values) - truth))

    if not values.any():
        return 1.0
    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    # the loss is convex in the slope: its gradient only rises
    if gradient(low) >= 0:
        return _SMALLEST
    if gradient(high) <= 0:
        return _LARGEST
    return math.exp(brentq(gradient, low, high, xtol=1e-12))


def _platt(values: Floats, truth: Floats, share: Floats) -> tuple[float, float]:
    rate = float(np.average(truth, weights=share))
    base = math.log(rate / (1 - rate))
    if _is_constant(values):
        return 1.0, base - float(values[0])
    slope, intercept = _maximum_likelihood(values, truth, share)
    return (slope, intercept) if slope >= 0 else (0.0, base)


def _is_constant(values: Floats) -> bool:
    # a spread that is all rounding would only blow up the slope
    return float(np.ptp(values)) <= 1e-9 * max(1.0, float(np.abs(values).max()))


def _maximum_likelihood(values: Floats, truth: Floats, share: Floats) -> tuple[float, float]:
    """Return slope and intercept; both classes and two different values must be there."""
    positive, negative = values[truth == 1], values[truth == 0]
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        right, wrong = float(share[truth == 1].sum()), float(share[truth == 0].sum())
        truth = np.where(truth == 1, (right + 1) / (right + 2), 1 / (wrong + 2))
    centre = float(np.average(values, weights=share))
    spread = math.sqrt(float(np.average((values - centre) ** 2, weights=share)))
    slope, intercept = _newton((values - centre) / spread, truth, share / share.sum())
    return slope / spread, intercept - slope * centre / spread


def _newton(values: Floats, truth: Floats, share: Floats) -> tuple[float, float]:
    """Minimise the logistic loss over slope and intercept; a step that does not lower it is halved."""
    from scipy.special import expit

    def loss(at: Floats) -> float:
        line = at[0] * values + at[1]
        return float(np.dot(share, np.logaddexp(0.0, line) - truth * line))

    at = np.zeros(2)
    now = loss(at)
    for _ in range(_NEWTON_STEPS):
        chance = expit(at[0] * values + at[1])
        error, curve = share * (chance - truth), share * chance * (1 - chance)
        gradient = np.array([np.dot(error, values), error.sum()])
        mixed = float(np.dot(curve, values))
        hessian = np.array([[np.dot(curve, values**2), mixed], [mixed, curve.sum()]])
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = 1.0
        while (then := loss(at - size * step)) > now and size > 1e-10:
            size /= 2
        at, gain, now = at - size * step, now - then, then
        if abs(step).max() * size <= 1e-10 * (1 + abs(at).max()) or (gain <= 0 and size <= 1e-10):
            break
    return float(at[0]), float(at[1])

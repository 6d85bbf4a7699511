"""Metrics: one registry of names, directions and units, and the general ones in numpy.

A metric means the same in every plugin: its name stands in ``results.json``, in MLflow and in the report.
Field-specific formulas live in the plugins, which take their names from here or add them with
:func:`register_metric`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.core.errors import ConfigError, did_you_mean

Floats = NDArray[np.float64]
Binning = Literal["width", "mass"]


@dataclass(frozen=True)
class Metric:
    """What a figure in a table means.

    Attributes:
        name: snake_case; the same everywhere.
        unit: Unit of the value; empty when it has none.
        higher_is_better: Direction; None where neither is (``coverage`` is judged by its nominal level).
        description: One line for a reader who does not know it.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    description: str

    @property
    def arrow(self) -> str:
        """``↑`` or ``↓`` for the better direction, empty where there is none."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_REGISTRY: dict[str, Metric] = {}


def register_metric(name: str, *, unit: str, higher_is_better: bool | None, description: str) -> Metric:
    """Add a metric to the registry; adding the same one again is harmless.

    Raises:
        ValueError: The name is not snake_case, or is taken by a metric with another unit or direction.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"metric name {name!r} is not snake_case")
    new = Metric(name, unit, higher_is_better, description)
    old = _REGISTRY.setdefault(name, new)
    if (old.unit, old.higher_is_better) != (new.unit, new.higher_is_better):
        raise ValueError(f"metric {name!r} is already registered with another unit or direction: {old}")
    return old


def metric(name: str) -> Metric:
    """Return a registered metric.

    Raises:
        ConfigError: Nothing is registered by that name.
    """
    try:
        return _REGISTRY[name]
    except KeyError:
        raise ConfigError(f"unknown metric '{name}'.", hint=did_you_mean(name, _REGISTRY)) from None


def metrics() -> dict[str, Metric]:
    """Return every registered metric by name."""
    return dict(sorted(_REGISTRY.items()))


def _register_all(direction: bool | None, *rows: tuple[str, str, str]) -> None:
    for name, unit, description in rows:
        register_metric(name, unit=unit, higher_is_better=direction, description=description)


_register_all(
    False,
    ("mse", "", "mean squared error"),
    ("mae", "", "mean absolute error"),
    ("rmse", "", "square root of the mean squared error"),
    ("mase", "", "mean absolute error over that of the seasonal-naive rule on the training part"),
    ("smape", "%", "symmetric mean absolute percentage error, 0 to 200"),
    ("wape", "%", "sum of absolute errors over the sum of absolute true values"),
    ("rmspe", "", "root mean squared error relative to the true value; a forecast of zero scores 1"),
    ("qlike", "", "quasi-likelihood loss of a volatility forecast; 0 is perfect"),
    ("log_rmse", "", "root mean squared error of the logarithms"),
    ("logloss", "nat", "mean negative log-likelihood of the true class"),
    ("brier", "", "mean squared error of the predicted probabilities"),
    ("ece", "", "expected calibration error: mean gap between confidence and frequency, by bins"),
    ("uncalibrated_logloss", "nat", "logloss before calibration"),
    ("uncalibrated_brier", "", "brier before calibration"),
    ("uncalibrated_ece", "", "ece before calibration"),
    ("true_calibration_error", "", "mean gap between predicted and true probability, by bins"),
    ("forecast_mae", "", "mean absolute error of the forecast at the horizon"),
    ("inclination_rmse", "°", "root mean squared error of the inclination (the tilt without the heading)"),
    ("ergas", "", "relative dimensionless global error in synthesis"),
    ("sam", "°", "mean spectral angle"),
    ("d_lambda", "", "spectral distortion at full resolution; 0 is none"),
    ("d_s", "", "spatial distortion at full resolution; 0 is none"),
    ("d_sr", "", "spatial distortion by regression on the panchromatic band; 0 is none"),
    ("d_rho", "", "spatial distortion by local correlation with the panchromatic band; 0 is none"),
    ("hd95_um", "µm", "95th percentile of the distance between drawn and true boundary"),
)
_register_all(
    True,
    ("r2", "", "share of the variance explained; 0 for the mean, negative when worse than it"),
    ("auc", "", "probability that a positive is ranked above a negative"),
    ("gauc", "", "auc within each group, averaged by group size"),
    ("auprc", "", "average precision: area under the precision-recall steps"),
    ("accuracy", "", "share of rows whose class is right"),
    ("macro_f1", "", "f1 averaged over the classes with equal weight"),
    ("f1", "", "harmonic mean of precision and recall of the positive class"),
    ("recall", "", "share of the positives that were found"),
    ("q2n", "", "hypercomplex quality index over all bands; 1 is perfect"),
    ("psnr", "dB", "peak signal-to-noise ratio"),
    ("ssim", "", "structural similarity; 1 is perfect"),
    ("cc", "", "correlation of predicted and true values, averaged over bands"),
    ("qnr", "", "quality without reference: (1 - d_lambda)(1 - d_s)"),
    ("hqnr", "", "hybrid quality without reference; 1 is perfect"),
    ("type_accuracy", "", "share of objects whose type is right"),
    ("polarity_accuracy", "", "share of objects whose polarity is right"),
    ("case_accuracy_argmax", "", "type accuracy averaged over cases, each object by itself"),
    ("case_accuracy_dispatch", "", "type accuracy averaged over cases, after the paper's dispatch"),
    ("case_accuracy_assignment", "", "type accuracy averaged over cases, after optimal assignment"),
    ("tile_auroc", "", "auc over tiles"),
    ("region_accuracy", "", "share of regions whose class is right"),
    ("region_balanced_accuracy", "", "mean of the recalls of the region classes"),
)
_register_all(
    None,
    ("coverage", "", "share of true values inside the interval; nominal is best"),
    ("interval_width", "", "mean width of the interval; narrower is better at equal coverage"),
    ("calibration_slope", "", "slope of the label on the predicted logit; 1 is best, below is overconfident"),
    ("calibration_intercept", "", "intercept of the label on the predicted logit; 0 is best"),
)


def mse(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Return the mean squared error of equally shaped arrays."""
    true, predicted = _pair(truth, forecast)
    return float(np.mean((predicted - true) ** 2))


def rmse(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Return the square root of the global mean squared error."""
    return float(np.sqrt(mse(truth, forecast)))


def mae(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Return the mean absolute error of equally shaped arrays."""
    true, predicted = _pair(truth, forecast)
    return float(np.mean(np.abs(predicted - true)))


def mase(truth: ArrayLike, forecast: ArrayLike, scale: ArrayLike) -> float:
    """Return the mean absolute scaled error (Hyndman and Koehler 2006).

    Args:
        truth: True values, any shape.
        forecast: Forecasts, the same shape.
        scale: Mean absolute seasonal difference of the training part; broadcast against the errors.

    Raises:
        ValueError: A scale is not positive (the training series is constant).
    """
    true, predicted = _pair(truth, forecast)
    scales = np.asarray(scale, dtype=np.float64)
    if not (scales > 0).all():
        raise ValueError("mase needs a positive scale: the training series does not vary")
    return float(np.mean(np.abs(predicted - true) / scales))


def smape(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Return the symmetric mean absolute percentage error in percent; 0/0 counts as no error."""
    true, predicted = _pair(truth, forecast)
    total = np.abs(true) + np.abs(predicted)
    ratio = np.divide(np.abs(predicted - true), total, out=np.zeros_like(total), where=total > 0)
    return float(200.0 * np.mean(ratio))


def wape(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Return the weighted absolute percentage error in percent; NaN when every true value is zero."""
    true, predicted = _pair(truth, forecast)
    total = np.abs(true).sum()
    return float(100.0 * np.abs(predicted - true).sum() / total) if total > 0 else float("nan")


def r2(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Return the coefficient of determination; NaN when the truth does not vary."""
    true, predicted = _pair(truth, forecast)
    spread = np.sum((true - true.mean()) ** 2)
    return float(1.0 - np.sum((true - predicted) ** 2) / spread) if spread > 0 else float("nan")


def coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Return the share of true values inside the closed interval."""
    true, lower = _pair(truth, low)
    return float(np.mean((true >= lower) & (true <= np.asarray(high, dtype=np.float64))))


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the area under the ROC curve (ties count half); NaN when only one class is present.

    Args:
        labels: 0 or 1, shape ``(rows,)``.
        scores: Any real numbers, higher for class 1, shape ``(rows,)``.
        weights: How often each row counts, not negative, shape ``(rows,)``; None for once.
    """
    positive, values = check_labels(labels, scores)
    share = np.ones(values.size) if weights is None else np.asarray(weights, dtype=np.float64)
    _, level = np.unique(values, return_inverse=True)
    hits = np.bincount(level, share * positive)
    misses = np.bincount(level, share * ~positive)
    pairs = hits.sum() * misses.sum()
    below = np.cumsum(misses) - misses
    return float(np.sum(hits * (below + misses / 2)) / pairs) if pairs > 0 else float("nan")


def gauc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """Return the auc within each group, weighted by rows; groups with one class are left out.

    Returns:
        NaN when no group holds both classes.
    """
    positive, values = check_labels(labels, scores)
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(inverse[order])) + 1)
    areas = np.array([auc(positive[part], values[part]) for part in parts])
    sizes = np.array([part.size for part in parts], dtype=np.float64)
    known = np.isfinite(areas)
    return float(np.average(areas[known], weights=sizes[known])) if known.any() else float("nan")


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision, tied scores taken together; NaN without positives."""
    positive, values = check_labels(labels, scores)
    if not positive.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(positive[order])
    # only where the score changes is a threshold possible
    last = np.append(np.flatnonzero(np.diff(values[order])), positive.size - 1)
    precision = hits[last] / (last + 1.0)
    return float(np.sum(precision * np.diff(hits[last], prepend=0)) / hits[-1])


def log_losses(labels: ArrayLike, probabilities: ArrayLike) -> Floats:
    """Return the negative log-likelihood of each row in nats; probabilities are kept off 0 and 1 by 1e-15.

    Args:
        labels: Class indices, shape ``(rows,)``.
        probabilities: Of class 1, shape ``(rows,)``, or of every class, shape ``(rows, classes)``.
    """
    true, chances = _classes(labels, probabilities)
    return -np.log(np.clip(chances[np.arange(true.size), true], 1e-15, 1.0))


def logloss(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean of :func:`log_losses`, weighted by ``weights``, shape ``(rows,)``, where given."""
    share = None if weights is None else np.asarray(weights, dtype=np.float64)
    return float(np.average(log_losses(labels, probabilities), weights=share))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the Brier score: of class 1 for a vector, summed over the classes for a matrix."""
    true, chances = _classes(labels, probabilities)
    if np.ndim(probabilities) == 1:
        return float(np.mean((chances[:, 1] - true) ** 2))
    return float(np.mean(np.sum((chances - np.eye(chances.shape[1])[true]) ** 2, axis=1)))


def ece(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15, binning: Binning = "width") -> float:
    """Return the expected calibration error over ``bins`` bins.

    A vector is judged as the probability of class 1, a matrix by its most probable class
    (Guo et al. 2017).

    Args:
        labels: Class indices, shape ``(rows,)``.
        probabilities: Of class 1, shape ``(rows,)``, or of every class, shape ``(rows, classes)``.
        bins: How many.
        binning: Bins of equal width, or of equal mass (:func:`mass_bins`).
    """
    true, chances = _classes(labels, probabilities)
    if np.ndim(probabilities) == 1:
        confidence, right = chances[:, 1], true.astype(np.float64)
    else:
        confidence, right = chances.max(axis=1), (chances.argmax(axis=1) == true).astype(np.float64)
    if binning == "mass":
        number = mass_bins(confidence, bins)
    else:
        number = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gap = np.bincount(number, confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / true.size)


def true_calibration_error(true_probabilities: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Return the gap between predicted and true probability where a simulator knows the truth.

    Both are averaged within the :func:`mass_bins` of the predicted one; the mean absolute gap is returned.

    Args:
        true_probabilities: Of class 1, shape ``(rows,)``.
        probabilities: Predicted, shape ``(rows,)``.
        bins: How many; fewer rows than that give as many bins as rows.
    """
    true, predicted = _pair(true_probabilities, probabilities)
    number = mass_bins(predicted, bins)
    rows = np.bincount(number)
    return float(np.mean(np.abs(np.bincount(number, predicted - true)) / rows))


def mass_bins(values: ArrayLike, bins: int) -> NDArray[np.intp]:
    """Return the bin of each value, from 0, when the sorted values are cut into bins of equally many.

    The first bins hold one more where the rows cannot be shared out evenly. Equal values are taken in the
    order of their rows and may fall into two bins.
    """
    order = np.argsort(np.asarray(values), kind="stable")
    number = np.empty(order.size, dtype=np.intp)
    for position, rows in enumerate(np.array_split(order, bins)):
        number[rows] = position
    return number


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of equal entries."""
    return float(np.mean(_same_shape(labels, predicted)))


def recall(labels: ArrayLike, predicted: ArrayLike, positive: Any = 1) -> float:
    """Return the share of positives that were predicted so; NaN without positives."""
    hits = _same_shape(labels, predicted)
    wanted = np.asarray(labels) == positive
    return float(hits[wanted].mean()) if wanted.any() else float("nan")


def f1(labels: ArrayLike, predicted: ArrayLike, positive: Any = 1) -> float:
    """Return the f1 of one class; 0 when it is neither present nor predicted."""
    hits = _same_shape(labels, predicted)
    true, guessed = np.asarray(labels) == positive, np.asarray(predicted) == positive
    named = int(true.sum()) + int(guessed.sum())
    return float(2.0 * (hits & true).sum() / named) if named else 0.0


def macro_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the f1 averaged over the classes that are present or predicted."""
    classes = np.unique(np.concatenate([np.ravel(labels), np.ravel(predicted)]))
    return float(np.mean([f1(labels, predicted, one) for one in classes]))


def _pair(truth: ArrayLike, forecast: ArrayLike) -> tuple[Floats, Floats]:
    true, predicted = np.asarray(truth, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    if true.shape != predicted.shape:
        raise ValueError(f"truth has shape {true.shape}, forecast {predicted.shape}")
    if not true.size:
        raise ValueError("nothing to score: the arrays are empty")
    return true, predicted


def check_labels(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Return which rows are positive, and their scores as float64.

    Raises:
        ValueError: Shapes differ, there is no row, a label is not 0 or 1, or a score is NaN.
    """
    true, values = _pair(np.asarray(labels, dtype=np.float64), scores)
    if not np.isin(true, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    if np.isnan(values).any():
        raise ValueError("scores must not be NaN: they cannot be ranked")
    return true == 1.0, values


def _classes(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.intp], Floats]:
    chances = np.asarray(probabilities, dtype=np.float64)
    if chances.ndim == 1:
        chances = np.stack([1.0 - chances, chances], axis=1)
    true = np.asarray(labels).astype(np.intp)
    if true.shape != chances.shape[:1] or not true.size:
        raise ValueError(f"labels have shape {true.shape}, probabilities {np.shape(probabilities)}")
    if true.min() < 0 or true.max() >= chances.shape[1]:
        raise ValueError(f"labels must lie in 0..{chances.shape[1] - 1}")
    return true, chances


def _same_shape(labels: ArrayLike, predicted: ArrayLike) -> NDArray[np.bool_]:
    true, guessed = np.asarray(labels), np.asarray(predicted)
    if true.shape != guessed.shape or not true.size:
        raise ValueError(f"labels have shape {true.shape}, predictions {guessed.shape}")
    return np.asarray(true == guessed)

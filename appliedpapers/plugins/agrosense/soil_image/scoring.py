"""What is right of photos: classes by photo and by field, calibration, and what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core import metrics
from appliedpapers.core.metrics import register_metric
from appliedpapers.core.scores import MetricScores, Scored
from appliedpapers.plugins.agrosense.soil_image.answers import averaged, fields_of
from appliedpapers.plugins.agrosense.soil_image.photos import NO_SOIL, Photos

Floats = NDArray[np.float64]

PRIMARY = "accuracy"
BINS = 15

register_metric(
    "field_accuracy",
    unit="",
    higher_is_better=True,
    description="share of photos whose field, over all its photos, gets the right class",
)
register_metric(
    "no_soil_rejected",
    unit="",
    higher_is_better=True,
    description="share of photos without soil that get no class",
)
register_metric(
    "soil_rejected", unit="", higher_is_better=False, description="share of photos of soil that get no class"
)


@dataclass(frozen=True)
class Seen:
    """What a model says of photos.

    Attributes:
        chances: ``(n, classes)``.
        rejected: Photos that get no class, ``(n,)``; None where a model rejects none.
    """

    chances: Floats
    rejected: NDArray[np.bool_] | None = None


def score(seen: Seen, photos: Photos) -> Scored:
    """Score photos; those of a group are resampled together where groups are more than single copies.

    Classes are judged on photos of soil, whether a class was withheld or not; what was withheld stands
    beside it.
    """
    labels, chances = photos.labels, seen.chances
    soil = labels != NO_SOIL
    picked = np.where(soil, labels, 0)
    rows = np.arange(len(labels))
    guess = chances.argmax(axis=1)
    right = (guess == picked).astype(np.float64)
    weight = soil.astype(np.float64)

    def on_soil(function: object) -> MetricScores:
        def value(chosen: NDArray[np.intp]) -> float:
            own = chosen[soil[chosen]]
            return float(function(own)) if own.size else float("nan")  # type: ignore[operator]

        return MetricScores.of(value, len(labels))

    found = {
        PRIMARY: MetricScores.mean(right, None if soil.all() else weight),
        "macro_f1": on_soil(lambda own: metrics.macro_f1(labels[own], guess[own])),
        "logloss": MetricScores.mean(-np.log(np.maximum(chances[rows, picked], 1e-12)), weight),
        "ece": on_soil(lambda own: metrics.ece(labels[own], chances[own], BINS)),
    }
    if len(fields_of(photos.fields)) < len(photos):
        found["field_accuracy"] = MetricScores.mean(_by_field(seen, photos), weight)
    if seen.rejected is not None:
        found["soil_rejected"] = MetricScores.mean(seen.rejected.astype(np.float64), weight)
        if not soil.all():
            found["no_soil_rejected"] = MetricScores.mean(seen.rejected.astype(np.float64), 1 - weight)
    return Scored(found, _clusters(photos))


def joined(parts: Sequence[Seen]) -> Seen:
    """Join what a model says of several test parts."""
    rejected = [one.rejected for one in parts if one.rejected is not None]
    return Seen(
        np.concatenate([one.chances for one in parts]), np.concatenate(rejected) if rejected else None
    )


def _by_field(seen: Seen, photos: Photos) -> Floats:
    """Return for each photo whether its field gets the right class, over photos that were not rejected."""
    found = np.zeros(len(photos))
    for rows in fields_of(photos.fields).values():
        kept = [row for row in rows if seen.rejected is None or not seen.rejected[row]] or rows
        best = int(averaged(seen.chances[kept]).argmax())
        found[rows] = photos.labels[rows] == best
    return found


def _clusters(photos: Photos) -> NDArray[np.int64] | None:
    # a few pairs of copies among hundreds change no interval, and exact tests need single rows
    return photos.groups if len(np.unique(photos.groups)) < 0.9 * len(photos) else None

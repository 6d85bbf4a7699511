"""Scores of click probabilities: ranking, likelihood and calibration, before and after calibrating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core import metrics
from appliedpapers.core.counted import (
    auc_scores,
    divided,
    ece_scores,
    gauc_scores,
    line_scores,
    means_of_some,
    sums_of_draws,
)
from appliedpapers.core.features.fields import column_of
from appliedpapers.core.features.instants import instants
from appliedpapers.core.scores import Counted, Counts, MetricScores, Scored, Slices

if TYPE_CHECKING:
    from appliedpapers.plugins.finalmlp.splits import ClickSplit

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALL_SEEN, SOME_UNSEEN = "all seen", "some unseen"
MOST_DAYS = 14
FEWEST_ROWS = 50
DAY = 86_400_000_000
"""Microseconds of a day."""

_BINS = 15
_SLICED = ("auc", "logloss", "brier", "ece")


@dataclass(frozen=True)
class ClickPrediction:
    """What a model says about the rows of a part.

    Attributes:
        probability: Calibrated, in [0, 1], ``(rows,)`` float64.
        uncalibrated: Before calibration, ``(rows,)`` float64.
        unseen: Fields of each row whose token no train row holds, ``(rows,)`` int32.
    """

    probability: Floats
    uncalibrated: Floats
    unseen: NDArray[np.int32]


def score_clicks(prediction: ClickPrediction, split: ClickSplit) -> Scored:
    """Score predictions; a unit is a row, and rows of a group are resampled together where groups are kept.

    Weights count in auc, gauc, logloss and brier; calibration is judged row by row.

    Args:
        prediction: Of every row of ``split``.
        split: The rows. ``split.gauc`` names the column for gauc, or is None.

    Raises:
        ValueError: The prediction has another number of rows.
    """
    label, weight, chance = split.labels, split.weights, prediction.probability
    if chance.shape != label.shape:
        raise ValueError(f"{chance.size} predictions for {label.size} rows")
    scores = {"auc": auc_scores(label, chance, weight)}
    if split.gauc is not None:
        scores["gauc"] = gauc_scores(label, chance, split.codes(split.gauc), weight)
    for prefix, said in (("", chance), ("uncalibrated_", prediction.uncalibrated)):
        scores[f"{prefix}logloss"] = MetricScores.mean(metrics.log_losses(label, said), weight)
        scores[f"{prefix}brier"] = MetricScores.mean((said - label) ** 2, weight)
        scores[f"{prefix}ece"] = ece_scores(label, said)
    if chance.min() < chance.max():  # one probability for all has no line
        scores["calibration_slope"], scores["calibration_intercept"] = line_scores(label, chance)
    if split.truth is not None:
        gaps = TruthGaps(chance, split.truth, np.arange(label.size))
        scores["true_calibration_error"] = MetricScores.counted(gaps, label.size)
    by_group = split.cut.column if split.cut.protocol.startswith("group") else None
    clusters = None if by_group is None else split.codes(by_group)
    return Scored(scores, clusters=clusters, slices=_slices(scores, prediction, split))


class TruthGaps(Counted):
    """The mean gap between predicted and true probability, by bins of equal mass.

    Args:
        probabilities: Predicted, ``(units,)``.
        truth: True probabilities, ``(units,)``.
        rows: The units that are judged.
    """

    def __init__(self, probabilities: Floats, truth: Floats, rows: NDArray[np.signedinteger[Any]]) -> None:
        self._probabilities, self._truth, self._rows = probabilities, truth, rows.astype(np.int32)
        self._number = metrics.mass_bins(probabilities[rows], _BINS).astype(np.int16)
        self._gap = probabilities[rows] - truth[rows]

    def of_draws(self, counts: Counts) -> Floats:
        """Return the gap when each unit is drawn so often, in the bins of all rows."""
        drawn = counts.take(self._rows, axis=1)
        held = sums_of_draws(self._number, drawn, _BINS)
        gaps = divided(np.abs(sums_of_draws(self._number, drawn * self._gap, _BINS)), held)
        return means_of_some(gaps, held > 0)

    def restrict(self, chosen: Flags) -> TruthGaps:
        """Return the gap over some of the units, by bins of their own."""
        return TruthGaps(self._probabilities, self._truth, self._rows[chosen[self._rows]])


def sigmoid(logits: Floats) -> Floats:
    """Return probabilities of logits."""
    from scipy.special import expit

    return np.asarray(expit(logits), dtype=np.float64)


def moments_of(split: ClickSplit) -> NDArray[np.int64] | None:
    """Return microseconds since 1970 of each row, ``(rows,)`` int64, below 0 where time is missing.

    None where the rows have no times.
    """
    column = column_of(split.fields, "timestamp")
    if column is None:
        return None
    found = []
    for batch in split.read([column]):
        times = instants(batch.column(0), column, format=split.fields[column].format)
        found.append(np.asarray(pc.fill_null(pc.cast(times, pa.int64()), -1)))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def day_name(day: int) -> str:
    """Return a day since 1970 as ``2024-01-31``."""
    return str(np.datetime64(int(day), "D"))


def shown_periods(periods: NDArray[np.int64], labels: NDArray[np.float32], most: int) -> list[int]:
    """Return the periods with enough rows of both classes, in order; some from all over where they are many.

    Args:
        periods: Number of the day, or hour, of each row, ``(rows,)``; below 0 where it is missing.
        labels: 0 or 1, ``(rows,)``.
        most: How many are returned at most.
    """
    known = [int(one) for one in np.unique(periods[periods >= 0]) if _enough(periods == one, labels)]
    if len(known) <= most:
        return known
    places = np.linspace(0, len(known) - 1, most).round().astype(int)
    return [known[place] for place in places]


def _slices(scores: Mapping[str, MetricScores], prediction: ClickPrediction, split: ClickSplit) -> Slices:
    """Cut the test rows by ids that are new, and by day; a part that is everything is left out."""
    parts: list[tuple[dict[str, str], Flags]] = []
    new = prediction.unseen > 0
    if _enough(new, split.labels) and _enough(~new, split.labels):
        parts += [({"ids": ALL_SEEN}, ~new), ({"ids": SOME_UNSEEN}, new)]
    moments = moments_of(split)
    if moments is not None:
        days = moments // DAY
        shown = shown_periods(days, split.labels, MOST_DAYS)
        parts += [] if len(shown) < 2 else [({"day": day_name(day)}, days == day) for day in shown]
    return tuple(
        (labels, {name: scores[name].restrict(chosen) for name in _SLICED}) for labels, chosen in parts
    )


def _enough(chosen: Flags, labels: NDArray[np.float32]) -> bool:
    clicks = int(labels[chosen].sum())
    return int(chosen.sum()) >= FEWEST_ROWS and 0 < clicks < int(chosen.sum())

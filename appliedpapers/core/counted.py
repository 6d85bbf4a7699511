"""Metrics of rankings and of calibration that are resampled without sorting again.

Each of them sorts the test units once; a resample is then known by how often it holds each unit, and costs a
few passes over them. Hand them to :meth:`~appliedpapers.core.evaluation.MetricScores.counted`, or take the
functions below, which do.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.core.calibration import calibration_line, logit_of
from appliedpapers.core.metrics import check_labels, mass_bins
from appliedpapers.core.scores import Counted, Counts, Floats, Indices, MetricScores

Flags = NDArray[np.bool_]

_MANY_UNITS = 1_000_000
_NO_OPTIMUM = 1e-6  # mean gradient at a line that is only a bound, since the labels are separated


def auc_scores(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> MetricScores:
    """Return the auc (:func:`~appliedpapers.core.metrics.auc`) with its units, for intervals and tests.

    Args:
        labels: 0 or 1, shape ``(units,)``.
        scores: Any real numbers, higher for class 1, shape ``(units,)``.
        weights: How often each unit counts, not negative, shape ``(units,)``; None for once.

    Raises:
        ValueError: Shapes differ, there is no unit, or a number is not usable.
    """
    positive, values = check_labels(labels, scores)
    return _ranked(positive, values, np.zeros(values.size, dtype=np.intp), weights)


def gauc_scores(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, weights: ArrayLike | None = None
) -> MetricScores:
    """Return the gauc (:func:`~appliedpapers.core.metrics.gauc`) with its units, for intervals and tests.

    A group that holds one class only, in the sample or in a resample, is left out of it.

    Args:
        labels: As in :func:`auc_scores`.
        scores: As in :func:`auc_scores`.
        groups: Id of the group of each unit, shape ``(units,)``.
        weights: As in :func:`auc_scores`.

    Raises:
        ValueError: As in :func:`auc_scores`.
    """
    positive, values = check_labels(labels, scores)
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    if number.shape != values.shape:
        raise ValueError(f"groups have shape {number.shape}, scores {values.shape}")
    return _ranked(positive, values, number, weights)


def ece_scores(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> MetricScores:
    """Return the ece over bins of equal mass with its units, for intervals and tests.

    Resamples keep the bins of the whole sample; a slice has bins of its own. Noise within bins only ever adds
    to this error, so that its interval lies rather high where calibration is good.

    Args:
        labels: 0 or 1, shape ``(units,)``.
        probabilities: Of class 1, shape ``(units,)``.
        bins: How many.

    Raises:
        ValueError: Shapes differ, there is no unit, or a number is not usable.
    """
    positive, values = check_labels(labels, probabilities)
    return MetricScores.counted(Gaps(values, positive, np.arange(values.size), bins), values.size)


def line_scores(labels: ArrayLike, probabilities: ArrayLike) -> tuple[MetricScores, MetricScores]:
    """Return slope and intercept of :func:`~appliedpapers.core.calibration.calibration_line`, with units.

    A resample takes one Newton step from the line of the whole sample, which is its own line but for terms
    that vanish with the number of units faster than the interval does. NaN where the probabilities separate
    the labels without error: no such line exists.

    Args:
        labels: 0 or 1, shape ``(units,)``.
        probabilities: Of class 1, shape ``(units,)``.

    Raises:
        ValueError: Shapes differ, there is no unit, or a number is not usable.
    """
    positive, values = check_labels(labels, probabilities)
    slope = CalibrationLine(values, positive, np.arange(values.size), 0)
    return MetricScores.counted(slope, values.size), MetricScores.counted(slope.beside(1), values.size)


class CalibrationLine(Counted):
    """Slope or intercept of the label on the logit of the probability, one Newton step from the whole's.

    Args:
        probabilities: Of class 1, shape ``(units,)``.
        positive: Whether each unit is of class 1, shape ``(units,)``.
        rows: The units that are judged.
        place: 0 for the slope, 1 for the intercept.
    """

    def __init__(self, probabilities: Floats, positive: Flags, rows: Indices, place: int) -> None:
        from scipy.special import expit

        self._probabilities, self._positive, self._rows, self._place = probabilities, positive, rows, place
        whole = rows.size == probabilities.size
        truth, chances = positive[rows].astype(np.float64), probabilities[rows]
        self._line = np.array(calibration_line(truth, chances) if rows.size else (np.nan, np.nan))
        logits = logit_of(chances)
        line = expit(self._line[0] * logits + self._line[1])
        curve, error = line * (1 - line), line - truth
        if rows.size and max(abs((error * logits).mean()), abs(error.mean())) > _NO_OPTIMUM:
            self._line[:] = np.nan
        # sums of so many terms are as exact in 32 bits as an interval needs
        kind = np.float32 if rows.size >= _MANY_UNITS else np.float64
        columns = (error * logits, error, curve * logits**2, curve * logits, curve)
        terms = np.stack([column.astype(kind) for column in columns], axis=1)
        self._terms = terms if whole else np.zeros((probabilities.size, 5))
        if not whole:
            self._terms[rows] = terms

    def of_draws(self, counts: Counts) -> Floats:
        """Return the number when each unit is drawn so often; NaN where there is no such line."""
        values = np.full(len(counts), np.nan)
        if not np.isfinite(self._line).all():
            return values
        # one by one: a product of matrices adds in another order than one of a vector
        drawn = counts.astype(self._terms.dtype)
        sums = np.stack([row @ self._terms for row in drawn]).astype(np.float64)
        usable = np.flatnonzero(np.isfinite(sums).all(axis=1))
        hessians = sums[usable][:, [[2, 3], [3, 4]]]
        full = np.linalg.matrix_rank(hessians) == 2
        steps = np.linalg.solve(hessians[full], sums[usable[full], :2, None])
        values[usable[full]] = self._line[self._place] - steps[:, self._place, 0]
        return values

    def beside(self, place: int) -> CalibrationLine:
        """Return the other number of the same line, which shares everything with it."""
        other = copy.copy(self)
        other._place = place
        return other

    def restrict(self, chosen: Flags) -> CalibrationLine:
        """Return the same over some of the units, from a line of their own."""
        rows = self._rows[chosen[self._rows]]
        return CalibrationLine(self._probabilities, self._positive, rows, self._place)


class Gaps(Counted):
    """The expected calibration error over bins of equal mass.

    Args:
        probabilities: Of class 1, shape ``(units,)``.
        positive: Whether each unit is of class 1, shape ``(units,)``.
        rows: The units that are judged.
        bins: How many bins they are cut into.
    """

    def __init__(self, probabilities: Floats, positive: Flags, rows: Indices, bins: int) -> None:
        self._probabilities, self._positive, self._rows, self._bins = probabilities, positive, rows, bins
        self._whole = rows.size == probabilities.size
        self._number = mass_bins(probabilities[rows], bins).astype(np.int16)
        self._gap = probabilities[rows] - positive[rows]
        self._rows = _small(rows)

    def of_draws(self, counts: Counts) -> Floats:
        """Return the error when each unit is drawn so often."""
        drawn = counts if self._whole else counts.take(self._rows, axis=1)
        total = drawn.sum(axis=1)
        gaps = sums_of_draws(self._number, drawn * self._gap, self._bins)
        return divided(np.abs(gaps).sum(axis=1), total)

    def restrict(self, chosen: Flags) -> Gaps:
        """Return the error over some of the units, by bins of their own."""
        rows = self._rows[chosen[self._rows]]
        return Gaps(self._probabilities, self._positive, rows, self._bins)


class Pairs(Counted):
    """The auc within each group, averaged by the groups' sizes; with one group that is the auc.

    Positives and negatives stand sorted by group and score. A positive is worth the negatives of its group
    that come before it, those of its own score by half.

    Args:
        negatives: Their units, shape ``(negatives,)``.
        positives: Their units, shape ``(positives,)``.
        below: For each positive, the number of negatives with a smaller score or in an earlier group.
        through: The same with those of its score.
        groups: Groups of the negatives and of the positives, never falling; each must hold both classes.
        weights: How often each unit counts, shape ``(units,)``; None for once.
    """

    def __init__(
        self,
        negatives: Indices,
        positives: Indices,
        below: Indices,
        through: Indices,
        groups: tuple[Indices, Indices],
        weights: Floats | None,
    ) -> None:
        self._negatives, self._positives, self._weights = negatives, positives, weights
        self._below, self._through, self._groups = below, through, groups
        self._first_negatives, self._first_positives = (_first_of_each(one) for one in groups)
        held = np.diff(self._first_positives, append=positives.size)
        self._before = np.repeat(self._first_negatives, held)

    def of_draws(self, counts: Counts) -> Floats:
        """Return the value when each unit is drawn so often."""
        values = np.full(len(counts), np.nan)
        if not self._positives.size:
            return values
        drawn: Counts | Floats = counts if self._weights is None else counts * self._weights
        negatives, positives = drawn.take(self._negatives, axis=1), drawn.take(self._positives, axis=1)
        running = np.zeros((len(counts), self._negatives.size + 1), dtype=negatives.dtype)
        np.cumsum(negatives, axis=1, out=running[:, 1:])
        below, through = running.take(self._below, axis=1), running.take(self._through, axis=1)
        worth = below + through - 2 * running.take(self._before, axis=1)
        won = np.add.reduceat(positives * worth, self._first_positives, axis=1) / 2
        hits = np.add.reduceat(positives, self._first_positives, axis=1)
        misses = np.add.reduceat(negatives, self._first_negatives, axis=1)
        both = (hits > 0) & (misses > 0)
        areas, sizes = divided(won, hits * misses), hits + misses
        whole = both.all(axis=1)
        if whole.any():
            values[whole] = np.average(areas[whole], axis=1, weights=sizes[whole])
        for row in np.flatnonzero(both.any(axis=1) & ~whole):
            kept = both[row]
            values[row] = np.average(areas[row, kept], weights=sizes[row, kept])
        return values

    def restrict(self, chosen: Flags) -> Pairs:
        """Return the same over some of the units, in the order that they are sorted in already."""
        rows = (self._negatives, self._positives)
        kept = (chosen[self._negatives], chosen[self._positives])
        return _pairs(rows, self._below, self._through, self._groups, self._weights, kept)


def sums_of_draws(number: NDArray[np.signedinteger[Any]], values: NDArray[Any], bins: int) -> Floats:
    """Sum values ``(draws, n)`` by bin within each draw, from the first to the last.

    Args:
        number: Bin of each of the n, ``(n,)``.
        values: What is summed, ``(draws, n)``.
        bins: How many bins there are.

    Returns:
        Sums, ``(draws, bins)``.
    """
    draws = len(values)
    places = number + bins * np.arange(draws)[:, None]
    sums = np.bincount(places.ravel(), values.ravel(), minlength=draws * bins)
    return np.asarray(sums, dtype=np.float64).reshape(draws, bins)


def means_of_some(values: Floats, kept: Flags) -> Floats:
    """Return the mean of the kept values of each row, NaN where none is kept; both ``(rows, n)``."""
    rows = zip(values, kept, strict=True)
    return np.array([row[some].mean() if some.any() else np.nan for row, some in rows])


def divided(above: NDArray[Any], below: NDArray[Any]) -> Floats:
    """Return the quotient, NaN where it is divided by zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _pairs(
    rows: tuple[Indices, Indices],
    below: Indices,
    through: Indices,
    groups: tuple[Indices, Indices],
    weights: Floats | None,
    kept: tuple[Flags, Flags],
) -> Pairs:
    """Return the pairs of the kept negatives and positives, without groups that hold one class only."""
    size = int(max(one[-1] if one.size else 0 for one in groups)) + 1
    first, second = (np.bincount(one[keep], minlength=size) for one, keep in zip(groups, kept, strict=True))
    both = (first > 0) & (second > 0)
    negatives, positives = kept[0] & both[groups[0]], kept[1] & both[groups[1]]
    place = np.concatenate([[0], np.cumsum(negatives)])
    return Pairs(
        _small(rows[0][negatives]),
        _small(rows[1][positives]),
        _small(place[below[positives]]),
        _small(place[through[positives]]),
        (_small(groups[0][negatives]), _small(groups[1][positives])),
        weights,
    )


def _small(numbers: Indices) -> Indices:
    """Return indices in half the bytes where they fit."""
    fits = not numbers.size or int(numbers.max()) < np.iinfo(np.int32).max
    return numbers.astype(np.int32) if fits else numbers


def _ranked(positive: Flags, scores: Floats, groups: Indices, weights: ArrayLike | None) -> MetricScores:
    share = None if weights is None else np.asarray(weights, dtype=np.float64)
    if share is not None and (share.shape != scores.shape or not (share >= 0).all()):
        raise ValueError(f"weights must not be negative and have the shape {scores.shape}")
    order = np.lexsort((scores, groups)) if groups.any() else np.argsort(scores, kind="stable")
    hit, score, group = positive[order], scores[order], groups[order]
    level = np.cumsum((score[1:] != score[:-1]) | (group[1:] != group[:-1]))
    level = np.concatenate([[0], level])
    through = np.cumsum(np.bincount(level, ~hit)).astype(np.intp)
    below = np.concatenate([[0], through[:-1]])
    kept = (np.ones(np.count_nonzero(~hit), dtype=bool), np.ones(np.count_nonzero(hit), dtype=bool))
    pairs = _pairs(
        (order[~hit], order[hit]),
        below[level[hit]],
        through[level[hit]],
        (group[~hit], group[hit]),
        share,
        kept,
    )
    return MetricScores.counted(pairs, scores.size)


def _first_of_each(groups: Indices) -> Indices:
    return np.flatnonzero(np.diff(groups, prepend=-1))

"""Tests between models on folds and on pooled rows, with the corrections that folds need.

Sources: Nadeau and Bengio (2003, Machine Learning 52:239) for the corrected resampled t; McNemar (1947) with
the exact binomial tail; Friedman (1937) with Iman and Davenport's F (1980) and Nemenyi's critical difference
as in Demsar (2006, JMLR 7:1); Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.core.scores import MetricScores

Floats = NDArray[np.float64]


class Tested(NamedTuple):
    """A test's statistic and its two-sided p value; NaN where it is not defined."""

    statistic: float
    p: float


class Ranked(NamedTuple):
    """Friedman's test over data sets (or folds).

    Attributes:
        ranks: Mean rank of each model, 1 is best, ``(models,)``.
        chi2: Friedman's statistic.
        p: Of the chi-square with models - 1 degrees of freedom.
        f: Iman and Davenport's statistic.
        f_p: Its p value with (models - 1) and (models - 1)(sets - 1) degrees of freedom.
    """

    ranks: Floats
    chi2: float
    p: float
    f: float
    f_p: float


def corrected_t(differences: ArrayLike, ratio: float) -> Tested:
    """Return the corrected resampled t test: folds share training rows, so their differences are no sample.

    ``t = mean / sqrt((1 / k + ratio) * variance)`` with k - 1 degrees of freedom; ``ratio`` 0 is the naive
    paired t, whose p is never larger.

    Args:
        differences: Of the metric in each fold, ``(folds,)``, at least 2.
        ratio: Judged rows over learned rows of a fold, such as 1/4 with five folds.

    Raises:
        ValueError: Fewer than two folds, or a negative ratio.
    """
    from scipy.special import stdtr

    values = np.asarray(differences, dtype=np.float64)
    count = values.size
    if values.ndim != 1 or count < 2:
        raise ValueError(f"at least two folds are needed, not {count}")
    if ratio < 0:
        raise ValueError(f"the ratio must not be negative, not {ratio}")
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    if variance == 0:
        return Tested(math.copysign(math.inf, mean) if mean else 0.0, 0.0 if mean else 1.0)
    t = mean / math.sqrt((1 / count + ratio) * variance)
    return Tested(t, float(2 * stdtr(count - 1, -abs(t))))


def corrected_difference(
    a: MetricScores, b: MetricScores, folds: Sequence[int], level: float
) -> tuple[float, float, float, float]:
    """Return the difference of two models over folds, its interval and p by the corrected resampled t.

    Args:
        a: The reference; additive, units in the order of the folds.
        b: What it is compared with.
        folds: Units of each fold.
        level: Coverage of the interval.
    """
    from scipy.special import stdtrit

    ends = np.concatenate([[0], np.cumsum(folds)])
    parts = [np.arange(low, high) for low, high in pairwise(ends)]
    differences = np.array([b.aggregate(part) - a.aggregate(part) for part in parts])
    ratio = 1 / (len(parts) - 1)
    found, mean = corrected_t(differences, ratio), float(differences.mean())
    error = math.sqrt((1 / len(parts) + ratio) * float(differences.var(ddof=1)))
    half = error * float(stdtrit(len(parts) - 1, 0.5 + level / 2))
    return mean, mean - half, mean + half, found.p


def mcnemar(first: ArrayLike, second: ArrayLike) -> Tested:
    """Return McNemar's exact test of two models on the same rows.

    Args:
        first: Whether the first model is right, ``(rows,)``.
        second: Likewise of the second.

    Returns:
        Rows that only the second gets right less those that only the first does, and the exact two-sided
        binomial p.

    Raises:
        ValueError: The rows differ in number.
    """
    from scipy.special import bdtr

    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"not the same rows: {one.shape} against {other.shape}")
    only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
    apart = only_first + only_second
    p = 1.0 if apart == 0 else min(1.0, 2 * float(bdtr(min(only_first, only_second), apart, 0.5)))
    return Tested(float(only_second - only_first), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for having looked at all of them (Holm 1979), in the same order."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1) * values[order]
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]


def friedman(scores: ArrayLike, *, higher_is_better: bool = True) -> Ranked:
    """Return Friedman's test of equal models; ties share their mean rank.

    Args:
        scores: ``(sets, models)``, at least 2 of each.
        higher_is_better: Which end has rank 1.

    Raises:
        ValueError: Too few sets or models.
    """
    from scipy.special import chdtrc, fdtrc
    from scipy.stats import rankdata

    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"at least two sets and two models are needed, not {values.shape}")
    sets, models = values.shape
    ranks = rankdata(-values if higher_is_better else values, axis=1).mean(axis=0)
    chi2 = 12 * sets / (models * (models + 1)) * (float((ranks**2).sum()) - models * (models + 1) ** 2 / 4)
    free = models - 1
    left = sets * free - chi2
    f = math.inf if left <= 0 else (sets - 1) * chi2 / left
    f_p = 0.0 if math.isinf(f) else float(fdtrc(free, free * (sets - 1), f))
    return Ranked(ranks, chi2, float(chdtrc(free, chi2)), f, f_p)


def nemenyi_difference(models: int, sets: int, alpha: float = 0.05) -> float:
    """Return the critical difference of mean ranks: ``q * sqrt(m (m + 1) / (6 N))``.

    Args:
        models: m, at least 2.
        sets: N.
        alpha: Level over all pairs.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, models, math.inf)) / math.sqrt(2)
    return q * math.sqrt(models * (models + 1) / (6 * sets))


def anova(scores: ArrayLike) -> Tested:
    """Return the one-way analysis of variance over models; it assumes independent folds, which they are not.

    Args:
        scores: ``(folds, models)``.
    """
    from scipy.special import fdtrc

    values = np.asarray(scores, dtype=np.float64)
    folds, models = values.shape
    means = values.mean(axis=0)
    between = folds * float(((means - values.mean()) ** 2).sum()) / (models - 1)
    within = float(((values - means) ** 2).sum()) / (models * (folds - 1))
    if within == 0:
        return Tested(math.inf if between else 0.0, 0.0 if between else 1.0)
    f = between / within
    return Tested(f, float(fdtrc(models - 1, models * (folds - 1), f)))

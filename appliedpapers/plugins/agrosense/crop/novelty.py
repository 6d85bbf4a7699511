"""Rows outside what was learned from: beyond the range of a feature, or far from every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.columns import Feature

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SHRINKAGE = 0.1
QUANTILE = 0.995


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a feature in training."""

    name: str
    unit: str | None
    low: float
    high: float

    def warning(self, value: float) -> str | None:
        """Return what is wrong with a value, in one sentence; None inside the range or where missing."""
        if np.isnan(value) or self.low <= value <= self.high:
            return None
        unit = f" {self.unit}" if self.unit and self.unit != "pH" else ""
        edge = self.low if value < self.low else self.high
        said = "" if self.unit else " (unit not stated)"
        return (
            f"{self.name} {value:g}{unit} is outside the training range {self.low:g} to {self.high:g}{unit}"
            f"{said}; the nearest edge is {edge:g}{unit}"
        )


@dataclass(frozen=True)
class Novelty:
    """Ranges of numbers, and the squared Mahalanobis distance to the nearest class.

    Attributes:
        ranges: One a numeric feature, by its column.
        means: Of the classes, standardised columns, ``(classes, columns)``.
        precision: Inverse of the shrunken covariance within classes, ``(columns, columns)``.
        centre: Mean of each column, ``(columns,)``.
        spread: Standard deviation of each column, positive, ``(columns,)``.
        limit: Distances above it are novel.
    """

    ranges: tuple[Range, ...]
    means: Floats
    precision: Floats
    centre: Floats
    spread: Floats
    limit: float

    @classmethod
    def fit(
        cls,
        values: Floats,
        labels: Integers,
        features: Sequence[Feature],
        folds: Sequence[tuple[Integers, Integers]],
    ) -> Self:
        """Learn ranges and classes, and the limit from rows that stood outside the fit.

        Args:
            values: Numeric columns, ``(rows, columns)``, NaN where missing.
            labels: ``(rows,)``.
            features: Of the columns.
            folds: Learned and judged rows.
        """
        ranges = tuple(
            Range(feature.name, feature.unit, *_ends(column))
            for feature, column in zip(features, values.T, strict=True)
        )
        apart = [_distances(values[judged], *_classes(values[rows], labels[rows])) for rows, judged in folds]
        limit = float(np.quantile(np.concatenate(apart), QUANTILE)) if values.shape[1] else np.inf
        return cls(ranges, *_classes(values, labels), limit)

    def distances(self, values: Floats) -> Floats:
        """Return the squared distance to the nearest class, ``(rows,)``; a missing value is at its mean."""
        return _distances(values, self.means, self.precision, self.centre, self.spread)

    def warnings(self, values: Floats) -> list[list[str]]:
        """Return the sentences on each row of ``(rows, columns)``; none where it lies inside."""
        low = np.array([one.low for one in self.ranges])
        high = np.array([one.high for one in self.ranges])
        found: list[list[str]] = [[] for _ in values]
        with np.errstate(invalid="ignore"):
            outside = (values < low) | (values > high)
        for row, column in zip(*np.nonzero(outside), strict=True):
            sentence = self.ranges[column].warning(float(values[row, column]))
            found[row] += [sentence] if sentence else []
        for row in np.flatnonzero(np.isnan(values).all(axis=1)) if values.shape[1] else ():
            found[row].append("no number is given")
        for row in np.flatnonzero(self.distances(values) > self.limit) if values.shape[1] else ():
            if not found[row]:
                found[row].append("the values together are unlike those of any crop in training")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that keeps every bit."""
        return {
            "ranges": [[one.name, one.unit, one.low, one.high] for one in self.ranges],
            **{name: getattr(self, name).tolist() for name in ("means", "precision", "centre", "spread")},
            "limit": self.limit,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild it from :meth:`to_json`."""
        arrays = [
            np.array(document[name], dtype=np.float64) for name in ("means", "precision", "centre", "spread")
        ]
        ranges = tuple(Range(*one) for one in document["ranges"])
        return cls(ranges, arrays[0], arrays[1], arrays[2], arrays[3], float(document["limit"]))


def _ends(column: Floats) -> tuple[float, float]:
    known = column[~np.isnan(column)]
    return (float(known.min()), float(known.max())) if known.size else (-np.inf, np.inf)


def _classes(values: Floats, labels: Integers) -> tuple[Floats, Floats, Floats, Floats]:
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, values, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, values - centre, 0) ** 2).sum(axis=0) / count)
    spread = np.where(spread > 1e-12, spread, 1.0)
    scaled = np.where(known, (values - centre) / spread, 0.0)
    names = np.unique(labels)
    means = np.stack([scaled[labels == name].mean(axis=0) for name in names])
    within = scaled - means[np.searchsorted(names, labels)]
    covariance = within.T @ within / max(len(within) - len(names), 1)
    diagonal = np.diag(np.diag(covariance))
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal + 1e-9 * np.eye(len(centre))
    return means, np.linalg.inv(shrunk), centre, spread


def _distances(values: Floats, means: Floats, precision: Floats, centre: Floats, spread: Floats) -> Floats:
    scaled = np.where(np.isnan(values), 0.0, (values - centre) / spread)
    gaps = scaled[:, None, :] - means
    # one product a row and class: a row's distance does not depend on how many stand beside it
    return np.asarray(np.einsum("rci,ij,rcj->rc", gaps, precision, gaps, optimize=False).min(axis=1))

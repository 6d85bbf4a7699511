"""Scores of one model, kept per unit: a window, a row, a scene, a case.

Intervals and paired tests are computed from them later (:mod:`appliedpapers.core.bootstrap`), and those of
several test parts are joined (:mod:`appliedpapers.core.pooling`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Counts = NDArray[np.int64]


class Counted(ABC):
    """A metric as a function of how often each unit counts, which may sort its units once for all resamples.

    :mod:`appliedpapers.core.counted` holds those of rankings and of calibration.
    """

    def __call__(self, counts: Counts) -> float:
        """Return the value when each unit is drawn so often, shape ``(units,)``; NaN where undefined."""
        return float(self.of_draws(counts[None])[0])

    @abstractmethod
    def of_draws(self, counts: Counts) -> Floats:
        """Return the values ``(draws,)`` of several resamples at once, counts of shape ``(draws, units)``.

        Each must be what it is alone, to the last bit: how many are asked for at once must not show.
        """

    @abstractmethod
    def restrict(self, chosen: NDArray[np.bool_]) -> Counted:
        """Return the metric over some of the units, shape ``(units,)``; counts keep their shape."""


@dataclass(frozen=True)
class MetricScores:
    """One metric of one model over the test units.

    Build it with :meth:`mean`, :meth:`root_mean`, :meth:`counted` or :meth:`of`.

    Attributes:
        losses: Additive per-unit values, shape ``(units,)``; None for a metric that is not a mean.
        aggregate: Value over the chosen units, with repetition; indices have shape ``(chosen,)``.
        units: How many units there are.
        weights: Weight of each unit in the mean, shape ``(units,)``; None for equal weights.
        root: The value is the square root of the mean.
        by_counts: What ``aggregate`` follows from; None for a metric that knows indices only.
    """

    losses: Floats | None
    aggregate: Callable[[Indices], float] = field(repr=False)
    units: int
    weights: NDArray[Any] | None = None
    root: bool = False
    by_counts: Counted | None = field(default=None, repr=False)

    @classmethod
    def mean(cls, losses: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """Return a metric that is the (weighted) mean of per-unit values.

        Args:
            losses: Shape ``(units,)``. A value may be NaN where its weight is 0.
            weights: Shape ``(units,)``, not negative; for instance the number of points of a unit.

        Raises:
            ValueError: Shapes differ, no unit at all, or a weight is negative or not finite.
        """
        return cls._additive(losses, weights, root=False)

    @classmethod
    def root_mean(cls, losses: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """Return a metric that is the square root of the (weighted) mean, such as the RMSE.

        Args:
            losses: Squared errors, shape ``(units,)``.
            weights: As in :meth:`mean`.

        Raises:
            ValueError: As in :meth:`mean`.
        """
        return cls._additive(losses, weights, root=True)

    @classmethod
    def of(cls, function: Callable[[Indices], float], units: int) -> Self:
        """Return a metric that is any function of the chosen units, such as an AUC.

        Args:
            function: Takes unit indices with repetition; NaN where it is undefined for that choice.
            units: How many units there are.
        """
        if units < 1:
            raise ValueError("a metric needs at least one unit")
        return cls(None, function, units)

    @classmethod
    def counted(cls, function: Counted, units: int) -> Self:
        """Return a metric that needs no more than how often each unit was drawn: resampling it is fast.

        Args:
            function: The metric.
            units: How many units there are.
        """
        if units < 1:
            raise ValueError("a metric needs at least one unit")
        return cls(
            None,
            lambda indices: function(np.bincount(indices, minlength=units)),
            units,
            None,
            False,
            function,
        )

    @property
    def value(self) -> float:
        """The value over all units."""
        return self.aggregate(np.arange(self.units))

    @property
    def count(self) -> int:
        """How many units carry weight."""
        return self.units if self.weights is None else int(np.count_nonzero(self.weights))

    def restrict(self, chosen: NDArray[np.bool_]) -> MetricScores:
        """Return the same metric over some of the units; it keeps the unit numbering.

        Args:
            chosen: Shape ``(units,)``.
        """
        if self.losses is not None:
            # the losses are shared: a slice of millions of units costs a byte each
            share = chosen if self.weights is None else self.weights * chosen
            return MetricScores(
                self.losses, _aggregate(self.losses, share, self.root), self.units, share, self.root
            )
        if self.by_counts is not None:
            part = MetricScores.counted(self.by_counts.restrict(chosen), self.units)
            return replace(part, weights=chosen)
        whole = self.aggregate
        return MetricScores(
            None,
            lambda indices: whole(indices[chosen[indices]]) if chosen[indices].any() else float("nan"),
            self.units,
            chosen,
        )

    @classmethod
    def _additive(cls, losses: ArrayLike, weights: ArrayLike | None, *, root: bool) -> Self:
        values = np.asarray(losses, dtype=np.float64)
        if values.ndim != 1 or not values.size:
            raise ValueError(f"losses must have shape (units,) with units >= 1, not {values.shape}")
        share = None if weights is None else np.asarray(weights, dtype=np.float64)
        if share is not None:
            if share.shape != values.shape:
                raise ValueError(f"weights have shape {share.shape}, losses {values.shape}")
            if not np.isfinite(share).all() or (share < 0).any():
                raise ValueError("weights must be finite and not negative")
            values = np.where(share > 0, values, 0.0)

        return cls(values, _aggregate(values, share, root), values.size, share, root)


Slices = tuple[tuple[Mapping[str, str], Mapping[str, MetricScores]], ...]


@dataclass(frozen=True)
class Scored:
    """All metrics of one model over the test units.

    Attributes:
        metrics: By metric name; all have the same units.
        clusters: Ids of units that are resampled together, shape ``(units,)``; clusters are ordered by
            their first unit. None: each unit is its own.
        block: Consecutive clusters per bootstrap block, for overlapping windows and time series; about
            twice the overlap keeps intervals near their level.
        slices: Parts of the test set, such as ``({"series": "OT"}, {"mse": ...})``; those by
            :meth:`MetricScores.restrict`, whose metrics know the units of the whole, get an interval.
        units: Units of measurement that differ from the registry's, such as ``{"mae": "kW"}``.
        folds: Units of each test part that was pooled, in their order; empty where there was one.
    """

    metrics: Mapping[str, MetricScores]
    clusters: NDArray[Any] | None = None
    block: int = 1
    slices: Slices = ()
    units: Mapping[str, str] = field(default_factory=dict)
    folds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("a model must be scored by at least one metric")
        sizes = {scores.units for scores in self.metrics.values()}
        if len(sizes) > 1:
            raise ValueError(f"metrics of one model must share their units, found {sorted(sizes)}")
        if self.clusters is not None and self.clusters.shape != (self.size,):
            raise ValueError(f"clusters have shape {self.clusters.shape}, expected ({self.size},)")
        if self.block < 1:
            raise ValueError(f"block must be at least 1, not {self.block}")

    @property
    def size(self) -> int:
        """How many units were scored."""
        return next(iter(self.metrics.values())).units


def _aggregate(values: Floats, share: NDArray[Any] | None, root: bool) -> Callable[[Indices], float]:
    def aggregate(indices: Indices) -> float:
        mean = _mean(values[indices], None if share is None else share[indices])
        return float(np.sqrt(mean)) if root else mean

    return aggregate


def _mean(values: Floats, weights: NDArray[Any] | None) -> float:
    if not values.size:
        return float("nan")
    if weights is None:
        return float(values.mean())
    total = weights.sum()
    return float((values * weights).sum() / total) if total > 0 else float("nan")

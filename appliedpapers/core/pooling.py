"""Scores on several test parts as one: folds, sources that are left out in turn, rolling origins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.scores import Counted, Counts, Floats, Indices, MetricScores, Scored, Slices

Labels = tuple[tuple[str, str], ...]


def pooled(parts: Sequence[Scored]) -> Scored:
    """Join the scores of one kind of model on several test parts.

    A mean runs over all units together. What is no mean, such as an AUC or a calibration error, is computed
    on each part and averaged over the parts where it is defined: scores of two fits are not on one scale.
    A metric that a part lacks, such as the risk of answers where none was given, rests on the other parts.
    Slices with equal labels are one slice.

    Args:
        parts: At least one; scored by at least one common metric.

    Raises:
        ValueError: No metric is common to all.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if not set(first.metrics).intersection(*(one.metrics for one in parts)):
        raise ValueError("the parts were scored by different metrics")
    clusters = [one.clusters for one in parts if one.clusters is not None]
    if clusters and len(clusters) < len(parts):
        raise ValueError("some parts have clusters, others none")
    return Scored(
        {
            name: _joined(_of_each(name, parts))
            for name in dict.fromkeys(n for one in parts for n in one.metrics)
        },
        np.concatenate(clusters) if clusters else None,
        max(one.block for one in parts),
        _joined_slices(parts),
        first.units,
        tuple(one.size for one in parts),
    )


def _of_each(name: str, parts: Sequence[Scored]) -> list[MetricScores]:
    known = next(one.metrics[name] for one in parts if name in one.metrics)
    return [one.metrics[name] if name in one.metrics else _nothing(one.size, known) for one in parts]


def _nothing(units: int, like: MetricScores) -> MetricScores:
    if like.losses is None:
        return MetricScores.of(lambda _: float("nan"), units)
    make = MetricScores.root_mean if like.root else MetricScores.mean
    return make(np.zeros(units), np.zeros(units))


def _joined_slices(parts: Sequence[Scored]) -> Slices:
    by_labels: dict[Labels, dict[int, Mapping[str, MetricScores]]] = {}
    for number, part in enumerate(parts):
        for labels, metrics in part.slices:
            by_labels.setdefault(tuple(labels.items()), {})[number] = metrics
    return tuple((dict(labels), _joined_slice(parts, found)) for labels, found in by_labels.items())


def _joined_slice(
    parts: Sequence[Scored], found: Mapping[int, Mapping[str, MetricScores]]
) -> dict[str, MetricScores]:
    joined = {}
    for name in dict.fromkeys(name for metrics in found.values() for name in metrics):
        own = {number: metrics[name] for number, metrics in found.items() if name in metrics}
        # a slice that numbers the units of the whole keeps that numbering, or it would get no interval
        numbered = all(one.units == parts[number].size for number, one in own.items())
        scores = [
            own[number] if number in own else part.metrics[name].restrict(np.zeros(part.size, bool))
            for number, part in enumerate(parts)
            if number in own or (numbered and name in part.metrics)
        ]
        joined[name] = _joined(scores)
    return joined


def _joined(scores: Sequence[MetricScores]) -> MetricScores:
    losses = [one.losses for one in scores if one.losses is not None]
    if len(losses) == len(scores) and len({one.root for one in scores}) == 1:
        make = MetricScores.root_mean if scores[0].root else MetricScores.mean
        return make(np.concatenate(losses), _weights(scores))
    counted = [one.by_counts for one in scores if one.by_counts is not None]
    units = [one.units for one in scores]
    weights = _weights(scores)
    if len(counted) == len(scores):
        return replace(MetricScores.counted(_PartWise(counted, units), sum(units)), weights=weights)
    ends = _ends(units)

    def average(indices: Indices) -> float:
        own = [indices[(indices >= low) & (indices < high)] - low for low, high in pairwise(ends)]
        return _mean([one.aggregate(some) for one, some in zip(scores, own, strict=True) if some.size])

    return replace(MetricScores.of(average, sum(units)), weights=weights)


def _weights(scores: Sequence[MetricScores]) -> NDArray[Any] | None:
    if all(one.weights is None for one in scores):
        return None
    return np.concatenate([np.ones(one.units) if one.weights is None else one.weights for one in scores])


class _PartWise(Counted):
    """The average over parts of a metric that needs no more than how often each unit was drawn."""

    def __init__(self, parts: Sequence[Counted], units: Sequence[int]) -> None:
        self._parts, self._units, self._ends = parts, units, _ends(units)

    def of_draws(self, counts: Counts) -> Floats:
        drawn = [np.ascontiguousarray(counts[:, low:high]) for low, high in pairwise(self._ends)]
        values = [
            np.where(own.any(axis=1), part.of_draws(own), np.nan)
            for part, own in zip(self._parts, drawn, strict=True)
        ]
        return np.array([_mean(row) for row in np.stack(values, axis=1).tolist()])

    def restrict(self, chosen: NDArray[np.bool_]) -> Counted:
        own = [chosen[low:high] for low, high in pairwise(self._ends)]
        return _PartWise(
            [part.restrict(some) for part, some in zip(self._parts, own, strict=True)], self._units
        )


def _ends(units: Sequence[int]) -> list[int]:
    return list(accumulate(units, initial=0))


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")

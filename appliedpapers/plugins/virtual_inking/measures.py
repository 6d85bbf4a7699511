"""Measures of margins: regions of the contour, boundaries, distances. Coordinates in micrometres."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Lines = Sequence[Floats]

_BLOCK = 4_000_000  # distances at once: 32 MB


def arcs(samples: int, per_arc: int) -> list[tuple[int, int]]:
    """Cut a contour of so many samples into arcs; a rest shorter than half an arc joins the one before it.

    Returns:
        ``(begin, end)`` of each arc; one for a contour shorter than an arc and a half.
    """
    edges = [(begin, min(begin + per_arc, samples)) for begin in range(0, samples, per_arc)]
    if len(edges) > 1 and 2 * (edges[-1][1] - edges[-1][0]) < per_arc:
        last = edges.pop()
        edges[-1] = (edges[-1][0], last[1])
    return edges


def arc_labels(marked: ArrayLike, per_arc: int, known: ArrayLike | None = None) -> NDArray[np.int64]:
    """Return 1 for arcs of which the majority was cut, 0 for others and ties, -1 where nothing is known."""
    flags = np.asarray(marked, dtype=bool)
    usable = np.ones(flags.size, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    found = []
    for begin, end in arcs(flags.size, per_arc):
        own = flags[begin:end][usable[begin:end]]
        found.append(-1 if not own.size else int(2 * np.count_nonzero(own) > own.size))
    return np.array(found, dtype=np.int64)


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean recall over the classes that occur; NaN without any."""
    true, said = np.asarray(truth), np.asarray(predicted)
    share = np.ones(true.size) if weights is None else np.asarray(weights, dtype=np.float64)
    recalls = [
        float(share[(true == kind) & (said == kind)].sum() / share[true == kind].sum())
        for kind in (0, 1)
        if share[true == kind].sum() > 0
    ]
    return float(np.mean(recalls)) if recalls else float("nan")


def line_length(line: Floats) -> float:
    """Return the length of a polyline ``(points, 2)``."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def densify(line: Floats, step: float = 1.0) -> Floats:
    """Return points on a polyline, at most ``step`` apart, its own among them."""
    found = [line[:1]]
    for begin, end in pairwise(line):
        count = max(math.ceil(float(np.hypot(*(end - begin))) / step), 1)
        found.append(begin + (end - begin) * (np.arange(1, count + 1) / count)[:, None])
    return np.concatenate(found)


def distances(points: Floats, lines: Lines) -> Floats:
    """Return the distance of each point to the nearest segment of any polyline; infinite without one."""
    return _nearest(points, lines)[0]


def _nearest(points: Floats, lines: Lines) -> tuple[Floats, Floats]:
    begins = [line[:-1] if len(line) > 1 else line for line in lines if len(line)]
    ends = [line[1:] if len(line) > 1 else line for line in lines if len(line)]
    if not begins or not len(points):
        return np.full(len(points), np.inf), np.full((len(points), 2), np.nan)
    start, way = np.concatenate(begins), np.concatenate(ends) - np.concatenate(begins)
    squares = np.maximum((way**2).sum(axis=1), 1e-300)
    rows = max(_BLOCK // len(start), 1)
    found, feet = [], []
    for first in range(0, len(points), rows):
        part = points[first : first + rows, None]
        along = np.clip(((part - start) * way).sum(axis=2) / squares, 0, 1)
        foot = start + along[..., None] * way
        apart = np.hypot(*(part - foot).transpose(2, 0, 1))
        best = apart.argmin(axis=1)
        row = np.arange(len(best))
        found.append(apart[row, best])
        feet.append(foot[row, best])
    return np.concatenate(found), np.concatenate(feet)


def hausdorff(a: Lines, b: Lines, share: float = 1.0, step: float = 1.0) -> float:
    """Return the Hausdorff distance of two sets of polylines, or its percentile, whichever side is farther.

    Args:
        a: Polylines, in micrometres.
        b: Polylines.
        share: 1 for the maximum, 0.95 for HD95.
        step: Points are taken so densely.

    Returns:
        Infinite where only one of the two is empty, 0 where both are.
    """
    sides = _dense(a, step), _dense(b, step)
    if not len(sides[0]) and not len(sides[1]):
        return 0.0
    if not len(sides[0]) or not len(sides[1]):
        return float("inf")
    return max(
        float(np.quantile(distances(one, other), share)) for one, other in ((sides[0], b), (sides[1], a))
    )


def boundary_f1(truth: Lines, predicted: Lines, tolerance: float, step: float = 1.0) -> float:
    """Return the harmonic mean of the shares of both lengths that lie within ``tolerance`` of the other."""
    true, said = _dense(truth, step), _dense(predicted, step)
    if not len(true) and not len(said):
        return 1.0
    if not len(true) or not len(said):
        return 0.0
    precision = float(np.mean(distances(said, truth) <= tolerance))
    recall = float(np.mean(distances(true, predicted) <= tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@dataclass(frozen=True)
class Clearance:
    """How far a lesion is from the margin.

    Attributes:
        minimum: In micrometres.
        percentile_5: 5th percentile over the lesion's outline.
        where: The place on the outline that is nearest.
        margin: The place on the margin that it is nearest to.
    """

    minimum: float
    percentile_5: float
    where: tuple[float, float]
    margin: tuple[float, float]


def clearance(lesion: Floats, margin: Lines, step: float = 1.0) -> Clearance | None:
    """Measure the distance of a lesion's outline to the margin; None where there is no margin.

    Args:
        lesion: Ring ``(points, 2)``; closed when it is not.
        margin: Polylines.
        step: The outline is densified to this.
    """
    ring = lesion if np.array_equal(lesion[0], lesion[-1]) else np.vstack([lesion, lesion[:1]])
    outline = densify(ring, step)
    apart, feet = _nearest(outline, margin)
    if not np.isfinite(apart).all():
        return None
    best = int(apart.argmin())
    return Clearance(
        float(apart[best]),
        float(np.percentile(apart, 5)),
        (float(outline[best, 0]), float(outline[best, 1])),
        (float(feet[best, 0]), float(feet[best, 1])),
    )


def _dense(lines: Lines, step: float) -> Floats:
    parts = [densify(line, step) for line in lines if len(line)]
    return np.concatenate(parts) if parts else np.empty((0, 2))

"""From a profile along a closed contour to stretches that were cut."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CLIP = 1e-4
_BINS = 128


def smooth_circular(values: ArrayLike, sigma: float) -> Floats:
    """Return a Gaussian mean along a closed contour.

    Args:
        values: ``(samples,)``; those that are NaN are passed over, and stay NaN where no other is near.
        sigma: In samples; the window reaches ``ceil(4 sigma)`` samples to both sides and wraps around.
    """
    profile = np.asarray(values, dtype=np.float64)
    if not profile.size or sigma <= 0:
        return profile.copy()
    reach = math.ceil(4 * sigma)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    places = (np.arange(profile.size)[:, None] + offsets) % profile.size
    known = np.isfinite(profile)
    sums = (np.where(known, profile, 0.0)[places] * weights).sum(axis=1)
    shares = (known[places] * weights).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(shares > 0, sums / shares, np.nan)


def otsu_threshold(values: ArrayLike) -> float:
    """Return the value that parts real numbers into two classes of largest variance between them."""
    numbers = np.sort(np.asarray(values, dtype=np.float64))
    below = np.arange(1, numbers.size)
    sums = np.cumsum(numbers)[:-1]
    total = numbers.sum()
    means = sums / below, (total - sums) / (numbers.size - below)
    between = below * (numbers.size - below) * (means[1] - means[0]) ** 2
    best = int(between.argmax())
    return float((numbers[best] + numbers[best + 1]) / 2)


def runs(marked: ArrayLike) -> list[tuple[int, int]]:
    """Return ``(start, length)`` of each stretch of a closed contour; one may run over the origin."""
    flags = np.asarray(marked, dtype=bool)
    if flags.all():
        return [(0, flags.size)] if flags.size else []
    begins = np.flatnonzero(flags & ~np.roll(flags, 1))
    ends = np.flatnonzero(flags & ~np.roll(flags, -1))
    found = []
    for begin in begins.tolist():
        end = min(ends.tolist(), key=lambda place: (place - begin) % flags.size)
        found.append((begin, (end - begin) % flags.size + 1))
    return found


def bridge_and_drop(marked: ArrayLike, step: float, *, gap: float, shortest: float) -> Flags:
    """Close short gaps first, then drop short stretches; lengths are samples times step, wrapped around.

    Args:
        marked: ``(samples,)`` of a closed contour.
        step: Length of a sample.
        gap: Gaps up to this length are closed; a contour without any mark stays so.
        shortest: Stretches below this length are dropped.
    """
    flags = np.array(marked, dtype=bool)
    slack = 1e-9 * step
    if flags.any():
        for start, length in runs(~flags):
            if length * step <= gap + slack:
                flags[np.arange(start, start + length) % flags.size] = True
    for start, length in runs(flags):
        if length * step < shortest - slack:
            flags[np.arange(start, start + length) % flags.size] = False
    return flags


def potts_cost(probabilities: ArrayLike, labels: ArrayLike, switch: float) -> float:
    """Return the cost of a labelling of a closed contour: unary -ln p or -ln(1 - p), and each change."""
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), _CLIP, 1 - _CLIP)
    flags = np.asarray(labels, dtype=bool)
    unary = -np.log(np.where(flags, chances, 1 - chances))
    return float(unary.sum() + switch * np.count_nonzero(flags != np.roll(flags, 1)))


def potts(probabilities: ArrayLike, switch: float) -> Flags:
    """Return the cheapest labelling of a closed contour, exactly: Viterbi from each state back to itself.

    Args:
        probabilities: ``(samples,)``, clipped to 1e-4 from 0 and 1.
        switch: Cost of a change from a sample to the next, the last and the first included.
    """
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), _CLIP, 1 - _CLIP)
    unary = -np.log(np.stack([1 - chances, chances], axis=1))
    change = switch * (1 - np.eye(2))
    best: tuple[float, Flags] | None = None
    for first in (0, 1):
        costs = np.where(np.arange(2) == first, unary[0], np.inf)
        back = np.zeros(unary.shape, dtype=np.int8)
        for place in range(1, len(unary)):
            ways = costs[:, None] + change
            back[place] = ways.argmin(axis=0)
            costs = ways.min(axis=0) + unary[place]
        last = int((costs + change[:, first]).argmin())
        cost = float(costs[last] + change[last, first])
        if best is None or cost < best[0] - 1e-12:
            best = cost, _traced(back, last)
    assert best is not None
    return best[1]


def _traced(back: NDArray[np.int8], last: int) -> Flags:
    labels = np.zeros(len(back), dtype=bool)
    for place in range(len(back) - 1, -1, -1):
        labels[place] = bool(last)
        last = int(back[place, last])
    return labels

"""From tiles to a line: logits at samples of the contour, smoothing, decision, and stretches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.config import MarginConfig
from appliedpapers.plugins.virtual_inking.decision import (
    bridge_and_drop,
    otsu_threshold,
    potts,
    runs,
    smooth_circular,
)
from appliedpapers.plugins.virtual_inking.outline import Contour

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_REACHES = 4.0  # sigmas within which a tile counts
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Margin:
    """What is said of one contour.

    Attributes:
        contour: Its samples.
        profile: Smoothed logit of each, NaN where nothing is known, ``(samples,)``.
        cut: Which were cut.
        known: Which can be judged at all.
        raw: Which were marked before gaps were bridged and short stretches dropped.
    """

    contour: Contour
    profile: Floats
    cut: Flags
    known: Flags
    raw: Flags


@dataclass(frozen=True)
class Stretch:
    """A part of a contour in one state.

    Attributes:
        contour: Number of the contour.
        state: ``cut``, ``natural`` or ``not_assessable``.
        samples: Numbers of its samples, in order.
        points: In micrometres, ``(points, 2)``; half a step beyond its first and last sample.
        length_mm: In millimetres.
        probability: Mean over its samples; NaN where nothing is known.
        gaps_um: Lengths of the gaps that were bridged within it.
    """

    contour: int
    state: str
    samples: NDArray[np.int64]
    points: Floats
    length_mm: float
    probability: float
    gaps_um: tuple[float, ...]


def project(contour: Contour, centres: Floats, logits: Floats, config: MarginConfig) -> tuple[Floats, Flags]:
    """Return the smoothed profile of a contour, and which samples can be judged.

    Args:
        contour: Samples.
        centres: Of tiles in micrometres, ``(N, 2)``.
        logits: Of tiles, ``(N,)``.
        config: Reach and smoothing.
    """
    count = len(contour.points)
    raw = np.full(count, np.nan)
    rows = max(_BLOCK // max(len(centres), 1), 1)
    for start in range(0, count, rows):
        part = contour.points[start : start + rows, None]
        apart = ((part - centres[None]) ** 2).sum(axis=2)
        reach = config.reach_um
        weights = np.where(apart <= (_REACHES * reach) ** 2, np.exp(-0.5 * apart / reach**2), 0.0)
        total = weights.sum(axis=1)
        # a tile four sigmas away says nothing of this place
        near = total > np.exp(-0.5 * (_REACHES - 1) ** 2)
        raw[start : start + rows][near] = (weights[near] @ logits) / total[near]
    raw[~contour.candidate] = np.nan
    smooth = smooth_circular(raw, config.smooth_um / contour.step)
    known = np.isfinite(raw)
    return np.where(known, smooth, np.nan), known


def decide(
    profiles: Sequence[tuple[Contour, Floats, Flags]],
    config: MarginConfig,
    slope: float = 1.0,
    offset: float = 0.0,
) -> list[Margin]:
    """Decide of all contours of a slide together which samples were cut.

    Args:
        profiles: Contour, profile and what is known, of each.
        config: Decision, gaps and shortest stretches.
        slope: Calibration: probabilities are sigmoid(slope * logit + offset).
        offset: Likewise.

    Returns:
        In the order of the contours.
    """
    values = np.concatenate([profile[known] for _, profile, known in profiles]) if profiles else np.empty(0)
    fixed = -offset / slope if slope > 0 else 0.0
    threshold = fixed
    if config.decision == "otsu":
        threshold = slide_threshold(values, config, fixed)
    found = []
    for contour, profile, known in profiles:
        filled = np.where(known, profile, -np.inf)
        if config.decision == "viterbi":
            chances = 1 / (1 + np.exp(-np.clip(slope * np.where(known, profile, fixed) + offset, -50, 50)))
            marked = potts(chances, config.switch_cost) & known
        else:
            marked = filled > threshold
        whole = bridge_and_drop(marked, contour.step, gap=config.gap_um, shortest=config.shortest_um)
        found.append(Margin(contour, profile, whole & known, known, marked))
    return found


def slide_threshold(values: Floats, config: MarginConfig, fixed: float = 0.0) -> float:
    """Return Otsu's threshold of a slide's profile, within a band about the fixed one.

    A profile that spans less than ``least_range`` has one class only, and so may any other: without the band
    a slide of natural edges alone would be cut in half by its own noise.
    """
    if len(values) < 2 or float(np.ptp(values)) < config.least_range:
        return fixed
    return float(np.clip(otsu_threshold(values), fixed - config.band_below, fixed + config.band_above))


def stretches(margins: Sequence[Margin], *, slope: float = 1.0, offset: float = 0.0) -> list[Stretch]:
    """Take contours apart into stretches that were cut, are natural, or cannot be judged.

    Args:
        margins: As :func:`decide` gives them.
        slope: Calibration, as in :func:`decide`.
        offset: Likewise.
    """
    found = []
    for number, margin in enumerate(margins):
        for state, flags in (
            ("cut", margin.cut),
            ("natural", ~margin.cut & margin.known),
            ("not_assessable", ~margin.known),
        ):
            for start, length in runs(flags):
                samples = np.arange(start, start + length) % len(flags)
                found.append(_stretch(number, margin, state, samples, slope, offset))
    return sorted(found, key=lambda one: (one.contour, int(one.samples[0])))


def _stretch(
    number: int,
    margin: Margin,
    state: str,
    samples: NDArray[np.int64],
    slope: float,
    offset: float,
) -> Stretch:
    contour, values = margin.contour, margin.profile[samples]
    chance = float("nan")
    if state != "not_assessable":
        chance = float(np.mean(1 / (1 + np.exp(-np.clip(slope * values + offset, -50, 50)))))
    gaps: tuple[float, ...] = ()
    if state == "cut":
        missing = ~margin.raw[samples]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(int), [0]])))
        gaps = tuple(float(end - begin) * contour.step for begin, end in edges.reshape(-1, 2))
    return Stretch(
        number,
        state,
        samples,
        line_of(contour.points, samples),
        len(samples) * contour.step / 1000,
        chance,
        gaps,
    )


def line_of(points: Floats, samples: NDArray[np.int64]) -> Floats:
    """Return a stretch's line, with half a step on both ends, so that neighbours meet."""
    count = len(points)
    own = points[samples]
    if len(samples) == count:
        return np.vstack([own, own[:1]])
    begin = (points[(samples[0] - 1) % count] + own[0]) / 2
    end = (points[(samples[-1] + 1) % count] + own[-1]) / 2
    return np.vstack([begin[None], own, end[None]])

"""What is right of chromosomes and cells, from which values, intervals and slices follow.

A unit is a case, and whole specimens are resampled. Where cases are not known a unit is a chromosome, and
there are no figures by case. Chromosomes are judged both ways up: of data that come one way up, about half
are turned upside down, by a coin of the image's own content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.counted import auc_scores, ece_scores, means_of_some
from appliedpapers.core.metrics import log_losses, register_metric
from appliedpapers.core.scores import Counted, Counts, Indices, MetricScores, Scored, Slices
from appliedpapers.plugins.varifocal_net.assignment import MOST, CellCosts, Penalties, assign
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, Chromosomes, X
from appliedpapers.plugins.varifocal_net.dispatch import counts_of, paper_dispatch

if TYPE_CHECKING:
    from appliedpapers.plugins.varifocal_net.config import ReviewConfig
    from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

PRIMARY = "type_accuracy"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = NDArray[np.int16]

_NORMAL_SEX = ((2, 0), (1, 1))
_BY = {"argmax": "each chromosome by itself", "dispatch": "Algorithm 1", "assignment": "assignment"}

for _name, _way in _BY.items():
    register_metric(
        f"cells_right_{_name}",
        unit="",
        higher_is_better=True,
        description=f"share of cells whose types are all right, {_way}",
    )
for _name, _better, _about in (
    ("polarity_macro_f1", True, "f1 of the polarity averaged over q-up and q-down"),
    ("counts_right", True, "share of cells whose number of every type is right, after assignment"),
    (
        "aneuploid_recall",
        True,
        "share of cells with a gain or a sex chromosome anomaly whose assignment names it",
    ),
    (
        "false_alarm_rate",
        False,
        "share of 46,XX and 46,XY cells whose assignment shows a gain or sex anomaly",
    ),
):
    register_metric(_name, unit="", higher_is_better=_better, description=_about)


@dataclass(frozen=True)
class Answers:
    """What one model says of the judged chromosomes of a split.

    Attributes:
        types: float64 ``(N, 24)``, calibrated probabilities.
        q_down: float64 ``(N,)``, probability that the q-arm points down; NaN where it does not answer.
        assigned: int16 ``(N,)``, types after assignment; the most probable ones without cases.
        dispatched: int16 ``(N,)``, likewise after Algorithm 1.
    """

    types: Floats
    q_down: Floats
    assigned: Labels
    dispatched: Labels

    @property
    def argmax(self) -> Labels:
        """Types of each chromosome by itself, int16 ``(N,)``."""
        found: Labels = self.types.argmax(axis=1).astype(np.int16)
        return found


def answers_of(types: Floats, q_down: Floats, chromosomes: Chromosomes, review: ReviewConfig) -> Answers:
    """Make the types of each case consistent, in both ways.

    A case of more than 72 chromosomes is no cell, and keeps its most probable types.
    """
    plain = types.argmax(axis=1).astype(np.int16)
    assigned, dispatched = plain.copy(), plain.copy()
    penalties = Penalties(review.penalty, review.missing)
    for rows in chromosomes.rows_by_case().values():
        if len(rows) <= MOST:
            assigned[rows] = assign(CellCosts(types[rows]), penalties).labels
            dispatched[rows] = paper_dispatch(types[rows], review.threshold)
    return Answers(types, q_down, assigned, dispatched)


def judged(split: ChromosomeSplit) -> Chromosomes:
    """Return the chromosomes of a split as models are judged on them, both ways up."""
    own = split.chromosomes
    known = own.polarity[own.polarity != UNKNOWN]
    if len(np.unique(known)) != 1:
        return own
    turned = np.array([_coin(image) for image in own.images], dtype=bool)
    images = [image[::-1] if turn else image for image, turn in zip(own.images, turned, strict=True)]
    polarity = np.where(turned & (own.polarity != UNKNOWN), 1 - own.polarity, own.polarity)
    return replace(own, images=images, polarity=polarity.astype(np.int8))


def score(answers: Answers, chromosomes: Chromosomes) -> Scored:
    """Score answers on judged chromosomes whose types are known."""
    units = _units(chromosomes)
    metrics = _by_chromosome(answers, chromosomes, units)
    cases = list(chromosomes.rows_by_case().values())
    if any(case is None for case in chromosomes.cases):
        return Scored(metrics, _clusters(chromosomes, units), slices=_by_type(answers, chromosomes, units))
    kinds = [cell_kind(chromosomes.labels[rows]) for rows in cases]
    metrics |= _by_case(answers, chromosomes, cases, kinds)
    slices = _by_type(answers, chromosomes, units) + _by_kind(metrics, kinds)
    return Scored(metrics, _clusters(chromosomes, units), slices=slices)


def cell_kind(labels: Labels) -> str:
    """Return ``normal`` (46,XX or 46,XY), ``aneuploid`` (gain or sex anomaly) or ``loss``, by true types."""
    counts = counts_of(labels)
    if is_aneuploid(counts):
        return "aneuploid"
    return "normal" if (counts[:X] == 2).all() else "loss"


def is_aneuploid(counts: NDArray[np.int64]) -> bool:
    """Whether counts ``(24,)`` show more than two of an autosome, or neither XX nor XY."""
    return bool((counts[:X] > 2).any()) or _sex(counts) not in _NORMAL_SEX


@dataclass(frozen=True)
class _Units:
    """Which unit each chromosome is of, and how many there are."""

    of_row: Indices
    count: int

    def share(self, right: NDArray[np.generic], among: Flags | None = None) -> MetricScores:
        """Return the mean over chromosomes of a value, with the units' sums."""
        weights = np.ones(len(self.of_row)) if among is None else among.astype(np.float64)
        sizes = np.bincount(self.of_row, weights, self.count)
        sums = np.bincount(self.of_row, weights * right.astype(np.float64), self.count)
        return MetricScores.mean(np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0), sizes)


class _RowWise(Counted):
    """The mean of metrics of chromosomes, resampled by unit; those that are undefined are left out."""

    def __init__(self, parts: Sequence[Counted], of_row: Indices) -> None:
        self._parts, self._of_row = parts, of_row

    def of_draws(self, counts: Counts) -> Floats:
        by_row = counts.take(self._of_row, axis=1)
        values = np.stack([part.of_draws(by_row) for part in self._parts], axis=1)
        return means_of_some(values, np.isfinite(values))

    def restrict(self, chosen: Flags) -> _RowWise:
        return _RowWise([part.restrict(chosen[self._of_row]) for part in self._parts], self._of_row)


class _MacroF1(Counted):
    """Macro-F1 over the classes that are present or predicted, from each unit's confusions."""

    def __init__(self, confusions: NDArray[np.int64]) -> None:
        self._confusions = confusions

    def of_draws(self, counts: Counts) -> Floats:
        # whole numbers are exact in floats, whose product is quick
        drawn = np.tensordot(counts.astype(np.float64), self._confusions.astype(np.float64), axes=1)
        return np.array([macro_f1_of(one) for one in drawn])

    def restrict(self, chosen: Flags) -> _MacroF1:
        return _MacroF1(self._confusions * chosen[:, None, None])


def macro_f1_of(confusion: NDArray[np.number[Any]]) -> float:
    """Return the macro-F1 of a confusion matrix ``(K, K)``, true classes in rows; NaN where it is empty."""
    hits = np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    present = either > 0
    return float(np.mean(2 * hits[present] / either[present])) if present.any() else float("nan")


def _by_chromosome(answers: Answers, chromosomes: Chromosomes, units: _Units) -> dict[str, MetricScores]:
    truth = chromosomes.labels.astype(np.int64)
    right = answers.argmax == truth
    aucs = [auc_scores(truth == kind, answers.types[:, kind]).by_counts for kind in np.unique(truth)]
    gaps = ece_scores(right, answers.types.max(axis=1)).by_counts
    assert gaps is not None
    found = {
        PRIMARY: units.share(right),
        "macro_f1": _macro_f1(truth, answers.argmax, len(TYPES), units),
        "auc": _counted(_RowWise([one for one in aucs if one is not None], units.of_row), units),
        "logloss": units.share(log_losses(truth, answers.types)),
        "ece": _counted(_RowWise([gaps], units.of_row), units),
    }
    known = (chromosomes.polarity != UNKNOWN) & np.isfinite(answers.q_down)
    if known.any():
        q_down = (answers.q_down >= 0.5).astype(np.int64)
        found["polarity_accuracy"] = units.share(q_down == chromosomes.polarity, known)
        chosen = _Units(units.of_row[known], units.count)
        polarity = chromosomes.polarity[known].astype(np.int64)
        found["polarity_macro_f1"] = _macro_f1(polarity, q_down[known], 2, chosen)
    return found


def _by_case(
    answers: Answers, chromosomes: Chromosomes, cases: Sequence[Indices], kinds: Sequence[str]
) -> dict[str, MetricScores]:
    truth, found = chromosomes.labels, dict[str, MetricScores]()
    ways = {"argmax": answers.argmax, "dispatch": answers.dispatched, "assignment": answers.assigned}
    for name, labels in ways.items():
        shares = np.array([(labels[rows] == truth[rows]).mean() for rows in cases])
        found[f"case_accuracy_{name}"] = MetricScores.mean(shares)
        found[f"cells_right_{name}"] = MetricScores.mean(shares == 1)
    true = [counts_of(truth[rows]) for rows in cases]
    said = [counts_of(answers.assigned[rows]) for rows in cases]
    pairs = list(zip(true, said, strict=True))
    found["counts_right"] = MetricScores.mean([bool((one == other).all()) for one, other in pairs])
    for name, kind, values in (
        ("aneuploid_recall", "aneuploid", [_names_it(*pair) for pair in pairs]),
        ("false_alarm_rate", "normal", [is_aneuploid(counts) for counts in said]),
    ):
        among = np.array([one == kind for one in kinds], dtype=np.float64)
        if among.any():
            found[name] = MetricScores.mean(np.array(values, dtype=np.float64), among)
    return found


def _names_it(true: NDArray[np.int64], said: NDArray[np.int64]) -> bool:
    """Whether the counts show the very gains and sex chromosomes that are there."""
    gains = [kind for kind in range(X) if true[kind] > 2]
    return [kind for kind in range(X) if said[kind] > 2] == gains and _sex(true) == _sex(said)


def _sex(counts: NDArray[np.int64]) -> tuple[int, int]:
    return int(counts[X]), int(counts[X + 1])


def _by_type(answers: Answers, chromosomes: Chromosomes, units: _Units) -> Slices:
    right = answers.argmax == chromosomes.labels
    return tuple(
        ({"type": TYPES[kind]}, {PRIMARY: units.share(right, chromosomes.labels == kind)})
        for kind in np.unique(chromosomes.labels)
    )


def _by_kind(metrics: Mapping[str, MetricScores], kinds: Sequence[str]) -> Slices:
    shown = (PRIMARY, *(f"case_accuracy_{name}" for name in _BY), "cells_right_assignment", "counts_right")
    names = np.array(kinds)
    return tuple(
        ({"cells": kind}, {name: metrics[name].restrict(names == kind) for name in shown})
        for kind in dict.fromkeys(sorted(kinds, reverse=True))
    )


def _macro_f1(
    truth: NDArray[np.int64], said: NDArray[np.generic], classes: int, units: _Units
) -> MetricScores:
    confusions = np.zeros((units.count, classes, classes), dtype=np.int64)
    np.add.at(confusions, (units.of_row, truth, said.astype(np.int64)), 1)
    return _counted(_MacroF1(confusions), units)


def _counted(function: Counted, units: _Units) -> MetricScores:
    return MetricScores.counted(function, units.count)


def _units(chromosomes: Chromosomes) -> _Units:
    if any(case is None for case in chromosomes.cases):
        return _Units(np.arange(len(chromosomes)), len(chromosomes))
    number = {case: place for place, case in enumerate(dict.fromkeys(chromosomes.cases))}
    return _Units(np.array([number[case] for case in chromosomes.cases]), len(number))


def _clusters(chromosomes: Chromosomes, units: _Units) -> NDArray[np.int64] | None:
    """Return the specimen of each unit as a number, or None where specimens are not known."""
    if any(specimen is None for specimen in chromosomes.specimens):
        return None
    number = {name: place for place, name in enumerate(dict.fromkeys(chromosomes.specimens))}
    found = np.zeros(units.count, dtype=np.int64)
    found[units.of_row] = [number[specimen] for specimen in chromosomes.specimens]
    return found


def _coin(image: NDArray[np.uint8]) -> bool:
    # neither way up may be told from the coin: it looks at both
    ways = sorted(hashlib.sha256(one.tobytes()).digest() for one in (image, image[::-1]))
    return bool(hashlib.sha256(repr(image.shape).encode() + b"".join(ways)).digest()[0] % 2)

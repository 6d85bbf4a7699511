"""What a cell's types say in a cytogeneticist's words: counts, sex, gains and losses, all in doubt.

Each change has a model probability: the odds of the best reading of the whole cell that has it against the
best that has not. With C the least assignment cost over both sexes (nat, ``assignment.py``)

    probability = 1 / (1 + exp(-(C without - C with)))

- gain of a type: with = three copies or more, without = two or fewer
- loss of a type: with = one copy or none, without = two or more
- sex chromosomes that are neither XX nor XY: with = exactly those, without = exactly XX or exactly XY
- sex, where it is XX or XY: with = exactly those, without = exactly the other pair

Here a copy beyond or below the normal number costs -ln(share / 24), where ``share`` of all cells is taken to
have gained a chromosome, and as many to have lost one, before any image is seen. The penalty of dispatch is
not used: it makes types consistent, but as a prior it would take a gain beside a loss in a cell of 46, of
which there are 462 kinds, for more probable than a normal cell. A cell of 47 has gained something in either
reading, one of 45 has lost something: there the question is which, and the prior cancels.

Only the best reading on either side counts, and errors of a cell's chromosomes are taken as independent,
which a poor spread breaks. So the probability is the model's, somewhat too sure, and no diagnosis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.plugins.varifocal_net.assignment import MOST, CellCosts, Limits, Penalties, assign
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, X, Y
from appliedpapers.plugins.varifocal_net.config import ReviewConfig
from appliedpapers.plugins.varifocal_net.dispatch import (
    PLOIDY,
    Labels,
    count_warnings,
    counts_of,
    paper_dispatch,
    plain_labels,
)

FEWEST_WHOLE, MOST_WHOLE = 30, 60
"""A case with fewer or more chromosomes is not read as one near-diploid cell."""

_SURE, _SURE_NOT = 0.99, 0.01
_EVEN = 0.495  # what is written as less than 0.50
_MANY = 4
_NORMAL_SEX = ((2, 0), (1, 1))


@dataclass(frozen=True)
class Change:
    """One numerical abnormality.

    Attributes:
        kind: Gain or loss of an autosome, or sex chromosomes that are neither XX nor XY.
        chromosome: The autosome, such as "21"; the sex chromosomes found, such as "XXY", empty if none.
        copies: How many were counted.
        probability: Of the model, see above; 1 where a person has settled it.
        settled: Whether the types that a person has settled leave no other reading.
    """

    kind: Literal["gain", "loss", "sex"]
    chromosome: str
    copies: int
    probability: float
    settled: bool


@dataclass(frozen=True)
class Karyotype:
    """A reading of one cell by its counts. Research use, never a diagnosis.

    Attributes:
        counts: int64 ``(24,)``.
        sex: Sex chromosomes found, such as "XY" or "XXY"; empty if there are none, or no whole cell.
        sex_probability: Of the model, see above; None if the case is no whole cell.
        text: In the manner of ISCN, such as "46,XX" or "47,XY,+21?": total, sex chromosomes, then autosomes
            by number. The question mark stays on every abnormality. "12,?" where the case is no whole cell.
        changes: Sex chromosomes first, then autosomes by number; empty if the case is no whole cell.
        flagged: A gain or a sex chromosome anomaly. Losses of autosomes alone are told in the warnings only:
            in one cell most are losses of the preparation.
        paper_warnings: bool ``(23,)``: autosomes that are not two, then X and Y together.
        warnings: What is abnormal, in words; empty if nothing is.
    """

    counts: NDArray[np.int64]
    sex: str
    sex_probability: float | None
    text: str
    changes: tuple[Change, ...]
    flagged: bool
    paper_warnings: NDArray[np.bool_]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Settled:
    """What became of a cell.

    Attributes:
        labels: int16 ``(N,)``, consistent over the cell unless the note says otherwise.
        karyotype: What these say.
        note: Why the cell was not dispatched as asked, None if it was. It is the first of the warnings too.
    """

    labels: Labels
    karyotype: Karyotype
    note: str | None


def settle(probabilities: ArrayLike, fixed: ArrayLike | None, review: ReviewConfig) -> Settled:
    """Make the types of one cell consistent and read its karyotype.

    A case of more than 72 chromosomes is dispatched neither way: it is no single cell, and forcing pairs on
    it would spoil what the network reads.

    Args:
        probabilities: ``(N, 24)`` in [0, 1].
        fixed: ``(N,)`` labels that a person has settled, ``UNKNOWN`` elsewhere; each is kept.
        review: How to dispatch, and with what threshold or penalty.

    Raises:
        DataError: A probability or a settled type is none; the row is named.
    """
    costs = CellCosts(probabilities, fixed=fixed)
    crowded = len(costs) > MOST
    note = None
    if review.dispatch == "none" or crowded:
        labels = plain_labels(probabilities, fixed=fixed)
        if review.dispatch != "none":
            note = (
                f"not dispatched, because it has more than {MOST} chromosomes: types are as the network reads"
            )
    elif review.dispatch == "paper":
        labels = paper_dispatch(probabilities, review.threshold, fixed=fixed)
    else:
        labels = assign(costs, Penalties(review.penalty, review.missing)).labels
    return Settled(labels, read_karyotype(labels, costs, review.abnormal_share, note), note)


def read_karyotype(labels: Labels, costs: CellCosts, share: float, note: str | None = None) -> Karyotype:
    """Return what a cell's types say.

    Args:
        labels: ``(N,)``, by whatever dispatch; they keep to what a person has settled.
        costs: Of the same cell.
        share: Of all cells that have gained a chromosome, and that have lost one, before any image is seen.
        note: A warning that comes before the others.
    """
    counts = counts_of(labels)
    first = () if note is None else (note,)
    if not FEWEST_WHOLE <= len(labels) <= MOST_WHOLE:
        warnings = (*first, _not_whole(len(labels)))
        text = f"{len(labels)},?"
        return Karyotype(counts, "", None, text, (), False, count_warnings(counts), warnings)
    rare = -math.log(share / len(TYPES))
    prior = Penalties(extra=rare, missing=rare)
    sex = _sex(counts, costs, prior)
    normal_sex = _complement(counts) in _NORMAL_SEX
    changes = (*(() if normal_sex else (sex,)), *_autosomes(counts, costs, prior))
    return Karyotype(
        counts=counts,
        sex=sex.chromosome,
        sex_probability=sex.probability,
        text=_text(len(labels), sex.chromosome, changes),
        changes=changes,
        flagged=any(change.kind != "loss" for change in changes),
        paper_warnings=count_warnings(counts),
        warnings=(*first, *(_words(change) for change in changes), *_advice(changes)),
    )


def _sex(counts: NDArray[np.int64], costs: CellCosts, prior: Penalties) -> Change:
    found = _complement(counts)
    present = costs.least(prior, _exactly(found))
    others = [costs.least(prior, _exactly(pair)) for pair in _NORMAL_SEX if pair != found]
    return _change("sex", "X" * found[0] + "Y" * found[1], sum(found), min(others), present)


def _autosomes(counts: NDArray[np.int64], costs: CellCosts, prior: Penalties) -> list[Change]:
    at_most_two, at_least_two = (0, PLOIDY), (PLOIDY, MOST)
    changes = []
    for kind in np.flatnonzero(counts[:X] != PLOIDY).tolist():
        copies = int(counts[kind])
        gained = copies > PLOIDY
        without = costs.least(prior, {kind: at_most_two if gained else at_least_two})
        present = costs.least(prior, {kind: (PLOIDY + 1, MOST) if gained else (0, PLOIDY - 1)})
        changes.append(_change("gain" if gained else "loss", TYPES[kind], copies, without, present))
    return changes


def _change(
    kind: Literal["gain", "loss", "sex"], chromosome: str, copies: int, without: float, present: float
) -> Change:
    # tanh does not overflow where an exponential would
    probability = (1 + math.tanh((without - present) / 2)) / 2
    return Change(kind, chromosome, copies, probability, math.isinf(without))


def _complement(counts: NDArray[np.int64]) -> tuple[int, int]:
    return int(counts[X]), int(counts[Y])


def _exactly(complement: tuple[int, int]) -> Limits:
    return {kind: (copies, copies) for kind, copies in zip((X, Y), complement, strict=True)}


def _text(chromosomes: int, sex: str, changes: tuple[Change, ...]) -> str:
    doubt = "?" if any(change.kind == "sex" for change in changes) else ""
    parts = [str(chromosomes), sex + doubt]
    for change in changes:
        if change.kind != "sex":
            sign = "+" if change.kind == "gain" else "-"
            parts += [f"{sign}{change.chromosome}?"] * abs(change.copies - PLOIDY)
    return ",".join(parts)


def _words(change: Change) -> str:
    certainty = "settled by a person" if change.settled else _in_words(change.probability)
    copies = f"{change.copies or 'no'} {'copy' if change.copies == 1 else 'copies'} instead of {PLOIDY}"
    if change.kind == "gain":
        return f"possible gain of {change.chromosome}: {copies}, {certainty}"
    if change.kind == "loss":
        return (
            f"possible loss of {change.chromosome}: {copies} (a random loss in preparation looks the same), "
            f"{certainty}"
        )
    if not change.copies:
        return f"possible sex chromosome anomaly: none found, {certainty}"
    alike = " (a random loss of X or Y in preparation looks the same)" if change.copies == 1 else ""
    return f"possible sex chromosome anomaly: {change.chromosome} instead of XX or XY{alike}, {certainty}"


def _in_words(probability: float) -> str:
    against = ", more likely a misreading" if probability < _EVEN else ""
    # the assumptions are not good for more digits
    if not _SURE_NOT <= probability <= _SURE:
        edge = f"above {_SURE}" if probability > _SURE else f"below {_SURE_NOT}"
        return f"model probability {edge}{against}"
    return f"model probability {probability:.2f}{against}"


def _advice(changes: tuple[Change, ...]) -> list[str]:
    """Return what a cytogeneticist would check next."""
    if not changes:
        return []
    last = "one cell is no clone: look for the same gain in a second cell, the same loss in three"
    if len(changes) > _MANY:
        many = f"{len(changes)} abnormalities in one cell: unless it is of a tumour, most are misreadings"
        return [many, last]
    names = {change: "sex chromosomes" if change.kind == "sex" else change.chromosome for change in changes}
    gained = [name for change, name in names.items() if change.copies > PLOIDY]
    lost = [name for change, name in names.items() if change.copies < PLOIDY]
    if not (gained and lost):
        return [last]
    pair = f"compare {', '.join(gained)} with {', '.join(lost)}"
    return [f"a gain beside a loss is often one chromosome read as the other: {pair}", last]


def _not_whole(chromosomes: int) -> str:
    if chromosomes < FEWEST_WHOLE:
        return (
            f"only {chromosomes} chromosome{'s' * (chromosomes != 1)}: a part of a cell, so that counts mean "
            "little and no gain or loss is called"
        )
    return (
        f"{chromosomes} chromosomes: several cells under one case, or a polyploid one, so that counts mean "
        "little and no gain or loss is called"
    )

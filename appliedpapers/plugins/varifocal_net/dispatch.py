"""Algorithm 1 of Varifocal-Net: a cell's types are made consistent greedily (arXiv 1810.05943, stage 3).

Labels are 0 to 21 for the autosomes 1 to 22, 22 for X and 23 for Y.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, X, Y

Floats = NDArray[np.float64]
Labels = NDArray[np.int16]

PLOIDY = 2

_ROUNDING = 1e-6  # a softmax in single precision may pass 1 by as much


def paper_dispatch(
    probabilities: ArrayLike, threshold: float = 0.9, *, fixed: ArrayLike | None = None
) -> Labels:
    """Return the types of one cell's chromosomes by Algorithm 1.

    Each type may hold two chromosomes, Y one. Where more chose a type, the best so many are kept, and one
    more if all of these are beyond the threshold; the others take their next type. It is greedy, as the paper
    has it: who moved is not looked at again, so the type that it moved to may overflow. Of equal
    probabilities the lower row is kept, of equal types the lower label is taken (our default).

    A type that a person has settled is taken as a probability of 1. It is never moved, even where more of one
    type are settled than the algorithm would keep.

    Args:
        probabilities: ``(N, 24)`` in [0, 1]; kept in float64, for the threshold is lost in single precision.
        threshold: Beyond it, strictly, one more copy is kept.
        fixed: ``(N,)`` labels that a person has settled, ``UNKNOWN`` elsewhere.

    Returns:
        int16 ``(N,)``.

    Raises:
        DataError: A probability or a settled type is none; the row is named.
    """
    given = checked_probabilities(probabilities)
    settled = checked_fixed(fixed, len(given))
    given = with_fixed(given, settled)
    chosen = given.argmax(1)
    labels: Labels = chosen.astype(np.int16)
    for kind in range(len(TYPES)):
        members = np.flatnonzero(chosen == kind)
        allowed = 1 if kind == Y else PLOIDY
        if len(members) <= allowed:
            continue
        free = settled[members] == UNKNOWN
        ranked = members[np.lexsort((-given[members, kind], free))]
        sure = bool((given[ranked[: allowed + 1], kind] > threshold).all())
        kept = max(allowed + sure, int((~free).sum()))
        others = given[ranked[kept:]]
        others[:, kind] = -1
        labels[ranked[kept:]] = others.argmax(1)
    return labels


def plain_labels(probabilities: ArrayLike, *, fixed: ArrayLike | None = None) -> Labels:
    """Return each chromosome's most probable type, or the one that a person has settled, int16 ``(N,)``.

    Args:
        probabilities: ``(N, 24)`` in [0, 1].
        fixed: ``(N,)`` labels that a person has settled, ``UNKNOWN`` elsewhere.

    Raises:
        DataError: A probability or a settled type is none; the row is named.
    """
    given = checked_probabilities(probabilities)
    settled = checked_fixed(fixed, len(given))
    labels: Labels = with_fixed(given, settled).argmax(1).astype(np.int16)
    return labels


def counts_of(labels: ArrayLike) -> NDArray[np.int64]:
    """Return how many chromosomes of each type there are, ``(24,)``."""
    return np.bincount(np.asarray(labels, dtype=np.int64), minlength=len(TYPES))


def count_warnings(counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the warnings of the paper, ``(23,)``: autosomes that are not two, then X and Y together."""
    together = counts[X] + counts[Y]
    return np.asarray([*(counts[:X] != PLOIDY), together != PLOIDY])


def checked_probabilities(probabilities: ArrayLike) -> Floats:
    """Return probabilities as float64.

    Raises:
        DataError: They are not ``(N, 24)``, or one is not in [0, 1]; its row, counted from 0, is named.
    """
    found = np.asarray(probabilities, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != len(TYPES):
        raise DataError(
            f"The probabilities of a cell have the shape {found.shape}.",
            hint=f"Expected a row a chromosome with {len(TYPES)} columns: types 1 to 22, X, Y.",
        )
    wrong = np.argwhere(~((found >= 0) & (found <= 1 + _ROUNDING)))
    if len(wrong):
        row, kind = (int(place) for place in wrong[0])
        raise DataError(
            f"Probabilities of a cell, row {row}, type {TYPES[kind]}: {found[row, kind]:g} is none.",
            hint="Expected numbers from 0 to 1; look at the image of that row and at the model's outputs.",
        )
    return found


def checked_fixed(fixed: ArrayLike | None, chromosomes: int) -> Labels:
    """Return settled types as int16 ``(N,)``, ``UNKNOWN`` where there is none.

    Raises:
        DataError: Their number differs from that of the chromosomes, or one is no label; its row is named.
    """
    if fixed is None:
        return np.full(chromosomes, UNKNOWN, dtype=np.int16)
    found = np.asarray(fixed, dtype=np.int64)
    if found.shape != (chromosomes,):
        raise DataError(
            f"Settled types of a cell have the shape {found.shape} for {chromosomes} chromosomes.",
            hint=f"Expected one a chromosome, {UNKNOWN} where nothing is settled.",
        )
    wrong = np.flatnonzero((found < UNKNOWN) | (found >= len(TYPES)))
    if len(wrong):
        raise DataError(
            f"Settled types of a cell, row {wrong[0]}: {found[wrong[0]]} is no type.",
            hint=f"Expected 0 to {len(TYPES) - 1}, or {UNKNOWN} where nothing is settled.",
        )
    return found.astype(np.int16)


def with_fixed(probabilities: Floats, fixed: Labels) -> Floats:
    """Return probabilities that are 1 where a person has settled the type, and 0 elsewhere in that row."""
    settled = np.flatnonzero(fixed != UNKNOWN)
    if not len(settled):
        return probabilities
    found = probabilities.copy()
    found[settled] = 0
    found[settled, fixed[settled]] = 1
    return found

"""A cell's types by the assignment of least cost: the better dispatch, ours.

A chromosome of type k costs ``-ln(P_k + 1e-9)``, each copy beyond the normal number a penalty more. Copies
that are missing cost nothing, for chromosomes get lost in preparation, or a penalty of their own: the number
of chromosomes is known, so that in a cell of 46 a copy can only be missing beside one that is too many. Costs
are in nat, so that their differences are logarithms of odds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, X, Y
from appliedpapers.plugins.varifocal_net.dispatch import (
    PLOIDY,
    Labels,
    checked_fixed,
    checked_probabilities,
    counts_of,
    with_fixed,
)

Sex = Literal["XX", "XY"]
Limits = Mapping[int, tuple[int, int]]

SLOTS = 3
MOST = SLOTS * len(TYPES)
"""Chromosomes that a cell may have to be dispatched."""

_FLOOR = 1e-9
_TIE = 1e-9  # the same sum in another order
_SEXES: Mapping[Sex, tuple[int, int]] = {"XX": (2, 0), "XY": (1, 1)}


class Penalties(NamedTuple):
    """Cost of each copy beyond the normal number and of each one below it, nat."""

    extra: float
    missing: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """The cheapest consistent types of a cell.

    Attributes:
        labels: int16 ``(N,)``.
        cost: In nat.
        sex: The cheaper hypothesis; XX if both cost the same.
        costs: Of both hypotheses, in nat.
    """

    labels: Labels
    cost: float
    sex: Sex
    costs: Mapping[Sex, float]


class CellCosts:
    """What it costs to take each chromosome of a cell for each type.

    A settled type is taken as a probability of 1, and no other can be taken there. A type of which a person
    has settled more than three copies has a slot for each of these, and none beyond.

    Args:
        probabilities: ``(N, 24)`` in [0, 1].
        fixed: ``(N,)`` labels that a person has settled, ``UNKNOWN`` elsewhere.

    Raises:
        DataError: A probability or a settled type is none; the row is named.
    """

    def __init__(self, probabilities: ArrayLike, *, fixed: ArrayLike | None = None) -> None:
        given = checked_probabilities(probabilities)
        types = checked_fixed(fixed, len(given))
        self._costs = -np.log(with_fixed(given, types) + _FLOOR)
        settled = np.flatnonzero(types != UNKNOWN)
        impossible = np.zeros(given.shape, dtype=bool)
        impossible[settled] = True
        impossible[settled, types[settled]] = False
        self._costs[impossible] = math.inf
        self._settled = counts_of(types[settled])

    def __len__(self) -> int:
        return len(self._costs)

    def least(self, penalties: Penalties, limits: Limits) -> float:
        """Return the least cost, over both sexes, with numbers of copies kept within limits.

        Args:
            penalties: Of copies that are not normal.
            limits: Fewest and most copies by type; other types have none.

        Returns:
            Nat; infinite if no assignment keeps to the limits and to what a person has settled.
        """
        return min(self.solve(sex, penalties, limits)[0] for sex in _SEXES)

    def solve(self, sex: Sex, penalties: Penalties, limits: Limits | None = None) -> tuple[float, Labels]:
        """Return the least cost under a hypothesis on the sex, and labels of that cost.

        Args:
            sex: Which sex chromosomes are normal.
            penalties: Of copies that are not normal.
            limits: Fewest and most copies by type; other types have none.

        Returns:
            Nat and int16 ``(N,)``; an infinite cost, and no labels, if there is no such assignment.
        """
        from scipy.optimize import linear_sum_assignment

        limits = limits or {}
        impossible = math.inf, np.empty(0, dtype=np.int16)
        normal = np.full(len(TYPES), PLOIDY)
        normal[[X, Y]] = _SEXES[sex]
        room = np.maximum(SLOTS, self._settled)
        for kind, (fewest, most) in limits.items():
            room[kind] = min(most, max(room[kind], fewest))
        if (self._settled > room).any() or room.sum() < len(self):
            return impossible
        kinds = np.repeat(np.arange(len(TYPES)), room)
        copies = np.arange(len(kinds)) - np.repeat(np.cumsum(room) - room, room)
        prices = np.where(copies < normal[kinds], -penalties.missing, penalties.extra)
        table = self._costs[:, kinds] + prices
        if limits:
            # more than any two assignments differ by, so that wanted copies are filled where they can be
            large = len(self) * (sum(penalties) - math.log(_FLOOR) + 1)
            wanted = np.array([limits.get(kind, (0, 0))[0] for kind in range(len(TYPES))])
            table -= large * (copies < wanted[kinds])
        rows, slots = linear_sum_assignment(table)
        labels = kinds[slots].astype(np.int16)
        counts = counts_of(labels)
        if any(counts[kind] < fewest for kind, (fewest, _) in limits.items()):
            return impossible
        all_missing = penalties.missing * int(normal.sum())
        return float(self._costs[rows, labels].sum() + prices[slots].sum()) + all_missing, labels


def assign(costs: CellCosts, penalties: Penalties) -> Assignment:
    """Return the cheapest types of a cell: pairs of autosomes and XX or XY are normal, three copies possible.

    Args:
        costs: Of the cell.
        penalties: Of copies that are not normal.

    Returns:
        Labels, cost and sex. Where several assignments cost the same the labels are one of them.

    Raises:
        DataError: The cell has more than 72 chromosomes.
    """
    if len(costs) > MOST:
        raise DataError(
            f"A cell of {len(costs)} chromosomes: more than {MOST} cannot be assigned.",
            hint="Give each metaphase a case of its own, or use --set review.dispatch=none.",
        )
    found = {sex: costs.solve(sex, penalties) for sex in _SEXES}
    prices = {sex: cost for sex, (cost, _) in found.items()}
    sex: Sex = "XX" if prices["XX"] <= prices["XY"] + _TIE else "XY"
    return Assignment(found[sex][1], prices[sex], sex, prices)

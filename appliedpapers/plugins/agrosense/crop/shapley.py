"""Exact Shapley values by enumeration, for any model of up to ten inputs; sampled orders beyond.

Lundberg and Lee (2017, arXiv 1705.07874): what an input adds, averaged over all orders in which inputs become
known; inputs that are not known yet stand at the values of background rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]

MOST_ENUMERATED = 10
BACKGROUND = 100

_ORDERS = 64


def shapley(score: Score, row: Floats, background: Floats, players: Sequence[Sequence[int]]) -> Floats:
    """Return what each player adds to ``score`` of a row, and the base, ``(players + 1,)``.

    They sum to the score of the row: exactly, up to rounding, enumerated or not.

    Args:
        score: Takes ``(rows, columns)``, returns ``(rows,)``.
        row: ``(columns,)``.
        background: ``(rows, columns)``.
        players: Columns of each player; together all columns.
    """
    if len(players) <= MOST_ENUMERATED:
        return _enumerated(score, row, background, players)
    return _sampled(score, row, background, players)


def balanced_background(matrix: Floats, labels: NDArray[np.int64], seed: int) -> Floats:
    """Return up to 100 rows with the classes in equal shares, drawn by ``seed``."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for name in np.unique(labels):
        own = order[labels[order] == name]
        rank[own] = np.arange(len(own))
    chosen = order[np.argsort(rank[order], kind="stable")][:BACKGROUND]
    return matrix[np.sort(chosen)]


def _enumerated(score: Score, row: Floats, background: Floats, players: Sequence[Sequence[int]]) -> Floats:
    count = len(players)
    known = np.arange(2**count)[:, None] >> np.arange(count) & 1
    means = _worth(score, row, background, players, known.astype(bool))
    sizes = known.sum(axis=1)
    found = np.empty(count + 1)
    for player in range(count):
        without = np.flatnonzero(known[:, player] == 0)
        weights = np.array([1 / (count * comb(count - 1, size)) for size in sizes[without]])
        found[player] = weights @ (means[without + 2**player] - means[without])
    found[count] = means[0]
    return found


def _sampled(score: Score, row: Floats, background: Floats, players: Sequence[Sequence[int]]) -> Floats:
    rng, count = np.random.default_rng(0), len(players)
    orders = [rng.permutation(count) for _ in range(_ORDERS // 2)]
    orders += [order[::-1] for order in orders]
    found = np.zeros(count + 1)
    for order in orders:
        known = np.zeros((count + 1, count), dtype=bool)
        for place, player in enumerate(order):
            known[place + 1 :, player] = True
        means = _worth(score, row, background, players, known)
        for player, (before, after) in zip(order, pairwise(means), strict=True):
            found[player] += (after - before) / len(orders)
        found[count] = means[0]
    return found


def _worth(
    score: Score, row: Floats, background: Floats, players: Sequence[Sequence[int]], known: NDArray[np.bool_]
) -> Floats:
    """Return the mean score over the background of each coalition, ``(coalitions,)``."""
    columns = np.zeros((len(known), len(row)), dtype=bool)
    for player, own in enumerate(players):
        columns[:, list(own)] = known[:, [player]]
    rows = np.where(columns[:, None, :], row, background[None])
    scores = score(rows.reshape(-1, len(row)))
    return np.asarray(scores.reshape(len(known), len(background)).mean(axis=1))

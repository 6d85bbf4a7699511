"""The assignment of least cost: it is the least, keeps what is settled, and stays within its slots."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.assignment import MOST, SLOTS, CellCosts, Penalties, assign
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, X, Y
from appliedpapers.plugins.varifocal_net.dispatch import counts_of

from .karyotype_cells import labels_of, random_cell, read_as

PENALTIES = Penalties(4.0)
SEEDS = st.integers(0, 10_000)
SIZES = st.integers(1, 60)


def price(probabilities, labels, penalties=PENALTIES):
    """What labels cost, by the definition: the cheaper of XX and XY."""
    counts = counts_of(labels)
    chosen = -np.log(probabilities[np.arange(len(labels)), labels] + 1e-9).sum()
    prices = []
    for x, y in ((2, 0), (1, 1)):
        beyond = counts - np.array([2] * 22 + [x, y])
        prices.append(penalties.extra * beyond.clip(0).sum() + penalties.missing * (-beyond).clip(0).sum())
    return chosen + min(prices)


@settings(deadline=None)
@given(SEEDS, SIZES)
def test_it_never_costs_more_than_the_most_probable_types(seed, chromosomes):
    probabilities = random_cell(seed, chromosomes)
    found = assign(CellCosts(probabilities), PENALTIES)
    plain = probabilities.argmax(1)
    assert found.cost == pytest.approx(price(probabilities, found.labels), abs=1e-9)
    if counts_of(plain).max() <= SLOTS:
        assert found.cost <= price(probabilities, plain) + 1e-9
    assert counts_of(found.labels).max() <= SLOTS
    assert counts_of(found.labels).sum() == chromosomes


def test_no_other_labels_cost_less():
    # three chromosomes that only types 1, 2, X and Y can be
    generator = np.random.default_rng(3)
    kinds = [0, 1, X, Y]
    probabilities = np.zeros((5, 24))
    probabilities[:, kinds] = generator.dirichlet(np.ones(4), 5)
    every = [np.array(labels) for labels in product(kinds, repeat=5)]
    costs = [price(probabilities, labels) for labels in every if counts_of(labels).max() <= SLOTS]
    assert assign(CellCosts(probabilities), PENALTIES).cost == pytest.approx(min(costs), abs=1e-9)


@pytest.mark.parametrize("limits", [{0: (3, 3)}, {0: (0, 0)}, {X: (1, 1), Y: (0, 0)}, {1: (2, 4), 0: (0, 1)}])
def test_limits_are_kept_at_the_least_cost(limits):
    kinds = [0, 1, X, Y]
    probabilities = np.zeros((5, 24))
    probabilities[:, kinds] = np.random.default_rng(5).dirichlet(np.ones(4), 5)
    penalties = Penalties(3.0, 2.0)
    every = [np.array(labels) for labels in product(kinds, repeat=5)]
    within = [
        price(probabilities, labels, penalties)
        for labels in every
        if all(fewest <= counts_of(labels)[kind] <= most for kind, (fewest, most) in limits.items())
        and all(counts_of(labels)[kind] <= SLOTS for kind in kinds if kind not in limits)
    ]
    assert CellCosts(probabilities).least(penalties, limits) == pytest.approx(min(within), abs=1e-9)


def test_limits_that_cannot_be_kept_cost_infinitely_much():
    probabilities = np.full((2, 24), 1 / 24)
    assert CellCosts(probabilities).least(PENALTIES, {0: (3, 3)}) == math.inf
    assert CellCosts(probabilities, fixed=[0, 0]).least(PENALTIES, {0: (0, 1)}) == math.inf


@settings(deadline=None)
@given(SEEDS, SIZES)
def test_the_order_of_rows_does_not_matter(seed, chromosomes):
    probabilities = random_cell(seed, chromosomes)
    order = np.random.default_rng(seed).permutation(chromosomes)
    there, here = (assign(CellCosts(table), PENALTIES) for table in (probabilities[order], probabilities))
    np.testing.assert_array_equal(there.labels, here.labels[order])
    assert there.sex == here.sex


@settings(deadline=None)
@given(SEEDS, SIZES, st.data())
def test_settled_types_are_kept(seed, chromosomes, data):
    fixed = np.array(data.draw(st.lists(st.integers(-1, 23), min_size=chromosomes, max_size=chromosomes)))
    found = assign(CellCosts(random_cell(seed, chromosomes), fixed=fixed), PENALTIES)
    settled = fixed != UNKNOWN
    np.testing.assert_array_equal(found.labels[settled], fixed[settled])
    assert math.isfinite(found.cost)


def test_more_copies_than_slots_may_be_settled_and_no_other_joins_them():
    probabilities = read_as(np.append(labels_of(), [20, 20, 20, 20]))
    fixed = np.full(50, UNKNOWN)
    fixed[-4:] = 20
    labels = assign(CellCosts(probabilities, fixed=fixed), PENALTIES).labels
    assert (labels == 20).sum() == 4
    assert (labels[-4:] == 20).all()


def test_a_penalty_on_missing_copies_keeps_a_cell_of_46_balanced():
    probabilities = read_as(labels_of(), sure=1.0)
    row = int(np.flatnonzero(labels_of() == 13)[0])
    probabilities[row, [20, 13]] = 0.996, 0.004
    costs = CellCosts(probabilities)
    assert counts_of(assign(costs, PENALTIES).labels)[[13, 20]].tolist() == [1, 3]
    assert counts_of(assign(costs, Penalties(4.0, 2.0)).labels)[[13, 20]].tolist() == [2, 2]


def test_xx_wins_ties():
    for sexes in ({"tX": 1, "tY": 0}, {"tX": 2, "tY": 1}):
        found = assign(CellCosts(read_as(labels_of(**sexes))), PENALTIES)
        assert found.sex == "XX"
        assert found.costs["XX"] == pytest.approx(found.costs["XY"], abs=1e-9)


def test_an_extra_copy_is_kept_where_moving_it_costs_more_than_the_penalty():
    sure, unsure = (read_as(labels_of(t21=3)) for _ in range(2))
    row = int(np.flatnonzero(labels_of(t21=3) == 20)[0])
    unsure[row, [20, 21]] = 0.6, 0.35
    lost = np.flatnonzero(labels_of(t21=3) == 21)[0]
    assert counts_of(assign(CellCosts(sure), PENALTIES).labels)[20] == 3
    without = np.delete(unsure, lost, axis=0)
    assert counts_of(assign(CellCosts(without), PENALTIES).labels)[[20, 21]].tolist() == [2, 2]


def test_more_than_72_chromosomes_are_refused():
    assert len(assign(CellCosts(np.full((MOST, 24), 1 / 24)), PENALTIES).labels) == MOST
    with pytest.raises(DataError, match="73 chromosomes"):
        assign(CellCosts(np.full((MOST + 1, 24), 1 / 24)), PENALTIES)

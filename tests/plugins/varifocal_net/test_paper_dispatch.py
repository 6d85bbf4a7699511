"""Algorithm 1: its boundaries, settled types, and input that is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, Y
from appliedpapers.plugins.varifocal_net.dispatch import (
    checked_probabilities,
    count_warnings,
    counts_of,
    paper_dispatch,
    plain_labels,
)

from .karyotype_cells import labels_of, random_cell, read_as

SEEDS = st.integers(0, 10_000)
SIZES = st.integers(1, 60)


def with_third(first, others):
    """A cell of 46,XY and one chromosome more: ``first`` of type 1, else of 4, as its pair is ``others``."""
    probabilities = read_as(np.append(labels_of(), 0))
    rows = [0, 1, len(probabilities) - 1]
    for row, sure in zip(rows, (*others, first), strict=True):
        probabilities[row] = 0
        probabilities[row, 0] = sure
        probabilities[row, 3] = 1 - sure
    return probabilities


@pytest.mark.parametrize(("sure", "kept"), [(0.9, False), (np.nextafter(0.9, 1), True)])
def test_the_threshold_is_strict(sure, kept):
    labels = paper_dispatch(with_third(sure, (0.95, 0.95)))
    assert (labels[-1] == 0) == kept
    assert (labels[-1] == 3) != kept


def test_all_that_are_kept_must_be_beyond_the_threshold():
    labels = paper_dispatch(with_third(0.95, (0.95, 0.8)))
    assert labels[1] == 3


def test_who_moved_is_not_looked_at_again():
    # type 4 holds two surer ones already and overflows
    labels = paper_dispatch(with_third(0.5, (0.8, 0.55)))
    assert counts_of(labels)[[0, 3]].tolist() == [2, 3]


def test_of_equal_members_the_lower_rows_stay():
    assert paper_dispatch(with_third(0.6, (0.6, 0.6)))[[0, 1, -1]].tolist() == [0, 0, 3]


def test_one_y_is_allowed_and_a_second_only_when_both_are_sure():
    unsure = read_as(labels_of(tX=1, tY=2), sure=0.8)
    assert counts_of(paper_dispatch(unsure))[Y] == 1
    assert counts_of(paper_dispatch(read_as(labels_of(tX=1, tY=2))))[Y] == 2


def test_warnings_count_the_sex_chromosomes_together():
    assert not count_warnings(counts_of(labels_of(tX=2, tY=0))).any()
    assert np.flatnonzero(count_warnings(counts_of(labels_of(tX=2, t21=3)))).tolist() == [20, 22]


@settings(deadline=None)
@given(SEEDS, SIZES)
def test_every_chromosome_gets_one_type(seed, chromosomes):
    labels = paper_dispatch(random_cell(seed, chromosomes))
    assert labels.shape == (chromosomes,)
    assert labels.min() >= 0
    assert counts_of(labels).sum() == chromosomes
    assert len(counts_of(labels)) == 24


@settings(deadline=None)
@given(SEEDS, SIZES)
def test_the_order_of_rows_does_not_matter(seed, chromosomes):
    probabilities = random_cell(seed, chromosomes)
    order = np.random.default_rng(seed).permutation(chromosomes)
    np.testing.assert_array_equal(paper_dispatch(probabilities[order]), paper_dispatch(probabilities)[order])


@settings(deadline=None)
@given(SEEDS, SIZES, st.data())
def test_settled_types_are_kept(seed, chromosomes, data):
    fixed = np.array(data.draw(st.lists(st.integers(-1, 23), min_size=chromosomes, max_size=chromosomes)))
    settled = fixed != UNKNOWN
    probabilities = random_cell(seed, chromosomes)
    for dispatch in (paper_dispatch, plain_labels):
        labels = dispatch(probabilities, fixed=fixed)
        np.testing.assert_array_equal(labels[settled], fixed[settled])


def test_a_settled_chromosome_stays_before_a_surer_one():
    probabilities = with_third(0.6, (0.8, 0.7))
    fixed = np.full(len(probabilities), UNKNOWN)
    fixed[-1] = 0
    assert paper_dispatch(probabilities, fixed=fixed)[[0, 1, -1]].tolist() == [0, 3, 0]


def test_a_settled_chromosome_stays_before_those_of_probability_1():
    probabilities = with_third(0.6, (1.0, 1.0))
    probabilities[[0, 1], 3] = 0
    fixed = np.full(len(probabilities), UNKNOWN)
    fixed[-1] = 0
    fixed[2:4] = 0  # three settled ones: no other stays
    assert np.flatnonzero(paper_dispatch(probabilities, fixed=fixed) == 0).tolist() == [2, 3, 46]


@pytest.mark.parametrize("value", [np.nan, -0.1, np.inf, 1.5])
def test_what_is_no_probability_is_named_by_row_and_type(value):
    probabilities = read_as(labels_of())
    probabilities[7, 22] = value
    with pytest.raises(DataError, match="row 7, type X"):
        paper_dispatch(probabilities)


@pytest.mark.parametrize("shape", [(24,), (46, 23), (2, 46, 24), ()])
def test_another_shape_is_refused(shape):
    with pytest.raises(DataError, match="shape"):
        checked_probabilities(np.full(shape, 0.1))


@pytest.mark.parametrize(
    ("fixed", "message"), [([0, 24], "row 1: 24"), ([-2, 0], "row 0: -2"), ([0], "2 chromosomes")]
)
def test_settled_types_that_are_none_are_named(fixed, message):
    with pytest.raises(DataError, match=message):
        paper_dispatch(np.full((2, 24), 1 / 24), fixed=fixed)

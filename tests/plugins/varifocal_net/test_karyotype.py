"""What a cell's types say in words, with what probability, and which way a cell goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN
from appliedpapers.plugins.varifocal_net.config import ReviewConfig
from appliedpapers.plugins.varifocal_net.dispatch import paper_dispatch, plain_labels
from appliedpapers.plugins.varifocal_net.karyotype import settle

from .karyotype_cells import labels_of, random_cell, read_as

WAYS = ("assignment", "paper", "none")


def karyotype_of(probabilities, fixed=None, **options):
    # cells are read by the cost of additional copies alone, unless a test asks for more
    return settle(probabilities, fixed, ReviewConfig(**{"missing": 0.0, **options})).karyotype


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("changes", "text", "flagged"),
    [
        ({}, "46,XY", False),
        ({"tX": 2, "tY": 0}, "46,XX", False),
        ({"t21": 3}, "47,XY,+21?", True),
        ({"t14": 1}, "45,XY,-14?", False),
        ({"t14": 0}, "44,XY,-14?,-14?", False),
        ({"tX": 1, "tY": 0}, "45,X?", True),
        ({"tX": 0, "tY": 0}, "44,?", True),
        ({"tX": 2}, "47,XXY?", True),
        ({"tX": 3, "tY": 0}, "47,XXX?", True),
        ({"tX": 1, "tY": 2}, "47,XYY?", True),
        ({"tX": 2, "t3": 1, "t18": 3}, "47,XXY?,-3?,+18?", True),
        ({"tX": 2, "tY": 0, "t8": 3, "t10": 1, "t2": 1}, "45,XX,-2?,+8?,-10?", True),
    ],
)
def test_text_and_flag(way, changes, text, flagged):
    found = karyotype_of(read_as(labels_of(**changes)), dispatch=way)
    assert (found.text, found.flagged) == (text, flagged)
    assert bool(found.warnings) == bool(found.changes) == ("?" in text)
    assert found.counts.sum() == len(labels_of(**changes))


def test_a_gain_is_told_with_its_probability():
    found = karyotype_of(read_as(labels_of(t21=3)))
    assert found.warnings[0] == ("possible gain of 21: 3 copies instead of 2, model probability above 0.99")
    assert "second cell" in found.warnings[-1]


def test_a_loss_is_told_as_perhaps_random():
    assert "random loss in preparation" in karyotype_of(read_as(labels_of(t14=1))).warnings[0]
    assert "random loss of X or Y" in karyotype_of(read_as(labels_of(tY=0))).warnings[0]


def test_the_probability_of_a_gain_is_that_of_the_other_reading():
    # the third 21 may be a third 22: both would be a gain, so that only the chromosome itself decides
    probabilities = read_as(labels_of(t21=3), sure=1.0)
    row = int(np.flatnonzero(labels_of(t21=3) == 20)[0])
    probabilities[row, [20, 21]] = 0.8, 0.2
    assert karyotype_of(probabilities).changes[0].probability == pytest.approx(0.8, abs=1e-6)


def test_a_gain_beside_a_loss_needs_more_than_one_well_read_chromosome():
    probabilities = read_as(labels_of(), sure=1.0)
    row = int(np.flatnonzero(labels_of() == 13)[0])
    probabilities[row] = 0
    probabilities[row, [20, 13]] = 0.99, 0.01
    found = karyotype_of(probabilities)
    odds = 99 * (0.065 / 24) ** 2
    assert found.text == "46,XY,-14?,+21?"
    assert [change.probability for change in found.changes] == pytest.approx(
        [odds / (1 + odds)] * 2, rel=1e-4
    )
    assert "below 0.01, more likely a misreading" in found.warnings[0]
    assert "compare 21 with 14" in found.warnings[2]


def test_a_balanced_misreading_is_less_credible_where_abnormal_cells_are_rarer():
    probabilities = random_cell(4)
    often, seldom = (
        karyotype_of(probabilities, dispatch="none", abnormal_share=share).changes for share in (0.5, 0.01)
    )
    assert sum(change.probability for change in seldom) < sum(change.probability for change in often)


def test_sex_has_the_probability_of_the_other_pair():
    probabilities = read_as(labels_of(), sure=1.0)
    probabilities[-1] = 0
    probabilities[-1, [22, 23]] = 0.3, 0.7
    found = karyotype_of(probabilities)
    assert found.sex == "XY"
    assert found.sex_probability == pytest.approx(0.7, abs=1e-6)


def test_what_a_person_has_settled_is_said_so():
    labels = np.append(labels_of(), 20)
    fixed = np.where(labels == 20, 20, UNKNOWN)
    found = karyotype_of(read_as(labels, sure=0.5), fixed)
    assert found.changes[0].settled
    assert found.warnings[0].endswith("settled by a person")


def test_more_copies_than_slots_are_read_where_they_are_settled():
    labels = np.append(labels_of(), [20, 20])
    fixed = np.where(labels == 20, 20, UNKNOWN)
    for way in WAYS:
        assert karyotype_of(read_as(labels), fixed, dispatch=way).text == "48,XY,+21?,+21?"


def test_many_abnormalities_are_not_taken_for_a_karyotype():
    probabilities = random_cell(11, separation=1.5)
    found = karyotype_of(probabilities, dispatch="none")
    assert len(found.changes) > 4
    assert "most are misreadings" in found.warnings[-2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chromosomes", [1, 29, 61, 72, 73, 100])
def test_counts_of_no_whole_cell_are_not_read(way, chromosomes):
    settled = settle(random_cell(0, chromosomes), None, ReviewConfig(dispatch=way))
    found = settled.karyotype
    assert found.text == f"{chromosomes},?"
    assert not found.changes
    assert not found.flagged
    assert "counts mean little" in found.warnings[-1]
    assert (settled.note is not None) == (chromosomes > 72 and way != "none")
    assert settled.note in (None, found.warnings[0])


@pytest.mark.parametrize("chromosomes", [30, 60])
def test_the_least_and_the_largest_whole_cell_are_read(chromosomes):
    assert karyotype_of(random_cell(0, chromosomes)).sex_probability is not None


def test_a_pool_of_cells_keeps_the_types_that_the_network_reads():
    probabilities = random_cell(0, 100)
    for way in WAYS:
        labels = settle(probabilities, None, ReviewConfig(dispatch=way)).labels
        np.testing.assert_array_equal(labels, probabilities.argmax(1))


def test_the_way_is_the_one_asked_for():
    probabilities = random_cell(1)
    labels = {way: settle(probabilities, None, ReviewConfig(dispatch=way)).labels for way in WAYS}
    np.testing.assert_array_equal(labels["paper"], paper_dispatch(probabilities))
    np.testing.assert_array_equal(labels["none"], plain_labels(probabilities))
    assert not np.array_equal(labels["assignment"], labels["none"])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 100), st.sampled_from(WAYS), st.data())
def test_a_legal_table_always_has_an_answer(seed, chromosomes, way, data):
    lists = st.lists(
        st.sampled_from([UNKNOWN] * 30 + [0, 20, 20, 22, 23]), min_size=chromosomes, max_size=chromosomes
    )
    fixed = np.array(data.draw(lists), dtype=np.int16)
    settled = settle(random_cell(seed, chromosomes), fixed, ReviewConfig(dispatch=way))
    found = settled.karyotype
    np.testing.assert_array_equal(settled.labels[fixed != UNKNOWN], fixed[fixed != UNKNOWN])
    assert found.counts.sum() == chromosomes
    assert all(0 <= change.probability <= 1 for change in found.changes)
    assert found.text.startswith(str(chromosomes))
    # no abnormality without its mark
    assert found.text.count("?") >= found.text.count("+") + found.text.count("-")


def test_missing_copies_cost_what_the_options_say():
    probabilities = read_as(labels_of(), sure=1.0)
    row = int(np.flatnonzero(labels_of() == 13)[0])
    probabilities[row, [20, 13]] = 0.996, 0.004
    assert karyotype_of(probabilities).text == "46,XY,-14?,+21?"
    assert karyotype_of(probabilities, missing=2.0).text == "46,XY"
    assert settle(probabilities, None, ReviewConfig()).karyotype.text == "46,XY"


def test_a_broken_table_is_refused():
    with pytest.raises(DataError, match="row 0"):
        settle(np.full((1, 24), np.nan), None, ReviewConfig())

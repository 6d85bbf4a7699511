"""The simulated cells against what their formulas and rates promise."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, WHITE, X, Y, ink_box
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.simulator import (
    ARTEFACTS,
    draw_karyotype,
    simulate,
    simulate_with_truth,
)
from appliedpapers.plugins.varifocal_net.simulator_artefacts import add_fragment, cut_corner, overlay
from appliedpapers.plugins.varifocal_net.simulator_drawing import Shape, draw_end, draw_shape
from appliedpapers.plugins.varifocal_net.simulator_templates import draw_templates, templates

_STRAIGHT = Shape(
    length=100.0,
    joint=30.0,
    half_width=8.0,
    narrowing=0.4,
    bend=0.0,
    kink=0.0,
    tilt=0.0,
    edges=np.array([0.0, 30.0, 60.0, 100.0]),
    density=np.array([0.0, 1.0, 0.0]),
    blur=1.0,
    stain=160.0,
    gap=0.0,
)


def _config(seed=1, **simulator):
    sizes = {"train_cells": 2, "valid_cells": 2, "test_cells": 2}
    return KaryotypeConfig(seed=seed, simulator={**sizes, **simulator})


@pytest.fixture(scope="module")
def twelve():
    return simulate_with_truth(_config(train_cells=12))[0]


def _counts(chromosomes):
    return {
        case: np.bincount(chromosomes.labels[rows], minlength=len(TYPES))
        for case, rows in chromosomes.rows_by_case().items()
    }


def _bounds(n, rate):
    return binom.ppf([1e-4, 1 - 1e-4], n, rate)


# templates


def test_the_table_of_templates_is_what_the_seeds_give():
    for stored, drawn in zip(templates(), draw_templates(), strict=True):
        np.testing.assert_array_equal(stored.edges, drawn.edges)
        np.testing.assert_array_equal(stored.density, drawn.density)


def test_no_two_templates_are_alike():
    correlation = np.corrcoef([template.profile() for template in templates()])
    assert correlation[np.triu_indices(len(TYPES), 1)].max() < 0.85


def test_templates_have_their_bands_and_alternate():
    assert sum(len(template.density) for template in templates()) == pytest.approx(300, abs=5)
    for template in templates():
        assert template.edges[0] == 0
        assert template.edges[-1] == 1
        assert (np.diff(template.edges) > 0).all()
        assert len(template.edges) == len(template.density) + 1 >= 5
        assert np.min(np.abs(template.edges - template.centromere)) == 0
        is_dark = template.density >= 0.4
        assert (is_dark[1:] != is_dark[:-1]).all()


@pytest.mark.parametrize("label", [0, 8, 15])
def test_heterochromatin_lies_at_the_centromere_of_1_9_and_16(label):
    template = templates()[label]
    band = np.searchsorted(template.edges, template.centromere, side="right") - 1
    assert template.density[band] == 1


def test_the_end_of_the_long_arm_of_y_is_heterochromatin():
    assert templates()[Y].density[-1] == 1


# drawing


def _extent(ink):
    x0, y0, x1, y1 = ink_box((WHITE - np.clip(ink, 0, WHITE)).astype(np.uint8))
    return x1 - x0, y1 - y0


def test_a_straight_chromosome_is_as_long_and_wide_as_it_says_and_narrow_at_its_centromere():
    ink = draw_shape(_STRAIGHT, np.random.default_rng(0))
    dark = ink > 0.5 * _STRAIGHT.stain * 0.35
    width, height = dark.sum(1), dark.any(1).sum()
    assert height == pytest.approx(100, abs=3)
    top = np.flatnonzero(dark.any(1))[0]
    assert width[top + 45] == pytest.approx(17, abs=2)
    assert np.argmin(width[top + 15 : top + 85]) + 15 == pytest.approx(30, abs=2)
    assert width[top + 30] == pytest.approx(0.6 * 17, abs=2)
    assert width[top] < 12


def test_the_dark_band_lies_where_it_says_with_the_p_arm_up():
    ink = draw_shape(_STRAIGHT, np.random.default_rng(0))
    rows = np.flatnonzero((ink > 10).any(1))
    middle = ink[:, ink.shape[1] // 2 - 3 : ink.shape[1] // 2 + 4].mean(1)[rows[0] : rows[-1]]
    assert middle[40:52].min() > 130 > 80 > middle[70:90].max()
    assert middle[10:22].max() < 80


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.8, 0.8), st.floats(-1.0, 1.0), st.floats(-3.1, 3.1))
def test_bending_kinking_and_turning_keep_the_area(bend, kink, tilt):
    straight = draw_shape(_STRAIGHT, np.random.default_rng(0))
    shape = Shape(**{**vars(_STRAIGHT), "bend": bend, "kink": kink, "tilt": tilt})
    ink = draw_shape(shape, np.random.default_rng(0))
    assert (ink > 25).sum() == pytest.approx((straight > 25).sum(), rel=0.05)
    border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    assert np.abs(border).max() < 5


def test_a_bend_shortens_and_a_tilt_of_a_right_angle_lays_down():
    def bent(**change):
        return _extent(draw_shape(Shape(**{**vars(_STRAIGHT), **change}), np.random.default_rng(0)))

    upright = bent()
    assert bent(kink=1.0)[1] < upright[1] - 5
    assert bent(bend=1.0)[0] > upright[0] + 5
    lying = bent(tilt=np.pi / 2)
    assert lying == pytest.approx(upright[::-1], abs=3)


def test_an_end_is_only_the_end():
    for of_q in (False, True):
        end = draw_end(_STRAIGHT, 0.2, of_q, np.random.default_rng(0))
        rows = np.flatnonzero((end > 10).any(1))
        assert np.ptp(rows) == pytest.approx(20, abs=3)
        assert (rows.mean() > len(end) / 2) == of_q


# artefacts


@pytest.mark.parametrize("on_right", [True, False])
def test_a_fragment_touches_on_its_side_and_is_darker_where_it_overlaps(on_right):
    body, piece = np.zeros((40, 20)), np.zeros((12, 12))
    body[5:35, 5:15], piece[2:10, 2:10] = 100.0, 100.0
    both = add_fragment(body, piece, on_right, 2, np.random.default_rng(0))
    assert both.shape == (30, 16)
    overlapped = both > 101
    assert overlapped.sum() == 8 * 2
    assert both[overlapped] == pytest.approx(WHITE * (1 - (1 - 100 / WHITE) ** 2))
    assert (both[:, 0] > 0).sum() == (30 if on_right else 8)
    assert (both[:, -1] > 0).sum() == (8 if on_right else 30)


def test_a_lost_corner_takes_3_to_12_percent():
    body = np.zeros((60, 30))
    body[5:55, 5:25] = 100.0
    for seed in range(20):
        left = cut_corner(body, np.random.default_rng(seed)).sum() / body.sum()
        assert 0.87 < left < 0.98


def test_overlay_lets_no_more_through_than_either():
    one, other = np.full((2, 2), 200.0), np.array([[0.0, 50.0], [255.0, 200.0]])
    both = overlay(one, other)
    assert (both >= np.maximum(one, other)).all()
    assert both.max() <= WHITE


def test_every_artefact_appears_at_its_rate_and_can_be_switched_off(twelve):
    seen = Counter(name for names in twelve.artefacts for name in names)
    for name, rate in zip(ARTEFACTS, (0.12, 0.05, 0.03), strict=True):
        low, high = _bounds(len(twelve.artefacts), rate)
        assert low <= seen[name] <= high, name
    clean = simulate_with_truth(_config(train_cells=12, artefacts=False))[0]
    assert not any(clean.artefacts)
    pairs = zip(twelve.chromosomes.images, clean.chromosomes.images, twelve.artefacts, strict=True)
    for spoiled, whole, names in pairs:
        assert np.array_equal(spoiled, whole) == (not names)
        if names == {"cut"}:
            assert (spoiled < 250).sum() < (whole < 250).sum()
        if names == {"touching"}:
            assert (spoiled < 250).sum() > (whole < 250).sum()


# cells


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    one, again, other = (simulate(_config(seed))[0] for seed in (1, 1, 2))
    assert all(np.array_equal(*pair) for pair in zip(one.images, again.images, strict=True))
    assert one.names == again.names
    assert not all(np.array_equal(*pair) for pair in zip(one.images, other.images, strict=False))


def test_more_cells_to_learn_from_leave_the_others_as_they_were():
    few, many = simulate(_config()), simulate(_config(train_cells=4))
    assert len(many[0]) > len(few[0])
    for split in (1, 2):
        pairs = zip(few[split].images, many[split].images, strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)
    assert np.array_equal(few[0].images[0], many[0].images[0])


def test_splits_share_no_specimen_and_specimens_have_two_cells(twelve):
    owners = [set(split.specimens) for split in simulate(_config())]
    assert len(set.union(*owners)) == sum(len(names) for names in owners) == 3
    cells = set(zip(twelve.chromosomes.specimens, twelve.chromosomes.cases, strict=True))
    assert set(Counter(specimen for specimen, _ in cells).values()) == {2}
    for case, rows in twelve.chromosomes.rows_by_case().items():
        names = [twelve.chromosomes.names[row] for row in rows]
        assert len(set(names)) == len(names), case


def test_images_are_those_of_the_karyotype(twelve):
    for cell, counts in enumerate(_counts(twelve.chromosomes).values()):
        np.testing.assert_array_equal(counts, draw_karyotype(1, "train", cell, True))


def test_cells_without_anomalies_are_46_xx_or_46_xy():
    counts = np.array([draw_karyotype(1, "train", cell, False) for cell in range(400)])
    assert (counts[:, :22] == 2).all()
    females = (counts[::2, X] == 2).sum()
    assert set(map(tuple, counts[:, [X, Y]])) == {(2, 0), (1, 1)}
    low, high = _bounds(200, 0.5)
    assert low <= females <= high


def test_anomalies_come_at_their_rates_and_are_shared_by_a_specimen():
    cells = 8000
    counts = np.array([draw_karyotype(3, "train", cell, True) for cell in range(cells)])
    # the cell that has lost none tells the constitution
    whole = np.maximum(counts[::2], counts[1::2])
    trisomic, kinds = np.nonzero(whole[:, :22] == 3)
    low, high = _bounds(cells // 2, 0.06)
    assert low <= len(trisomic) <= high
    assert set(kinds) == {12, 17, 20}
    anomalies = {(2, 1), (1, 0), (3, 0), (1, 2)}
    sexes = list(map(tuple, whole[:, [X, Y]]))
    assert anomalies <= set(sexes)
    is_anomaly = np.array([sex in anomalies for sex in sexes])
    low, high = _bounds(cells // 2, 0.03)
    assert low <= is_anomaly.sum() <= high
    assert not is_anomaly[trisomic].any()
    lost = np.repeat(whole.sum(1), 2) - counts.sum(1)
    assert set(lost) == {0, 1}
    low, high = _bounds(cells, 0.06)
    assert low <= lost.sum() <= high


def test_every_image_stands_with_its_p_arm_up():
    train = simulate(_config(train_cells=4, artefacts=False))[0]
    assert (train.polarity == 1).all()
    upright = []
    for image, label in zip(train.images, train.labels, strict=True):
        ink = (WHITE - image.astype(float)).sum(1) / np.maximum((image < WHITE).sum(1), 1)
        profile = templates()[label].profile(len(ink))
        upright.append(np.corrcoef(ink, profile)[0, 1] > np.corrcoef(ink[::-1], profile)[0, 1])
    assert np.mean(upright) > 0.9  # kinks shear the bands of some out of their rows


def test_longer_types_are_drawn_longer(twelve):
    clean = [row for row, names in enumerate(twelve.artefacts) if not names]
    chromosomes = twelve.chromosomes.take(clean)
    height = np.array([image.shape[0] for image in chromosomes.images])
    median = np.array([np.median(height[chromosomes.labels == label]) for label in range(22)])
    physical = np.array([template.megabases for template in templates()[:22]])
    assert np.corrcoef(median, physical)[0, 1] > 0.99
    apart = physical[:, None] > 1.15 * physical
    assert (median[:, None] > median)[apart].all()


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_images_of_any_seed_are_dark_chromosomes_on_white(seed):
    for split in simulate(_config(seed)):
        assert 2 * 43 <= len(split) <= 2 * 47
        for image in split.images:
            assert image.dtype == np.uint8
            assert min(image.shape) >= 15
            assert max(image.shape) <= 260
            border = np.concatenate([image[:2].ravel(), image[-2:].ravel(), image[:, :2].ravel()])
            assert (border == WHITE).all()
            assert ink_box(image) == (2, 2, image.shape[1] - 2, image.shape[0] - 2)
            assert 0.15 < (image < 250).mean() < 0.95
            assert 100 < image[image < 250].mean() < 235


def test_a_hundred_cells_take_seconds():
    def seconds():
        started = time.process_time()
        simulate(_config())
        return time.process_time() - started

    assert min(seconds(), seconds()) < 1.2  # six cells

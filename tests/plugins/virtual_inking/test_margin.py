"""From tiles to a line: projection, thresholds, gaps, states; properties of the geometry."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliedpapers.plugins.virtual_inking import decision, measures, scoring
from appliedpapers.plugins.virtual_inking.config import MarginConfig
from appliedpapers.plugins.virtual_inking.outline import (
    Contour,
    closed_contours,
    contours_of,
    resample,
    ring_length,
)
from appliedpapers.plugins.virtual_inking.projection import decide, project, slide_threshold, stretches
from appliedpapers.plugins.virtual_inking.tissue import Masks

CHANCES = hnp.arrays(np.float64, st.integers(2, 9), elements=st.floats(0, 1))
FLAGS = hnp.arrays(np.bool_, st.integers(1, 60))
CONFIG = MarginConfig(step_um=10.0, reach_um=30.0, smooth_um=20.0, gap_um=40.0, shortest_um=60.0)


def circle(radius=300.0, step=10.0, known=None):
    angles = np.arange(round(2 * np.pi * radius / step)) * step / radius
    points = 500 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return Contour(points, step, np.ones(len(points), dtype=bool) if known is None else known)


def tiles(contour, cut):
    """Return centres just inside of a circle, with clear logits."""
    centres = 500 + (contour.points - 500) * 0.95
    return centres, np.where(cut, 4.0, -4.0)


@given(CHANCES, st.floats(0, 4))
def test_potts_is_the_cheapest_of_all_labellings(chances, switch):
    best = min(
        decision.potts_cost(chances, labels, switch)
        for labels in itertools.product([False, True], repeat=len(chances))
    )
    assert decision.potts_cost(chances, decision.potts(chances, switch), switch) == pytest.approx(
        best, abs=1e-9
    )


@given(FLAGS, st.integers(0, 59))
def test_where_a_contour_begins_does_not_matter(flags, turn):
    def final(marks):
        return decision.bridge_and_drop(marks, 10.0, gap=30, shortest=50)

    np.testing.assert_array_equal(final(np.roll(flags, turn)), np.roll(final(flags), turn))
    assert sum(length for _, length in decision.runs(flags)) == flags.sum()


@given(FLAGS)
def test_bridging_and_dropping_leaves_no_short_gap_or_stretch(flags):
    final = decision.bridge_and_drop(flags, 10.0, gap=30, shortest=50)
    assert all(length * 10 >= 50 or length == flags.size for _, length in decision.runs(final))
    again = decision.bridge_and_drop(final, 10.0, gap=30, shortest=50)
    np.testing.assert_array_equal(final, again)


@given(st.integers(1, 200), st.integers(1, 30))
def test_arcs_cover_a_contour_once(samples, per_arc):
    edges = measures.arcs(samples, per_arc)
    assert edges[0][0] == 0
    assert edges[-1][1] == samples
    assert all(one[1] == other[0] for one, other in itertools.pairwise(edges))
    assert all(2 * (end - begin) >= per_arc or len(edges) == 1 for begin, end in edges)


def test_otsu_parts_two_clusters():
    values = np.concatenate([np.linspace(-3, -2, 20), np.linspace(1, 2, 7)])
    assert -2 < decision.otsu_threshold(values) < 1


def test_a_flat_or_far_profile_falls_back_to_the_fixed_threshold():
    assert slide_threshold(np.linspace(-4, -3.5, 30), CONFIG) == 0
    # one class alone: its own middle may not become the threshold
    low = slide_threshold(np.linspace(-14, -8, 30), CONFIG)
    assert low == pytest.approx(-CONFIG.band_below)
    assert not (np.linspace(-14, -8, 30) > low).any()


@pytest.mark.parametrize("rule", ["otsu", "fixed", "viterbi"])
def test_half_a_circle_is_cut(rule):
    contour = circle()
    cut = contour.points[:, 0] > 500
    config = CONFIG.model_copy(update={"decision": rule})
    margin = decide([(contour, *project(contour, *tiles(contour, cut), config))], config)[0]
    assert np.mean(margin.cut == cut) > 0.97
    parts = stretches([margin])
    assert sorted(part.state for part in parts) == ["cut", "natural"]
    assert sum(part.length_mm for part in parts) == pytest.approx(contour.length_mm)
    by_state = {part.state: part for part in parts}
    assert by_state["cut"].probability > 0.9 > 0.1 > by_state["natural"].probability
    # neighbours meet: one line ends where the next begins
    np.testing.assert_allclose(by_state["cut"].points[-1], by_state["natural"].points[0])


def test_what_no_tile_is_near_cannot_be_judged():
    contour = circle()
    cut = contour.points[:, 0] > 500
    centres, logits = tiles(contour, cut)
    near = contour.points[:, 1] > 350
    profile, known = project(contour, centres[near], logits[near], CONFIG)
    assert not known[contour.points[:, 1] < 220].any()
    assert known[contour.points[:, 1] > 350].all()
    margin = decide([(contour, profile, known)], CONFIG)[0]
    assert not (margin.cut & ~known).any()
    assert "not_assessable" in {part.state for part in stretches([margin])}


def test_bridged_gaps_are_listed():
    contour = circle()
    cut = contour.points[:, 0] > 500
    profile = np.where(cut, 3.0, -3.0)
    profile[[2, 3, 4]] = -3.0
    margin = decide([(contour, profile, np.ones(len(cut), dtype=bool))], CONFIG)[0]
    part = next(one for one in stretches([margin]) if one.state == "cut")
    assert part.gaps_um == (30.0,)
    assert margin.cut[[2, 3, 4]].all()


def test_contours_follow_the_tissue_and_leave_the_border():
    rows, columns = np.mgrid[:200, :200]
    mask = np.hypot(rows - 100, columns - 140) < 70
    mask[95:105, 130:140] = False
    masks = Masks(mask, np.zeros_like(mask), (4.0, 4.0), 0)
    (contour,) = contours_of(masks, step_um=20.0, smooth_um=8.0, least_mm2=0.01)
    assert contour.step == pytest.approx(20, rel=0.02)
    border = contour.points[:, 0] > 796
    assert border.any()
    assert not contour.candidate[border].any()
    inner = contour.candidate
    apart = np.hypot(*(contour.points[inner] - np.array([562.0, 402.0])).T)
    assert np.abs(apart - 280).max() < 12


def test_no_sample_beside_pen_is_judged():
    mask = np.zeros((120, 120), dtype=bool)
    mask[20:100, 20:100] = True
    pen = np.zeros_like(mask)
    pen[40:60, 90:115] = True
    (contour,) = contours_of(
        Masks(mask & ~pen, pen, (8.0, 8.0), 0), step_um=20.0, smooth_um=8.0, least_mm2=0.01
    )
    columns, rows = np.clip((contour.points / 8).astype(int), 0, 119).T
    assert not (contour.candidate & pen[rows, columns]).any()
    assert 0.05 < (~contour.candidate).mean() < 0.35


def test_rings_are_resampled_evenly():
    square = np.array([[0.0, 0], [100, 0], [100, 50], [0, 50]])
    points, step = resample(square, 7.0)
    assert len(points) * step == pytest.approx(300)
    assert step == pytest.approx(7.0, rel=0.05)
    mask = np.zeros((60, 60), dtype=bool)
    mask[10:30, 10:50] = True
    assert ring_length(closed_contours(mask)[0]) == pytest.approx(120, rel=0.05)


def test_breaks_within_a_true_arc_are_counted():
    truth = np.zeros(40, dtype=bool)
    truth[5:25] = True
    drawn = truth.copy()
    drawn[10:12] = False
    drawn[15:16] = False
    assert scoring.false_breaks(truth, truth) == [0]
    assert scoring.false_breaks(truth, drawn) == [2]
    assert scoring.false_breaks(truth, np.zeros(40, dtype=bool)) == [0]


def test_distances_to_nothing_are_infinite_and_a_lesion_without_margin_has_none():
    point = np.array([[0.0, 0.0]])
    assert np.isinf(measures.distances(point, [])).all()
    assert measures.clearance(np.array([[0.0, 0], [1, 0], [1, 1]]), []) is None
    assert measures.hausdorff([], []) == 0
    assert np.isinf(measures.hausdorff([np.array([[0.0, 0], [1, 1]])], []))
    assert measures.boundary_f1([], [], 200) == 1

"""Two experts on one slide: who sees which tile, and what becomes of their answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from appliedpapers.core.calibration import Line
from appliedpapers.nn.mowst_routing import confidences
from appliedpapers.plugins.virtual_inking.cascade import Cascade, _mixture, around, joined
from appliedpapers.plugins.virtual_inking.heads import Head
from appliedpapers.plugins.virtual_inking.network import TileHead

GRID = np.stack(np.meshgrid(np.arange(5) * 80.0, np.arange(4) * 80.0), axis=-1).reshape(-1, 2)


@pytest.fixture
def cascade():
    torch.manual_seed(3)
    head = Head(TileHead(6, "mlp", 8, 0.0).eval(), Line("temperature"), 6)
    return Cascade(head, _mixture(head, head).eval(), most_calls=0.5)


def test_the_encoder_sees_the_rim_first_and_no_more_than_its_budget(cascade):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)).astype(np.float32)
    depth = np.repeat([10.0, 500.0], 20)
    nothing = np.empty(0, dtype=np.int64)
    np.testing.assert_array_equal(cascade.chosen(features, depth, nothing), depth < 100)
    always = np.array([38, 39])
    chosen = cascade.chosen(features, depth, always)
    assert chosen.sum() == 20
    assert chosen[always].all()
    # where all are equally near, the gate alone decides
    equal = cascade.chosen(features, np.zeros(40), nothing)
    certain = confidences(cascade.gate, features)
    assert equal.sum() == 20
    assert certain[equal].mean() < certain[~equal].mean()
    assert not cascade.chosen(features[:0], depth[:0], nothing).size
    assert cascade.chosen(features[:3], depth[:3], np.arange(3)).all()


def test_tiles_around_are_those_that_touch_and_not_the_tile_itself():
    values = np.arange(20.0)
    found = around(GRID, GRID, values, 80.0)
    assert found[0] == pytest.approx((1 + 5 + 6) / 3)
    assert found[6] == pytest.approx((0 + 1 + 2 + 5 + 7 + 10 + 11 + 12) / 8)
    assert np.isnan(around(GRID[:1], GRID[12:], values[12:], 80.0)).all()
    assert np.isnan(around(GRID, GRID[:0], values[:0], 80.0)).all()
    assert around(GRID[:0], GRID, values, 80.0).shape == (0,)


def test_a_tile_that_the_encoder_saw_has_its_answer_and_others_hear_of_it():
    weak = np.full(20, -1.0)
    chosen = np.zeros(20, dtype=bool)
    chosen[[0, 1]] = True
    found = joined(weak, np.array([3.0, 5.0]), chosen, GRID, 80.0)
    np.testing.assert_array_equal(found[:2], [3.0, 5.0])
    assert found[5] == pytest.approx((-1 + 4) / 2)
    assert found[2] == pytest.approx((-1 + 5) / 2)
    np.testing.assert_array_equal(found[13:], -1.0)
    np.testing.assert_array_equal(weak, -1.0)
    np.testing.assert_array_equal(joined(weak, np.empty(0), ~chosen & chosen, GRID, 80.0), weak)

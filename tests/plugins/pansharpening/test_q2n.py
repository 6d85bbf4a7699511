"""Q2n: the product of one matrix a block against the algebra written out, blocks, masks and units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.plugins.pansharpening.q2n import conjugate_product, q2n_map, q2n_of
from benchmarks.pansharpening_q2n import literal


def cubes(seed, bands, height, width, noise=0.2):
    random = np.random.default_rng(seed)
    truth = 1000 * random.uniform(0.2, 1, (bands, height, width))
    return truth, truth * (1 + noise * random.standard_normal(truth.shape))


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 8, 13, 32])
def test_one_matrix_product_agrees_with_the_algebra_written_out(bands):
    truth, other = cubes(bands, bands, 16, 16)
    truth, other = truth.reshape(bands, -1), other.reshape(bands, -1)
    assert q2n_of(truth, other) == pytest.approx(literal(truth, other), abs=1e-7)


def test_it_agrees_at_218_bands():
    truth, other = cubes(0, 218, 8, 8)
    truth, other = truth.reshape(218, -1), other.reshape(218, -1)
    assert q2n_of(truth, other) == pytest.approx(literal(truth, other), abs=1e-7)


def test_products_of_units_are_those_of_complex_numbers_and_quaternions():
    # conjugates stand second: i conj(i) = 1, i conj(1) = i
    assert conjugate_product(np.array([[0.0, 0.0], [0.0, 1.0]])).tolist() == [1, 0]
    assert conjugate_product(np.array([[0.0, 0.0], [1.0, 0.0]])).tolist() == [0, 1]
    norm = conjugate_product(np.eye(4))
    assert norm[0] == 4
    assert not norm[1:].any()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(0, 100))
def test_equality_is_1_and_everything_else_less(bands, seed):
    truth, other = cubes(seed, bands, 8, 8)
    truth, other = truth.reshape(bands, -1), other.reshape(bands, -1)
    assert q2n_of(truth, truth) == pytest.approx(1)
    assert 0 <= q2n_of(truth, other) < 1


def test_a_block_that_never_varies_is_judged_by_its_mean():
    flat = np.full((3, 100), 7.0)
    assert q2n_of(flat, flat) == 1
    assert q2n_of(flat, flat + 1) < 1e-6


def test_sizes_that_blocks_do_not_divide_are_mirrored_at_the_bottom_and_right():
    # three columns of blocks and two rows, less 5 rows: public code pads the columns instead
    truth, other = cubes(4, 3, 59, 96)
    padded = [np.pad(cube, ((0, 0), (0, 5), (0, 0)), mode="symmetric") for cube in (truth, other)]
    found = q2n_map(truth, other)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, q2n_map(*padded), rtol=1e-12)


def test_a_scene_smaller_than_a_block_is_one_mirrored_block():
    truth, other = cubes(5, 3, 22, 12)
    padded = [np.pad(cube, ((0, 0), (0, 10), (0, 20)), mode="symmetric") for cube in (truth, other)]
    np.testing.assert_allclose(q2n_map(truth, other), q2n_map(*padded), rtol=1e-12)


def test_masked_pixels_do_not_count_and_blocks_that_lack_half_are_left_out():
    truth, other = cubes(6, 3, 64, 64)
    mask = np.ones((64, 64), dtype=bool)
    mask[:32, :17] = False
    mask[32:, :5] = False
    spoilt = np.where(mask, other, 1e9)
    found = q2n_map(truth, spoilt, mask=mask)
    assert np.isnan(found).tolist() == [[True, False], [False, False]]
    assert found[0, 1] == q2n_map(truth, other)[0, 1]
    assert found[1, 0] == pytest.approx(
        q2n_of(*(np.round(c[:, 32:, 5:32]).reshape(3, -1) for c in (truth, other)))
    )


@pytest.mark.parametrize("scale", [10.0, 1e-4])
def test_the_index_does_not_depend_on_the_unit(scale):
    truth, other = cubes(7, 4, 32, 32)
    expected = q2n_map(truth, other, unit=1.0)
    np.testing.assert_allclose(q2n_map(truth * scale, other * scale, unit=scale), expected, rtol=1e-9)


def test_rounding_is_what_stored_numbers_would_be():
    truth, other = cubes(8, 4, 32, 32)
    assert q2n_map(truth, other) == q2n_map(np.round(truth), np.round(other), unit=0)
    assert q2n_map(truth, other) != q2n_map(truth, other, unit=0)


def test_cubes_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        q2n_map(np.ones((2, 32, 32)), np.ones((3, 32, 32)))

"""From images to the networks' input: centred, white around, true in scale, and the way back for boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from appliedpapers.core.config import resolve
from appliedpapers.core.errors import ConfigError
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, Chromosomes, ink_box
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.preprocess import (
    FEWEST_FOR_SCALE,
    place,
    prepare,
    reference_area,
    scales,
)

SIDES = st.integers(1, 90)
SIZES = st.sampled_from([64, 96, 128])


def bars(heights, case="c", width=6):
    """Black bars, 3 px of white around each."""
    images = []
    for height in heights:
        image = np.full((height + 6, width + 6), 255, np.uint8)
        image[3:-3, 3:-3] = 0
        images.append(image)
    rows = len(images)
    unknown = np.full(rows, UNKNOWN)
    return Chromosomes(
        images,
        [str(row) for row in range(rows)],
        [case] * rows,
        [None] * rows,
        unknown.astype(np.int16),
        unknown.astype(np.int8),
        unknown.astype(np.int16),
    )


def together(*parts):
    return Chromosomes(
        *([one for part in parts for one in getattr(part, name)] for name in ("images", "names", "cases")),
        [None] * sum(map(len, parts)),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("labels", "polarity", "fixed")
        ),
    )


@given(SIDES, SIDES, st.integers(32, 200), SIZES)
def test_the_image_lies_in_the_middle(height, width, canvas, size):
    _, placement = place(np.zeros((height, width), np.uint8), canvas, size)
    assert placement.left + width * placement.factor / 2 == pytest.approx(size / 2)
    assert placement.top + height * placement.factor / 2 == pytest.approx(size / 2)
    assert placement.factor == pytest.approx(size / max(canvas, height, width))


@settings(max_examples=30)
@given(SIDES, SIDES, st.integers(32, 200), SIZES)
def test_pixels_are_where_the_placement_says(height, width, canvas, size):
    found, placement = place(np.zeros((height, width), np.uint8), canvas, size)
    # as much ink as the area of the image, and its centre in the middle
    ink = (255.0 - found) / 255
    assert ink.sum() == pytest.approx(height * width * placement.factor**2, rel=0.2, abs=4)
    for axis in (0, 1):
        along = ink.sum(axis=axis)
        assert (along * (np.arange(size) + 0.5)).sum() / along.sum() == pytest.approx(size / 2, abs=0.1)


@given(arrays(np.uint8, st.tuples(SIDES, SIDES)), st.integers(92, 200), SIZES)
def test_around_the_image_everything_is_white(image, canvas, size):
    found, placement = place(image, canvas, size)
    reach = 1 + max(1.0, placement.factor)  # of the bilinear filter
    x0, y0 = placement.left - reach, placement.top - reach
    x1, y1 = size - x0, size - y0
    centres = np.arange(size) + 0.5
    outside = (centres[:, None] < y0) | (centres[:, None] > y1) | (centres < x0) | (centres > x1)
    assert (found[outside] == 255).all()


@given(SIDES, SIDES, st.integers(32, 200), SIZES, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_boxes_come_back_to_the_image(height, width, canvas, size, shares):
    _, placement = place(np.zeros((height, width), np.uint8), canvas, size)
    box = np.array(shares) * (width, height, width, height)
    there = box * placement.factor + (placement.left, placement.top) * 2
    assert placement.to_image(there, width, height) == pytest.approx(box, abs=1e-6)


def test_a_box_beyond_the_image_is_limited_to_it():
    _, placement = place(np.zeros((30, 10), np.uint8), 100, 64)
    assert placement.to_image(np.array([0.0, 0.0, 64.0, 64.0]), 10, 30).tolist() == [0, 0, 10, 30]


@settings(max_examples=30)
@given(st.integers(10, 60), st.integers(10, 60))
def test_a_larger_image_is_shrunk_to_fit_and_keeps_its_shape(height, width):
    image = np.zeros((8 * height, 8 * width), np.uint8)
    found, placement = place(image, 64, 64)
    x0, y0, x1, y1 = ink_box(found)
    assert max(x1 - x0, y1 - y0) == 64
    assert (x1 - x0) * placement.factor**-1 == pytest.approx(8 * width, abs=3 / placement.factor)
    assert (y1 - y0) * placement.factor**-1 == pytest.approx(8 * height, abs=3 / placement.factor)


@pytest.mark.parametrize("shape", [(1, 5_000_000), (5_000_000, 1), (4097, 3), (9000, 5000)], ids=str)
def test_an_image_of_any_shape_fits_in_memory(shape):
    found, placement = place(np.zeros(shape, np.uint8), 160, 64)
    assert found.shape == (64, 64)
    assert placement.factor == pytest.approx(64 / max(shape), rel=1e-3)
    whole = placement.to_image(np.array([0.0, 0.0, 64.0, 64.0]), shape[1], shape[0])
    assert whole == pytest.approx([0, 0, shape[1], shape[0]], rel=1e-3, abs=2)


@settings(max_examples=20)
@given(st.lists(st.integers(20, 60), min_size=FEWEST_FOR_SCALE, max_size=46), st.floats(0.5, 2))
def test_automatic_scale_brings_the_median_area_to_the_reference(heights, wanted):
    cell = bars(heights)
    reference = wanted * float(np.median(cell.areas))
    factors = scales(cell, "auto", reference)
    assert len(set(factors)) == 1
    assert np.median(cell.areas * factors**2) == pytest.approx(reference)
    images, _ = prepare(cell, factors, 128, 128)
    # at 128 of 128 a network pixel is a pixel of the image as scaled
    assert np.median(((255.0 - images) / 255).sum((1, 2))) == pytest.approx(reference, rel=0.1)


def test_each_cell_has_a_scale_of_its_own_and_small_ones_none():
    large, small, few = bars([60] * 30, "large"), bars([15] * 30, "small"), bars([15] * 5, "few")
    cells = together(few, large, small)
    factors = scales(cells, "auto", 180.0)
    assert factors.tolist() == [1.0] * 5 + [pytest.approx(0.5**0.5)] * 30 + [pytest.approx(2**0.5)] * 30
    assert np.array_equal(factors[5:35], scales(large, "auto", 180.0))
    assert reference_area(cells) == (360 + 90) / 2
    assert reference_area(few) is None


def test_automatic_scale_has_limits():
    assert set(scales(bars([40] * 30), "auto", 1e9)) == {4.0}
    assert set(scales(bars([40] * 30), "auto", 1e-3)) == {0.25}
    assert set(scales(bars([40] * 30), "auto", None)) == {1.0}


def test_chromosomes_without_a_cell_keep_their_size():
    assert set(scales(bars([40] * 30, None), "auto", 1.0)) == {1.0}


def test_a_given_scale_is_for_all_and_enlarges():
    cell = bars([20] * 3)
    factors = scales(cell, 2.0, 1.0)
    assert factors.tolist() == [2.0] * 3
    box = ink_box(prepare(cell, factors, 128, 128)[0][0])
    assert box[3] - box[1] == pytest.approx(40, abs=2)


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "1e-6", "1e6", "large"])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ConfigError, match=r"data\.scale"):
        resolve(KaryotypeConfig, assignments=[f"data.scale={scale}"])

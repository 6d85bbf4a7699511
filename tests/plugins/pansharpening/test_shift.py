"""Misregistration is found to a tenth of a panchromatic pixel, and undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wald_classical import texture, textured

from appliedpapers.plugins.pansharpening.scene import Optics, Scene
from appliedpapers.plugins.pansharpening.shift import aligned, estimate_shift, register, shift_pan


def turned(image: np.ndarray, row: float, column: float) -> np.ndarray:
    """A periodic image moved down and right, exactly."""
    rows, columns = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (rows * row + columns * column))).real


def misregistered(scene: Scene, row: float, column: float) -> Scene:
    return replace(scene, pan=turned(scene.pan, row, column).astype(np.float32))


@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3), (-0.5, 0.5), (2.3, -1.7)])
def test_a_shift_is_recovered(ratio, shift):
    estimate = estimate_shift(misregistered(textured((40, 36), ratio), *shift))
    assert (estimate.row, estimate.column) == pytest.approx(shift, abs=0.1)
    assert len(estimate.windows) == 9
    assert estimate.spread < 0.1
    assert estimate.fit > 0.98


@pytest.mark.parametrize("ratio", [3, 6])
def test_noise_costs_little(ratio):
    rng = np.random.default_rng(0)
    scene = misregistered(textured((64, 64), ratio, bands=48), 0.35, -0.45)
    hs = scene.hs * (1 + rng.normal(size=scene.hs.shape) / 100)
    pan = scene.pan * (1 + rng.normal(size=scene.pan.shape) / 100)
    estimate = estimate_shift(replace(scene, hs=hs.astype(np.float32), pan=pan.astype(np.float32)))
    assert (estimate.row, estimate.column) == pytest.approx((0.35, -0.45), abs=0.1)


def test_a_shift_of_more_than_a_coarse_pixel_is_found():
    estimate = estimate_shift(misregistered(textured((64, 64), 3), 11, -7))
    assert (estimate.row, estimate.column) == pytest.approx((11, -7), abs=0.1)


@pytest.mark.parametrize("ratio", [2, 3, 4, 6])
def test_block_means_lie_at_the_centre_of_coarse_pixels(ratio):
    fine = 5000 + 900 * texture(3, (48 * ratio, 48 * ratio), slope=3)
    coarse = fine.reshape(48, ratio, 48, ratio).mean(axis=(1, 3))
    hs = np.stack([coarse, 0.5 * coarse + 100])
    centre = estimate_shift(Scene.of("blocks", hs, fine, Optics(ratio, "centre")))
    assert (centre.row, centre.column) == pytest.approx((0, 0), abs=0.05)
    # public code is half a fine pixel off where the ratio is even
    half = -0.5 if ratio % 2 == 0 else 0.0
    reference = estimate_shift(Scene.of("blocks", hs, fine, Optics(ratio, "reference")))
    assert (reference.row, reference.column) == pytest.approx((half, half), abs=0.05)


def test_nodata_does_not_count():
    scene = misregistered(textured((48, 48), 3), 0.4, 0.2)
    scene.hs_valid[:14, :] = False
    poisoned = replace(scene, hs=scene.hs.copy())
    poisoned.hs[:, :14] = 1e5
    estimate = estimate_shift(poisoned)
    assert (estimate.row, estimate.column) == pytest.approx((0.4, 0.2), abs=0.1)
    assert len(estimate.windows) == 6


def test_windows_that_are_mostly_nodata_are_left_out():
    scene = textured((48, 48), 3)
    scene.pan_valid[:72] = False
    assert len(estimate_shift(scene).windows) == 6
    scene.pan_valid[:] = False
    nothing = estimate_shift(scene)
    assert not nothing.known
    assert np.isnan(nothing.row)
    assert aligned(scene, nothing) is scene


def test_small_scenes_are_judged_on_four_windows():
    estimate = estimate_shift(misregistered(textured((20, 18), 4), 0.3, 0.3))
    assert len(estimate.windows) == 4
    assert (estimate.row, estimate.column) == pytest.approx((0.3, 0.3), abs=0.1)


def test_fewer_than_four_windows_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        estimate_shift(textured((16, 16), 2), windows=3)


def test_a_blank_pan_tells_nothing():
    scene = textured((24, 24), 3)
    assert not estimate_shift(replace(scene, pan=np.full_like(scene.pan, 7))).known


def test_an_unrelated_pan_fits_badly():
    scene = textured((48, 48), 3)
    unrelated = replace(scene, pan=texture(99, scene.fine_shape).astype(np.float32))
    assert estimate_shift(unrelated).fit < 0.5


def test_dead_bands_do_not_count():
    scene = misregistered(textured((30, 30), 3), 0.4, -0.2)
    hs = np.concatenate([scene.hs, np.zeros_like(scene.hs[:1])])
    dead = Scene.of("dead", hs, scene.pan, scene.optics)
    np.testing.assert_allclose(estimate_shift(dead).windows, estimate_shift(scene).windows, atol=1e-6)


def test_alignment_undoes_the_shift():
    scene = textured((48, 40), 3)
    wrong = misregistered(scene, 1.4, -0.7)
    right = aligned(wrong, estimate_shift(wrong))
    inner = np.s_[6:-6, 6:-6]
    before, after = (np.abs(pair.pan - scene.pan)[inner].mean() for pair in (wrong, right))
    assert after < 0.25 * before
    assert estimate_shift(right).distance < 0.05
    assert "moved by -1.4" in right.notes[-1]
    # the lowest row would come from beyond the band
    assert not right.pan_valid[:1].all() or not right.pan_valid[-1:].all()
    assert right.pan_valid[2:-2, 2:-2].all()


@pytest.mark.parametrize(("row", "column"), [(1, 0), (0, -2), (0.5, 0.25), (-1.5, 3)])
def test_images_move_down_and_right(row, column):
    image = texture(0, (60, 50), slope=5)
    moved = shift_pan(image, row, column)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved[8:-8, 8:-8], turned(image, row, column)[8:-8, 8:-8], atol=0.02)


def test_what_was_not_observed_grows_by_the_pixels_it_touches():
    scene = textured((16, 16), 2)
    scene.pan_valid[10, 12] = False
    wrong = estimate_shift(textured((16, 16), 2))
    moved = aligned(scene, replace(wrong, row=-0.4, column=0.0))
    assert np.argwhere(~moved.pan_valid).tolist() == [[10, 12], [11, 12]]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (1.35, 0.6), (-0.25, -4.75)])
def test_phase_correlation_finds_a_periodic_shift(shift):
    image = texture(1, (48, 40), slope=2)
    assert register(image, turned(image, *shift)) == pytest.approx(shift, abs=0.1)

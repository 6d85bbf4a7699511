"""Judging a product: sums over blocks against metrics of whole cubes, masks, Wald's protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.pansharpening import fidelity
from appliedpapers.plugins.pansharpening.assessment import (
    at_full_resolution,
    beside_truth,
    degrade_mask,
    middle,
    reduced,
    wald,
)
from appliedpapers.plugins.pansharpening.full_resolution import d_rho, d_sr
from appliedpapers.plugins.pansharpening.q2n import q2n_map
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, Sensor

RATIO = 3
NAMES = {"ergas", "sam", "q2n", "cc", "psnr", "ssim"}


def smooth(seed, *shape):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal(shape)
    return 2000 + 3000 * gaussian_filter(noise, (0,) * (len(shape) - 2) + (2, 2))


def cubes(bands=4, height=80, width=70):
    truth = smooth(0, bands, height, width)
    return truth, truth + 50 * np.random.default_rng(1).standard_normal(truth.shape)


def make_scene(height=96, width=96, bands=5, *, scale=1.0, phase="centre", hole=False):
    truth = smooth(2, bands, height, width).astype(np.float32) * np.float32(scale)
    optics = Optics(RATIO, phase, Sensor(0.3, 0.15))
    hs = optics.degrade_hs(truth).astype(np.float32)
    if hole:
        hs[:, :8, :8] = np.nan
    wavelengths = np.linspace(450, 1250, bands)
    pan = truth[:2].mean(axis=0)
    return Scene.of("made", hs, pan, optics, wavelengths=wavelengths, truth=truth, unit=scale)


def test_totals_are_those_of_the_whole_cubes():
    truth, fused = cubes()
    found = reduced(truth, fused, ratio=RATIO).values()
    assert found.keys() == NAMES
    assert found["ergas"] == pytest.approx(fidelity.ergas(truth, fused, RATIO))
    assert found["sam"] == pytest.approx(fidelity.sam(truth, fused))
    assert found["q2n"] == pytest.approx(q2n_map(truth, fused).mean())
    assert found["cc"] == pytest.approx(fidelity.band_cc(truth, fused).mean())
    assert found["psnr"] == pytest.approx(fidelity.band_psnr(truth, fused).mean())
    assert found["ssim"] == pytest.approx(fidelity.band_ssim(truth, fused).mean())


def test_totals_under_a_mask_and_without_dead_bands_are_those_of_what_is_left():
    truth, fused = cubes()
    mask = np.ones(truth.shape[1:], dtype=bool)
    mask[:, :32] = False
    dead = np.array([False, True, False, False])
    spoilt = np.where(mask, fused, 1e9)
    spoilt[1] = 0
    found = reduced(truth, spoilt, ratio=RATIO, mask=mask, dead=dead)
    left = [cube[~dead][:, :, 32:] for cube in (truth, fused)]
    expected = reduced(*left, ratio=RATIO)
    assert found.values() == pytest.approx(expected.values())
    assert np.isnan(found.band_cc()).tolist() == dead.tolist()
    assert found.band_rmse()[~dead] == pytest.approx(expected.band_rmse())
    assert (found.places[:, 1] > 0).all()


def test_blocks_drawn_twice_count_twice():
    truth, fused = cubes(height=64, width=64)
    sums = reduced(truth, fused, ratio=RATIO)
    twice = [np.concatenate([cube, cube[:, :, 32:]], axis=2) for cube in (truth, fused)]
    expected = reduced(*twice, ratio=RATIO)
    weights = np.array([1.0, 2.0, 1.0, 2.0])
    for name in NAMES - {"ssim"}:
        assert sums.measure(name)(weights) == pytest.approx(expected.value(name))
    with np.errstate(invalid="ignore"):
        assert np.isnan(sums.measure("ergas")(np.zeros(4)))


def test_spectral_ranges_are_those_of_their_bands():
    truth, fused = cubes()
    sums = reduced(truth, fused, ratio=RATIO, wavelengths=np.array([450.0, 700.0, 1000.0, 1600.0]))
    banded = sums.banded()
    assert list(banded) == ["< 700 nm", ">= 700 nm", "> 1000 nm"]
    for name, bands in zip(banded, ([0], [1, 2, 3], [3]), strict=True):
        assert banded[name]["ergas"] == pytest.approx(fidelity.ergas(truth[bands], fused[bands], RATIO))
        assert banded[name]["cc"] == pytest.approx(fidelity.band_cc(truth[bands], fused[bands]).mean())
    assert reduced(truth, fused, ratio=RATIO).banded() == {}


@pytest.mark.parametrize("scale", [10.0, 1e-4])
def test_the_verdict_does_not_depend_on_the_unit(scale):
    def verdict(factor):
        scene = make_scene(scale=factor)
        fused = scene.interpolator(scene.hs)
        return beside_truth(scene, fused).values() | at_full_resolution(scene, fused).values()

    assert verdict(scale) == pytest.approx(verdict(1.0), rel=1e-3)


def test_values_that_rounding_would_erase_are_not_rounded():
    truth, fused = cubes()
    small = reduced(truth / 10_000, fused / 10_000, ratio=RATIO).values()
    assert small["q2n"] == pytest.approx(reduced(truth, fused, ratio=RATIO).value("q2n"), abs=1e-3)


def test_nothing_to_judge_is_refused():
    truth, fused = cubes()
    with pytest.raises(DataError, match="nothing to judge"):
        reduced(truth, fused, ratio=RATIO, mask=np.zeros(truth.shape[1:], dtype=bool))
    with pytest.raises(DataError, match="nothing to judge"):
        reduced(truth, fused, ratio=RATIO, dead=np.ones(4, dtype=bool))


def test_edges_are_cut_as_in_the_benchmark_but_not_of_small_scenes():
    large, small = make_scene(), make_scene(84, 96)
    wrong = large.truth.copy()
    wrong[:, :10] = 0
    wrong[:, -11:] = 0
    assert beside_truth(large, wrong).value("ergas") == 0
    wrong = small.truth.copy()
    wrong[:, :10] = 0
    assert beside_truth(small, wrong).value("ergas") > 0


def test_the_truth_is_nearly_perfect_at_full_resolution():
    scene = make_scene()
    found = at_full_resolution(scene, scene.truth)
    assert found.lr_ergas == pytest.approx(0, abs=1e-4)
    assert found.d_lambda == pytest.approx(0, abs=1e-4)
    assert found.d_sr == pytest.approx(d_sr(scene.truth, scene.pan))
    assert found.d_rho == pytest.approx(d_rho(scene.truth, scene.pan, RATIO))
    assert found.qnr == pytest.approx((1 - found.d_lambda) * (1 - found.d_sr))
    worse = at_full_resolution(
        scene, scene.truth + 200 * np.random.default_rng(0).standard_normal((5, 96, 96))
    )
    assert worse.lr_ergas > found.lr_ergas
    assert worse.d_lambda > found.d_lambda


def test_nodata_is_left_out_at_full_resolution():
    scene = make_scene(hole=True)
    found = at_full_resolution(scene, np.where(scene.footprint, scene.truth, np.nan))
    assert found.lr_ergas < 0.5
    assert found.d_lambda < 0.01
    assert np.isfinite(list(found.values().values())).all()
    dead = replace(scene, dead=np.array([False, False, True, False, False]))
    assert np.isnan(at_full_resolution(dead, scene.truth).rho).tolist() == dead.dead.tolist()


@pytest.mark.parametrize("phase", ["centre", "reference"])
def test_wald_makes_both_images_coarser_and_keeps_the_cube_as_the_truth(phase):
    scene = make_scene(96, 105, phase=phase)
    coarser = wald(scene)
    np.testing.assert_array_equal(coarser.truth, scene.hs[:, :30, :33])
    assert coarser.hs.shape == (5, 10, 11)
    assert coarser.pan.shape == (30, 33)
    expected = scene.optics.degrade_pan(scene.pan[:90, :99])
    np.testing.assert_allclose(coarser.pan, expected, rtol=1e-6)
    np.testing.assert_allclose(coarser.hs, scene.optics.degrade_hs(scene.hs[:, :30, :33]), rtol=1e-6)
    assert coarser.hs_valid.all()
    assert coarser.optics == scene.optics


def test_wald_keeps_away_from_what_was_not_observed():
    scene = make_scene(hole=True)
    coarser = wald(scene)
    changed = replace(scene, hs=np.where(scene.hs_valid, scene.hs, 0))
    again = wald(changed)
    seen = coarser.hs_valid
    assert 0 < seen.sum() < seen.size
    np.testing.assert_allclose(coarser.hs[:, seen], again.hs[:, seen], rtol=5e-3)
    # the hole is 8 x 8; beyond it two coarse pixels are lost, and the footprint lies where the truth is known
    assert not seen[:4, :4].any()
    assert seen[5:].all()
    assert scene.hs_valid[:30, :30][coarser.footprint].all()


def test_wald_refuses_a_scene_that_is_too_small():
    with pytest.raises(DataError, match="too few") as error:
        wald(make_scene(66, 96))
    assert "24 rows" in (error.value.hint or "")


def test_masks_become_coarser_conservatively():
    mask = np.ones((30, 30), dtype=bool)
    assert degrade_mask(mask, 3).all()
    mask[0, 15] = False
    # samples lie at 3 k + 1, and see 6 pixels on each side
    lost = np.argwhere(~degrade_mask(mask, 3)).tolist()
    assert lost == [[row, column] for row in (0, 1) for column in (3, 4, 5, 6)]


def test_the_middle_of_a_large_scene_is_judged():
    scene = make_scene(96, 120)
    part = middle(scene, 64)
    assert part.fine_shape == (63, 63)
    np.testing.assert_array_equal(part.hs, scene.hs[:, 5:26, 9:30])
    np.testing.assert_array_equal(part.truth, scene.truth[:, 15:78, 27:90])
    assert middle(scene, 384) is scene

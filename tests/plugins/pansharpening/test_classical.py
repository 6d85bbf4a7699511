"""Classical pansharpening: published figures, tiles, ratios, nodata, dead bands, scaling, known defects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wald_classical import REFERENCE, cut_scores, ergas, sam, san_francisco, textured

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.plugins.pansharpening.classical import sharpen, whole
from appliedpapers.plugins.pansharpening.config import CLASSICAL
from appliedpapers.plugins.pansharpening.moments import Expansion, gather, gather_coarse, tile_side
from appliedpapers.plugins.pansharpening.panlowpass import decimated, filtered_window, wavelet_kernel
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, Sensor

SHARPENING = [method for method in CLASSICAL if method != "exp"]
WHOLE = 4096


def product(method, scene, **options):
    return whole(sharpen(method, scene, **options), scene, WHOLE)


# published figures


@pytest.fixture(scope="module")
def full(shared):
    return san_francisco(shared, slice(0, 288), Optics(6, **REFERENCE))


@pytest.fixture(scope="module")
def guarded_crop(shared):
    return san_francisco(shared, slice(144, 276), Optics(6, phase="reference", sensor=Sensor(0.3, 0.2)))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("method", "expected"),
    [("exp", (2.847, 3.571)), ("gsa", (2.233, 3.196)), ("mtf-glp-fs", (2.229, 3.184))],
)
def test_san_francisco_scores_as_measured_on_the_reference(full, method, expected):
    scores = cut_scores(product(method, full, parity=True), full.truth, 6)
    assert scores == pytest.approx(expected, rel=0.01)


@pytest.mark.shared
def test_guarded_bt_h_is_better_than_exp_and_names_the_condition_number(guarded_crop):
    fused = sharpen("bt-h", guarded_crop)
    ours, spectral = cut_scores(whole(fused, guarded_crop), guarded_crop.truth, 6)
    exp, exp_spectral = cut_scores(product("exp", guarded_crop), guarded_crop.truth, 6)
    assert ours < exp
    assert spectral < exp_spectral
    assert "condition number 8.0e+07" in fused.notes[0]


@pytest.mark.shared
def test_unguarded_bt_h_blows_up_with_many_bands(guarded_crop):
    bare, _ = cut_scores(product("bt-h", guarded_crop, parity=True), guarded_crop.truth, 6)
    assert bare > 2 * cut_scores(product("exp", guarded_crop), guarded_crop.truth, 6)[0]


@pytest.mark.shared
def test_guarded_bt_h_is_better_than_exp_on_the_whole_of_san_francisco(full):
    scene = replace(full, optics=Optics(6, phase="reference", sensor=Sensor(0.3, 0.2)))
    exp = cut_scores(product("exp", scene), scene.truth, 6)[0]
    assert cut_scores(product("bt-h", scene), scene.truth, 6)[0] < exp


# what every method must do on any scene


@pytest.mark.parametrize("method", SHARPENING)
@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("phase", ["centre", "reference"])
def test_detail_is_recovered_at_every_ratio(method, ratio, phase):
    scene = textured((20, 17), ratio, phase=phase)
    exp, ours = product("exp", scene), product(method, scene)
    assert ergas(ours, scene.truth, ratio) < 0.8 * ergas(exp, scene.truth, ratio)
    if method != "brovey":
        assert sam(ours, scene.truth) < 1.05 * sam(exp, scene.truth)


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 6, 8])
def test_tiles_equal_the_whole(method, ratio):
    coarse = (217 // ratio + 1, 173 // ratio + 1)
    scene = textured(coarse, ratio)
    untiled = product(method, scene, tile=WHOLE)
    fused = sharpen(method, scene, tile=64)
    assert any(w.shape != (64, 64) for w in tiles(scene.fine_shape, 64))
    assert np.abs(whole(fused, scene, 64) - untiled).max() < 0.05


@pytest.mark.parametrize("method", CLASSICAL)
def test_a_band_is_the_band_of_all_bands(method):
    scene = with_dead_band(textured((16, 14), 3))
    fused, window = sharpen(method, scene), Window(5, 7, 31, 42)
    every = fused.window(window)
    assert every.dtype == np.float32
    assert every.shape == (scene.bands, 26, 35)
    for band in range(scene.bands):
        np.testing.assert_allclose(fused.band(band, window), every[band], rtol=1e-5)


def with_dead_band(scene: Scene, band: int = 2, value: float = -3.0) -> Scene:
    hs = scene.hs.copy()
    hs[band] = value
    return Scene.of("dead", hs, scene.pan, scene.optics, wavelengths=scene.wavelengths)


@pytest.mark.parametrize("method", CLASSICAL)
def test_dead_bands_pass_through_and_change_nothing(method):
    scene = textured((16, 14), 4)
    dead = with_dead_band(scene)
    rest = Scene.of("rest", np.delete(scene.hs, 2, axis=0), scene.pan, scene.optics)
    ours = product(method, dead)
    assert (ours[2] == -3.0).all()
    np.testing.assert_allclose(np.delete(ours, 2, axis=0), product(method, rest), rtol=1e-5)


@pytest.mark.parametrize("method", CLASSICAL)
def test_a_scene_of_dead_bands_passes_through(method):
    hs = np.full((3, 8, 8), 7.0)
    scene = Scene.of("dead", hs, np.arange(576.0).reshape(24, 24), Optics(3))
    assert (product(method, scene) == 7).all()


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("value", [65535.0, 0.3, 1e-4, -2.0])
@pytest.mark.parametrize("ratio", [2, 3, 6])
def test_a_constant_scene_stays_constant(method, value, ratio):
    shape = (12 * ratio, 10 * ratio)
    constant = np.full((4, 12, 10), value, dtype=np.float32)
    scene = replace(
        Scene.of("constant", constant, np.full(shape, value), Optics(ratio)), dead=np.zeros(4, dtype=bool)
    )
    ours = product(method, scene)
    np.testing.assert_allclose(ours, value, rtol=1e-5)
    if value == 65535:
        # 65536 would wrap to 0 in the type of the input
        assert (np.clip(np.round(ours), 0, 65535).astype(np.uint16) == 65535).all()


@pytest.mark.parametrize("method", SHARPENING)
def test_a_flat_pan_adds_nothing_and_flat_bands_take_nothing(method):
    scene = textured((14, 12), 3)
    blank = replace(scene, pan=np.full_like(scene.pan, 500))
    assert np.isfinite(product(method, blank)).all()
    if method != "brovey":
        np.testing.assert_allclose(product(method, blank), product("exp", scene), rtol=1e-5)


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("factor", [10.0, 1e-4])
def test_units_do_not_matter(method, factor):
    scene = textured((18, 15), 3)
    scaled = Scene.of("scaled", scene.hs * factor, scene.pan * factor, scene.optics)
    np.testing.assert_allclose(product(method, scaled) / factor, product(method, scene), rtol=1e-4)


@pytest.mark.parametrize("method", CLASSICAL)
@given(order=st.permutations(range(5)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_bands_does_not_matter(method, order):
    scene = textured((12, 11), 3)
    turned = Scene.of("turned", scene.hs[order], scene.pan, scene.optics)
    np.testing.assert_allclose(product(method, turned), product(method, scene)[order], rtol=1e-4)


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("bad", [np.nan, -32768.0])
def test_a_wedge_of_nodata_contaminates_nothing(method, bad):
    scene = textured((24, 21), 3)
    wedge = np.add.outer(np.arange(24), np.arange(21)) < 14
    lost = np.where(wedge, np.nan, scene.hs)
    pan = np.where(np.kron(wedge, np.ones((3, 3))) > 0, np.nan, scene.pan)
    wedged = Scene.of("wedge", lost, pan, scene.optics)
    ours, intact = product(method, wedged), product(method, scene)
    seen = wedged.footprint
    assert np.isfinite(ours).all()
    valid = scene.hs[:, ~wedge]
    span = np.ptp(valid)
    assert ours[:, seen].min() > valid.min() - 0.3 * span
    assert ours[:, seen].max() < valid.max() + 0.3 * span
    # filled values under the mask, whatever they are, do not enter the statistics
    poisoned = replace(wedged, pan=np.where(wedged.pan_valid, wedged.pan, np.nan_to_num(bad, nan=9e4)))
    counted = gather(poisoned, Expansion(poisoned), [lambda w: poisoned.pan[w.slices]])
    assert counted.count == seen.sum()
    assert counted.side_mean[0] == pytest.approx(scene.pan[seen].mean(), rel=1e-5)
    far = seen & (np.add.outer(np.arange(72), np.arange(63)) > 80)
    assert np.abs(ours - intact)[:, far].mean() < 0.02 * span


@pytest.mark.parametrize("method", SHARPENING)
def test_a_scene_without_valid_pixels_is_refused(method):
    scene = replace(textured((8, 8), 2), hs_valid=np.zeros((8, 8), dtype=bool))
    with pytest.raises(DataError, match="no pixel is valid") as error:
        sharpen(method, scene)
    assert "data.nodata" in (error.value.hint or "")


def test_an_edge_does_not_leak_to_the_opposite_edge():
    scene = textured((48, 12), 2)
    changed = replace(scene, hs=scene.hs.copy())
    changed.hs[:, :3] += 800
    far = Window(90, 0, 96, 24)
    before, after = (sharpen("exp", pair).window(far) for pair in (scene, changed))
    np.testing.assert_allclose(after, before, atol=800 * 0.01)
    circular = replace(scene, optics=Optics(2, "reference", boundary="circular"))
    leaking = replace(changed, optics=circular.optics)
    before, after = (sharpen("exp", pair).window(far) for pair in (circular, leaking))
    assert np.abs(after - before).max() > 800 * 0.03


def test_bands_with_different_gains_have_their_own_details():
    scene = textured((16, 16), 3)
    mixed = replace(scene, optics=Optics(3, sensor=Sensor((0.2, 0.2, 0.4, 0.4, 0.4))))
    ours = product("mtf-glp-fs", mixed)
    for gain, bands in ((0.2, slice(0, 2)), (0.4, slice(2, 5))):
        alone = product("mtf-glp-fs", replace(scene, optics=Optics(3, sensor=Sensor(gain))))
        np.testing.assert_allclose(ours[bands], alone[bands], rtol=1e-6)


def test_too_few_pixels_for_the_bands_are_noted():
    scene = textured((5, 5), 3, bands=20)
    assert "mtf-glp-fs" in sharpen("gsa", scene).notes[0]
    assert sharpen("gsa", textured((12, 12), 3)).notes == ()


# statistics


def test_moments_are_those_of_the_whole_image():
    scene = textured((30, 25), 3)
    scene.pan_valid[:9, :50] = False
    expansion = Expansion(scene)
    found = gather(scene, expansion, [lambda w: scene.pan[w.slices]], between_bands=True, tile=32)
    seen = scene.footprint
    bands = expansion.window(Window(0, 0, 90, 75))[:, seen].astype(np.float64)
    expected = np.cov(np.vstack([bands, scene.pan[seen]]), ddof=0)
    assert found.count == seen.sum()
    np.testing.assert_allclose(found.bands, expected[:-1, :-1], rtol=1e-5)
    np.testing.assert_allclose(found.cross[:, 0], expected[:-1, -1], rtol=1e-5)
    np.testing.assert_allclose(found.side[0, 0], expected[-1, -1], rtol=1e-6)
    np.testing.assert_allclose(found.mean, bands.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.least, bands.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.gram, bands @ bands.T / seen.sum(), rtol=1e-6)


def test_moments_keep_their_digits_far_from_zero():
    scene = textured((16, 16), 2)
    offset = replace(scene, pan=(scene.pan / 1000 + 60000).astype(np.float64))
    found = gather(offset, Expansion(offset), [lambda w: offset.pan[w.slices]], tile=8)
    assert found.side[0, 0] == pytest.approx(offset.pan.var(), rel=1e-9)


def test_coarse_moments_do_not_depend_on_the_budget():
    scene = textured((30, 25), 3)
    side = scene.hs[0].astype(np.float64) ** 2
    small, large = gather_coarse(scene, side, budget=1), gather_coarse(scene, side)
    np.testing.assert_allclose(small.bands, large.bands, rtol=1e-9)
    np.testing.assert_allclose(small.cross, large.cross, rtol=1e-9)


@pytest.mark.parametrize(
    ("bands", "tile", "side"), [(100, 512, 409), (10, 512, 512), (10**6, 512, 32), (1, 8, 8)]
)
def test_tiles_shrink_with_the_number_of_bands(bands, tile, side):
    assert tile_side(bands, tile, 256 * 2**20) == side


# low-passes of the panchromatic band


@pytest.mark.parametrize("edge", ["edge", "symmetric"])
def test_windows_of_a_filtered_image_equal_the_whole(edge):
    image = np.random.default_rng(0).normal(size=(40, 23))
    kernel = wavelet_kernel(6, "centre")
    all_of_it = filtered_window(image, kernel, Window(0, 0, 40, 23), edge)
    for window in tiles(image.shape, 9):
        part = filtered_window(image, kernel, window, edge)
        np.testing.assert_allclose(part, all_of_it[window.slices], atol=1e-12)


def test_strips_equal_the_whole(monkeypatch):
    image = np.random.default_rng(0).normal(size=(60, 24))
    kernel = wavelet_kernel(4, "reference")
    at_once = decimated(image, kernel, 4, "symmetric")
    monkeypatch.setattr("appliedpapers.plugins.pansharpening.panlowpass._STRIP_PIXELS", 200)
    np.testing.assert_allclose(decimated(image, kernel, 4, "symmetric"), at_once, atol=1e-12)


@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("phase", ["centre", "reference"])
def test_the_wavelet_low_pass_samples_a_ramp_where_coarse_pixels_lie(ratio, phase):
    ramp = np.add.outer(2.0 * np.arange(20 * ratio), np.arange(20 * ratio))
    offset = (ratio - 1) / 2 if phase == "centre" else ratio // 2
    places = ratio * np.arange(20) + offset
    ours = decimated(ramp, wavelet_kernel(ratio, phase), ratio, "symmetric")
    inner = np.s_[5:-5, 5:-5]  # mirrored edges bend a ramp
    np.testing.assert_allclose(ours[inner], np.add.outer(2 * places, places)[inner], atol=1e-9)
    assert wavelet_kernel(ratio, phase).sum() == pytest.approx(1)


def test_brovey_takes_bands_inside_the_panchromatic_response_only():
    scene = textured((16, 14), 3)
    inside = replace(scene, wavelengths=np.linspace(450, 850, 5))
    infrared = scene.hs[:1] * 0.2 + np.random.default_rng(0).normal(size=(1, 16, 14)) * 50
    hs = np.concatenate([scene.hs, infrared])
    more = Scene.of(
        "more", hs, scene.pan, scene.optics, wavelengths=np.array([*np.linspace(450, 850, 5), 1600])
    )
    np.testing.assert_allclose(product("brovey", more)[:5], product("brovey", inside), rtol=1e-5)


def test_brovey_without_wavelengths_leaves_out_bands_unlike_the_pan():
    scene = textured((16, 14), 3)
    unlike = 9000 - np.random.default_rng(0).uniform(size=(1, 16, 14)) * 8000
    more = Scene.of("more", np.concatenate([scene.hs, unlike]), scene.pan, scene.optics)
    np.testing.assert_allclose(product("brovey", more)[:5], product("brovey", scene), rtol=1e-5)


def test_optics_of_public_code_bring_its_formulas():
    scene = replace(textured((16, 14), 6, bands=30), optics=Optics(6, **REFERENCE))
    fused = sharpen("bt-h", scene)
    assert fused.notes == ()
    np.testing.assert_array_equal(whole(fused, scene), product("bt-h", scene, parity=True, tile=512))
    assert "condition number" in sharpen("bt-h", replace(scene, optics=Optics(6))).notes[0]


def test_progress_counts_the_tiles_of_the_pass():
    class Recorder:
        steps = 0

        def task(self, title, total=None):
            self.total = total
            return self

        def __enter__(self):
            return self

        def __exit__(self, *details):
            return None

        def advance(self, steps=1, *, note=None):
            self.steps += steps

    recorder = Recorder()
    sharpen("gsa", textured((16, 14), 3), tile=32, progress=recorder)
    assert recorder.steps == recorder.total == 4

"""The simulator: seeded, faults recorded and where they are said to be, detail that can be recovered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.classical import sharpen
from appliedpapers.plugins.pansharpening.degradation import degrade
from appliedpapers.plugins.pansharpening.fidelity import ergas, sam
from appliedpapers.plugins.pansharpening.shift import estimate_shift
from appliedpapers.plugins.pansharpening.simulator import NODATA, SceneOptions, simulate_scene
from appliedpapers.plugins.pansharpening.simulator_spectra import abundances, draw_materials, reflectance

CLEAN = SceneOptions.clean()
SMALL = {"size": 48, "bands": 8}


def same(first, second) -> bool:
    arrays = ("truth", "hs", "pan", "observed", "wavelengths", "dead")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    first, again = (simulate_scene(7, **SMALL) for _ in range(2))
    assert same(first, again)
    assert first.parameters == again.parameters
    assert not np.array_equal(first.truth, simulate_scene(8, **SMALL).truth)
    sums = [
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in made.write(tmp_path / str(number))]
        for number, made in enumerate((first, again))
    ]
    assert sums[0] == sums[1]


def test_every_drawn_number_is_kept_and_can_be_written_as_json():
    made = simulate_scene(3, SceneOptions(nonlinear=True, misregistered=True), **SMALL)
    kept = json.loads(json.dumps(made.parameters))
    assert 0.25 <= kept["hs_gain"] == made.gain <= 0.35
    assert tuple(kept["shift"]) == made.shift
    assert all(0 < abs(pixels) <= 0.5 for pixels in made.shift)
    assert 0.95 <= kept["gamma"] <= 1.05
    assert 80 <= kept["pan_snr"] <= 200
    assert 60 <= kept["parcels"] <= 150
    assert len(kept["spectra"]) == 6
    assert len(kept["hs_snr"]) == 8
    assert [material["red_edge"] > 0 for material in kept["spectra"]] == [True] + 5 * [False]


@given(seed=st.integers(0, 2**32), ratio=st.integers(2, 8), phase=st.sampled_from(["reference", "centre"]))
@settings(max_examples=15, deadline=None)
def test_without_faults_the_cube_is_the_truth_seen_through_the_recorded_mtf(seed, ratio, phase):
    made = simulate_scene(seed, CLEAN, size=8 * ratio, ratio=ratio, bands=6, phase=phase)
    assert made.hs.shape == (6, 8, 8)
    assert made.pan.shape == made.truth.shape[1:] == (8 * ratio, 8 * ratio)
    assert not made.dead.any()
    assert made.observed.all()
    seen = degrade(made.truth.astype(float), ratio, made.gain, phase)
    # the truth was rounded, too
    assert np.abs(seen - made.hs).max() < 1.1


def test_the_panchromatic_band_is_the_recorded_response_to_the_truth():
    made = simulate_scene(5, CLEAN, size=48, bands=48)
    centre, width = made.parameters["pan_response_nm"]
    response = np.exp(-0.5 * ((made.wavelengths - centre) / width) ** 2)
    pan = np.tensordot(response / response.sum(), made.truth.astype(float), axes=1)
    assert np.abs(pan - made.pan).max() < 1.1


@pytest.mark.parametrize("fault", ["nonlinear", "misregistered", "dead_bands", "nodata", "noise"])
def test_a_fault_that_is_switched_on_leaves_the_rest_as_it_was(fault):
    made = simulate_scene(11, replace(CLEAN, **{fault: True}), size=48, bands=40)
    clean = simulate_scene(11, CLEAN, size=48, bands=40)
    water = made.parameters["water_bands"]
    kept = np.setdiff1d(np.arange(40), water)
    assert np.array_equal(made.truth[kept], clean.truth[kept])
    pan_changes = fault in ("nonlinear", "misregistered", "noise")
    assert np.array_equal(made.pan, clean.pan) is not pan_changes
    living = made.hs[~made.dead][:, made.observed]
    assert np.array_equal(living, clean.hs[~made.dead][:, made.observed]) is (fault != "noise")


def test_water_vapour_leaves_two_percent_of_the_signal_in_truth_and_cube():
    made = simulate_scene(2, SceneOptions(dead_bands=False, nodata=False), size=48)
    clean = simulate_scene(2, CLEAN, size=48)
    inside = ((made.wavelengths >= 1350) & (made.wavelengths <= 1420)) | (
        (made.wavelengths >= 1810) & (made.wavelengths <= 1950)
    )
    assert np.flatnonzero(inside).tolist() == made.parameters["water_bands"]
    assert inside.sum() == 5
    for cube, whole in ((made.truth, clean.truth), (made.hs, clean.hs)):
        share = cube[inside].mean(axis=(1, 2)) / whole[inside].mean(axis=(1, 2))
        assert share == pytest.approx(0.02, rel=0.03)


def test_noise_has_the_recorded_strength():
    options = SceneOptions(dead_bands=False, nodata=False)
    made, clean = (simulate_scene(4, one, size=192, bands=12) for one in (options, CLEAN))
    dry = np.setdiff1d(np.arange(12), made.parameters["water_bands"])
    seen, true = made.hs[dry].astype(float), clean.hs[dry].astype(float)
    stripes = (seen * true).sum(axis=1, keepdims=True) / (true**2).sum(axis=1, keepdims=True)
    assert stripes.std() == pytest.approx(0.005, rel=0.2)
    noise = (seen - stripes * true).std(axis=(1, 2))
    expected = clean.hs[dry].mean(axis=(1, 2)) / np.array(made.parameters["hs_snr"])[dry]
    assert noise == pytest.approx(np.sqrt(expected**2 + 1 / 12), rel=0.1)
    pan_noise = (made.pan.astype(float) - clean.pan).std()
    assert pan_noise == pytest.approx(clean.pan.mean() / made.parameters["pan_snr"], rel=0.05)


def test_dead_bands_are_constant_zero_and_are_found_exactly():
    found = 0
    for seed in range(8):
        made = simulate_scene(seed, size=48, bands=40)
        assert made.parameters["dead_bands"] == np.flatnonzero(made.dead).tolist()
        assert not made.hs[made.dead][:, made.observed].any()
        assert np.array_equal(made.to_scene().dead, made.dead)
        found += int(made.dead.sum())
    assert 2 <= found <= 20  # 9.6 are expected


def test_the_wedge_is_one_corner_of_the_recorded_share():
    for seed in range(8):
        made = simulate_scene(seed, size=192, bands=4)
        wedge = made.parameters["wedge"]
        assert (~made.observed).mean() == pytest.approx(wedge["share"], abs=0.01)
        corners = made.observed[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.sum() == 3 or wedge["share"] < 0.001
        assert (made.hs[:, ~made.observed] == NODATA).all()
        assert made.hs[:, made.observed].max() < NODATA
        assert np.array_equal(made.to_scene().hs_valid, made.observed)


def test_a_scene_takes_the_generic_sensor_and_holds_the_truth():
    made = simulate_scene(1, SceneOptions(misregistered=True), size=48, bands=6, ratio=4, phase="reference")
    scene = made.to_scene()
    assert (scene.optics.ratio, scene.optics.phase) == (4, "reference")
    assert scene.optics.sensor.hs_gain == 0.30 != made.gain
    assert np.array_equal(scene.truth, made.truth)
    assert np.array_equal(scene.wavelengths, made.wavelengths)


def test_a_range_of_bands_keeps_the_panchromatic_band_of_the_whole_spectrum():
    whole = simulate_scene(6, CLEAN, size=48)
    part = simulate_scene(6, CLEAN, size=48, bands=5, band_range=(440, 520))
    assert part.wavelengths.tolist() == [440, 460, 480, 500, 520]
    assert np.array_equal(part.pan, whole.pan)
    given_bands = simulate_scene(6, CLEAN, size=48, wavelengths=np.array([440.0, 520.0]))
    assert np.array_equal(given_bands.truth, part.truth[[0, -1]])


def test_the_size_must_be_a_multiple_of_the_ratio_and_materials_are_four_to_eight():
    with pytest.raises(ValueError, match="multiple of the ratio 5"):
        simulate_scene(0, size=48, ratio=5)
    with pytest.raises(ValueError, match="4 to 8 materials"):
        simulate_scene(0, SceneOptions(materials=9), size=48)


def test_spectra_stay_reflectances_and_shares_sum_to_one():
    rng = np.random.default_rng(0)
    spectra = reflectance(draw_materials(rng, 8), np.linspace(400, 2500, 300))
    assert spectra.shape == (8, 300)
    assert 0.01 <= spectra.min() < spectra.max() <= 0.95
    shares = abundances(rng.standard_normal((4, 5, 6)), rng.integers(0, 4, (5, 6)))
    assert shares.sum(axis=0) == pytest.approx(np.ones((5, 6)))
    assert shares.min() > 0


def test_files_carry_place_wavelengths_and_nodata(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    made = simulate_scene(9, size=48, bands=6, ratio=4)
    hs_path, pan_path = made.write(tmp_path)
    with rasterio.open(hs_path) as hs, rasterio.open(pan_path) as pan:
        assert np.array_equal(hs.read(), made.hs)
        assert np.array_equal(pan.read(1), made.pan)
        assert hs.crs == pan.crs == rasterio.CRS.from_epsg(32633)
        assert (pan.transform.a, hs.transform.a) == (10, 40)
        assert hs.bounds == pan.bounds
        assert hs.nodata == pan.nodata == NODATA
        tags = hs.tags(2)
        assert float(tags["wavelength"]) == pytest.approx(made.wavelengths[1], abs=1e-3)
        assert tags["wavelength_units"] == "nm"
        assert float(tags["fwhm"]) == pytest.approx(made.fwhm[1], abs=1e-3)


def test_without_faults_glp_beats_interpolation_on_nearly_every_test_scene():
    rows = []
    for seed in range(16):
        scene = simulate_scene(seed, CLEAN, size=144, bands=24).to_scene()
        whole = Window(0, 0, *scene.fine_shape)
        products = [sharpen(name, scene).window(whole) for name in ("exp", "mtf-glp-fs")]
        rows.append([[ergas(scene.truth, fused, 3), sam(scene.truth, fused)] for fused in products])
    exp, glp = np.moveaxis(np.array(rows), 1, 0)
    assert (glp < exp).all(axis=1).sum() >= 15
    # detail is recoverable, and not trivial
    assert exp[:, 0].mean() == pytest.approx(4.8, abs=0.4)
    assert glp[:, 0].mean() == pytest.approx(3.6, abs=0.4)
    assert (exp - glp)[:, 1].mean() > 0.2


def test_an_injected_shift_is_recovered():
    for seed in range(4):
        made = simulate_scene(seed, replace(CLEAN, misregistered=True), size=192, bands=24)
        estimate = estimate_shift(made.to_scene())
        assert (estimate.row, estimate.column) == pytest.approx(made.shift, abs=0.1)

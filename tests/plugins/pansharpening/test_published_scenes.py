"""Published scenes: both forms of their files give the same cubes, and Wald's protocol is the benchmark's."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from appliedpapers.core.config import resolve
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.data import DATASETS
from appliedpapers.plugins.pansharpening.published_data import (
    PUBLISHED,
    entry_of,
    read_enmap,
    read_pan_response,
    read_paris,
    read_san_francisco,
)
from appliedpapers.plugins.pansharpening.published_scenes import san_francisco, wald_scene
from appliedpapers.plugins.pansharpening.scene import Optics

rasterio = pytest.importorskip("rasterio")
scipy_io = pytest.importorskip("scipy.io")


def configured(*assignments: str) -> PansharpeningConfig:
    return resolve(PansharpeningConfig, preset="quick", assignments=assignments)


@pytest.fixture
def home(shared, monkeypatch):
    monkeypatch.setenv("APPS_DATA_HOME", str(shared / "data"))
    return shared / "data" / "pansharpening"


def opened(name: str, *assignments: str):
    return load_dataset(DATASETS, "pansharpening", configured(*assignments), dataset=name)


def test_addresses_are_pinned_to_a_commit_and_sizes_and_sums_are_known():
    for file in (file for entry in PUBLISHED for file in entry.files):
        assert len(file.url.split("/")[5]) == 40
        assert len(file.sha256) == 64
        assert file.size
    assert len(entry_of("enmap-potsdam").files) == 8


@pytest.mark.shared
def test_san_francisco_is_the_standard_crop_of_the_benchmark(home, shared):
    dataset = opened("san-francisco")
    assert dataset.protocol == "wald"
    assert leakage_audit(dataset) == []
    assert [part.num_rows for part in (dataset.train, dataset.valid, dataset.test)] == [0, 1, 1]
    scene = next(dataset.test.scenes())
    assert (scene.optics.ratio, scene.optics.phase) == (6, "reference")
    with np.load(shared / "golden" / "pansharpening.npz") as golden:
        bands = [int(np.abs(scene.wavelengths - centre).argmin()) for centre in golden["wavelengths_nm"]]
        assert np.array_equal(scene.truth[bands], golden["gt"])
        coarse, pan = golden["hs_lr"].astype(float), golden["pan"].astype(float)
    # the golden cube was filtered in single precision, and its panchromatic weights were rounded
    assert (scene.hs[bands] != coarse).sum() <= 2
    assert np.abs(scene.hs[bands] - coarse).max() <= 1
    assert np.abs(scene.pan - pan).max() <= 1
    assert (scene.pan != pan).mean() < 0.01


@pytest.mark.shared
def test_parts_of_san_francisco_do_not_touch(home):
    learn, test = (san_francisco(home, configured(), part).open() for part in ("learn", "test"))
    cube = read_san_francisco(home)
    assert cube.values.shape == (47, 298, 136)
    assert np.array_equal(test.truth, cube.values[:, 144:276, :132])
    assert np.array_equal(learn.truth, cube.values[:, :132, :132])
    first_bands = san_francisco(home, configured(), "learn", most_nm=520).open()
    assert first_bands.bands == 7
    assert np.array_equal(first_bands.pan, learn.pan)


@pytest.mark.shared
def test_another_ratio_or_phase_is_another_benchmark(home):
    usual = opened("san-francisco")
    other = opened("san-francisco", "data.ratio=4", "data.phase=centre")
    scene = next(other.test.scenes())
    assert scene.hs.shape == (47, 33, 33)
    assert other.protocol == "wald, phase centre"
    assert other.test_fingerprint() != usual.test_fingerprint()
    with pytest.raises(ConfigError, match="has no ratio 5") as caught:
        opened("san-francisco", "data.ratio=5")
    assert "2, 3, 4, 6" in caught.value.hint


@pytest.mark.shared
def test_options_of_methods_do_not_change_what_is_judged(home):
    usual = next(opened("san-francisco").test.scenes())
    other = next(opened("san-francisco", "adaptation.normalize_kernel=false").test.scenes())
    assert np.array_equal(usual.hs, other.hs)
    assert (usual.optics.normalize_kernel, other.optics.normalize_kernel) == (True, False)


@pytest.mark.shared
def test_both_forms_of_paris_hold_the_same_pair(home, tmp_path):
    cube, pan = read_paris(home)
    assert cube.files[0].suffix == ".mat"
    for name in ("paris_hyperion_72x58x128.tif", "paris_ali_pan_216x174.tif"):
        shutil.copy(home / name, tmp_path / name)
    prepared, prepared_pan = read_paris(tmp_path)
    assert np.array_equal(cube.values, prepared.values)
    assert np.array_equal(pan, prepared_pan)
    assert cube.wavelengths == pytest.approx(prepared.wavelengths, abs=1e-3)
    (tmp_path / "paris_ali_pan_216x174.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match="not the file that belongs"):
        read_paris(tmp_path)


@pytest.mark.shared
def test_paris_is_the_real_pair_without_truth(home):
    dataset = opened("paris")
    assert dataset.protocol == "real-pair+wald"
    assert (dataset.train.num_rows, dataset.valid.num_rows, dataset.test.num_rows) == (0, 0, 1)
    scene = next(dataset.test.scenes())
    assert scene.truth is None
    assert (scene.hs.shape, scene.pan.shape, scene.optics.ratio) == ((128, 72, 58), (216, 174), 3)
    assert scene.unit == 1e-4
    assert scene.hs.max() == pytest.approx(1.26, abs=0.01)
    with pytest.raises(ConfigError, match="has no ratio 6"):
        opened("paris", "data.ratio=6")


@pytest.mark.shared
@pytest.mark.parametrize("ratio", [2, 3])
def test_enmap_keeps_its_place_its_missing_pixels_and_its_tags(home, ratio):
    dataset = opened("enmap-potsdam", f"data.ratio={ratio}")
    cube = read_enmap(home)
    scene = next(dataset.test.scenes())
    height, width = 96, 160 - 160 % ratio
    assert scene.truth.shape == (218, height, width)
    assert scene.hs.shape == (218, height // ratio, width // ratio)
    seen = cube.values[0, :height, :width] != -32768
    whole = seen.reshape(height // ratio, ratio, width // ratio, ratio).all(axis=(1, 3))
    assert np.array_equal(scene.hs_valid, whole)
    assert np.array_equal(scene.pan_valid, seen)
    assert np.array_equal(scene.truth[:, seen], cube.values[:, :height, :width][:, seen])
    assert scene.hs.min() >= cube.values[cube.values != -32768].min()
    row = dataset.test.example(1).to_pylist()[0]
    with rasterio.open(row["hs_path"]) as hs, rasterio.open(row["pan_path"]) as pan:
        assert hs.crs == pan.crs == rasterio.CRS.from_epsg(32633)
        assert pan.transform == rasterio.Affine(30, 0, 364095, 0, -30, 5809965)
        assert hs.transform.a == 30 * ratio
        assert hs.nodata == pan.nodata == -32768
        assert np.array_equal(hs.read(1) != -32768, whole)
        assert float(hs.tags(1)["wavelength"]) == pytest.approx(418.24)
        assert float(hs.tags(1)["fwhm"]) == pytest.approx(6.996)


@pytest.mark.shared
def test_an_edited_response_beside_a_prepared_cube_is_refused(home, tmp_path, monkeypatch):
    folder = tmp_path / "pansharpening"
    folder.mkdir()
    shutil.copy(home / "sf_hyperion_vnir_298x136x47.tif", folder)
    monkeypatch.setenv("APPS_DATA_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"ALI_Spectral_Responses\.mat: absent"):
        next(opened("san-francisco").test.scenes())


def save_matlab(path, **arrays):
    scipy_io.savemat(path, arrays)


def test_upstreams_file_of_san_francisco_becomes_counts_without_negative_ones(tmp_path):
    stored = np.random.default_rng(0).integers(-50, 6000, (298, 136, 47)).astype(np.int16)
    save_matlab(tmp_path / "SanFrancisco_FR.mat", I_HS_LR=stored)
    cube = read_san_francisco(tmp_path)
    assert cube.values.dtype == np.uint16
    assert np.array_equal(cube.values, np.maximum(stored, 0).transpose(2, 0, 1))
    assert cube.wavelengths[[0, -1]] == pytest.approx([457.342, 925.4012])
    save_matlab(tmp_path / "SanFrancisco_FR.mat", I_HS_LR=stored[:9])
    with pytest.raises(DataError, match="has shape"):
        read_san_francisco(tmp_path)
    (tmp_path / "SanFrancisco_FR.mat").write_bytes(b"no such thing")
    with pytest.raises(DataError, match="cannot be read"):
        read_san_francisco(tmp_path)


@pytest.mark.shared
def test_the_panchromatic_response_lies_in_the_visible_and_sums_to_one(home):
    wavelengths = np.arange(400.0, 1000.0, 10)
    response = read_pan_response(home, wavelengths)
    assert response.sum() == pytest.approx(1)
    half = wavelengths[response >= response.max() / 2]
    assert (half[0], half[-1]) == pytest.approx((501, 676), abs=20)


@pytest.mark.parametrize("style", ["band tags", "ENVI lists", "no list of bad bands"])
def test_tiles_of_enmap_are_placed_by_their_transforms(tmp_path, style):
    """Eight made-up tiles of 224 bands, of which the six in a gap of water vapour are bad."""
    rng = np.random.default_rng(1)
    micrometres = np.concatenate(
        [np.linspace(0.42, 1.32, 130), np.linspace(1.34, 1.44, 6), np.linspace(1.46, 2.4, 88)]
    )
    good = (micrometres < 1.33) | (micrometres > 1.45)
    corners = [(0, 0), (0, 32), (0, 64), (32, 0), (32, 32), (32, 64), (64, 96), (64, 128)]
    expected = np.full((218, 96, 160), -32768, dtype=np.int16)
    for file, (row, column) in zip(entry_of("enmap-potsdam").files, corners, strict=True):
        values = rng.integers(-20, 9000, (224, 32, 32)).astype(np.float32)
        values[:, 0, 0] = -32768
        expected[:, row : row + 32, column : column + 32] = values[good]
        transform = rasterio.Affine(30, 0, 364095 + 30 * column, 0, -30, 5809965 - 30 * row)
        shape = {"count": 224, "height": 32, "width": 32, "dtype": "float32", "nodata": -32768}
        with rasterio.open(
            tmp_path / file.path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **shape
        ) as target:
            target.write(values)
            if style == "ENVI lists":
                target.update_tags(ns="ENVI", wavelength="{" + ", ".join(map(str, micrometres)) + "}")
                target.update_tags(ns="ENVI", bbl="{" + ", ".join(str(int(one)) for one in good) + "}")
            else:
                for band, (centre, kept) in enumerate(zip(micrometres, good, strict=True), start=1):
                    listed = {"bbl": str(int(kept))} if style == "band tags" else {}
                    target.update_tags(band, wavelength=f"{1000 * centre}", **listed)
    cube = read_enmap(tmp_path)
    assert np.array_equal(cube.values, expected)
    assert cube.wavelengths == pytest.approx(1000 * micrometres[good])
    assert (cube.place.left, cube.place.top, cube.place.crs) == (364095, 5809965, "EPSG:32633")


def test_a_coarse_pixel_is_as_good_as_the_worst_fine_pixel_below_it():
    fine = np.random.default_rng(2).uniform(100, 200, (3, 24, 24))
    fine[:, 4, 4] = np.nan
    scene = wald_scene("a", fine, fine.mean(axis=0), Optics(2), np.array([450.0, 550.0, 650.0]))
    assert (~scene.hs_valid).sum() == 1
    assert not scene.hs_valid[2, 2]
    assert np.isfinite(scene.hs).all()
    assert np.array_equal(scene.hs, np.rint(scene.hs))


@pytest.mark.shared
def test_what_was_downloaded_is_also_written_as_a_pair_that_the_product_reads(home, tmp_path):
    for file in entry_of("paris").files:
        shutil.copy(home / file.path, tmp_path)
    DATASETS.prepare(entry_of("paris"), tmp_path)
    scene = next(DATASETS.from_user(tmp_path / "paris", configured()).test.scenes())
    cube, pan = read_paris(tmp_path)
    assert scene.scene_id == "paris"
    assert np.array_equal(scene.hs, cube.values)
    assert np.array_equal(scene.pan, pan)
    assert scene.wavelengths == pytest.approx(cube.wavelengths, abs=1e-3)

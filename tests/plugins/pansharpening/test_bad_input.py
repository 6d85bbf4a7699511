"""Bad pairs through the command line: the documented exit code, one line and a remedy, no output file."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from outcome import Outcome
from raster_files import write_tif
from tiny_pairs import MISSING, bundled, configured, raw, write_manifest, write_scene

from appliedpapers.cli import main
from appliedpapers.core.errors import DataError
from appliedpapers.pipelines.predict import predict_file
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig


@pytest.fixture(scope="session")
def sharpeners(tmp_path_factory) -> dict[str, Path]:
    """A bundle of each kind of method."""
    folder = tmp_path_factory.mktemp("sharpeners")
    return {method: bundled(folder / method, configured(method)) for method in ("gsa", "rho-pnn", "r-pnn")}


@pytest.fixture
def apps(capsys, tmp_path, monkeypatch):
    """Run a command in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def _apps(*words: object) -> Outcome:
        capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                main([str(word) for word in words])
        finally:
            signal.signal(signal.SIGTERM, before)
        return Outcome(ended.value.code, *capsys.readouterr())

    return _apps


@pytest.fixture
def refused(apps, sharpeners, tmp_path):
    """Predict, and check that it is refused in one line with these words, with nothing written."""

    def _refused(source: Path, *words: str, method: str = "gsa", code: int = 4) -> str:
        done = apps("predict", sharpeners[method], "-i", source, "--files", "out", "-o", "rows.csv")
        check(done, code, *words)
        assert not (tmp_path / "rows.csv").exists()
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        return done.err

    return _refused


def check(done: Outcome, code: int, *words: str) -> None:
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    # sentences end once; what happened, and what to do
    assert ".." not in done.err.replace("../", "")
    assert len(done.err.splitlines()) <= 2, done.err
    for word in words:
        assert word in done.err, done.err


def manifest(folder: Path, hs: str = "scene_hs.tif", pan: str = "scene_pan.tif") -> Path:
    return write_manifest(folder, ("field", hs, pan))


@pytest.fixture
def pair(tmp_path) -> Path:
    """A good pair and its manifest, which each test spoils."""
    write_scene(tmp_path, raw())
    return manifest(tmp_path)


def test_the_pair_that_the_others_spoil_is_sharpened(apps, sharpeners, pair, tmp_path):
    done = apps("predict", sharpeners["gsa"], "-i", pair, "--files", "out", "-o", "rows.csv")
    assert done.code == 0, done.err
    with rasterio.open(tmp_path / "out" / "field.tif") as product:
        assert (product.count, product.shape, product.dtypes[0]) == (4, (48, 48), "uint16")
        assert product.crs.to_epsg() == 32633
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["field.tif"]


# -- the pair


def test_a_panchromatic_raster_of_three_bands(refused, pair, tmp_path):
    write_tif(tmp_path / "scene_pan.tif", np.stack([raw().pan] * 3), pixel=15)
    refused(pair, "scene_pan.tif", "3 bands, expected 1", "gdal_translate -b 1")


def test_swapped_rasters(refused, pair, tmp_path):
    refused(manifest(tmp_path, "scene_pan.tif", "scene_hs.tif"), "look swapped", "scene_hs.tif")


def test_a_ratio_that_is_not_whole(refused, pair, tmp_path):
    write_tif(tmp_path / "scene_pan.tif", raw(size=60).pan[None], pixel=12)
    refused(pair, "a ratio of 2.5", "expected a whole number from 2 to 8", "gdalwarp -r cubic -tr 15 15")


def test_another_coordinate_system(refused, pair, tmp_path):
    write_tif(tmp_path / "scene_pan.tif", raw().pan[None], pixel=15, crs="EPSG:32634")
    refused(pair, "EPSG:32633", "EPSG:32634", "gdalwarp -t_srs EPSG:32633")


def test_extents_without_common_ground(refused, pair, tmp_path):
    write_tif(tmp_path / "scene_pan.tif", raw().pan[None], pixel=15, origin=(900_000.0, 5_800_000.0))
    refused(pair, "do not overlap", "500000", "900000", "gdalwarp -te")


def test_extents_that_differ_by_more_than_a_coarse_pixel(refused, pair, tmp_path):
    write_tif(tmp_path / "scene_pan.tif", raw().pan[None], pixel=15, origin=(500_090.0, 5_800_000.0))
    refused(pair, "differ by more than one hyperspectral pixel")


@pytest.mark.parametrize("method", ["rho-pnn", "r-pnn"])
def test_a_scene_too_small_for_a_network_names_a_method_that_needs_none(refused, tmp_path, method):
    write_scene(tmp_path, raw(size=30))
    refused(manifest(tmp_path), "15 x 15 coarse pixels", "16 x 16", "method=gsa", method=method)


def test_a_scene_too_small_for_a_network_is_sharpened_by_gsa(apps, sharpeners, tmp_path):
    write_scene(tmp_path, raw(size=30))
    done = apps("predict", sharpeners["gsa"], "-i", manifest(tmp_path), "--files", "out", "-o", "rows.csv")
    assert done.code == 0, done.err


# -- wavelengths


def test_missing_wavelengths_stop_networks_only(refused, apps, sharpeners, tmp_path):
    write_scene(tmp_path, raw(), wavelengths=None)
    refused(manifest(tmp_path), "no wavelengths", "--assume-ordered", method="rho-pnn")
    done = apps("predict", sharpeners["gsa"], "-i", "manifest.csv", "--files", "out", "-o", "rows.csv")
    assert done.code == 0, done.err


@pytest.mark.parametrize("how", ["--assume-ordered", "--wavelengths=centres.csv"])
def test_wavelengths_that_the_file_lacks_can_be_given(apps, sharpeners, tmp_path, how):
    write_scene(tmp_path, raw(), wavelengths=None)
    (tmp_path / "centres.csv").write_text("wavelength_nm\n450\n550\n650\n750\n")
    words = ("-i", manifest(tmp_path), "--files", "out", "-o", "rows.csv", how)
    done = apps("predict", sharpeners["rho-pnn"], *words)
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "field.tif").is_file()


@pytest.mark.parametrize("method", ["gsa", "rho-pnn"])
@pytest.mark.parametrize("value", [0.0, -550.0])
def test_a_wavelength_that_is_not_positive_names_the_band(refused, tmp_path, value, method):
    write_scene(tmp_path, raw(), wavelengths=[450.0, 550.0, value, 750.0])
    refused(manifest(tmp_path), "scene_hs.tif", "band 3", method=method)


def test_unsorted_wavelengths_are_sharpened_in_the_order_of_the_file(sharpeners, tmp_path):
    scene, order = raw(), [2, 0, 3, 1]
    write_scene(tmp_path, scene)
    write_scene(tmp_path, scene, name="mixed", values=scene.hs[order], wavelengths=scene.wavelengths[order])
    cubes = []
    for name in ("scene", "mixed"):
        rows = manifest(tmp_path, f"{name}_hs.tif", f"{name}_pan.tif")
        predict_file(str(sharpeners["rho-pnn"]), rows, files=tmp_path / name)
        with rasterio.open(tmp_path / name / "field.tif") as product:
            cubes.append((product.read(), [product.tags(band + 1)["wavelength"] for band in range(4)]))
    assert np.array_equal(cubes[0][0][order], cubes[1][0])
    assert [cubes[0][1][band] for band in order] == cubes[1][1]


# -- pixels


def test_a_cube_that_is_all_nodata(refused, pair, tmp_path):
    empty = raw()
    empty.hs[:] = MISSING
    write_scene(tmp_path, empty)
    for method in ("gsa", "rho-pnn"):
        refused(pair, "scene_hs.tif", "no hyperspectral pixel is valid", "gdalinfo", method=method)


def test_a_panchromatic_band_that_is_all_nodata(refused, pair, tmp_path):
    write_tif(tmp_path / "scene_pan.tif", np.full((1, 48, 48), MISSING, np.uint16), pixel=15, nodata=MISSING)
    refused(pair, "scene_pan.tif", "no valid pixel")


@pytest.mark.parametrize("method", ["gsa", "rho-pnn", "r-pnn"])
def test_a_value_that_is_no_number_is_missing_and_spreads_nowhere(sharpeners, tmp_path, method):
    scene = raw()
    values = scene.hs.astype(np.float32)
    values[2, 5:8, 9] = np.nan
    values[1, 20, 20] = np.inf
    write_scene(tmp_path, scene, values=values, nodata=None)
    predict_file(str(sharpeners[method]), manifest(tmp_path), files=tmp_path / "out")
    with rasterio.open(tmp_path / "out" / "field.tif") as product:
        cube = product.read(masked=True)
    missing = np.ma.getmaskarray(cube) | ~np.isfinite(cube.data)
    expected = np.zeros((4, 48, 48), dtype=bool)
    expected[2, 10:16, 18:20] = True
    expected[1, 40:42, 40:42] = True
    assert np.array_equal(missing, expected)
    low, high = np.nanmin(values[np.isfinite(values)]), np.nanmax(values[np.isfinite(values)])
    valid = cube.data[~missing]
    assert low - 0.3 * (high - low) < valid.min()
    assert valid.max() < high + 0.3 * (high - low)


# -- files


@pytest.mark.parametrize("method", ["gsa", "rho-pnn"])
@pytest.mark.parametrize("name", ["scene_hs.tif", "scene_pan.tif"])
def test_a_truncated_file(refused, pair, tmp_path, name, method):
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    refused(pair, name, method=method)


@pytest.mark.parametrize("content", [b"", b"no raster", b"II*\0garbage"])
@pytest.mark.parametrize("name", ["scene_hs.tif", "scene_pan.tif"])
def test_a_file_that_is_no_raster(refused, pair, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(pair, name)


def test_a_file_that_is_not_there(refused, pair, tmp_path):
    (tmp_path / "scene_pan.tif").unlink()
    refused(pair, "row 1", "pan_path", "scene_pan.tif")


# -- the manifest


@pytest.mark.parametrize(
    "name", ["../field.tif", "a/../../field.tif", "/field.tif", "field.png", "field", ".unfinished/field.tif"]
)
def test_an_output_path_outside_the_folder_or_of_another_kind(apps, sharpeners, pair, tmp_path, name):
    pair.write_text(f"scene_id,hs_path,pan_path,output_path\nfield,scene_hs.tif,scene_pan.tif,{name}\n")
    done = apps("predict", sharpeners["gsa"], "-i", pair, "--files", "out", "-o", "rows.csv")
    check(done, 4, name, "below the output folder")
    assert not (tmp_path / "rows.csv").exists()
    assert not (tmp_path / "field.tif").exists()
    assert not list(tmp_path.rglob("field.png"))


def test_an_output_path_is_taken_below_the_folder(apps, sharpeners, pair, tmp_path):
    pair.write_text("scene_id,hs_path,pan_path,output_path\nf,scene_hs.tif,scene_pan.tif,north/f-1.tif\n")
    done = apps("predict", sharpeners["gsa"], "-i", pair, "--files", "out", "-o", "rows.csv")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "north" / "f-1.tif").is_file()


def test_a_scene_named_twice(refused, pair):
    pair.write_text(pair.read_text() + "field,scene_hs.tif,scene_pan.tif\n")
    refused(pair, "row 2", "scene_id", "'field' is also in row 1")


def test_two_scenes_that_would_be_one_file(refused, pair):
    pair.write_text(
        "scene_id,hs_path,pan_path\nnorth/1,scene_hs.tif,scene_pan.tif\nnorth 1,scene_hs.tif,scene_pan.tif\n"
    )
    refused(pair, "north_1.tif is already written by an earlier row")


def test_no_folder_for_products(apps, sharpeners, pair, tmp_path):
    done = apps("predict", sharpeners["gsa"], "-i", pair, "-o", "rows.csv")
    check(done, 4, "--files")
    assert not (tmp_path / "rows.csv").exists()


# -- options


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("metod=gsa", ("metod", "method")),
        ("adaptation.lerning=1", ("adaptation.lerning",)),
        ("method=gsb", ("method", "gsa")),
        ("data.ratio=9", ("data.ratio", "8")),
        ("sensor.hs_gain=1.5", ("sensor.hs_gain", "between 0 and 1")),
        ("adaptation.lr=-1", ("adaptation.lr",)),
    ],
)
def test_an_option_that_is_mistyped_or_out_of_range_is_exit_2(apps, tmp_path, assignment, words):
    done = apps("run", "pansharpening", "--preset", "quick", "--no-register", "--set", assignment)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert list(tmp_path.iterdir()) == []


def test_memory_that_is_no_size_is_refused_with_the_configuration():
    from appliedpapers.core.errors import ConfigError

    with pytest.raises(ConfigError, match="'memory': 'much' is no size"):
        configured("gsa", memory="much")


def test_gains_of_another_number_of_bands(tmp_path):
    from appliedpapers.core.errors import ConfigError

    write_scene(tmp_path, raw())
    model = bundled(tmp_path / "model", configured("gsa", sensor={"hs_gain": (0.3, 0.3)}))
    with pytest.raises(ConfigError, match="2 gains for 4 bands"):
        predict_file(str(model), manifest(tmp_path), files=tmp_path / "out")


def test_the_python_interface_refuses_a_small_scene_too():
    from tiny_pairs import sharpened, simulated

    with pytest.raises(DataError, match="16 x 16") as caught:
        sharpened(simulated(size=30), configured())
    assert "gsa" in caught.value.hint
    assert PansharpeningConfig().method == "rho-pnn"

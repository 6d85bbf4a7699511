import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raster_files import ramp, write_pair, write_tif

from appliedpapers.core.errors import ConfigError, DataError, RunError
from appliedpapers.core.rasters.cube import open_cube
from appliedpapers.core.rasters.writing import Block, ProductProfile, write_product
from appliedpapers.plugins.pansharpening import ingest, planes
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.ingest import parse_memory, read_scene
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, fill_nearest
from appliedpapers.plugins.pansharpening.sensors import SENSORS, optics_of

PLENTY = 10**9


def config_of(**sections):
    return PansharpeningConfig.model_validate(sections)


def read(hs, pan, *, scratch=None, memory=PLENTY, **sections):
    return read_scene(hs, pan, config_of(**sections), scene_id="s", scratch=scratch, memory_bytes=memory)


def holed_pair(folder, dtype="float32", ratio=3, **more):
    """A pair with gaps that differ between bands, a constant band and an empty one."""
    values = ramp(6, 20, 20, dtype)
    values[:, :3, :2] = values[1, 10, 4] = values[4] = -9
    values[2] = 5
    hs = write_tif(folder / "hs.tif", values, nodata=-9, wavelengths=[450, 500, 550, 600, 650, 700], **more)
    fine = ramp(1, 20 * ratio, 20 * ratio, "int16")
    fine[0, :4, :4] = -1
    return hs, write_tif(folder / "pan.tif", fine, pixel=30 / ratio, nodata=-1), values, fine


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_scene_is_what_its_arrays_say(tmp_path, interleave, on_disk):
    hs, pan, values, fine = holed_pair(tmp_path, interleave=interleave)
    scratch = tmp_path / "scratch"
    scene, pair = read(hs, pan, scratch=scratch if on_disk else None, memory=1 if on_disk else PLENTY)
    holes = np.where(values == -9, np.nan, values)
    expected = Scene.of("s", holes, np.where(fine[0] < 0, np.nan, fine[0]), Optics(3))
    assert np.array_equal(scene.hs, expected.hs)
    assert np.array_equal(scene.pan, expected.pan)
    for name in ("hs_valid", "pan_valid", "dead", "band_valid"):
        assert np.array_equal(getattr(scene, name), getattr(expected, name)), name
    assert isinstance(scene.hs, np.memmap) == on_disk
    assert scene.hs.dtype == np.float32
    assert scene.wavelengths.tolist() == [450, 500, 550, 600, 650, 700]
    assert any("pass through unsharpened: 3, 5." in note for note in scene.notes)
    assert pair.hs.count == 6


def test_common_masks_are_not_kept_per_band(tmp_path):
    values = ramp(3, 20, 20, "int16")
    values[:, :3] = 0
    hs = write_tif(tmp_path / "hs.tif", values, nodata=0)
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 40, 40), pixel=15)
    scene, _ = read(hs, pan)
    assert scene.band_valid is None
    assert not scene.hs_valid[:3].any()
    assert scene.hs_valid[3:].all()
    assert np.array_equal(scene.hs[1, 0], values[1, 3])


def test_grids_are_cut_before_reading(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(2, 20, 20))
    fine = ramp(1, 60, 60)
    pan = write_tif(tmp_path / "pan.tif", fine, pixel=10, origin=(500_010.0, 5_799_980.0))
    scene, pair = read(hs, pan)
    assert scene.coarse_shape == (19, 19)
    assert np.array_equal(scene.hs, ramp(2, 20, 20)[:, 1:, 1:])
    assert np.array_equal(scene.pan, fine[0, 1:58, 2:59])
    assert scene.notes[: len(pair.notes)] == pair.notes


def test_a_range_of_wavelengths_is_kept_in_file_order(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(4, 20, 20), wavelengths=[900, 450, 700, 2500])
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 60, 60), pixel=10)
    scene, pair = read(hs, pan, data={"bands": (400, 800)})
    assert scene.wavelengths.tolist() == pair.hs.wavelengths_nm.tolist() == [450, 700]
    assert np.array_equal(scene.hs, ramp(4, 20, 20)[[1, 2]])
    with pytest.raises(ConfigError, match=r"no band of .* lies from 1000 to 2000") as caught:
        read(hs, pan, data={"bands": (1000, 2000)})
    assert "450 to 2500" in caught.value.hint


def test_wavelengths_come_from_the_file_a_table_or_an_assumption(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(3, 20, 20))
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 60, 60), pixel=10)
    scene, _ = read(hs, pan)
    assert scene.wavelengths is None
    assert "no wavelengths" in scene.notes[0]
    assumed, _ = read(hs, pan, data={"assume_ordered": True})
    assert assumed.wavelengths.tolist() == [400, 410, 420]
    (tmp_path / "w.csv").write_text("500\n600\n700\n")
    given, _ = read(hs, pan, data={"wavelengths": str(tmp_path / "w.csv")})
    assert given.wavelengths.tolist() == [500, 600, 700]
    with pytest.raises(ConfigError, match=r"data\.bands"):
        read(hs, pan, data={"bands": (400, 800)})


@pytest.mark.parametrize(
    ("dtype", "factor", "scale", "unit"),
    [
        ("uint16", 1, 1.0, 1.0),
        ("int16", 1, 1e-4, 1e-4),
        ("float32", 1e-4, 1.0, 1e-4),
        ("float32", 10, 1.0, 10.0),
    ],
)
def test_the_unit_is_one_stored_step(tmp_path, dtype, factor, scale, unit):
    values = (ramp(2, 80, 80, "float64") * factor).astype(dtype)
    hs = write_tif(tmp_path / "hs.tif", values, scale=scale)
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 160, 160), pixel=15)
    scene, _ = read(hs, pan)
    assert scene.unit == pytest.approx(unit)


def test_an_earlier_array_serves_until_its_source_changes(tmp_path, monkeypatch):
    hs, pan, values, _ = holed_pair(tmp_path)
    scratch = tmp_path / "scratch"
    first, _ = read(hs, pan, scratch=scratch, memory=1)
    copy = first.hs.copy()
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_fill", lambda *_: pytest.fail("read again"))
        again, _ = read(hs, pan, scratch=scratch, memory=1)
    assert np.array_equal(again.hs, copy)
    assert np.array_equal(again.band_valid, first.band_valid)
    assert again.unit == first.unit
    other, _ = read(hs, pan, scratch=scratch, memory=1, data={"nodata": 5})
    assert other.hs[0, 0, 0] == -9
    write_tif(hs, values[::-1].copy(), nodata=-9)
    changed, _ = read(hs, pan, scratch=scratch, memory=1)
    assert np.array_equal(changed.hs[5], copy[0])


def test_a_full_disk_leaves_no_half_array(tmp_path, monkeypatch):
    hs, pan, *_ = holed_pair(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(planes.FilePlanes, "write", full)
    with pytest.raises(RunError, match="the disk is full"):
        read(hs, pan, scratch=tmp_path / "scratch", memory=1)
    assert os.listdir(tmp_path / "scratch") == []


def test_empty_and_constant_rasters_are_refused(tmp_path):
    hs, pan = write_pair(tmp_path)
    void = write_tif(tmp_path / "void.tif", np.full((2, 20, 20), 7, "int16"), nodata=7)
    flat = write_tif(tmp_path / "flat.tif", np.full((2, 20, 20), 7, "int16"))
    for bad, message in (
        (void, r"void\.tif: no hyperspectral pixel is valid"),
        (flat, "every .* band is constant"),
    ):
        with pytest.raises(DataError, match=message):
            read(bad, pan)
    void = write_tif(tmp_path / "pan0.tif", np.full((1, 60, 60), 7, "int16"), nodata=7, pixel=10)
    flat = write_tif(tmp_path / "pan1.tif", np.full((1, 60, 60), 7, "int16"), pixel=10)
    for bad, message in ((void, r"pan0\.tif: .* no valid pixel"), (flat, r"pan1\.tif: .* constant")):
        with pytest.raises(DataError, match=message):
            read(hs, bad)


def test_bands_that_share_no_pixel_are_refused(tmp_path):
    values = ramp(2, 20, 20, "float32")
    values[0, :10] = values[1, 10:] = np.nan
    hs = write_tif(tmp_path / "hs.tif", values)
    with pytest.raises(DataError, match="no pixel is valid in every"):
        read(hs, write_tif(tmp_path / "pan.tif", ramp(1, 60, 60), pixel=10))


def test_options_are_checked_before_the_bands_are_read(tmp_path, monkeypatch):
    hs, pan = write_pair(tmp_path)
    monkeypatch.setattr(ingest, "_read", lambda *_: pytest.fail("read"))
    with pytest.raises(ConfigError, match="3 gains for 4 bands"):
        read(hs, pan, sensor={"hs_gain": (0.3, 0.3, 0.3)})


def test_sensors():
    assert {name: (sensor.hs_gain, sensor.pan_gain) for name, sensor in SENSORS.items()} == {
        "generic": (0.30, 0.15),
        "prisma": (0.30, 0.20),
        "hyperion-ali": (0.28, 0.13),
        "enmap": (0.30, 0.15),
    }
    optics = optics_of(config_of(), 6, 10)
    assert (optics.ratio, optics.phase, optics.normalize_kernel) == (6, "centre", True)
    own = optics_of(
        config_of(sensor={"name": "prisma", "hs_gain": (0.2, 0.3)}, data={"phase": "reference"}), 2, 2
    )
    assert own.sensor.gains(2).tolist() == [0.2, 0.3]
    assert (own.sensor.pan_gain, own.phase) == (0.20, "reference")
    assert optics_of(config_of(sensor={"pan_gain": 0.4}), 2, 2).sensor.pan_gain == 0.4


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 1_610_612_736), ("64KiB", 65_536), ("7B", 7)],
)
def test_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "2", "GB", "-1GB", "0MB", "2 G B", "much", "1e9B", "nanGB"])
def test_memory_that_is_no_size(text):
    with pytest.raises(ConfigError, match="option 'memory'"):
        parse_memory(text)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_filling_is_that_of_scenes(seed, share):
    generator = np.random.default_rng(seed)
    filler = ingest._Filler()
    seen = generator.random((9, 7)) < share
    for _ in range(2):
        values = generator.random((9, 7)).astype(np.float32)
        assert np.array_equal(filler(values, seen), fill_nearest(values, seen))
    assert np.array_equal(filler(values, ~seen), fill_nearest(values, ~seen))


def test_a_scene_goes_out_as_it_came_in(tmp_path):
    hs, pan, *_ = holed_pair(tmp_path, dtype="int16")
    scene, pair = read(hs, pan)

    def blocks():
        for band in range(scene.bands):
            values = scene.interpolator(scene.hs[band])
            values[~scene.footprint_of(band)] = np.nan
            yield Block([band], pair.hs.window._make((0, 0, *scene.fine_shape)), values[None])

    write_product(tmp_path / "out.tif", blocks(), ProductProfile.of_pair(pair))
    product = open_cube(tmp_path / "out.tif")
    assert product.encodings == pair.hs.encodings
    assert product.transform == pair.transform
    assert product.wavelengths_nm.tolist() == scene.wavelengths.tolist()
    seen = np.isfinite(product.read())
    assert np.array_equal(seen, np.stack([scene.footprint_of(band) for band in range(6)]))


@pytest.mark.shared
def test_the_real_pair_is_read(shared):
    folder = shared / "data" / "pansharpening"
    scene, pair = read(folder / "paris_hyperion_72x58x128.tif", folder / "paris_ali_pan_216x174.tif")
    assert (scene.hs.shape, scene.pan.shape, pair.ratio) == ((128, 72, 58), (216, 174), 3)
    assert (scene.unit, scene.notes, scene.dead.any()) == (1e-4, (), False)
    assert scene.wavelengths[0] == 427.55


@pytest.mark.shared
def test_the_nodata_of_a_real_mosaic_is_kept(shared, tmp_path):
    path = shared / "data" / "pansharpening" / "enmap_potsdam_mosaic_96x160x218.tif"
    cube = open_cube(path)
    pan = cube.read(None, range(20, 40)).mean(axis=0)
    fine = np.repeat(np.repeat(np.nan_to_num(pan, nan=-1), 2, 0), 2, 1)[None]
    placed = {"origin": (cube.transform.c, cube.transform.f), "pixel": 15.0, "nodata": -1}
    scene, pair = read(path, write_tif(tmp_path / "pan.tif", fine, **placed))
    assert pair.transform.a == 15
    assert scene.hs_valid.mean() == pytest.approx(0.533, abs=0.01)
    assert scene.hs.min() > -32768


@pytest.mark.slow
@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_a_large_scene_is_read_in_bounded_memory(tmp_path, interleave):
    code = f"""
        import sys
        from pathlib import Path
        import numpy as np
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from raster_files import ramp, write_tif
        from appliedpapers.core.rasters.cube import open_quietly
        from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
        from appliedpapers.plugins.pansharpening.ingest import read_scene
        import scipy.ndimage
        folder = Path({str(tmp_path)!r})
        size = dict(driver="GTiff", width=1333, height=1333, dtype="uint16", tiled=True, nodata=0)
        options = dict(size, count=100, interleave={interleave!r}, blockxsize=256, blockysize=256)
        pan = write_tif(folder / "pan.tif", ramp(1, 2666, 2666), placed=False)
        if {interleave!r} == "band":
            with open_quietly(folder / "hs.tif", "w", **options) as file:
                for band in range(100):
                    plane = ramp(1, 1333, 1333)[0] + band
                    plane[:100, :100] = 0
                    file.write(plane, band + 1)
        else:
            with open_quietly(folder / "hs.tif", "w", **options) as file:
                for top in range(0, 1333, 256):
                    rows = min(256, 1333 - top)
                    file.write(ramp(100, rows, 1333), window=((top, top + rows), (0, 1333)))
        peak = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        scene, _ = read_scene(folder / "hs.tif", pan, PansharpeningConfig(), scene_id="s",
                              scratch=folder / "scratch", memory_bytes=2 * 10**9)
        print((peak() - before) // 1024, isinstance(scene.hs, np.memmap))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    growth, on_disk = done.stdout.split()
    assert on_disk == "True"
    assert int(growth) < 700

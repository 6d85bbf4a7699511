import errno
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raster_files import ramp, write_pair, write_tif
from rasterio.transform import from_origin

from appliedpapers.core.errors import DataError, RunError
from appliedpapers.core.rasters import writing
from appliedpapers.core.rasters.cube import open_cube, open_quietly
from appliedpapers.core.rasters.encoding import BandEncoding
from appliedpapers.core.rasters.pair import open_pair
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.core.rasters.wavelengths import Spectrum
from appliedpapers.core.rasters.writing import Block, ProductProfile, write_product


def profile_of(values, dtype="uint16", **more):
    count, *shape = values.shape
    encoding = BandEncoding(dtype, nodata=more.pop("nodata", None))
    return ProductProfile(shape=tuple(shape), encodings=(encoding,) * count, **more)


def by_band(values):
    whole = Window(0, 0, *values.shape[1:])
    return [Block([band], whole, values[[band]]) for band in range(len(values))]


def by_tile(values, size=256):
    every = range(len(values))
    return [Block(every, window, values[:, *window.slices]) for window in tiles(values.shape[1:], size)]


@pytest.mark.parametrize("compress", ["deflate", "zstd", "lzw", "none"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("cog", [False, True])
def test_bands_come_back_as_they_were_written(tmp_path, compress, dtype, cog):
    values = ramp(3, 70, 90, "float32")
    path = tmp_path / "out.tif"
    write_product(path, by_band(values), profile_of(values, dtype, compress=compress, cog=cog))
    cube = open_cube(path)
    assert np.array_equal(cube.read(), values)
    assert cube.dtype == dtype
    with open_quietly(path) as file:
        assert file.profile["tiled"]
        assert file.profile.get("compress") == (None if compress == "none" else compress)
    assert os.listdir(tmp_path) == ["out.tif"]


def test_the_order_of_blocks_does_not_matter(tmp_path):
    values = ramp(3, 300, 270, "float32")
    for name, blocks in (
        ("band", by_band(values)),
        ("tile", by_tile(values)),
        ("odd", by_tile(values, 100)[::-1]),
    ):
        write_product(tmp_path / f"{name}.tif", iter(blocks), profile_of(values))
        assert np.array_equal(open_cube(tmp_path / f"{name}.tif").read(), values)


@pytest.mark.parametrize("cog", [False, True])
def test_what_a_gis_needs_is_kept(tmp_path, cog):
    values = ramp(2, 8, 9, "float32") / 100
    values[0, 0, 0] = np.nan
    encoding = BandEncoding("int16", 0.01, 1.0, -32768)
    profile = replace(
        profile_of(values, cog=cog),
        encodings=(encoding,) * 2,
        transform=from_origin(500_000, 5_800_000, 10, 10),
        crs=open_cube(write_tif(tmp_path / "crs.tif", ramp(1, 2, 2))).crs,
        spectrum=Spectrum(np.array([457.342, 2395.5]), np.array([6.996, 10])),
        descriptions=("blue", None),
        band_tags=({"good": "1"}, {}),
        tags={"method": "gsa"},
    )
    write_product(tmp_path / "out.tif", by_band(values), profile)
    cube = open_cube(tmp_path / "out.tif")
    assert np.allclose(cube.read(), values, atol=0.0051, equal_nan=True)
    assert cube.encodings == (encoding,) * 2
    assert cube.transform == profile.transform
    assert cube.crs.to_epsg() == 32633
    assert cube.wavelengths_nm.tolist() == [457.342, 2395.5]
    assert cube.fwhm_nm.tolist() == [6.996, 10]
    assert cube.metadata.imagery[0] == {"CENTRAL_WAVELENGTH_UM": "0.457342", "FWHM_UM": "0.006996"}
    assert cube.metadata.tags[0]["wavelength_units"] == "nm"
    assert cube.metadata.tags[0]["good"] == "1"
    assert cube.descriptions == ("blue", None)
    assert cube.tags["method"] == "gsa"


def test_a_cloud_optimised_file_has_overviews(tmp_path):
    values = ramp(2, 1100, 700, "float32")
    write_product(tmp_path / "out.tif", by_tile(values, 512), profile_of(values, cog=True))
    with open_quietly(tmp_path / "out.tif") as file:
        assert file.overviews(1)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_saturated_and_missing_pixels(tmp_path):
    values = np.array([[[70_000.0, -5, np.nan, 0]]])
    write_product(tmp_path / "out.tif", by_band(values), profile_of(values, nodata=0))
    with open_quietly(tmp_path / "out.tif") as file:
        assert file.read(1).tolist() == [[65535, 1, 0, 1]]


def test_the_profile_of_a_pair(tmp_path):
    pair = open_pair(*write_pair(tmp_path, scale=0.01, nodata=9))
    kept = ProductProfile.of_pair(pair, tags={"method": "exp"})
    assert (kept.dtype, kept.nodata, kept.encodings[0].scale, kept.shape) == ("uint16", 9, 0.01, (60, 60))
    assert kept.spectrum.wavelengths.tolist() == pair.hs.wavelengths_nm.tolist()
    assert kept.tags["method"] == "exp"
    real = ProductProfile.of_pair(pair, dtype="float32")
    assert (real.dtype, real.encodings[0].scale) == ("float32", 1.0)
    assert np.isnan(real.nodata)


def test_a_file_without_nodata_gets_one_only_where_pixels_may_be_missing(tmp_path):
    pair = open_pair(*write_pair(tmp_path))
    assert ProductProfile.of_pair(pair, missing=False).nodata is None
    assert ProductProfile.of_pair(pair).nodata == 0


def test_a_product_with_holes_is_refused(tmp_path):
    values = ramp(2, 8, 8, "float32")
    with pytest.raises(RunError, match="band 2 was given 0 of 64 pixels"):
        write_product(tmp_path / "out.tif", by_band(values)[:1], profile_of(values))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "error", [DataError("a tile is damaged."), KeyboardInterrupt(), ValueError("defect")]
)
@pytest.mark.parametrize("cog", [False, True])
def test_nothing_is_left_when_the_producer_fails(tmp_path, error, cog):
    values = ramp(2, 8, 8, "float32")

    def blocks():
        yield by_band(values)[0]
        raise error

    with pytest.raises(type(error)):
        write_product(tmp_path / "out.tif", blocks(), profile_of(values, cog=cog))
    assert os.listdir(tmp_path) == []


def test_nothing_is_left_when_the_copy_is_interrupted(tmp_path, monkeypatch):
    values = ramp(2, 8, 8, "float32")

    def interrupted(source, target, **options):
        Path(target).write_bytes(b"half")
        Path(f"{target}.ovr.tmp").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.require_rasterio().shutil, "copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_product(tmp_path / "out.tif", by_band(values), profile_of(values, cog=True))
    assert os.listdir(tmp_path) == []


def test_an_old_product_stays_until_the_new_one_is_whole(tmp_path):
    values = ramp(2, 8, 8, "float32")
    path = tmp_path / "out.tif"
    write_product(path, by_band(values), profile_of(values))
    with pytest.raises(RunError):
        write_product(path, by_band(values)[:1], profile_of(values))
    assert np.array_equal(open_cube(path).read(), values)


@pytest.mark.parametrize(
    ("cog", "kilobytes"),
    # 1,440 kB of noise cannot be compressed: the limit strikes at once, midway, at the last tiles, or in the
    # copy with its overviews
    [(False, 8), (True, 8), (False, 700), (False, 1400), (True, 1600)],
)
def test_a_file_that_may_not_grow_is_a_run_error_and_leaves_nothing(tmp_path, cog, kilobytes):
    code = f"""
        import resource, sys
        import numpy as np
        from pathlib import Path
        from appliedpapers.core.errors import RunError
        from appliedpapers.core.rasters.encoding import BandEncoding
        from appliedpapers.core.rasters.tiles import Window
        from appliedpapers.core.rasters.writing import Block, ProductProfile, write_product
        noise = np.random.default_rng(0).integers(0, 65536, (2, 600, 600)).astype("float32")
        blocks = [Block([b], Window(0, 0, 600, 600), noise[[b]]) for b in range(2)]
        profile = ProductProfile((600, 600), (BandEncoding("uint16"),) * 2, cog={cog})
        resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024,) * 2)
        try:
            write_product(Path({str(tmp_path / "out.tif")!r}), blocks, profile)
        except RunError as error:
            print(error.render())
            sys.exit(error.exit_code)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stderr
    assert "out.tif: cannot be written" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    values = ramp(2, 8, 8, "float32")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    with pytest.raises(RunError, match="the disk is full"):
        write_product(tmp_path / "out.tif", by_band(values), profile_of(values))
    assert os.listdir(tmp_path) == []


def test_tiles_that_were_lost_at_close_are_noticed(tmp_path, monkeypatch):
    values = ramp(2, 300, 300, "float32")
    monkeypatch.setattr(writing, "_block_end", lambda *_: float("inf"))
    with pytest.raises(RunError, match="tiles are missing"):
        write_product(tmp_path / "out.tif", by_band(values), profile_of(values))
    assert os.listdir(tmp_path) == []

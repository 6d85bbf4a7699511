import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raster_files import ramp, write_tif

from appliedpapers.core.errors import DataError, RunError
from appliedpapers.core.rasters.cube import open_cube, open_quietly
from appliedpapers.core.rasters.encoding import BandEncoding, fits, missing_value
from appliedpapers.core.rasters.tiles import Window


def test_a_geotiff_says_what_it_is(tmp_path):
    path = write_tif(tmp_path / "a.tif", ramp(3, 5, 7), wavelengths=[450, 550, 650], nodata=65535)
    cube = open_cube(path)
    assert (cube.count, cube.shape, cube.dtype, cube.block_rows is not None) == (3, (5, 7), "uint16", True)
    assert cube.crs.to_epsg() == 32633
    assert cube.transform.a == 30
    assert cube.encodings[0].nodata == 65535
    assert cube.wavelengths_nm.tolist() == [450, 550, 650]
    assert path in cube.files


def test_windows_and_bands_are_read_as_stored(tmp_path):
    values = ramp(3, 9, 8)
    for interleave in ("band", "pixel"):
        cube = open_cube(write_tif(tmp_path / f"{interleave}.tif", values, interleave=interleave))
        assert np.array_equal(cube.read(Window(2, 1, 6, 5), [2, 0]), values[[2, 0], 2:6, 1:5])
        assert np.array_equal(cube.read_band(1), values[1])
        assert np.array_equal(cube.selected([2, 1]).read(bands=[0]), values[[2]])


def test_scale_offset_and_negative_values_survive(tmp_path):
    values = np.array([[[-120, 0, 5_000, -32768]]], dtype=np.int16)
    cube = open_cube(write_tif(tmp_path / "a.tif", values, scale=1e-4, offset=0.01, nodata=-32768))
    assert np.allclose(cube.read_band(0), [[-0.002, 0.01, 0.51, np.nan]], equal_nan=True, atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint16", 7), ("float32", -3.4e38), ("float32", np.nan), ("uint8", 0)]
)
def test_any_nodata_value_is_missing_and_zero_only_if_it_says_so(tmp_path, dtype, nodata):
    values = np.array([[[1, 0, 3]]], dtype=dtype)
    values[0, 0, 2] = nodata
    seen = np.isfinite(open_cube(write_tif(tmp_path / "a.tif", values, nodata=nodata)).read_band(0))
    assert seen.tolist() == [[True, nodata != 0, False]]


def test_a_given_nodata_replaces_that_of_the_file(tmp_path):
    path = write_tif(tmp_path / "a.tif", np.array([[[1, 2, 3]]], dtype="uint8"), nodata=1)
    assert np.isfinite(open_cube(path, nodata=3).read_band(0)).tolist() == [[True, True, False]]


def test_infinite_values_are_missing(tmp_path):
    path = write_tif(tmp_path / "a.tif", np.array([[[1, np.inf, np.nan]]], dtype="float32"))
    assert np.isfinite(open_cube(path).read_band(0)).tolist() == [[True, False, False]]


def test_a_mask_band_marks_what_is_missing(tmp_path):
    path = write_tif(tmp_path / "a.tif", ramp(2, 4, 4))
    mask = np.full((4, 4), 255, dtype=np.uint8)
    mask[1, 2] = 0
    with open_quietly(path, "r+") as file:
        file.write_mask(mask)
    cube = open_cube(path)
    assert cube.masked
    assert np.array_equal(np.isfinite(cube.read()), np.broadcast_to(mask > 0, (2, 4, 4)))


def test_transparency_is_a_mask_and_no_band(tmp_path):
    values = np.stack([np.arange(16).reshape(4, 4), np.eye(4) * 255]).astype("uint8")
    path = write_tif(tmp_path / "a.tif", values, photometric="MINISBLACK", alpha="YES")
    cube = open_cube(path)
    assert cube.count == 1
    assert np.array_equal(np.isfinite(cube.read_band(0)), np.eye(4) > 0)


def test_a_raster_without_georeference_has_no_transform(tmp_path):
    cube = open_cube(write_tif(tmp_path / "a.tif", ramp(1, 4, 4), placed=False))
    assert cube.transform is None
    assert cube.crs is None


def test_an_envi_raster_opens_by_its_header(tmp_path):
    write_tif(tmp_path / "a.img", ramp(2, 3, 4), driver="ENVI")
    with (tmp_path / "a.hdr").open("a") as header:
        header.write(
            "wavelength units = Micrometers\nwavelength = {0.45734, 0.46752}\nfwhm = {0.01, 0.011}\n"
        )
    cube = open_cube(tmp_path / "a.hdr")
    assert cube.wavelengths_nm.tolist() == [457.34, 467.52]
    assert cube.fwhm_nm.tolist() == [10, 11]
    assert np.array_equal(cube.read_band(1), ramp(2, 3, 4)[1])


def test_an_envi_header_without_pixels_is_named(tmp_path):
    (tmp_path / "a.hdr").write_text("ENVI\n")
    with pytest.raises(DataError, match=r"a\.hdr: the ENVI header has no file"):
        open_cube(tmp_path / "a.hdr")


@pytest.mark.parametrize("content", [None, b"", b"no raster at all", b"II*\0\xff\xff\xff\xff"])
def test_what_is_no_raster_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "bad.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.tif") as caught:
        open_cube(path)
    assert "\n" not in caught.value.message


def test_a_truncated_file_is_named_when_its_pixels_are_read(tmp_path):
    whole = write_tif(tmp_path / "a.tif", ramp(2, 64, 64), compress="deflate")
    bad = tmp_path / "bad.tif"
    bad.write_bytes(whole.read_bytes()[:-900])
    with pytest.raises(DataError, match=r"bad\.tif") as caught:
        open_cube(bad).read()
    assert "\n" not in caught.value.message


def test_complex_values_are_refused(tmp_path):
    with pytest.raises(DataError, match="complex"):
        open_cube(write_tif(tmp_path / "a.tif", np.ones((1, 2, 2), dtype="complex64")))


def test_reading_leaves_no_file_open(tmp_path):
    cube = open_cube(write_tif(tmp_path / "a.tif", ramp(2, 8, 8)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        cube.read_band(0)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_threads_read_the_same_cube(tmp_path):
    values = ramp(4, 64, 64)
    cube = open_cube(write_tif(tmp_path / "a.tif", values))
    good = []

    def work(band):
        good.extend(np.array_equal(cube.read_band(band), values[band]) for _ in range(10))

    threads = [threading.Thread(target=work, args=(band,)) for band in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(good) == 40
    assert all(good)


@given(
    stored=arrays(np.int16, (3, 4)),
    scale=st.floats(1e-4, 10),
    offset=st.floats(-5, 5),
    nodata=st.one_of(st.none(), st.integers(-32768, 32767)),
)
def test_encoding_undoes_decoding(stored, scale, offset, nodata):
    encoding = BandEncoding("int16", scale, offset, nodata)
    assert np.array_equal(encoding.encode(encoding.decode(stored)), stored)


@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32"]),
    nodata=st.sampled_from([0, 7, 255]),
    values=arrays(np.float64, 20, elements=st.floats(-1e6, 1e6)),
)
def test_a_valid_pixel_never_becomes_nodata_nor_wraps(dtype, nodata, values):
    stored = BandEncoding(dtype, nodata=nodata).encode(values)
    assert (stored != nodata).all()
    if np.dtype(dtype).kind != "f":
        limits = np.iinfo(dtype)
        assert (np.abs(stored - np.clip(values, limits.min, limits.max)) <= 1.5).all()


def test_saturated_values_stay_saturated():
    assert BandEncoding("uint16").encode(np.array([65535.4, 65536.0, 1e9, -3.0])).tolist() == [
        65535,
        65535,
        65535,
        0,
    ]
    assert BandEncoding("uint16", nodata=65535).encode(np.array([1e9, np.nan])).tolist() == [65534, 65535]
    assert BandEncoding("int64").encode(np.array([1e30]))[0] > 9e18


def test_missing_pixels_need_a_value():
    with pytest.raises(RunError, match="missing pixels"):
        BandEncoding("uint16").encode(np.array([np.nan]))
    assert np.isnan(BandEncoding("float32").encode(np.array([np.nan]))[0])
    assert (missing_value("int16"), missing_value("uint16")) == (-32768, 0)
    assert np.isnan(missing_value("float32"))


def test_what_fits_a_type():
    assert [
        fits(-9999, "uint16"),
        fits(0.5, "int16"),
        fits(65535, "uint16"),
        fits(float("nan"), "uint8"),
    ] == [*(False, False, True, False)]
    assert fits(float("nan"), "float32")
    assert not fits(1e300, "float32")

"""Files of strangers: what a header declares, which formats are opened, and how bytes are kept."""

from __future__ import annotations

import io
import mmap

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raster_files import ramp, write_tif

from appliedpapers.core.client_files import for_a_client, serves_a_client, stored
from appliedpapers.core.errors import DataError
from appliedpapers.core.image_headers import read_header
from appliedpapers.core.rasters.cube import open_cube
from appliedpapers.core.rasters.prisma import open_prisma_pan

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "TIFF": ".tif"}


def written(kind: str, mode: str, width: int, height: int, **options) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (width, height)).save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["L", "RGB"]))
@settings(max_examples=25, deadline=None)
def test_a_header_says_what_a_reader_makes_of_the_file(kind, width, height, mode):
    header = read_header(written(kind, mode, width, height))
    assert (header.width, header.height, header.suffix) == (width, height, FORMATS[kind])
    assert header.decoded_bytes >= width * height * len(mode)


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}], ids=str
)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["RGB", "RGBA"]))
@settings(max_examples=25, deadline=None)
def test_a_webp_header_says_what_a_reader_makes_of_the_file(options, width, height, mode):
    header = read_header(written("WEBP", mode, width, height, **options))
    assert (header.width, header.height, header.suffix) == (width, height, ".webp")
    assert header.decoded_bytes >= width * height * 3


def test_rasters_are_not_kept_as_webp(tmp_path):
    with pytest.raises(DataError, match="neither TIFF"):
        stored(written("WEBP", "RGB", 3, 3), tmp_path)


@pytest.mark.parametrize(
    "options", [{}, {"BIGTIFF": "YES"}, {"compress": "deflate"}, {"tiled": True}], ids=str
)
def test_a_raster_of_many_bands_says_how_large_it_is(tmp_path, options):
    if options.get("tiled"):
        options = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    content = write_tif(tmp_path / "a.tif", ramp(7, 33, 21), **options).read_bytes()
    header = read_header(content)
    assert (header.width, header.height, header.samples, header.bits) == (21, 33, 7, 16)
    assert header.decoded_bytes == 7 * 33 * 21 * 2


def test_a_mapped_file_is_read_like_its_bytes(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(written("TIFF", "RGB", 9, 5))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        assert read_header(content) == read_header(path.read_bytes())


@given(st.sampled_from([*sorted(FORMATS), "WEBP"]), st.integers(0, 200), st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_a_broken_header_breaks_nothing(kind, keep, rest):
    header = read_header(written(kind, "RGB", 5, 4)[:keep] + rest)
    assert header is None or header.decoded_bytes >= 0


def test_bytes_are_kept_under_a_name_that_fits_them(tmp_path):
    for kind, suffix in FORMATS.items():
        path = stored(written(kind, "L", 3, 3), tmp_path / "sent")
        assert path.suffix == suffix
        assert Image.open(path).size == (3, 3)
    for content in (b"", b"hello", b"<VRTDataset/>", b"PK\x03\x04"):
        with pytest.raises(DataError, match="hs_path"):
            stored(content, tmp_path, "hs_path")


def virtual(source) -> str:
    return (
        '<VRTDataset rasterXSize="3" rasterYSize="3"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )


@pytest.mark.parametrize("name", ["far.vrt", "far.tif", "far.img", "far.hdr"])
def test_a_virtual_raster_is_opened_for_oneself_and_not_for_a_stranger(tmp_path, name):
    secret = write_tif(tmp_path / "secret.tif", ramp(1, 3, 3))
    path = tmp_path / name
    path.write_text(virtual(secret))
    if path.suffix != ".hdr":
        assert open_cube(path).read_band(0)[0, 0] == 1
    with for_a_client():
        assert serves_a_client()
        with pytest.raises(DataError):
            open_cube(path)
    assert not serves_a_client()


def test_a_cube_that_was_opened_for_a_stranger_stays_so_in_any_thread(tmp_path):
    path = write_tif(tmp_path / "a.tif", ramp(1, 3, 3))
    with for_a_client():
        cube = open_cube(path)
    secret = write_tif(tmp_path / "secret.tif", ramp(1, 3, 3))
    path.write_text(virtual(secret))
    with pytest.raises(DataError):
        cube.read_band(0)


def test_plain_rasters_read_the_same_for_a_stranger(tmp_path):
    values = ramp(3, 6, 5)
    tif = write_tif(tmp_path / "a.tif", values, nodata=3)
    envi = write_tif(tmp_path / "b.img", values, driver="ENVI")
    for path in (tif, envi, envi.with_suffix(".hdr")):
        mine = open_cube(path).read()
        with for_a_client():
            assert np.array_equal(open_cube(path).read(), mine, equal_nan=True)


def test_an_hdf5_file_that_takes_its_values_from_another_is_refused(tmp_path):
    with h5py.File(tmp_path / "secret.he5", "w") as file:
        file["secret"] = np.arange(9, dtype=np.uint16).reshape(3, 3)
    field = "HDFEOS/SWATHS/PRS_L2D_PCO/Data Fields/Cube"
    for number, put in enumerate(
        (
            lambda file: file.__setitem__(field, h5py.ExternalLink("secret.he5", "secret")),
            lambda file: file.__setitem__("HDFEOS", h5py.ExternalLink("secret.he5", "/")),
            lambda file: file.create_dataset(
                field, (3, 3), np.uint16, external=[(str(tmp_path / "secret.he5"), 0, 18)]
            ),
            lambda file: file.create_virtual_dataset(field, _virtual_layout()),
        )
    ):
        path = tmp_path / f"{number}.he5"
        with h5py.File(path, "w") as file:
            put(file)
            file.attrs.update({"L2ScalePanMin": 0.0, "L2ScalePanMax": 1.0, "Epsg_Code": 32633})
        with pytest.raises(DataError, match="a part of the product is missing"):
            open_prisma_pan(path)


def _virtual_layout() -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout((3, 3), np.uint16)
    layout[:] = h5py.VirtualSource("secret.he5", "secret", (3, 3))
    return layout

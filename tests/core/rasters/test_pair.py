import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raster_files import ramp, write_pair, write_tif
from rasterio.transform import Affine

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.cube import open_quietly
from appliedpapers.core.rasters.pair import open_pair
from appliedpapers.core.rasters.tiles import Window

X, Y = 500_000.0, 5_800_000.0


@pytest.mark.parametrize("ratio", range(2, 9))
def test_nested_grids_are_kept_whole(tmp_path, ratio):
    pair = open_pair(*write_pair(tmp_path, ratio=ratio, size=5))
    assert (pair.ratio, pair.hs_window, pair.pan_window) == (
        ratio,
        Window(0, 0, 5, 5),
        Window(0, 0, 5 * ratio, 5 * ratio),
    )
    assert pair.notes == ()
    assert pair.residual_shift == (0, 0)
    assert pair.transform.a == pytest.approx(30 / ratio)
    assert pair.crs.to_epsg() == 32633


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ratio=st.integers(2, 6),
    shift=st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
    more=st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
)
def test_what_is_kept_lies_on_the_same_ground(tmp_path, ratio, shift, more):
    size, pixel = 6, 30 / ratio
    hs = write_tif(tmp_path / "hs.tif", ramp(2, size, size))
    origin = (X + shift[1] * pixel, Y - shift[0] * pixel)
    height, width = (size * ratio + extra for extra in more)
    pan = write_tif(tmp_path / "pan.tif", ramp(1, height, width), origin=origin, pixel=pixel)
    reach = [abs(move + extra) for move, extra in zip(shift, more, strict=True)]
    if max(reach) > ratio:
        return
    pair = open_pair(hs, pan)
    assert pair.fine_shape == tuple(ratio * edge for edge in pair.coarse_shape)
    assert (pair.transform.c - X) / 30 == pytest.approx(pair.hs_window.left, abs=1e-6)
    assert (Y - pair.transform.f) / 30 == pytest.approx(pair.hs_window.top, abs=1e-6)
    for window, shape in ((pair.hs_window, (size, size)), (pair.pan_window, (height, width))):
        assert 0 <= window.top < window.bottom <= shape[0]
        assert 0 <= window.left < window.right <= shape[1]
    cut = pair.hs_window != Window(0, 0, size, size) or pair.pan_window != Window(0, 0, height, width)
    assert bool(pair.notes) == cut


def test_a_fraction_of_a_fine_pixel_is_reported(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(2, 6, 6))
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 18, 18), origin=(X + 13, Y + 2), pixel=10)
    pair = open_pair(hs, pan)
    assert pair.residual_shift == pytest.approx((-0.2, 0.3))
    assert pair.hs_window == Window(0, 1, 6, 6)
    assert pair.pan_window == Window(0, 2, 18, 17)
    assert any("-0.20 rows and +0.30 columns" in note for note in pair.notes)


def test_rasters_without_georeference_nest_by_size(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(2, 5, 6), placed=False)
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 21, 25), placed=False)
    pair = open_pair(hs, pan)
    assert (pair.ratio, pair.coarse_shape, pair.fine_shape, pair.transform) == (4, (5, 6), (20, 24), None)
    assert "cut from 21 x 25 pixels" in pair.notes[0]


def test_wavelengths_of_a_table_replace_those_of_the_file(tmp_path):
    table = tmp_path / "w.csv"
    table.write_text("500\n600\n700\n800\n")
    pair = open_pair(*write_pair(tmp_path, wavelengths=[0, -1, 0, 0]), wavelengths=table)
    assert pair.hs.wavelengths_nm.tolist() == [500, 600, 700, 800]
    assert pair.with_bands([3, 1]).hs.wavelengths_nm.tolist() == [800, 600]


def refused(hs, pan, message, **options):
    with pytest.raises(DataError, match=message) as caught:
        open_pair(hs, pan, **options)
    assert "\n" not in caught.value.message
    return caught.value.hint


def test_a_ratio_that_is_not_whole_is_refused_with_the_command_that_helps(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(2, 10, 10))
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 25, 25), pixel=12)
    hint = refused(hs, pan, "a ratio of 2.5; expected a whole number from 2 to 8")
    assert "gdalwarp -r cubic -tr 15 15 -te 500000 5799700 500300 5800000" in hint


@pytest.mark.parametrize(("pixel", "size"), [(30.0, 10), (3.0, 100), (90.0, 4)])
def test_a_ratio_out_of_range_is_refused(tmp_path, pixel, size):
    hs = write_tif(tmp_path / "hs.tif", ramp(2, 10, 10))
    hint = refused(hs, write_tif(tmp_path / "pan.tif", ramp(1, size, size), pixel=pixel), "a ratio of")
    assert ("swapped" in hint) == (pixel > 30)


def test_another_ratio_than_asked_for_is_refused(tmp_path):
    refused(*write_pair(tmp_path, ratio=3), "a ratio of 3; the ratio 4 was asked for", ratio=4)
    bare = write_tif(tmp_path / "bare.tif", ramp(2, 10, 10), placed=False)
    fine = write_tif(tmp_path / "fine.tif", ramp(1, 25, 25), placed=False)
    refused(bare, fine, "sizes in pixels give a ratio of 2.5")


def test_a_slow_drift_of_the_pixel_sizes_is_refused_or_reported(tmp_path):
    hs = write_tif(tmp_path / "hs.tif", ramp(1, 20, 20))
    pan = write_tif(tmp_path / "pan.tif", ramp(1, 60, 60), pixel=10.003)
    assert "drift apart by 0.02" in open_pair(hs, pan).notes[-1]
    wide = write_tif(tmp_path / "wide.tif", ramp(1, 2000, 2))
    refused(wide, write_tif(tmp_path / "p.tif", ramp(1, 6000, 6), pixel=10.003), "a ratio of 2.999")


def test_another_coordinate_system_is_named(tmp_path):
    hs, _ = write_pair(tmp_path)
    other = write_tif(tmp_path / "o.tif", ramp(1, 60, 60), pixel=10, crs="EPSG:32634")
    assert "EPSG:32633" in refused(hs, other, "has EPSG:32633, .* has EPSG:32634")
    unknown = write_tif(tmp_path / "u.tif", ramp(1, 60, 60), pixel=10, crs=None)
    refused(hs, unknown, "has EPSG:32633, .* has none")


def test_one_raster_without_georeference_is_named(tmp_path):
    hs, _ = write_pair(tmp_path)
    refused(hs, write_tif(tmp_path / "o.tif", ramp(1, 60, 60), placed=False), r"o\.tif has no georeference")


def test_extents_that_differ_too_much_are_both_named(tmp_path):
    hs, _ = write_pair(tmp_path, size=20)
    far = write_tif(tmp_path / "far.tif", ramp(1, 60, 60), pixel=10, origin=(X + 5_000, Y))
    refused(hs, far, r"do not overlap: .*500000, 5799400, 500600, 5800000.*505000")
    near = write_tif(tmp_path / "near.tif", ramp(1, 60, 60), pixel=10, origin=(X + 60, Y))
    refused(hs, near, "differ by more than one hyperspectral pixel: .*500060")


def test_bands_and_swapped_arguments(tmp_path):
    hs, pan = write_pair(tmp_path)
    three = write_tif(tmp_path / "rgb.tif", ramp(3, 60, 60), pixel=10)
    refused(hs, three, r"rgb\.tif: the panchromatic raster has 3 bands, expected 1")
    refused(pan, hs, "look swapped")


def test_a_rotated_grid_is_refused(tmp_path):
    hs, pan = write_pair(tmp_path)
    with open_quietly(pan, "r+") as file:
        grid = file.transform
        file.transform = Affine(grid.a, 2.0, grid.c, 2.0, grid.e, grid.f)
    refused(hs, pan, r"pan\.tif: the grid is rotated or sheared")


def test_a_small_scene_is_no_error_here(tmp_path):
    assert open_pair(*write_pair(tmp_path, size=2)).coarse_shape == (2, 2)


def test_both_grids_may_count_rows_upwards(tmp_path):
    hs, pan = write_pair(tmp_path, size=4)
    for path in (hs, pan):
        with open_quietly(path, "r+") as file:
            grid = file.transform
            file.transform = Affine(grid.a, 0, grid.c, 0, -grid.e, 0)
    pair = open_pair(hs, pan)
    assert np.array_equal(pair.transform[:6], (10, 0, X, 0, 10, 0))

"""Opening slides: resolution, flat images, damage, bounded memory, workers."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_slides import disc
from PIL import Image

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.virtual_inking import slides
from appliedpapers.plugins.virtual_inking.colour import StainNormaliser
from appliedpapers.plugins.virtual_inking.config import InkingConfig, SlideConfig
from appliedpapers.plugins.virtual_inking.pyramid_tiff import packed, write_levels, write_pyramid
from appliedpapers.plugins.virtual_inking.slides import open_slide
from appliedpapers.plugins.virtual_inking.streaming import SlideSource, TileReader, stream_tiles
from appliedpapers.plugins.virtual_inking.survey import survey
from appliedpapers.plugins.virtual_inking.tiling import plan_tiles

CONFIG = InkingConfig().replace(
    tiles={"pixels": 112, "mpp": 1.0, "stride": 80}, mask={"part_mm2": 0.02, "mpp": 4.0}
)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "disc.tif"
    write_pyramid(path, np.kron(disc(), np.ones((2, 2, 1), dtype=np.uint8)), (0.5, 0.5))
    return path


def test_a_pyramid_of_ours_is_read_by_openslide(pyramid):
    slide = open_slide(pyramid, SlideConfig())
    assert slide.size == (840, 840)
    assert slide.mpp == pytest.approx((0.5, 0.5), rel=1e-4)
    assert slide.downsamples == (1.0, 2.0)
    whole = slide.read(0, 0, 0, 840, 840)
    np.testing.assert_array_equal(whole, np.kron(disc(), np.ones((2, 2, 1), dtype=np.uint8)))
    slide.close()


def test_a_missing_resolution_is_named(shared):
    path = shared / "data" / "virtual-inking" / "tcga-cr-7395-01a-01-ts1.svs"
    with pytest.raises(DataError, match=r"openslide\.mpp-x") as caught:
        open_slide(path, SlideConfig())
    assert caught.value.exit_code == 4
    assert "--mpp" in caught.value.hint
    assert open_slide(path, SlideConfig(mpp=0.5)).mpp == (0.5, 0.5)
    # a power is no resolution unless the user says so, and this file states none
    with pytest.raises(DataError, match="objective power"):
        open_slide(path, SlideConfig(trust_appmag=True))


def test_an_objective_power_is_trusted_on_request_alone():
    stated = {"aperio.AppMag": "20"}
    with pytest.raises(DataError, match=r"openslide\.mpp-x"):
        slides._resolution(stated, "slide", SlideConfig(), None)
    assert slides._resolution(stated, "slide", SlideConfig(trust_appmag=True), None) == (0.5, 0.5)


def test_flat_images_need_a_resolution(tmp_path):
    path = tmp_path / "field.png"
    Image.fromarray(disc()).save(path)
    with pytest.raises(DataError, match="micrometres per pixel"):
        open_slide(path, SlideConfig())
    assert open_slide(path, SlideConfig(mpp=1.0)).size == (420, 420)
    # a list's own column wins
    assert open_slide(path, SlideConfig(mpp=1.0), mpp=0.25).mpp == (0.25, 0.25)


def test_flat_and_pyramidal_files_of_the_same_pixels_agree(tmp_path):
    Image.fromarray(disc()).save(tmp_path / "flat.png")
    Image.fromarray(disc()).save(tmp_path / "flat.tif")
    write_pyramid(tmp_path / "pyramid.tif", disc(), (1.0, 1.0))
    found = [
        survey(open_slide(tmp_path / name, SlideConfig(mpp=1.0)), CONFIG)
        for name in ("flat.png", "flat.tif", "pyramid.tif")
    ]
    for one in found[1:]:
        assert abs(len(one.corners) - len(found[0].corners)) <= 1
        np.testing.assert_array_equal(one.corners, found[0].corners)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_slide_is_damaged_not_empty(tmp_path, shared, share):
    content = (shared / "data" / "virtual-inking" / "cmu-1-small-region.svs").read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"cut\.svs"):
        survey(open_slide(path, SlideConfig()), InkingConfig())


def test_slides_without_room_or_tissue_say_so(shared):
    tiny = open_slide(shared / "data" / "virtual-inking" / "openslide_small.svs", SlideConfig())
    with pytest.raises(DataError, match="less than a tile"):
        survey(tiny, InkingConfig())
    glass = slides.ArraySlide(np.full((600, 600, 3), 240, dtype=np.uint8), (1.0, 1.0), "glass")
    with pytest.raises(DataError, match="no tissue"):
        survey(glass, CONFIG)


def test_beyond_the_edge_is_white():
    slide = slides.ArraySlide(disc(), (1.0, 1.0))
    found = slide.read(0, -10, 415, 20, 20)
    assert (found[:, :10] == 255).all()
    assert (found[5:] == 255).all()
    np.testing.assert_array_equal(found[:5, 10:], disc()[415:, :10])


def test_a_thumbnail_is_the_mean_of_areas(pyramid):
    slide = open_slide(pyramid, SlideConfig())
    thumbnail, mpp = slide.thumbnail(4.0)
    assert thumbnail.shape == (105, 105, 3)
    assert mpp == pytest.approx((4.0, 4.0), rel=1e-4)
    expected = disc()[:400, :400].astype(float).reshape(100, 4, 100, 4, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail[:100, :100] - expected).max() <= 1.5


def test_tiles_are_streamed_in_order_by_threads_and_processes(pyramid):
    source = SlideSource(pyramid, SlideConfig())
    slide = source.open()
    tiling = plan_tiles(slide.size, slide.mpp, slide.downsamples, pixels=56, target_mpp=1.0, stride=56)
    corners = np.array([(x, y) for y in tiling.ys for x in tiling.xs])
    normaliser = StainNormaliser.of_pixels(disc().reshape(-1, 3))
    expected = TileReader(source, tiling, 56, normaliser)(corners)
    for workers in (0, 2):
        reader = TileReader(source, tiling, 56, normaliser)
        blocks = list(stream_tiles(reader, corners, workers))
        assert max(map(len, blocks)) <= 16
        np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_memory_is_bounded_on_a_large_slide_without_levels(tmp_path):
    import tracemalloc

    side, blank = 12_000, packed(np.full((256, 256, 3), 240, dtype=np.uint8))
    pink = packed(np.full((256, 256, 3), (205, 130, 185), dtype=np.uint8))

    def tile(level, row, column):
        return pink if 15 <= row < 30 and 15 <= column < 30 else blank

    path = tmp_path / "large.tif"
    write_levels(path, [(side, side)], tile, (0.5, 0.5))
    slide = open_slide(path, SlideConfig())
    tracemalloc.start()
    found = survey(slide, InkingConfig())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the level alone would be 432 MB
    assert peak < 120e6
    assert found.masks.tissue.sum() * 64e-6 == pytest.approx((15 * 128) ** 2 * 1e-6, rel=0.05)


def test_bounds_are_kept_for_who_wants_them_subtracted():
    assert slides._bounds({"openslide.bounds-x": "120", "openslide.bounds-y": "7"}) == (120, 7)
    assert slides._bounds({}) == (0, 0)

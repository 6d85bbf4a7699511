"""The page with the zoomable slide, in a real browser and without a server; overlay and DeepZoom tiles."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from drawn_slides import disc
from headless import browser, needs_chromium
from PIL import Image

from appliedpapers.plugins.virtual_inking.overlay import nice_length
from appliedpapers.plugins.virtual_inking.pyramid_tiff import write_pyramid


@pytest.fixture(scope="module")
def folder(inker, tmp_path_factory):
    place = tmp_path_factory.mktemp("viewer")
    path = place / "slide.tif"
    write_pyramid(path, np.kron(disc(), np.ones((2, 2, 1), dtype=np.uint8)), (0.5, 0.5))
    name = "a </script><b>slide"
    table = pa.table({"slide_id": [name], "slide": [str(path)]})
    config = inker.config
    inker.config = config.replace(output={"viewer_mpp": 0.5})
    try:
        rows = inker.predict(table, files=place / "out")
    finally:
        inker.config = config
    return (place / "out" / rows["viewer_path"][0].as_py()).parent


def test_tiles_cover_every_level(folder):
    text = (folder / "slide.dzi").read_text()
    assert 'Width="840" Height="840"' in text
    levels = sorted(int(path.name) for path in (folder / "slide_files").iterdir())
    assert levels == list(range(11))
    last = folder / "slide_files" / "10"
    assert len(list(last.iterdir())) == 16
    assert Image.open(last / "3_3.jpg").size == (72, 72)
    small = np.asarray(Image.open(folder / "slide_files" / "8" / "0_0.jpg")).astype(float)
    assert small.shape == (210, 210, 3)
    expected = disc().reshape(210, 2, 210, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).mean() < 8


def test_nothing_in_the_page_points_outside(folder):
    page = (folder / "index.html").read_text()
    assert not re.findall(r"https?://(?!schemas\.microsoft)", page)
    # the slide's name is text, wherever it stands
    assert "<b>slide" not in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    assert data["width"] == 840
    assert data["mpp"] == pytest.approx(0.5, rel=1e-3)
    assert {line["state"] for line in data["lines"]} <= {"cut", "natural", "not_assessable"}


@pytest.mark.chromium
@needs_chromium[1]
def test_the_page_shows_slide_and_line_without_a_server(folder):
    with browser() as page:
        page.open((folder / "index.html").as_uri())
        page.wait("window.state.loaded > 0 && window.state.drawn > 0")
        assert page.run("window.state.failed") == 0
        assert not page.complaints
        assert all(address.startswith(("file:", "data:")) for address in page.requests)
        # the middle is pink tissue: a canvas with local files cannot be read, a picture of it can
        box = page.run("(r => [r.x + r.width / 2, r.y + r.height / 2])(canvas.getBoundingClientRect())")
        picture = np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB")).astype(int)
        red, green, blue = picture[int(box[1]), int(box[0])]
        assert green < red - 30
        assert green < blue
        zoom = page.run("window.state.view().zoom")
        page.run("document.getElementById('in').click()")
        assert page.run("window.state.view().zoom") > zoom
        before = page.run("window.state.drawn")
        page.run("document.querySelector('#layers input').click()")
        page.wait(f"window.state.drawn < {before}")
        page.run("document.querySelector('#list button').click()")
        assert "mm" in page.wait("document.getElementById('told').textContent")
        assert page.run("window.state.chosen()") == 0
        assert "m" in page.run("document.querySelector('#scale span').textContent")
        told = page.run("document.body.innerText")
        assert "expert to confirm" in told
        assert "not clinical evidence" in told


def test_scale_bars_are_round():
    assert [nice_length(most) for most in (7.9, 230, 999, 5000)] == [5, 200, 500, 5000]

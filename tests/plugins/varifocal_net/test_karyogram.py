"""Karyograms: every chromosome once, upright, at one scale, its box with it; pages hold nothing foreign."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliedpapers.plugins.varifocal_net.chromosomes import TYPES
from appliedpapers.plugins.varifocal_net.karyogram import (
    ROWS,
    Cell,
    Placed,
    drawn_pixels,
    factor,
    probability_words,
    shown_box,
    upright,
)
from appliedpapers.plugins.varifocal_net.karyogram_page import karyogram_page
from appliedpapers.plugins.varifocal_net.karyogram_picture import draw_karyogram

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\n=x\u202e"


def chromosome(name="a", kind="1", *, height=30, width=10, **known):
    rng = np.random.default_rng(height * 1000 + width)
    image = np.full((height + 4, width + 4), 255, dtype=np.uint8)
    image[2:-2, 2:-2] = rng.integers(0, 200, (height, width))
    known = {"probability": 0.98, "top3": ((kind, 0.98), ("2", 0.01), ("3", 0.005)), **known}
    return Placed(name, image, kind, **known)


def cell(*chromosomes, case="c1", **known):
    return Cell(
        case, chromosomes, known.pop("karyotype", "46,XX"), known.pop("dispatch", "assignment"), **known
    )


def whole_cell(case="c1", **known):
    kinds = [name for name in TYPES[:22] for _ in range(2)] + ["X", "Y"]
    ones = [
        chromosome(f"n{row}", kind, height=110 - 3 * TYPES.index(kind), width=20, box=(2.0, 8.0, 20.0, 30.0))
        for row, kind in enumerate(kinds)
    ]
    return cell(*ones, case=case, **known)


class Page(HTMLParser):
    """What a page holds, by tag."""

    def __init__(self, text):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def all(self, tag, **wanted):
        return [at for name, at in self.found if name == tag and wanted.items() <= at.items()]


def size(png):
    return Image.open(io.BytesIO(png)).size


def test_every_type_has_one_place():
    assert [name for row in ROWS for _, names in row for name in names] == list(TYPES)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 40),
    corner=st.tuples(st.integers(-20, 40), st.integers(-20, 60)),
    side=st.integers(1, 50),
)
@settings(max_examples=80, deadline=None)
def test_a_mirrored_chromosome_shows_the_same_pixels_in_its_box(height, width, corner, side):
    box = (*map(float, corner), float(corner[0] + side), float(corner[1] + side))
    down = chromosome(height=height, width=width, box=box)
    rows = len(down.image)
    up = replace(
        down, image=down.image[::-1], q_down=False, box=(box[0], rows - box[3], box[2], rows - box[1])
    )

    first, second = upright(down), upright(up)

    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.box == second.box
    part = shown_box(first)
    if part is None:
        assert corner[0] >= width + 4 or corner[1] >= height + 4 or min(corner) + side <= 0
    else:
        x0, y0, x1, y1 = map(int, part)
        seen = down.image[max(corner[1], 0) : corner[1] + side, max(corner[0], 0) : corner[0] + side]
        np.testing.assert_array_equal(first.pixels[y0:y1, x0:x1], seen)


def test_background_around_a_chromosome_is_cut_and_its_box_moves_along():
    image = np.full((100, 80), 255, dtype=np.uint8)
    image[40:70, 30:45] = 90

    crop = upright(replace(chromosome(), image=image, box=(25.0, 45.0, 50.0, 60.0)))

    assert crop.pixels.shape == (34, 19)
    assert crop.box == (-3.0, 7.0, 22.0, 22.0)
    assert shown_box(crop) == (0.0, 7.0, 19.0, 22.0)


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 300)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_one_factor_holds_for_a_whole_case(sizes):
    crops = [upright(chromosome(height=height, width=width)) for height, width in sizes]

    scale = factor(crops)

    assert scale.numerator == 1 or scale.denominator == 1
    for crop in crops:
        drawn = drawn_pixels(crop, scale)
        assert max(drawn.size) <= 340
        assert abs(drawn.height - crop.pixels.shape[0] * scale) < 1
        assert abs(drawn.width - crop.pixels.shape[1] * scale) < 1


def test_a_usual_cell_is_enlarged_only_as_far_as_no_line_is_broken():
    ones = whole_cell().chromosomes
    wider = [chromosome(one.name, one.type, height=90, width=28) for one in ones]
    few = cell(*(chromosome(one.name, one.type, height=40, width=10) for one in ones))

    page = karyogram_page(cell(*wider))
    high = size(draw_karyogram(cell(*wider)))[1]

    assert factor([upright(one) for one in wider]) == 3
    assert 'class="karyogram" style="--k:2"' in page
    assert high < 4 * (2 * 94 + 22 + 76) + 300
    assert 'class="karyogram" style="--k:4"' in karyogram_page(few)


def test_a_picture_is_the_same_twice():
    assert draw_karyogram(whole_cell()) == draw_karyogram(whole_cell())


def test_a_picture_shows_every_chromosome_once(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "appliedpapers.plugins.varifocal_net.karyogram_picture.drawn_pixels",
        lambda crop, scale: seen.append(crop.placed.name) or drawn_pixels(crop, scale),
    )

    draw_karyogram(whole_cell())

    assert sorted(seen) == sorted(f"n{row}" for row in range(46))


@pytest.mark.parametrize(
    "mark",
    [
        {"needs_review": True},
        {"moved": True, "top3": (("7", 0.6), ("1", 0.3))},
        {"fixed": True},
        {"box": (3.0, 3.0, 9.0, 20.0)},
        {"q_down": False},
    ],
)
def test_what_is_known_of_a_chromosome_is_seen_in_the_picture(mark):
    assert draw_karyogram(cell(chromosome(**mark))) != draw_karyogram(cell(chromosome()))


@pytest.mark.parametrize("copies", [1, 46, 200])
@pytest.mark.parametrize("kind", ["1", "12", "Y"])
def test_many_copies_of_a_type_stay_on_the_page(copies, kind):
    case = cell(*(chromosome(f"n{row}", kind, height=40, width=22) for row in range(copies)))

    wide, high = size(draw_karyogram(case))

    assert wide <= 1240
    assert high < 6000
    assert len(Page(karyogram_page(case)).all("select")) == copies


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2000, 600), (50, 50)])
def test_odd_images_are_drawn(shape):
    white = replace(chromosome(), image=np.full(shape, 255, dtype=np.uint8), box=(-9.0, -9.0, 4000.0, 4000.0))

    assert size(draw_karyogram(cell(white)))[0] <= 1240
    assert Page(karyogram_page(cell(white))).all("img")


def test_names_of_any_kind_are_drawn_and_written():
    case = cell(chromosome(HOSTILE * 40), case="細胞 ü " + HOSTILE * 40)

    assert size(draw_karyogram(case))[0] <= 1240
    assert karyogram_page(case).count("<script") == 1


def test_a_page_escapes_names_and_runs_its_own_script_alone():
    case = cell(
        chromosome(HOSTILE, path=HOSTILE), case=HOSTILE, karyotype=HOSTILE, warnings=(HOSTILE,), sex=HOSTILE
    )

    text = karyogram_page(case)

    page = Page(text)
    assert len(page.all("script")) == 1
    assert "{{ 7*7 }}" in page.words
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert page.all("select")[0]["aria-label"] == f"settled type of {HOSTILE}"


def test_the_policy_allows_the_script_as_it_stands():
    import hashlib

    text = karyogram_page(whole_cell())

    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_a_page_needs_nothing_from_elsewhere():
    page = Page(karyogram_page(whole_cell(synthetic=True, warnings=("one",))))

    addresses = [at[key] for _, at in page.found for key in ("src", "href", "action", "data") if key in at]
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#c")) for address in addresses)
    assert not page.all("link") + page.all("iframe")
    assert "url(" not in karyogram_page(whole_cell())


def test_every_chromosome_stands_once_in_the_karyogram_and_once_in_the_table():
    page = Page(karyogram_page(whole_cell()))

    named = [at["alt"].partition(":")[0] for at in page.all("img") if at["alt"]]
    assert sorted(named) == sorted(f"n{row}" for row in range(46))
    links = [at["href"].removeprefix("#") for at in page.all("a")]
    rows = [at["id"] for at in page.all("tr") if "id" in at]
    assert sorted(links) == sorted(rows)
    assert len(set(rows)) == 46


def test_alternative_texts_say_what_a_picture_shows():
    one = chromosome(
        "m.png", "21", probability=0.4, moved=True, needs_review=True, top3=(("22", 0.5), ("21", 0.4))
    )

    images = Page(karyogram_page(cell(one))).all("img")

    assert images[0]["alt"] == "m.png: type 21, probability 0.400; needs review; moved from 22 by dispatch"
    assert images[1]["alt"] == ""  # its name stands in the next cell


def test_pixels_on_the_page_are_those_of_the_upright_chromosome():
    one = chromosome(q_down=False)

    uri = Page(karyogram_page(cell(one))).all("img")[0]["src"]

    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    np.testing.assert_array_equal(pixels, one.image[::-1])


def test_what_needs_review_comes_first_and_the_least_probable_on_top():
    ones = [
        chromosome("sure", "1"),
        chromosome("low", "5", probability=0.7, needs_review=True),
        chromosome("lowest", "9", probability=0.2, needs_review=True),
    ]

    order = [at["aria-label"].split()[-1] for at in Page(karyogram_page(cell(*ones))).all("select")]

    assert order == ["lowest", "low", "sure"]


def test_a_page_says_what_it_is_for_and_what_its_model_has_seen():
    simulated, real = karyogram_page(whole_cell(synthetic=True)), karyogram_page(whole_cell())

    for text in (simulated, real):
        assert "research use, not a diagnosis" in text
    assert 'class="synthetic"' in simulated
    assert 'class="synthetic"' not in real
    assert draw_karyogram(whole_cell(synthetic=True)) != draw_karyogram(whole_cell())


def test_a_settled_type_is_chosen_already():
    page = Page(karyogram_page(cell(chromosome("a", "13", fixed=True), chromosome("b", "13"))))

    assert sum("selected" in at for at in page.all("option")) == 1


def test_a_case_without_name_and_karyotype_has_a_page():
    text = karyogram_page(cell(chromosome(), case=None, karyotype="", dispatch="none"))

    assert "The counts were not judged" in text
    assert 'data-file="corrections.csv"' in text


def test_what_rounds_to_certainty_is_not_called_so():
    assert [probability_words(value) for value in (0, 0.0004, 0.5, 0.9994, 0.99999, 1)] == [
        "< 0.001",
        "< 0.001",
        "0.500",
        "0.999",
        "> 0.999",
        "> 0.999",
    ]


def test_karyograms_of_several_hundred_large_images_stay_below_three_megabytes():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 240, (300, 120)).astype(np.uint8) for _ in range(150)]
    case = cell(*(replace(chromosome(f"n{row}"), image=image) for row, image in enumerate(noise)))

    assert len(karyogram_page(case)) < 3_000_000

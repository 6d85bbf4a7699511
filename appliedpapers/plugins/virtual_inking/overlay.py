"""The slide with its margin as one PNG: for mails, slides and prints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.files import whole_file
from appliedpapers.plugins.virtual_inking.geojson import COLOURS

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from appliedpapers.plugins.virtual_inking.drawing import Drawn

_FOOT = 76  # pixels below the picture: legend, scale and notice
_WIDTH = 4
_TEXT = (40, 40, 40)
_LEGEND = (("cut", "Cut", "cut surface (predicted)"), ("natural", "Natural", "natural"))
_GREY = ("not_assessable", "Not assessable", "not assessable")


def write_overlay(drawn: Drawn, path: Path, longest: int) -> None:
    """Write the picture.

    Args:
        drawn: The slide with its margin.
        path: The PNG.
        longest: Its longer side in pixels, without the legend.
    """
    from PIL import Image, ImageDraw

    slide = drawn.source.open()
    try:
        mpp = max(max(slide.extent_um) / longest, min(slide.mpp))
        thumbnail, own = slide.thumbnail(mpp)
    finally:
        slide.close()
    height, width = thumbnail.shape[:2]
    picture = Image.new("RGB", (max(width, 420), height + _FOOT), "white")
    picture.paste(Image.fromarray(thumbnail), (0, 0))
    pen = ImageDraw.Draw(picture)
    for state, kind, _ in (*_LEGEND[::-1], _GREY):
        for one in drawn.stretches:
            if one.state == state:
                line = [(float(x / own[0]), float(y / own[1])) for x, y in one.points]
                pen.line(line, fill=COLOURS[kind], width=_WIDTH + 2 * (state == "cut"), joint="curve")
    for _, ring, clearance in drawn.clearances:
        places = [(float(x * drawn.mpp[0] / own[0]), float(y * drawn.mpp[1] / own[1])) for x, y in ring]
        pen.line([*places, places[0]], fill=COLOURS["Tissue"], width=2)
        if clearance is not None:
            ends = [(x / own[0], y / own[1]) for x, y in (clearance.where, clearance.margin)]
            pen.line(ends, fill=(0, 0, 0), width=2)
    _foot(pen, drawn, picture.width, height, own[0])
    with whole_file(path) as aside:
        picture.save(aside, "PNG")


def _foot(pen: ImageDraw, drawn: Drawn, width: int, top: int, mpp: float) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(13)
    x = 10
    for _, kind, words in (*_LEGEND, _GREY):
        pen.line([(x, top + 16), (x + 22, top + 16)], fill=COLOURS[kind], width=5)
        pen.text((x + 28, top + 8), words, fill=_TEXT, font=font)
        x += 44 + round(pen.textlength(words, font=font))
    length = nice_length(width * mpp / 5)
    end = 10 + length / mpp
    pen.line([(10, top + 40), (end, top + 40)], fill=_TEXT, width=3)
    words = f"{length / 1000:g} mm"
    pen.text((end + 8, top + 31), words, fill=_TEXT, font=font)
    for number, notice in enumerate(drawn.notices[:2]):
        pen.text((10 + 0, top + 50 + 12 * number), notice, fill=_TEXT, font=ImageFont.load_default(10))


def nice_length(most: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is at most ``most``."""
    power = 10 ** math.floor(math.log10(max(most, 1e-9)))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))

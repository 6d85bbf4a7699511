"""A static page with the zoomable slide and its margin: DeepZoom tiles and a little script, no server."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.files import whole_file, write_text
from appliedpapers.core.page import page_template
from appliedpapers.plugins.virtual_inking.geojson import COLOURS
from appliedpapers.plugins.virtual_inking.slides import Slide

if TYPE_CHECKING:
    from appliedpapers.plugins.virtual_inking.drawing import Drawn

Bytes = NDArray[np.uint8]

TILE = 256

_QUALITY = 85
_DZI = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" Overlap="0" TileSize="{tile}">\n'
    '  <Size Width="{width}" Height="{height}"/>\n'
    "</Image>\n"
)


def write_viewer(drawn: Drawn, folder: Path, mpp: float) -> None:
    """Write ``index.html``, ``slide.dzi`` and ``slide_files/<level>/<column>_<row>.jpg`` into a folder.

    Args:
        drawn: The slide with its margin.
        folder: Where it goes.
        mpp: Finest resolution; never finer than the slide.
    """
    slide = drawn.source.open()
    try:
        scale = max(mpp / min(slide.mpp), 1.0)
        size = (max(math.ceil(slide.size[0] / scale), 1), max(math.ceil(slide.size[1] / scale), 1))
        _Pyramid(slide, size, scale, folder / "slide_files").write()
    finally:
        slide.close()
    write_text(folder / "slide.dzi", _DZI.format(tile=TILE, width=size[0], height=size[1]))
    page = page_template("appliedpapers.plugins.virtual_inking", "viewer.html")
    document = json.dumps(_document(drawn, size), allow_nan=False)
    # a text in the slide's name must not end the script
    from markupsafe import Markup

    safe = document.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    write_text(
        folder / "index.html", page.render(title=drawn.slide_id, notices=drawn.notices, data=Markup(safe))
    )


def _document(drawn: Drawn, size: tuple[int, int]) -> dict[str, Any]:
    scale = np.array(size) / (np.array(drawn.size) * drawn.mpp)
    return {
        "width": size[0],
        "height": size[1],
        "tile": TILE,
        "levels": _levels(size),
        "mpp": drawn.size[0] * drawn.mpp[0] / size[0],
        "lines": [
            {
                "number": number,
                "state": one.state,
                "points": np.round(one.points * scale, 2).tolist(),
                "length_mm": round(one.length_mm, 4),
                "probability": None if np.isnan(one.probability) else round(one.probability, 4),
            }
            for number, one in enumerate(drawn.stretches)
        ],
        "lesions": [
            {
                "name": name,
                "points": np.round(ring * drawn.mpp * scale, 2).tolist(),
                "minimum_um": None if one is None else round(one.minimum, 1),
                "line": None
                if one is None
                else np.round(np.array([one.where, one.margin]) * scale, 2).tolist(),
            }
            for name, ring, one in drawn.clearances
        ],
        "colours": {
            "cut": _css("Cut"),
            "natural": _css("Natural"),
            "not_assessable": _css("Not assessable"),
            "lesion": _css("Tissue"),
        },
    }


def _css(kind: str) -> str:
    return "rgb({}, {}, {})".format(*COLOURS[kind])


def _levels(size: tuple[int, int]) -> int:
    """Return the number of levels: the last is the whole size, the first a single pixel."""
    return math.ceil(math.log2(max(*size, 1))) + 1


class _Pyramid:
    """Writes the tiles from the finest level down; a coarser tile is made of the four below it."""

    def __init__(self, slide: Slide, size: tuple[int, int], scale: float, folder: Path) -> None:
        self._slide, self._size, self._scale, self._folder = slide, size, scale, folder
        self._last = _levels(size) - 1
        self._source = max(
            (number for number, own in enumerate(slide.downsamples) if own <= scale * 1.01),
            key=lambda number: slide.downsamples[number],
            default=0,
        )

    def write(self) -> None:
        """Write all levels; memory is a few tiles a level."""
        self._tile(0, 0, 0)

    def _level_size(self, level: int) -> tuple[int, int]:
        half = 2 ** (self._last - level)
        return max(math.ceil(self._size[0] / half), 1), max(math.ceil(self._size[1] / half), 1)

    def _tile(self, level: int, column: int, row: int) -> Bytes | None:
        from PIL import Image

        width, height = self._level_size(level)
        if column * TILE >= width or row * TILE >= height:
            return None
        size = min(TILE, width - column * TILE), min(TILE, height - row * TILE)
        finest = level == self._last
        rgb = self._read(column, row, size) if finest else self._halved(level, column, row, size)
        path = self._folder / str(level) / f"{column}_{row}.jpg"
        with whole_file(path) as aside:
            Image.fromarray(rgb).save(aside, "JPEG", quality=_QUALITY)
        return rgb

    def _halved(self, level: int, column: int, row: int, size: tuple[int, int]) -> Bytes:
        from PIL import Image

        whole = np.full((2 * size[1], 2 * size[0], 3), 255, dtype=np.uint8)
        for down in (0, 1):
            for right in (0, 1):
                part = self._tile(level + 1, 2 * column + right, 2 * row + down)
                if part is None:
                    continue
                top, left = down * TILE, right * TILE
                kept = part[: whole.shape[0] - top, : whole.shape[1] - left]
                whole[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
        return np.asarray(Image.fromarray(whole).resize(size, Image.Resampling.BOX))

    def _read(self, column: int, row: int, size: tuple[int, int]) -> Bytes:
        from PIL import Image

        x, y = (math.floor(place * TILE * self._scale) for place in (column, row))
        own = self._slide.downsamples[self._source]
        wide = [max(math.floor(side * self._scale / own + 0.5), 1) for side in size]
        found = self._slide.read(self._source, x, y, wide[0], wide[1])
        return np.asarray(Image.fromarray(found).resize(size, Image.Resampling.BOX))

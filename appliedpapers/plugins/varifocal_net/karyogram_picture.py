"""The karyogram of a case as a PNG file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.figures import FLAGGED, GRID, INK, MUTED, OURS, text_colour
from appliedpapers.plugins.varifocal_net.karyogram import (
    CAVEAT,
    DISPATCH,
    ROWS,
    SYNTHETIC,
    Cell,
    Crop,
    Placed,
    drawn_pixels,
    factor,
    moved_from,
    scale_words,
    shown_box,
    type_label,
    upright,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

_WIDEST, _NARROWEST = 1180, 940  # of the drawing between its margins
_SIDE = 30
_COPY_GAP, _SLOT_GAP, _GROUP_GAP = 8, 26, 44
_EMPTY = 34  # width of a type without chromosomes
_SIGNS, _LABELS, _LINE_GAP = 22, 52, 24  # heights under a line of chromosomes
_SIGN_SIZE, _LABEL_SIZE, _SMALL, _NAME_SIZE, _HEAD_SIZE = 14, 17, 14, 16, 26
_LONGEST_TEXT = 300  # characters; more are never legible on one line


@dataclass(frozen=True)
class _Slot:
    """The chromosomes of one type, in lines that fit the page."""

    name: str
    group: str
    lines: tuple[tuple[Crop, ...], ...]
    width: int
    height: int


def draw_karyogram(cell: Cell) -> bytes:
    """Return the karyogram of a case as PNG; the same case always gives the same bytes.

    Low confidence is a coloured bar and a question mark, a type changed by dispatch an arrow from the type
    that was most probable, a type that a person has settled a tick. Counts other than two are written beside
    autosomes.

    Args:
        cell: The case, with one chromosome at least.
    """
    from PIL import Image as images
    from PIL import ImageDraw

    crops = {id(one): upright(one) for one in cell.chromosomes}
    scale, lines = _lines(cell, crops)
    wide = max(_NARROWEST, *(_width(line) for line in lines))
    head = _header(cell, scale)
    legend = _legend(cell, list(crops.values()))
    heights = [max(slot.height for slot in line) + _LABELS + _LINE_GAP for line in lines]
    top = _SIDE + sum(size + 10 for _, size, _, _ in head) + 14
    foot = top + sum(heights)
    canvas = images.new("RGB", (wide + 2 * _SIDE, foot + 26 * len(legend) + _SIDE), "white")
    pen = ImageDraw.Draw(canvas)
    y = _SIDE
    for text, size, bold, colour in head:
        pen.text((_SIDE, y), _fitted(text, _font(size, bold), wide), colour, _font(size, bold))
        y += size + 10
    y = top
    for line, height in zip(lines, heights, strict=True):
        _draw_line(canvas, line, y + height - _LABELS - _LINE_GAP, wide, scale)
        y += height
    for number, (sign, colour, text) in enumerate(legend):
        pen.text((_SIDE, foot + 26 * number), sign, colour, _font(_SMALL, True))
        pen.text((_SIDE + 46, foot + 26 * number), text, MUTED, _font(_SMALL))
    file = io.BytesIO()
    canvas.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _lines(cell: Cell, crops: Mapping[int, Crop]) -> tuple[Fraction, list[list[_Slot]]]:
    """Return the largest scale at which no line of a karyogram is broken, else the largest, and its lines."""
    largest = factor(list(crops.values()))
    for scale in [Fraction(times) for times in range(int(largest), 0, -1)]:
        lines = _lines_at(cell, crops, scale)
        if len(lines) == len(ROWS) and all(len(slot.lines) < 2 for line in lines for slot in line):
            return scale, lines
    return largest, _lines_at(cell, crops, largest)


def _lines_at(cell: Cell, crops: Mapping[int, Crop], scale: Fraction) -> list[list[_Slot]]:
    return [
        line
        for row in ROWS
        for line in _flow(
            [
                _slot(name, letter or "sex", [crops[id(one)] for one in cell.of_type(name)], scale)
                for letter, names in row
                for name in names
            ]
        )
    ]


def _header(cell: Cell, scale: Fraction) -> list[tuple[str, int, bool, str]]:
    count = len(cell.chromosomes)
    found = f"{count} chromosome{'' if count == 1 else 's'}"
    lines = [
        (f"Karyogram of {cell.case}" if cell.case else "Karyogram", _NAME_SIZE, False, MUTED),
        (f"{cell.karyotype}   {found}" if cell.karyotype else found, _HEAD_SIZE, True, INK),
        (f"{DISPATCH[cell.dispatch]} · {scale_words(scale)} · {CAVEAT}", _SMALL, False, MUTED),
    ]
    if cell.synthetic:
        lines.append((SYNTHETIC, _SMALL, True, text_colour(FLAGGED)))
    return lines


def _legend(cell: Cell, crops: Sequence[Crop]) -> list[tuple[str, str, str]]:
    ones = cell.chromosomes
    shown = [
        (
            any(crop.box for crop in crops),
            ("□", OURS, "where the local network looked"),
        ),
        (
            any(one.needs_review for one in ones),
            ("?", text_colour(FLAGGED), "not probable enough: check the type by eye"),
        ),
        (
            any(one.moved for one in ones),
            ("← n", INK, "alone it looked more like n; put here to make the cell consistent"),
        ),
        (any(one.fixed for one in ones), ("✓", INK, "settled by a person")),
    ]
    return [line for wanted, line in shown if wanted]


def _slot(name: str, group: str, crops: Sequence[Crop], scale: Fraction) -> _Slot:
    lines: list[list[Crop]] = []
    used = 0
    for crop in crops:
        width = _breadth(crop, scale)
        if not lines or used + width > _WIDEST:
            lines.append([])
            used = 0
        lines[-1].append(crop)
        used += width + _COPY_GAP
    widths = [sum(_breadth(crop, scale) + _COPY_GAP for crop in line) - _COPY_GAP for line in lines]
    height = sum(_tallest(line, scale) + _SIGNS for line in lines)
    label = int(_font(_LABEL_SIZE, True).getlength(type_label(name, len(crops)))) + 1
    return _Slot(name, group, tuple(map(tuple, lines)), max(_EMPTY, label, *widths, 0), height)


def _flow(slots: Sequence[_Slot]) -> list[list[_Slot]]:
    """Return slots in lines that fit the page."""
    lines: list[list[_Slot]] = [[]]
    for slot in slots:
        if lines[-1] and _width([*lines[-1], slot]) > _WIDEST:
            lines.append([])
        lines[-1].append(slot)
    return lines


def _width(line: Sequence[_Slot]) -> int:
    groups = [list(slots) for _, slots in groupby(line, lambda slot: slot.group)]
    gaps = _GROUP_GAP * (len(groups) - 1) + _SLOT_GAP * (len(line) - len(groups))
    return sum(slot.width for slot in line) + gaps


def _draw_line(canvas: Image, line: Sequence[_Slot], base: int, wide: int, scale: Fraction) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(canvas)
    groups = [(name, list(slots)) for name, slots in groupby(line, lambda slot: slot.group)]
    spare = (wide - _width(line)) // max(len(groups) - 1, 1) if len(groups) > 1 else 0
    x = _SIDE
    for name, slots in groups:
        first = x
        for slot in slots:
            _draw_slot(canvas, slot, x, base, scale)
            x += slot.width + _SLOT_GAP
        x -= _SLOT_GAP
        pen.line((first, base + 28, x, base + 28), GRID, 1)
        pen.text(((first + x) / 2, base + 40), name, MUTED, _font(_SMALL), anchor="mm")
        x += _GROUP_GAP + spare


def _draw_slot(canvas: Image, slot: _Slot, x: int, base: int, scale: Fraction) -> None:
    from PIL import ImageDraw

    y = base - slot.height
    for line in slot.lines:
        y += _tallest(line, scale)
        used = sum(_breadth(crop, scale) + _COPY_GAP for crop in line) - _COPY_GAP
        left = x + (slot.width - used) // 2
        for crop in line:
            breadth = _breadth(crop, scale)
            _draw_crop(canvas, crop, left, y, breadth, scale)
            left += breadth + _COPY_GAP
        y += _SIGNS
    centre = x + slot.width / 2
    pen = ImageDraw.Draw(canvas)
    if not slot.lines:
        pen.line((centre - 8, base - 8, centre + 8, base - 8), MUTED, 1)
    count = sum(map(len, slot.lines))
    pen.text((centre, base + 14), type_label(slot.name, count), INK, _font(_LABEL_SIZE, True), anchor="mm")


def _draw_crop(canvas: Image, crop: Crop, x: int, base: int, breadth: int, scale: Fraction) -> None:
    from PIL import ImageDraw

    image = drawn_pixels(crop, scale)
    left, top = x + (breadth - image.width) // 2, base - image.height
    canvas.paste(image, (left, top))
    pen = ImageDraw.Draw(canvas)
    if box := shown_box(crop):
        x0, y0, x1, y1 = (round(value * scale) for value in box)
        pen.rectangle((left + x0, top + y0, left + max(x0, x1 - 1), top + max(y0, y1 - 1)), None, OURS)
    placed = crop.placed
    if placed.needs_review:
        pen.rectangle((left, base + 1, left + image.width - 1, base + 3), FLAGGED)
    at = x + (breadth - _signs_width(placed)) / 2
    for text, colour in _signs(placed):
        pen.text((at, base + 12), text, colour, _font(_SIGN_SIZE, True), anchor="lm")
        at += _font(_SIGN_SIZE, True).getlength(text)


def _signs(placed: Placed) -> Iterator[tuple[str, str]]:
    if placed.needs_review:
        yield "?", text_colour(FLAGGED)
    if source := moved_from(placed):
        yield f"←{source}", INK
    if placed.fixed:
        yield "✓", INK


def _signs_width(placed: Placed) -> float:
    return sum(_font(_SIGN_SIZE, True).getlength(text) for text, _ in _signs(placed))


def _breadth(crop: Crop, scale: Fraction) -> int:
    return max(_drawn(crop.pixels.shape[1], scale), int(_signs_width(crop.placed)) + 1)


def _tallest(line: Sequence[Crop], scale: Fraction) -> int:
    return max(_drawn(crop.pixels.shape[0], scale) for crop in line)


def _drawn(length: int, scale: Fraction) -> int:
    return -(-length * scale.numerator // scale.denominator)


def _fitted(text: str, font: FreeTypeFont, width: int) -> str:
    """Return a text on one line that is no wider than the page."""
    line = "".join(sign if sign.isprintable() else " " for sign in text[:_LONGEST_TEXT])
    whole = len(line) == len(text)
    while line and font.getlength(line if whole else f"{line}…") > width:
        line, whole = line[:-1], False
    return line if whole else f"{line}…"


@cache
def _font(size: int, bold: bool = False) -> FreeTypeFont:
    # DejaVu comes with matplotlib and has the signs that Pillow's own font lacks
    import matplotlib as mpl
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path(), "fonts", "ttf", name)), size)

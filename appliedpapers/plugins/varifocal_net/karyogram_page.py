"""The karyogram of a case as a page: one HTML file on which types are checked and settled."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from appliedpapers.core.page import page_template
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES
from appliedpapers.plugins.varifocal_net.corrections import COLUMNS, corrections, csv_line
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
    probability_words,
    shown_box,
    type_label,
    upright,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

_PACKAGE = "appliedpapers.plugins.varifocal_net"
_WIDE = 1048  # pixels between the margins of the page on a large screen
_COPY_GAP, _TYPE_GAP, _GROUP_GAP, _TYPE = 4, 16, 32, 32  # as in the template
_PRINTED = Fraction(5, 8)  # of the size on screen: all types of a usual cell stand on one sheet of A4
_ON_PHONE = Fraction(2, 3)
_LISTED = Fraction(1, 2)


def karyogram_page(cell: Cell) -> str:
    """Return the karyogram of a case as an HTML page that needs no other file.

    Every chromosome is a link to its line in a table, where its type can be settled; a button saves the
    corrections file that :func:`write_corrections` writes. Below 3 MB for up to several hundred chromosomes.

    Args:
        cell: The case, with one chromosome at least.
    """
    crops = [upright(one) for one in cell.chromosomes]
    scale = _fitting(crops)
    lines = [csv_line(line.fields()[:-1]) for line in corrections(cell)]
    ones = [_one(number, crop, scale, lines[number]) for number, crop in enumerate(crops)]
    script, script_hash = _script()
    return _template().render(
        case=cell.case,
        title=" · ".join(filter(None, ("Karyogram", cell.case, cell.karyotype, CAVEAT))),
        verdict=_verdict(cell),
        facts=[_counted(len(ones), "chromosome"), DISPATCH[cell.dispatch]],
        synthetic=SYNTHETIC if cell.synthetic else "",
        rows=_rows(cell, ones),
        table=sorted(ones, key=_urgency),
        warnings=cell.warnings,
        unwarned="None." if cell.karyotype else "The counts were not judged: the cell is not known.",
        boxed=any(one["box"] for one in ones),
        low=any(one["review"] for one in ones),
        moved=any(one["source"] for one in ones),
        settled=any(one["fixed"] for one in ones),
        types=TYPES,
        scale=_css(scale),
        print_scale=_css(scale * _PRINTED),
        phone_scale=_css(scale * _ON_PHONE),
        small_scale=_css(scale * _LISTED),
        head=",".join(COLUMNS),
        file=_file_name(cell),
        script=script,
        script_hash=script_hash,
    )


def _fitting(crops: Sequence[Crop]) -> Fraction:
    """Return the largest scale at which no row is broken on a large screen, else the largest."""
    largest = factor(crops)
    for times in range(int(largest), 0, -1):
        if all(_row_width(row, crops, times) <= _WIDE for row in ROWS):
            return Fraction(times)
    return largest


def _row_width(row: Sequence[tuple[str, Sequence[str]]], crops: Sequence[Crop], times: int) -> int:
    widths = _GROUP_GAP * (len(row) - 1)
    for _, names in row:
        for name in names:
            copies = [times * crop.pixels.shape[1] for crop in crops if crop.placed.type == name]
            widths += max(_TYPE, sum(copies) + _COPY_GAP * (len(copies) - 1))
        widths += _TYPE_GAP * (len(names) - 1)
    return widths


def _one(number: int, crop: Crop, scale: Fraction, line: str) -> dict[str, Any]:
    """Return what the page says of one chromosome."""
    placed = crop.placed
    height, width = crop.pixels.shape
    polarity = (
        f"{'down' if placed.q_down else 'up (mirrored)'}, {probability_words(placed.polarity_probability)}"
    )
    top = ", ".join(f"{name} ({probability_words(chance)})" for name, chance in placed.top3)
    source, note = moved_from(placed), _note(placed)
    probability = probability_words(placed.probability)
    marks = "; ".join(filter(None, ("needs review" if placed.needs_review else "", note)))
    told = f"type {placed.type}, {probability} · most probable {top} · q-arm {polarity}"
    return {
        "number": number,
        "name": placed.name,
        "type": placed.type,
        "probability": probability,
        "chance": placed.probability,
        "top": top,
        "polarity": polarity,
        "source": source,
        "note": note,
        "review": placed.needs_review,
        "fixed": placed.fixed,
        "told": f"{told} · {marks}" if marks else told,
        "alt": f"{placed.name}: type {placed.type}, probability {probability}{'; ' if marks else ''}{marks}",
        "uri": _uri(crop, scale),
        "width": width,
        "height": height,
        "box": _percent(crop),
        "line": line,
    }


def _note(placed: Placed) -> str:
    source = moved_from(placed)
    if placed.fixed:
        return "settled by a person"
    return f"moved from {source} by dispatch" if source else ""


def _urgency(one: dict[str, Any]) -> tuple[Any, ...]:
    """Sort what needs review first, the least probable on top, and the others by type."""
    if one["review"]:
        return (0, one["chance"], one["number"])
    return (1, TYPES.index(one["type"]), one["number"])


def _rows(cell: Cell, ones: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    by_type: dict[str, list[dict[str, Any]]] = {name: [] for name in TYPES}
    for one in ones:
        by_type[one["type"]].append(one)
    return [
        [
            {
                "letter": letter,
                "types": [
                    {"label": type_label(name, len(by_type[name])), "copies": by_type[name]} for name in names
                ],
            }
            for letter, names in row
        ]
        for row in ROWS
    ]


def _verdict(cell: Cell) -> str:
    review = sum(one.needs_review for one in cell.chromosomes)
    moved = sum(moved_from(one) is not None for one in cell.chromosomes)
    to_check = (
        f"{review} of {_counted(len(cell.chromosomes), 'chromosome')} to review, {moved} moved by dispatch"
    )
    return f"{cell.karyotype} · {to_check}" if cell.karyotype else to_check


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _percent(crop: Crop) -> tuple[float, ...] | None:
    """Return left, top, width and height of the box in percent of what is shown."""
    box = shown_box(crop)
    if box is None:
        return None
    height, width = crop.pixels.shape
    x0, y0, x1, y1 = box
    shares = x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height
    return tuple(round(100 * share, 2) for share in shares)


def _uri(crop: Crop, scale: Fraction) -> str:
    # enlarged by the browser: repeated pixels need not be stored
    file = io.BytesIO()
    drawn_pixels(crop, min(scale, Fraction(1))).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _css(scale: Fraction) -> str:
    return f"{float(scale):.4g}"


def _file_name(cell: Cell) -> str:
    case = re.sub(r"[^\w.-]+", "-", cell.case or "").strip(".-")[:80]
    return f"corrections-{case}.csv" if case else "corrections.csv"


@cache
def _template() -> Template:
    return page_template(_PACKAGE, "karyogram.html")


@cache
def _script() -> tuple[Markup, str]:
    """Return the script and its hash, the only one that the page lets run."""
    from markupsafe import Markup

    text = files(_PACKAGE).joinpath("karyogram.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"

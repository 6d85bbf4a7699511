"""From what was read of each chromosome to the table, the karyograms and the lists that people work with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.files import sha256_file, whole_file, write_text
from appliedpapers.core.image_headers import read_header
from appliedpapers.plugins.varifocal_net.answers import OUTPUT, POLARITIES
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, Chromosomes
from appliedpapers.plugins.varifocal_net.corrections import corrections, write_cases, write_corrections
from appliedpapers.plugins.varifocal_net.dispatch import plain_labels
from appliedpapers.plugins.varifocal_net.karyogram import Cell, Placed
from appliedpapers.plugins.varifocal_net.karyotype import Karyotype, settle
from appliedpapers.plugins.varifocal_net.readers import names_of_table

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.varifocal_net.config import ReviewConfig
    from appliedpapers.plugins.varifocal_net.reading import Reading

KARYOGRAMS, IMAGES, CASES, CORRECTIONS = "karyograms", "images", "cases.csv", "corrections.csv"

_ALONE = "its cell is not known: read by itself, nothing made consistent"
_TOP = 3
_LONGEST_NAME = 80  # bytes: file systems take 255, of which a file that is being written needs 30
_HASHED = re.compile(r"-[0-9a-f]{8}\Z")


@dataclass(frozen=True)
class Order:
    """What is to be delivered.

    Attributes:
        table: The input rows.
        chromosomes: Those whose image could be used, in the order of the table.
        unusable: What is wrong with each other row, by its number.
        reading: Of ``chromosomes``.
        review: How cells are made consistent and what is listed for review.
        synthetic: Whether the model knows simulated images only.
    """

    table: pa.Table
    chromosomes: Chromosomes
    unusable: Mapping[int, str]
    reading: Reading
    review: ReviewConfig
    synthetic: bool

    @cached_property
    def rows(self) -> list[int]:
        """Number of the input row of each chromosome."""
        return [row for row in range(self.table.num_rows) if row not in self.unusable]


def deliver(order: Order, files: Path | None) -> pa.Table:
    """Return the output rows, and write karyograms and lists where there is a folder for them.

    Args:
        order: What was read.
        files: Folder of ``karyograms/``, ``cases.csv`` and ``corrections.csv``, and of ``images/`` where
            images came without a file of their own; None writes nothing.

    Raises:
        RunError: The folder is not writable or the disk is full.
    """
    own = order.chromosomes
    labels, karyotypes = _settled(order)
    placed = [_placed(order, row, int(label), files) for row, label in enumerate(labels)]
    drawn: dict[str, tuple[str | None, str | None]] = {}
    if files is not None:
        cells = _cells(order, placed, karyotypes)
        drawn = _write(cells, files, order.review.karyograms)
    rows: list[dict[str, Any]] = []
    for row, one in enumerate(placed):
        case = own.cases[row]
        karyotype = None if case is None else karyotypes[case]
        path, sha256 = (None, None) if case is None else drawn.get(case, (None, None))
        rows.append(
            {
                **_told(one, order.reading.boxes[row]),
                "karyotype": None if karyotype is None else karyotype.text,
                "warnings": _ALONE if karyotype is None else "; ".join(karyotype.warnings),
                "karyogram_path": path,
                "karyogram_sha256": sha256,
            }
        )
    return _to_table(order, rows)


def _settled(order: Order) -> tuple[NDArray[np.int16], dict[str, Karyotype]]:
    """Return the types that are consistent over each cell, and what they say of it."""
    own, types = order.chromosomes, order.reading.types
    labels = plain_labels(types, fixed=own.fixed) if len(own) else np.empty(0, dtype=np.int16)
    karyotypes = {}
    for case, rows in own.rows_by_case().items():
        settled = settle(types[rows], own.fixed[rows], order.review)
        labels[rows], karyotypes[case] = settled.labels, settled.karyotype
    return labels, karyotypes


def _placed(order: Order, row: int, label: int, files: Path | None) -> Placed:
    own, reading = order.chromosomes, order.reading
    chances = reading.types[row]
    best = np.argsort(-chances, kind="stable")[:_TOP]
    fixed = bool(own.fixed[row] != UNKNOWN)
    q_down = bool(reading.q_down[row] >= 0.5)
    return Placed(
        name=own.names[row],
        image=own.images[row],
        type=TYPES[label],
        probability=float(chances[label]),
        top3=tuple((TYPES[kind], float(chances[kind])) for kind in best),
        q_down=q_down,
        polarity_probability=float(max(reading.q_down[row], 1 - reading.q_down[row])),
        box=tuple(reading.boxes[row].tolist()),
        moved=label != int(best[0]) and not fixed,
        needs_review=not fixed and float(chances[label]) < order.review.confidence,
        fixed=fixed,
        path=_image_path(order, row, files),
    )


def _image_path(order: Order, row: int, files: Path | None) -> str | None:
    """Return the path of an image; what came as bytes is written, as it came, to where lists find it.

    The path is then relative to the lists, and says nothing of the rows around: its name is of the case, the
    chromosome and the bytes.
    """
    source: str | bytes = order.table.column("image")[order.rows[row]].as_py()
    if isinstance(source, str):
        return source
    if files is None:
        return None
    own, header = order.chromosomes, read_header(source)
    stem = file_stem("-".join(name for name in (own.cases[row], own.names[row]) if name))
    digest = hashlib.sha256(source).hexdigest()[:8]
    name = f"{IMAGES}/{stem}-{digest}{header.suffix if header else ''}"
    with whole_file(files / name) as aside:
        aside.write_bytes(source)
    return name


def _cells(order: Order, placed: Sequence[Placed], karyotypes: Mapping[str, Karyotype]) -> list[Cell]:
    own = order.chromosomes
    cells = [
        Cell(
            case,
            [placed[row] for row in rows],
            karyotypes[case].text,
            order.review.dispatch,
            sex=karyotypes[case].sex or None,
            flagged=karyotypes[case].flagged,
            warnings=karyotypes[case].warnings,
            synthetic=order.synthetic,
        )
        for case, rows in own.rows_by_case().items()
    ]
    alone = [one for one, case in zip(placed, own.cases, strict=True) if case is None]
    return [*cells, Cell(None, alone, "", "none", synthetic=order.synthetic)] if alone else cells


def _write(cells: Sequence[Cell], files: Path, karyograms: bool) -> dict[str, tuple[str | None, str | None]]:
    """Write the lists and the karyograms, and return where the page of each case is, with its checksum."""
    write_cases(files / CASES, (cell for cell in cells if cell.case is not None))
    write_corrections(files / CORRECTIONS, (line for cell in cells for line in corrections(cell)))
    return {cell.case: _draw(cell, files) for cell in cells if cell.case is not None and karyograms}


def _draw(cell: Cell, files: Path) -> tuple[str, str]:
    from appliedpapers.plugins.varifocal_net.karyogram_page import karyogram_page
    from appliedpapers.plugins.varifocal_net.karyogram_picture import draw_karyogram

    page = files / KARYOGRAMS / f"{file_stem(cell.case or '')}.html"
    with whole_file(page.with_suffix(".png")) as aside:
        aside.write_bytes(draw_karyogram(cell))
    write_text(page, karyogram_page(cell))
    return page.relative_to(files).as_posix(), sha256_file(page)


def file_stem(case: str) -> str:
    """Return a case's name as a file name; where that changes it, a part of its hash keeps names apart."""
    plain = re.sub(r"[^\w.-]+", "-", case).strip(".-").encode()[:_LONGEST_NAME].decode(errors="ignore")
    if plain and plain == case and not _HASHED.search(plain):
        return plain
    return f"{plain or 'case'}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"


def _told(one: Placed, box: NDArray[np.float64]) -> dict[str, Any]:
    top = {
        key: value
        for place, (kind, chance) in enumerate(one.top3, start=1)
        for key, value in ((f"type_{place}", kind), (f"probability_{place}", chance))
    }
    return {
        "type": one.type,
        "probability": one.probability,
        **top,
        "moved": one.moved,
        "polarity": POLARITIES[one.q_down],
        "polarity_probability": one.polarity_probability,
        **dict(zip(("box_x0", "box_y0", "box_x1", "box_y1"), box.tolist(), strict=True)),
        "needs_review": one.needs_review,
    }


def _to_table(order: Order, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    import pyarrow as pa

    told = dict(zip(order.rows, rows, strict=True))
    schema = OUTPUT.arrow_schema()
    names = dict(zip(("case", "chromosome"), names_of_table(order.table), strict=True))
    whole: list[dict[str, Any]] = []
    for row in range(order.table.num_rows):
        whole.append({**told.get(row, {}), "problem": order.unusable.get(row)})
    columns = {
        field.name: pa.array(
            names.get(field.name) or [one.get(field.name) for one in whole],
            field.type,
        )
        for field in schema
    }
    return pa.table(columns, schema=schema)

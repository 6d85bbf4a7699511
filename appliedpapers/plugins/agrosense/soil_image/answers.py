"""The tables that go in and out: one row a photo; what its field shows is repeated on each of its photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.schema import Column, OutputSchema, TableSchema

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

TOP = 3
_LEAST = 1e-12

INPUT = TableSchema(
    (
        Column(
            "field",
            "string",
            "the field that the photo shows; photos of one field are averaged",
            nullable=True,
            required=False,
            example="north-3",
        ),
        Column("photo", "string", "name of the photo", nullable=True, required=False, example="IMG_0412"),
        Column("image", "string", "photo of soil: JPEG, PNG, WebP, TIFF or BMP", file="image"),
    ),
    group_by=("field",),
)


def output_schema(classes: Sequence[str]) -> OutputSchema:
    """Return the schema of answers about soils of these classes."""
    kinds = tuple(classes) or None
    share: dict[str, Any] = {"minimum": 0.0, "maximum": 1.0, "nullable": True}
    columns = [
        Column("field", "string", "the field", nullable=True),
        Column("photo", "string", "name of the photo", nullable=True),
        Column("soil", "string", "soil of the field, over all its photos", nullable=True, categories=kinds),
        Column("probability", "float64", "probability of that soil, calibrated", **share),
    ]
    for place in range(1, min(TOP, len(classes) or TOP) + 1):
        columns += [
            Column(
                f"soil_{place}",
                "string",
                f"soil in place {place} by this photo alone",
                nullable=True,
                categories=kinds,
            ),
            Column(f"probability_{place}", "float64", f"probability of soil_{place}, calibrated", **share),
        ]
    columns += [
        Column("photos", "int64", "photos of the field that were averaged", minimum=0),
        Column(
            "agreement",
            "float64",
            "share of them that show the field's soil when each is asked alone",
            **share,
        ),
        Column(
            "novelty",
            "float64",
            "distance from all known photos; above 1 it is new",
            minimum=0,
            nullable=True,
        ),
        Column("warnings", "string", "why no class is given, or what to know of it", nullable=True),
        Column("occlusion_path", "string", "map of what speaks for the class", nullable=True, file="image"),
        Column("occlusion_sha256", "string", "checksum of that map", nullable=True),
        Column("problem", "string", "why the photo could not be read", nullable=True),
    ]
    return OutputSchema(tuple(columns), group_by=("field",), rows="per_row", keys=("field", "photo"))


@dataclass(frozen=True)
class Reading:
    """What was read of photos that could be opened.

    Attributes:
        chances: Calibrated probabilities, ``(n, classes)``.
        reasons: Why each is no soil or like none known; None where it is.
        novelty: Distance over its limit, ``(n,)``.
    """

    chances: Floats
    reasons: Sequence[str | None]
    novelty: Floats


def fields_of(fields: Sequence[str | None]) -> dict[tuple[int, str], list[int]]:
    """Return the rows of each field, in order of first appearance; a photo without one stands alone."""
    found: dict[tuple[int, str], list[int]] = {}
    for row, name in enumerate(fields):
        found.setdefault((row, "") if name is None else (-1, name), []).append(row)
    return found


def averaged(chances: Floats) -> Floats:
    """Return the probabilities of a field by those of its photos: the mean of logarithms, ``(classes,)``."""
    logs = np.log(np.maximum(chances, _LEAST)).mean(axis=0)
    raised = np.exp(logs - logs.max())
    found: Floats = raised / raised.sum()
    return found


def answer_table(
    table: pa.Table,
    classes: Sequence[str],
    reading: Reading,
    rows: Sequence[int],
    problems: Mapping[int, str],
    maps: Mapping[int, tuple[str, str]],
) -> pa.Table:
    """Return the output rows.

    Args:
        table: The input rows.
        classes: Names of the soils.
        reading: Of the photos that could be opened, in the order of ``rows``.
        rows: Their numbers in ``table``.
        problems: What is wrong with each other row.
        maps: Path and sha256 of occlusion maps by row.
    """
    import pyarrow as pa

    schema = output_schema(classes)
    count = table.num_rows
    fields = _texts(table, "field", count)
    place = {row: number for number, row in enumerate(rows)}
    cells: list[dict[str, object]] = [{"photos": 0, "problem": problems.get(row)} for row in range(count)]
    for row, number in place.items():
        cells[row] |= _of_photo(classes, reading, number)
        cells[row] |= dict(
            zip(("occlusion_path", "occlusion_sha256"), maps.get(row, (None, None)), strict=True)
        )
    for members in fields_of(fields).values():
        good = [place[row] for row in members if row in place and reading.reasons[place[row]] is None]
        if good:
            told = _of_field(classes, reading.chances[good])
            for row in members:
                cells[row] |= told
    for row, (field, photo) in enumerate(zip(fields, _texts(table, "photo", count), strict=True)):
        cells[row] |= {"field": field, "photo": photo}
    return pa.Table.from_pylist(
        [{name: cell.get(name) for name in schema.names} for cell in cells], schema=schema.arrow_schema()
    )


def _of_photo(classes: Sequence[str], reading: Reading, number: int) -> dict[str, object]:
    told: dict[str, object] = {"novelty": float(reading.novelty[number])}
    reason = reading.reasons[number]
    if reason is not None:
        return told | {"warnings": f"no class is given: {reason}"}
    chances = reading.chances[number]
    for place, best in enumerate(np.argsort(-chances, kind="stable")[:TOP], start=1):
        told |= {f"soil_{place}": classes[best], f"probability_{place}": float(chances[best])}
    return told


def _of_field(classes: Sequence[str], chances: Floats) -> dict[str, object]:
    own = averaged(chances)
    best = int(own.argmax())
    agree = float(np.mean(chances.argmax(axis=1) == best))
    told: dict[str, object] = {
        "soil": classes[best],
        "probability": float(own[best]),
        "photos": len(chances),
        "agreement": agree,
    }
    if agree < 1:
        others = sorted({classes[one] for one in chances.argmax(axis=1)} - {classes[best]})
        told["warnings"] = f"photos of the field disagree: others show {', '.join(others)}"
    return told


def _texts(table: pa.Table, name: str, count: int) -> list[str | None]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * count

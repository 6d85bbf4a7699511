"""What is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.schema import Column, OutputSchema, TableSchema

if TYPE_CHECKING:
    import pyarrow as pa

STATES = ("cut", "natural", "not_assessable")

INPUT = TableSchema(
    (
        Column("slide_id", "string", "name of the slide", example="block-7-a"),
        Column(
            "slide",
            "string",
            "whole-slide image (SVS, NDPI, MRXS, SCN, DICOM, TIFF), or PNG or JPEG with mpp",
            file="slide",
        ),
        Column(
            "mpp",
            "float64",
            "resolution of level 0, where the file does not state it",
            unit="um/px",
            nullable=True,
            required=False,
            minimum=0.01,
            maximum=100,
        ),
        Column(
            "regions",
            "string",
            "annotation with a lesion, to which distances are measured, and ignored regions",
            nullable=True,
            required=False,
            file="document",
        ),
        Column(
            "features",
            "string",
            "features of the same encoder that were extracted before (h5 of TRIDENT)",
            nullable=True,
            required=False,
            file="document",
        ),
    )
)


def _file(name: str, text: str, kind: Any) -> Column:
    return Column(name, "string", text, nullable=True, file=kind)


def _number(name: str, text: str, unit: str | None = None, **limits: Any) -> Column:
    return Column(name, "float64", text, unit=unit, nullable=True, **limits)


OUTPUT = OutputSchema(
    (
        Column("slide_id", "string", "name of the slide"),
        Column("part", "int64", "number of the stretch on the slide", minimum=0),
        Column(
            "contour", "int64", "number of the outer contour, the longest first; -1 without one", minimum=-1
        ),
        Column("state", "string", "what the stretch is taken for", categories=STATES),
        _number("probability", "mean probability of cut over the stretch", minimum=0, maximum=1),
        _number("length_mm", "length of the stretch", "mm", minimum=0),
        Column("bridged_gaps", "int64", "gaps within it that were bridged", minimum=0),
        Column(
            "points",
            "float64",
            "the line, x and y in pixels of level 0",
            unit="px",
            shape=(None, 2),
        ),
        _number("cut_mm", "length of all cut stretches of the slide", "mm", minimum=0),
        _number("lesion_um", "least distance of a lesion to the cut surface", "um", minimum=0),
        Column("tiles", "int64", "tiles that were classified", minimum=0),
        Column("encoded", "int64", "tiles that the encoder saw", minimum=0),
        Column("problem", "string", "why the slide could not be judged", nullable=True),
        _file("margin_path", "stretches as GeoJSON for QuPath", "document"),
        Column("margin_sha256", "string", "checksum of that file", nullable=True),
        _file("tissue_path", "outlines of tissue and pen as GeoJSON", "document"),
        _file("lengths_path", "lengths of stretches (CSV)", "document"),
        _file("distances_path", "distances of lesions to the cut surface (CSV)", "document"),
        _file("overlay_path", "slide with its margin (PNG)", "image"),
        _file("viewer_path", "page with the zoomable slide; opens without a server", "document"),
        _file("features_path", "features of all tiles (h5)", "document"),
        _file("provenance_path", "encoder, checksums, resolution and versions (JSON)", "document"),
    ),
    rows="many",
    keys=("slide_id",),
)


def output_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as the output table; ``points`` are arrays ``(points, 2)``."""
    import pyarrow as pa

    schema = OUTPUT.arrow_schema()
    columns: dict[str, list[Any]] = {}
    for field in schema:
        if field.name == "points":
            columns["points"] = [np.asarray(row["points"], dtype=np.float64).ravel() for row in rows]
        elif field.name == "points_shape":
            columns["points_shape"] = [list(np.asarray(row["points"]).reshape(-1, 2).shape) for row in rows]
        else:
            columns[field.name] = [row.get(field.name) for row in rows]
    return pa.table(
        {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}, schema
    )

"""The tables that go in and out: one row a chromosome, what is known of its cell repeated on each."""

from __future__ import annotations

from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES

POLARITIES = ("q-up", "q-down")
"""Names of the polarity in the order of its labels."""

INPUT = TableSchema(
    (
        Column(
            "case",
            "string",
            "the cell (metaphase) that the chromosome is of; without it there is no karyotype",
            nullable=True,
            required=False,
            example="A17-03",
        ),
        Column(
            "chromosome",
            "string",
            "name of the chromosome within its cell",
            nullable=True,
            required=False,
            example="21_2",
        ),
        Column("image", "string", "picture of one chromosome: PNG, TIFF, JPEG or BMP", file="image"),
        Column(
            "fixed_type",
            "string",
            "type that a person has settled; it is kept",
            nullable=True,
            required=False,
            categories=TYPES,
        ),
    ),
    group_by=("case",),
)

_TOP = tuple(
    column
    for place in (1, 2, 3)
    for column in (
        Column(f"type_{place}", "string", f"type in place {place} by the networks alone", categories=TYPES),
        Column(
            f"probability_{place}",
            "float64",
            f"probability of type_{place}, calibrated",
            minimum=0,
            maximum=1,
        ),
    )
)


def _nullable(column: Column) -> Column:
    return Column(**{**vars(column), "nullable": True})


OUTPUT = OutputSchema(
    (
        Column("case", "string", "the cell", nullable=True),
        Column("chromosome", "string", "name of the chromosome", nullable=True),
        *(
            _nullable(column)
            for column in (
                Column("type", "string", "type that is consistent with the whole cell", categories=TYPES),
                Column(
                    "probability",
                    "float64",
                    "probability of the type, by the networks alone",
                    minimum=0,
                    maximum=1,
                ),
                *_TOP,
                Column("moved", "bool", "the cell asked for another type than the most probable one"),
                Column("polarity", "string", "which way the q-arm points", categories=POLARITIES),
                Column(
                    "polarity_probability", "float64", "probability of the polarity", minimum=0, maximum=1
                ),
                *(
                    Column(f"box_{edge}", "float64", "edge of the part that L-Net looked at", unit="px")
                    for edge in ("x0", "y0", "x1", "y1")
                ),
                Column("needs_review", "bool", "a person should look at the type"),
                Column("karyotype", "string", "of the cell, in the manner of ISCN; no diagnosis"),
                Column("warnings", "string", "what is unusual about the cell, separated by '; '"),
                Column("karyogram_path", "string", "page with the karyogram of the cell", file="document"),
                Column("karyogram_sha256", "string", "checksum of that page"),
                Column("problem", "string", "why a chromosome without a cell could not be answered for"),
            )
        ),
    ),
    rows="per_row",
    keys=("case", "chromosome"),
)

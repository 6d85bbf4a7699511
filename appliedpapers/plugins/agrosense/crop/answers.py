"""What is answered for a field: ranked crops, whether that is advice, a conformal set, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.schema import Column, OutputSchema

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

RANKED = 3

PHOTO_COLUMN = Column("photo_used", "bool", "whether the photo was looked at; the table was sure where not")


def answer_columns(classes: int, explained: Sequence[str] | None) -> tuple[Column, ...]:
    """Return the columns of an answer.

    Args:
        classes: Number of crops.
        explained: Inputs whose attributions are given; None without attributions.
    """
    ranks = []
    for rank in range(1, RANKED + 1):
        ranks += [
            Column(f"crop_{rank}", "string", f"crop in place {rank}", nullable=rank > classes),
            Column(
                f"probability_{rank}",
                "float64",
                f"probability of crop_{rank}, calibrated",
                nullable=rank > classes,
                minimum=0,
                maximum=1,
            ),
        ]
    columns = [
        Column("advised", "bool", "whether crop_1 is advice: sure enough, and inside what is known"),
        *ranks,
        Column("crops_possible", "string", "conformal set: crops among which the right one is, most often"),
        Column("warnings", "string", "what is outside what was learned from; empty where nothing is"),
    ]
    if explained is not None:
        about = f"what {', '.join(explained)} and the base add to the logit of crop_1"
        columns.append(Column("attributions", "float64", about, shape=(len(explained) + 1,)))
    return tuple(columns)


@dataclass(frozen=True)
class Answers:
    """Answers for some rows.

    Attributes:
        classes: All crops.
        probabilities: Calibrated, ``(rows, classes)``.
        logits: Before calibration, ``(rows, classes)``.
        threshold: Confidence from which a crop is advice.
        set_from: Probability from which a crop belongs to the conformal set.
        warnings: Of each row.
        attributions: What each input adds to the logit of the first crop, the base last,
            ``(rows, inputs + 1)``; None where it was not asked for.
        looked: Rows whose photo was looked at, ``(rows,)``; None where every photo is.
    """

    classes: tuple[str, ...]
    probabilities: Floats
    logits: Floats
    threshold: float
    set_from: float
    warnings: Sequence[Sequence[str]]
    attributions: Floats | None = None
    looked: NDArray[np.bool_] | None = None

    @property
    def order(self) -> NDArray[np.intp]:
        """Crops of each row by falling probability, ``(rows, classes)``."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")

    @property
    def advised(self) -> NDArray[np.bool_]:
        """Rows with advice, ``(rows,)``."""
        inside = np.array([not sentences for sentences in self.warnings], dtype=bool)
        return np.asarray((self.probabilities.max(axis=1) >= self.threshold) & inside)

    def sets(self) -> list[list[str]]:
        """Return the conformal set of each row, likeliest first; never empty."""
        found = []
        for order, chances in zip(self.order, self.probabilities, strict=True):
            inside = [self.classes[place] for place in order if chances[place] >= self.set_from]
            found.append(inside or [self.classes[order[0]]])
        return found

    def table(self, schema: OutputSchema, more: Mapping[str, Any]) -> pa.Table:
        """Return the answers as a table of the schema.

        Args:
            schema: Which columns; attributions where it names them.
            more: Its columns that are no answers of ours, such as ``id``.
        """
        import pyarrow as pa

        order, rows = self.order, np.arange(len(self.probabilities))
        columns: dict[str, Any] = {**more, "advised": pa.array(self.advised)}
        for rank in range(1, RANKED + 1):
            if rank > len(self.classes):
                columns[f"crop_{rank}"] = pa.nulls(len(rows), pa.string())
                columns[f"probability_{rank}"] = pa.nulls(len(rows), pa.float64())
                continue
            place = order[:, rank - 1]
            columns[f"crop_{rank}"] = pa.array([self.classes[one] for one in place])
            columns[f"probability_{rank}"] = pa.array(self.probabilities[rows, place])
        columns["crops_possible"] = pa.array(["; ".join(names) for names in self.sets()])
        columns["warnings"] = pa.array(["; ".join(sentences) for sentences in self.warnings], pa.string())
        if self.looked is not None:
            columns[PHOTO_COLUMN.name] = pa.array(self.looked)
        if "attributions" in schema.arrow_schema().names:
            assert self.attributions is not None
            kind = schema.column("attributions").arrow_type()
            flat = pa.array(self.attributions.ravel(), pa.float64())
            width = self.attributions.shape[1]
            columns["attributions"] = pa.ExtensionArray.from_storage(
                kind, pa.FixedSizeListArray.from_arrays(flat, width)
            )
        return pa.table({field.name: columns[field.name] for field in schema.arrow_schema()})

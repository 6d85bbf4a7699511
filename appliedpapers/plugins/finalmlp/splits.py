"""One part of a click log: raw rows, read when they are needed, and what is scored on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from appliedpapers.core.data import PARTS, Split
from appliedpapers.core.features.cut import Cut
from appliedpapers.core.features.fields import INPUTS, Fields, column_of
from appliedpapers.core.features.labels import labels_of, weights_of
from appliedpapers.core.features.rows import BATCH_ROWS, RowSource

if TYPE_CHECKING:
    from appliedpapers.plugins.finalmlp.prepared import Prepared


class ClickSplit(Split):
    """Rows of one part of a cut source.

    Args:
        source: All rows.
        fields: Roles of the columns, in schema order.
        cut: Which part each row belongs to.
        part: ``train``, ``valid`` or ``test``.
        truth: True probability of every row of the source, where a simulator knows it.
        gauc: Column within which rows are ranked for ``gauc``; None where there is none.
    """

    def __init__(
        self,
        source: RowSource,
        fields: Fields,
        cut: Cut,
        part: str,
        truth: NDArray[np.float64] | None = None,
        gauc: str | None = None,
    ) -> None:
        self.source, self.fields, self.cut, self.part = source, fields, cut, part
        self.gauc = gauc
        self._truth = truth
        self.prepared: dict[Any, Prepared] = {}

    @property
    def places(self) -> NDArray[np.int64]:
        """Row numbers in the source, ``(rows,)`` int64; made anew, since they are large."""
        return np.flatnonzero(self.cut.assignment == PARTS.index(self.part))

    @cached_property
    def _count(self) -> int:
        return self.cut.count(self.part)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._count

    def keys(self) -> pa.Table:
        """Return the row numbers in the source."""
        return pa.table({"row": self.places})

    def batches(self, max_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the rows with all columns that have a role, lazily."""
        return self.read(self._with_roles(), max_rows)

    def read(self, columns: Sequence[str], max_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yield some columns of the rows, lazily."""
        return self.cut.batches(self.source, self.part, list(columns), max_rows)

    def inputs(self) -> list[str]:
        """Return the columns that a model is sent: inputs, times that inputs are made from, carried ids."""
        return [
            name
            for name, field in self.fields.items()
            if field.role in INPUTS
            or (field.role == "timestamp" and field.derive)
            or (field.role == "ignore" and field.carry)
        ]

    def example(self, limit: int = 1) -> pa.Table:
        """Return the first ``limit`` rows without the label."""
        batch = next(self.read(self.inputs(), max_rows=max(limit, 1)))
        return pa.Table.from_batches([batch]).slice(0, limit)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of the rows."""
        parts = [batch.column(0) for batch in self.read([name])]
        return pa.chunked_array(parts, self.source.schema.field(name).type)

    @cached_property
    def labels(self) -> NDArray[np.float32]:
        """Labels, ``(rows,)`` float32 of 0 and 1."""
        return self._numbers(column_of(self.fields, "label") or "", labels_of)

    @cached_property
    def weights(self) -> NDArray[np.float32] | None:
        """Weights, ``(rows,)`` float32, or None where there are none."""
        name = column_of(self.fields, "weight")
        return None if name is None else self._numbers(name, weights_of)

    @property
    def truth(self) -> NDArray[np.float64] | None:
        """True probabilities, ``(rows,)`` float64, where a simulator knows them."""
        return None if self._truth is None else self._truth[self.places]

    def codes(self, name: str) -> NDArray[np.int64]:
        """Return a number for each value of a column, ``(rows,)`` int64; missing is a value of its own."""
        # chunk by chunk: one array of text holds 2 GiB at most
        encoded = self.column(name).dictionary_encode(null_encoding="encode")
        codes = np.empty(self.num_rows, np.int64)
        row = 0
        for chunk in encoded.chunks:
            codes[row : row + len(chunk)] = chunk.indices.to_numpy()
            row += len(chunk)
        return codes

    def unique_columns(self) -> list[str]:
        """Return the columns that make rows unique: times and ids."""
        return [
            name
            for name, field in self.fields.items()
            if field.role == "timestamp" or (field.role == "ignore" and field.carry)
        ]

    def signatures(self) -> pa.Array | None:
        """Return a content hash a row where a time or an id makes rows unique; None elsewhere.

        Without either, a repeated row is a repeated impression and no leak. Where rows were cut by time or
        group, equal rows are in one part by construction, and none is looked for.
        """
        if not self.unique_columns() or self._truth is not None or self._equal_rows_stay_together():
            return None
        from appliedpapers.core.row_hashes import row_hashes

        # equal rows of two parts differ in the column that names the part
        names = [name for name in self._with_roles() if self.fields[name].role != "split"]
        hashes = np.empty(self.num_rows, np.uint64)
        row = 0
        for batch in self.read(names):
            hashes[row : row + batch.num_rows] = row_hashes(pa.Table.from_batches([batch]))
            row += batch.num_rows
        return pa.array(hashes)

    def fingerprint(self) -> str:
        """Return the sha256 of the source's content and of which rows are in this part."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        digest.update(self.part.encode())
        digest.update((self.cut.assignment == PARTS.index(self.part)).tobytes())
        return digest.hexdigest()

    def _with_roles(self) -> list[str]:
        present = set(self.source.schema.names)
        return [name for name in self.fields if name in present]

    def _equal_rows_stay_together(self) -> bool:
        return self.cut.column in self._with_roles() and self.cut.protocol.startswith(("time ", "group "))

    def _numbers(
        self, name: str, reader: Callable[[pa.Array, str], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        numbers = np.empty(self.num_rows, np.float32)
        row = 0
        for batch in self.read([name]):
            numbers[row : row + batch.num_rows] = reader(batch.column(0), name)
            row += batch.num_rows
        return numbers

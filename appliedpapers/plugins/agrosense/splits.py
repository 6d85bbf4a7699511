"""Parts of tables: rows that are learned from, chosen on and judged, and folds of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset, TableSplit
from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Integers = NDArray[np.int64]

_VALID_SHARE = 0.125
"""Of the rows that are learned from: whatever chooses sees them apart."""


class RowsSplit(TableSplit):
    """A part of a table of which only some columns are sent to ``predict``.

    Args:
        table: All columns.
        inputs: The columns that are sent.
        key: Columns that identify a row.
    """

    def __init__(self, table: pa.Table, *, inputs: Sequence[str], key: tuple[str, ...]) -> None:
        super().__init__(table, key=key)
        self.sent = tuple(inputs)

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield the table in batches, at least one, which may be empty."""
        import pyarrow as pa

        yield from self.table.to_batches(max_chunksize=max_rows) or [
            pa.RecordBatch.from_pylist([], schema=self.table.schema)
        ]

    def inputs(self) -> pa.Table:
        """Return the columns that are sent."""
        return self.table.select(list(self.sent))

    def example(self, limit: int = 1) -> pa.Table:
        """Return the first ``limit`` rows of the columns that are sent."""
        return self.inputs().slice(0, limit)

    def signatures(self) -> pa.Array | None:
        """Hash what is sent of every row, without its key; null where a row holds nothing but nulls."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from appliedpapers.core.row_hashes import row_hashes

        sent = self.inputs()
        rest = sent.drop_columns([name for name in self._key if name in sent.column_names])
        if not rest.num_columns or not rest.num_rows:
            return None
        empty = np.ones(rest.num_rows, dtype=bool)
        for column in rest.columns:
            empty &= np.asarray(pc.is_null(column))
        return pa.array(row_hashes(rest), mask=empty)

    def take(self, rows: NDArray[Any]) -> RowsSplit:
        """Return a part of the rows, by number or mask; the same class."""
        import pyarrow as pa

        chosen = np.flatnonzero(rows) if rows.dtype == bool else rows
        part = self.table.take(pa.array(chosen, pa.int64()))
        return self._of(part)

    def _of(self, table: pa.Table) -> RowsSplit:
        return RowsSplit(table, inputs=self.sent, key=self._key)


def stratified_folds(labels: NDArray[Any], folds: int, seed: int) -> Iterator[tuple[Integers, Integers]]:
    """Yield learned and judged row numbers of folds that have the classes in equal shares.

    Args:
        labels: Class of each row, ``(rows,)``.
        folds: Number of folds; no class may be smaller for all its rows to be judged evenly.
        seed: Of the shuffling.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = np.zeros((len(labels), 1))
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels)


def group_folds(groups: NDArray[Any], folds: int, seed: int) -> Iterator[tuple[Integers, Integers]]:
    """Yield learned and judged row numbers of folds in which whole groups are judged.

    Groups are dealt by falling size to the fold with the fewest rows; the order of equals is drawn.

    Args:
        groups: Group of each row, ``(rows,)``.
        folds: Number of folds, at most that of the groups.
        seed: Of the order of groups of one size.
    """
    names, number = np.unique(groups, return_inverse=True)
    folds = min(folds, len(names))
    sizes = np.bincount(number)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    full, home = np.zeros(folds, dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    for group in order:
        home[group] = np.argmin(full)
        full[home[group]] += sizes[group]
    for fold in range(folds):
        judged = home[number] == fold
        yield np.flatnonzero(~judged), np.flatnonzero(judged)


def inner_folds(
    labels: NDArray[Any], groups: NDArray[Any] | None, folds: int, seed: int
) -> list[tuple[Integers, Integers]]:
    """Return folds of rows that are learned from: by group where there are several, else stratified."""
    if groups is not None and len(np.unique(groups)) >= 2:
        return list(group_folds(groups, folds, seed))
    smallest = int(np.bincount(np.unique(labels, return_inverse=True)[1]).min())
    if smallest < folds:
        # rare classes are spread as far as they go
        order = np.random.default_rng(seed).permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        fold = np.empty(len(labels), dtype=np.int64)
        fold[order] = np.arange(len(labels)) % folds
        return [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(folds)]
    return list(stratified_folds(labels, folds, seed))


def with_folds(
    whole: Dataset,
    rows: RowsSplit,
    cuts: Sequence[tuple[Integers, Integers]],
    *,
    groups: NDArray[Any] | None,
    seed: int,
    make: Callable[[RowsSplit], RowsSplit] = lambda split: split,
) -> Dataset:
    """Return a dataset in which every row is judged once, by what was fitted on the other folds.

    Args:
        whole: What it says of itself; its parts are replaced.
        rows: All rows.
        cuts: Learned and judged row numbers of each fold.
        groups: What stays together when a part to choose on is cut off, ``(rows,)``; None: each row.
        seed: Of that cut.
        make: Finishes a part.

    Raises:
        DataError: Too few rows or groups to have a part to choose on.
    """

    def cut(learned: Integers) -> tuple[RowsSplit, RowsSplit]:
        train, valid = _valid_part(learned, groups, seed)
        return make(rows.take(train)), make(rows.take(valid))

    folds = []
    for number, (learned, judged) in enumerate(cuts, start=1):
        train, valid = cut(learned)
        part = replace(whole, train=train, valid=valid, test=make(rows.take(judged)), fold=f"fold-{number}")
        folds.append(part)
    train, valid = cut(np.arange(rows.num_rows))
    nothing = make(rows.take(np.zeros(0, dtype=np.int64)))
    return replace(whole, train=train, valid=valid, test=nothing, folds=tuple(folds))


def _valid_part(learned: Integers, groups: NDArray[Any] | None, seed: int) -> tuple[Integers, Integers]:
    units = learned if groups is None else groups[learned]
    names = np.unique(units)
    if len(names) < 2:
        raise DataError(
            "there is one group of rows only, and nothing to choose on.", hint="Bring rows of several groups."
        )
    chosen = np.random.default_rng(seed).permutation(names)[: max(1, round(_VALID_SHARE * len(names)))]
    apart = np.isin(units, chosen)
    return learned[~apart], learned[apart]

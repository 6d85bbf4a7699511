"""What the tiny plugins share: reading a CSV, cutting splits, ridge regression."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv

from appliedpapers.core.data import Provenance, TableSplit
from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.validation import check

SIMULATED = Provenance(source="simulator of the tiny plugins", licence="Apache-2.0", synthetic=True)


def read_csv(path: Path, schema: TableSchema, targets: tuple[Column, ...]) -> pa.Table:
    try:
        table = pc_csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path.name}: cannot be read ({error}).", hint="Expected a CSV file.") from None
    with_targets = TableSchema((*schema.columns, *targets), schema.group_by, schema.order_by)
    return check(table, with_targets, source=path.name).require_clean()


def user_provenance(path: Path) -> Provenance:
    return Provenance(source=path.name, licence="the user's own", synthetic=False)


class GroupedSplit(TableSplit):
    """A table whose groups stay whole; ``example`` counts groups."""

    def __init__(self, table, *, key, group, targets=()):
        super().__init__(table, key=key, targets=targets)
        self.group = group

    def example(self, limit: int = 1) -> pa.Table:
        names = self.table.column(self.group).to_pylist()
        wanted = list(dict.fromkeys(names))[:limit]
        return self.inputs().filter(pa.array([name in wanted for name in names]))

    def signatures(self) -> pa.Array:
        """Hash every group's contents: a single value may well stand in two groups."""
        contents = {}
        columns = self.inputs().drop_columns(list(self._key)).columns
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        for name, row in zip(self.table.column(self.group).to_pylist(), rows, strict=True):
            contents.setdefault(name, []).append(row)
        return pa.array([hashlib.sha256(repr(content).encode()).hexdigest() for content in contents.values()])


def cut(count: int) -> tuple[slice, slice, slice]:
    """Return the slices of 60 % train, 20 % valid, 20 % test; each holds at least one where count >= 3."""
    first = max(1, int(count * 0.6))
    second = max(first + 1, int(count * 0.8))
    return slice(0, first), slice(first, second), slice(second, count)


def row_splits(table: pa.Table, **options) -> list[TableSplit]:
    parts = cut(table.num_rows)
    return [TableSplit(table.slice(part.start, part.stop - part.start), **options) for part in parts]


def group_splits(table: pa.Table, group: str, **options) -> list[GroupedSplit]:
    names = table.column(group).to_pylist()
    distinct = list(dict.fromkeys(names))
    splits = []
    for part in cut(len(distinct)):
        wanted = set(distinct[part])
        rows = table.filter(pa.array([name in wanted for name in names]))
        splits.append(GroupedSplit(rows, group=group, **options))
    return splits


def ridge(features: np.ndarray, target: np.ndarray, alpha: float, start: np.ndarray | None = None):
    """Return the weights nearest to ``start`` (zero by default): intercept last, which is not shrunk."""
    design = np.column_stack([features, np.ones(len(features))])
    origin = np.zeros(design.shape[1]) if start is None else start
    penalty = np.full(design.shape[1], alpha)
    penalty[-1] = 1e-9
    gram = design.T @ design + np.diag(penalty)
    return np.linalg.solve(gram, design.T @ target + penalty * origin)


def apply(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return one value a row; summed row by row, so that no row feels its neighbours."""
    return (features * weights[:-1]).sum(axis=1) + weights[-1]

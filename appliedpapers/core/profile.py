"""What columns looked like in training, in a few numbers each, and how far later rows are from that.

A profile is JSON in the bundle: shares of rows in ten bins with equally many training rows, or of the most
frequent values, and of missing ones. Drift is the population stability index over those shares,
``sum((now - then) * ln(now / then))``: below 0.1 nothing to speak of, above 0.2 worth a look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.schema import TableSchema

Profile = dict[str, dict[str, Any]]
"""By column: ``edges`` (ascending) or ``values``, and ``shares`` (below, between and above the edges, or of
the values and of all others; last of missing values)."""

Counts = dict[str, list[int]]
"""By column of a profile: how many rows fall into each of its shares."""

NOTABLE = 0.2
FEWEST_ROWS = 200
"""Rows below which neither a profile is made nor drift computed: chance alone would look like drift."""

_BINS = 10
_MOST_VALUES = 30
_COVERED = 0.5
_SAMPLED = 4096
_LEAST_SHARE = 1e-4
_NUMBERS = ("float64", "float32", "int64", "int32")


@dataclass(frozen=True)
class ColumnDrift:
    """How far a column is from its training profile.

    Attributes:
        column: Its name.
        of: ``input`` or ``prediction``.
        psi: Population stability index.
        rows: How many rows it was computed from.
    """

    column: str
    of: str
    psi: float
    rows: int


def profile_of(table: pa.Table, schema: TableSchema) -> Profile:
    """Describe the columns of scalars that say something about the population.

    Left out are times, files and arrays, what groups and orders rows, and text that differs in most rows.

    Args:
        table: Training rows that keep the schema; columns that it lacks are left out.
        schema: What the columns are.
    """
    described: Profile = {}
    if table.num_rows < FEWEST_ROWS:
        return described
    names = {*schema.group_by, schema.order_by, *getattr(schema, "keys", ())}
    for column in schema.columns:
        plain = column.shape is None and column.file is None and column.dtype != "timestamp"
        if not plain or column.name in names or column.name not in table.column_names:
            continue
        values = table.column(column.name)
        about = _of_numbers(values) if column.dtype in _NUMBERS else _of_values(values)
        if about is not None:
            counted = _count(values, about)
            described[column.name] = about | {"shares": [round(count / sum(counted), 6) for count in counted]}
    return described


def sample(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return some columns of at most 4,096 rows, drawn the same way at each call."""
    chosen = table.select([name for name in names if name in table.column_names])
    if table.num_rows <= _SAMPLED:
        return chosen
    rows = np.random.default_rng(0).integers(table.num_rows, size=_SAMPLED)
    return chosen.take(np.sort(rows))


def counts_of(table: pa.Table, profile: Profile) -> Counts:
    """Count the rows of ``table``, or of a sample of a long one, by the shares of a profile."""
    few = sample(table, profile)
    return {name: _count(few.column(name), profile[name]) for name in few.column_names}


def drift_of(profile: Profile, parts: Sequence[tuple[int, Counts]], of: str) -> list[ColumnDrift]:
    """Compare later rows with a profile.

    Args:
        profile: Of the training rows.
        parts: Rows of a part, and the counts of a sample of it.
        of: ``input`` or ``prediction``.

    Returns:
        Columns of which enough rows are known, the farthest first.
    """
    found = []
    for name, about in profile.items():
        then = np.array(about["shares"])
        weighted = np.zeros(len(then))
        seen = 0
        for rows, counts in parts:
            counted = np.array(counts.get(name, []), dtype=float)
            # a bundle of another making would have other bins
            if len(counted) == len(then) and counted.sum():
                weighted += counted * (rows / counted.sum())
                seen += int(counted.sum())
        if seen >= FEWEST_ROWS:
            now = weighted / weighted.sum()
            found.append(ColumnDrift(name, of, round(_index(then, now), 4), seen))
    return sorted(found, key=lambda item: -item.psi)


def _index(then: np.ndarray[Any, Any], now: np.ndarray[Any, Any]) -> float:
    then, now = np.maximum(then, _LEAST_SHARE), np.maximum(now, _LEAST_SHARE)
    return float(((now - then) * np.log(now / then)).sum())


def _of_numbers(values: pa.ChunkedArray) -> dict[str, Any] | None:
    numbers = _numbers(values)
    if not len(numbers):
        return None
    edges = np.unique(np.quantile(numbers, np.arange(1, _BINS) / _BINS))
    return {"edges": [float(edge) for edge in edges if math.isfinite(edge)]}


def _of_values(values: pa.ChunkedArray) -> dict[str, Any] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    counted = values.cast(pa.string()).drop_null().value_counts()
    order = pc.sort_indices(counted.field("counts"), sort_keys=[("", "descending")])[:_MOST_VALUES]
    frequent = counted.take(order)
    covered = pc.sum(frequent.field("counts")).as_py() or 0
    if covered < _COVERED * (len(values) - values.null_count) or not covered:
        return None
    return {"values": sorted(frequent.field("values").to_pylist())}


def _count(values: pa.ChunkedArray, about: Mapping[str, Any]) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if "edges" in about:
        edges = np.array(about["edges"])
        numbers = _numbers(values)
        bins = np.bincount(np.searchsorted(edges, numbers, side="left"), minlength=len(edges) + 1)
        return [*bins.tolist(), len(values) - len(numbers)]
    texts = values.cast(pa.string()).drop_null()
    places = pc.index_in(texts, pa.array(about["values"], pa.string())).fill_null(len(about["values"]))
    bins = np.bincount(places.to_numpy(), minlength=len(about["values"]) + 1)
    return [*bins.tolist(), values.null_count]


def _numbers(values: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    numbers = np.asarray(values.drop_null().to_numpy(), dtype=float)
    return np.compress(~np.isnan(numbers), numbers)

"""What a fair test must not hold: rows that were learned from, and columns that know the answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.data import PARTS
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.features.cut import TRAIN, VALID, Cut, with_parts
from appliedpapers.core.features.fields import INPUTS, Fields, column_of
from appliedpapers.core.features.labels import labels_of
from appliedpapers.core.features.rows import RowSource
from appliedpapers.core.metrics import auc
from appliedpapers.core.row_hashes import row_hashes

Floats = NDArray[np.float64]


def part_hashes(source: RowSource, cut: Cut, columns: Sequence[str] | None = None) -> dict[str, pa.Array]:
    """Return a 64-bit hash of each row of each part, in the order of the source.

    Args:
        source: The rows, read once.
        cut: Their parts.
        columns: What makes rows identical; None for every column but the one that names the part.

    Returns:
        uint64 by part; 8 bytes a row.
    """
    if columns is None:
        named = cut.column if cut.protocol.startswith("column") else None
        columns = [name for name in source.schema.names if name != named]
    found = {part: np.empty(cut.count(part), np.uint64) for part in PARTS}
    filled = dict.fromkeys(PARTS, 0)
    for batch, parts in with_parts(source, cut, columns):
        hashes = row_hashes(pa.Table.from_batches([batch]))
        for number, part in enumerate(PARTS):
            inside = hashes[parts == number]
            found[part][filled[part] : filled[part] + len(inside)] = inside
            filled[part] += len(inside)
    return {part: pa.array(hashes) for part, hashes in found.items()}


def duplicate_rows(
    source: RowSource, cut: Cut, columns: Sequence[str] | None = None
) -> dict[tuple[str, str], int]:
    """Count rows whose twin, label included, stands in an earlier part.

    Returns:
        ``{("train", "test"): 12, ...}``: 12 test rows are identical to some train row. Pairs without any
        are left out. 64-bit hashes are compared: among 50 million rows a false pair has odds of 1 to 10,000.
    """
    hashes = {part: np.asarray(values) for part, values in part_hashes(source, cut, columns).items()}
    counts: dict[tuple[str, str], int] = {}
    for earlier, later in combinations(PARTS, 2):
        # np.unique hashes them once more, at ten times the cost
        known = np.sort(hashes[earlier])
        places = np.minimum(np.searchsorted(known, hashes[later]), len(known) - 1)
        twins = int((known[places] == hashes[later]).sum()) if known.size else 0
        if twins:
            counts[earlier, later] = twins
    return counts


def single_field_leak(
    source: RowSource, fields: Fields, cut: Cut, *, above: float = 0.99, max_rows: int = 200_000
) -> dict[str, float]:
    """Name inputs that predict the label of valid rows all by themselves.

    A categorical or sequence column is ordered by the label's mean over train rows of the same value, values
    that train does not know by the mean of all; a numeric one by its values, in either direction, with
    missing ones below or above the rest.

    Args:
        source: The rows, read once.
        fields: Roles of the columns.
        cut: Their parts.
        above: AUC on valid rows from which on a column is suspected.
        max_rows: Most train rows, and most valid rows, to look at; taken evenly from all over the part.

    Returns:
        AUC of each suspected column, the highest first.

    Raises:
        ConfigError: No column is the label.
    """
    label = column_of(fields, "label")
    if label is None:
        raise ConfigError("no column has the role label.", hint="Give it to the 0/1 column to predict.")
    names = [name for name in source.schema.names if name in fields and fields[name].role in INPUTS]
    numeric = {name for name in names if fields[name].role == "numeric"}
    labels, values = _thinned(source, cut, label, names, numeric, max_rows)
    found: dict[str, float] = {}
    for name in names:
        train, valid = values[TRAIN][name], values[VALID][name]
        if name in numeric:
            area = _numeric_area(labels[VALID], valid)
        else:
            area = auc(labels[VALID], _rates(train, labels[TRAIN], valid))
        if area > above:
            found[name] = float(area)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _thinned(
    source: RowSource, cut: Cut, label: str, names: Sequence[str], numeric: set[str], max_rows: int
) -> tuple[dict[int, NDArray[np.float32]], dict[int, dict[str, NDArray[np.generic]]]]:
    keep = np.zeros(len(cut.assignment), bool)
    for part in (TRAIN, VALID):
        rows = np.flatnonzero(cut.assignment == part)
        keep[rows[np.linspace(0, len(rows) - 1, min(len(rows), max_rows)).astype(np.int64)]] = True
    labels: dict[int, list[NDArray[np.float32]]] = {TRAIN: [], VALID: []}
    values: dict[int, dict[str, list[NDArray[np.generic]]]] = {
        part: {name: [] for name in names} for part in labels
    }
    row = 0
    for batch, parts in with_parts(source, cut, [label, *names]):
        chosen = keep[row : row + batch.num_rows]
        for part in labels:
            here = pa.array(chosen & (parts == part))
            some = batch.filter(here)
            if not some.num_rows:
                continue
            labels[part].append(labels_of(some.column(0), label))
            for position, name in enumerate(names, start=1):
                column = some.column(position)
                values[part][name].append(
                    _numbers(column) if name in numeric else row_hashes(pa.table([column], names=[name]))
                )
        row += batch.num_rows
    return (
        {part: np.concatenate(blocks) for part, blocks in labels.items()},
        {part: {n: np.concatenate(blocks) for n, blocks in by.items()} for part, by in values.items()},
    )


def _numbers(values: pa.Array) -> Floats:
    return np.asarray(pc.fill_null(pc.cast(values, pa.float64(), safe=False), np.nan))


def _rates(train: NDArray[np.generic], labels: NDArray[np.float32], valid: NDArray[np.generic]) -> Floats:
    known, places = np.unique(train, return_inverse=True)
    rates = np.bincount(places, labels) / np.bincount(places)
    at = np.minimum(np.searchsorted(known, valid), len(known) - 1)
    return np.where(known[at] == valid, rates[at], labels.mean())


def _numeric_area(labels: NDArray[np.float32], values: NDArray[np.generic]) -> float:
    numbers = np.asarray(values, np.float64)
    areas = [
        auc(labels, np.nan_to_num(numbers, nan=end, posinf=1e308, neginf=-1e308)) for end in (-np.inf, np.inf)
    ]
    return float(max(max(area, 1 - area) for area in areas))

"""Which columns can be labels, and whether every part has both classes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.data import PARTS
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.features.cut import Cut, with_parts
from appliedpapers.core.features.fields import Fields, column_of
from appliedpapers.core.features.labels import labels_of
from appliedpapers.core.features.rows import RowSource

# 0 and 1 as numbers, or as text in a few spellings
_SPELLINGS = 6


def is_zero_one(values: pa.Array) -> bool:
    """Say whether a column could be a label: every value that is there is 0 or 1, and there is one."""
    if pa.types.is_nested(values.type) or pa.types.is_temporal(values.type):
        return False
    distinct = pc.unique(values).drop_null()
    # more values than that are not looked at one by one
    if not 0 < len(distinct) <= _SPELLINGS:
        return False
    try:
        labels_of(distinct, "")
    except DataError:
        return False
    return True


def check_labels(source: RowSource, fields: Fields, cut: Cut) -> dict[str, tuple[int, int]]:
    """Count both classes in every part.

    Returns:
        Rows with label 0 and with label 1 of train, valid and test.

    Raises:
        ConfigError: No column is the label.
        DataError: A label is not 0 or 1, or a part has rows of one class alone.
    """
    column = column_of(fields, "label")
    if column is None:
        raise ConfigError("no column has the role label.", hint="Give it to the 0/1 column to predict.")
    counts = np.zeros((len(PARTS), 2), np.int64)
    row = 0
    for batch, parts in with_parts(source, cut, [column]):
        used = parts >= 0
        values = batch.column(0)
        if not used.all():
            # rows that are not used may have no label either; the others keep their numbers for the message
            values = pc.if_else(pa.array(used), values, pa.scalar(0).cast(values.type))
        labels = labels_of(values, column, row + 1).astype(np.int64)
        counts += np.bincount(parts[used] * 2 + labels[used], minlength=2 * len(PARTS)).reshape(-1, 2)
        row += batch.num_rows
    for part, (zeros, ones) in zip(PARTS, counts, strict=True):
        if not zeros or not ones:
            raise DataError(
                f"{source.name}: all {zeros + ones:,} {part} rows have {column} {0 if zeros else 1}.",
                hint="Both outcomes must occur in each part: bring more rows, or cut in another way.",
            )
    return {part: (int(zeros), int(ones)) for part, (zeros, ones) in zip(PARTS, counts, strict=True)}

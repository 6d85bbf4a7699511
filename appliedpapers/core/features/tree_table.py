"""Encoded rows as one matrix, for trees that split categories themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.features.encoded import EncodedRows

_EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class TreeTable:
    """Encoded rows as trees read them.

    Attributes:
        values: ``(rows, columns)``; float32, or float64 where a table has more ids than float32 counts.
        names: Of the columns.
        categorical: Which columns hold ids, ``(columns,)`` bool.
    """

    values: NDArray[np.floating[Any]]
    names: tuple[str, ...]
    categorical: NDArray[np.bool_]


def tree_table(rows: EncodedRows) -> TreeTable:
    """Return encoded rows as one matrix, in schema order.

    A categorical field is its id: missing values and what was never seen are categories like any other. A
    numeric field is its normalised value, missing ones 0 with the indicator field beside it. A sequence
    gives its number of tokens, its first and its last token (0 where it is empty), the latter two as
    categories.
    """
    columns: list[tuple[str, bool, NDArray[Any]]] = []
    taken = {"categorical": 0, "numeric": 0, "sequence": 0}
    for field in rows.fields:
        place = taken[field.kind]
        taken[field.kind] += 1
        if field.kind == "categorical":
            columns.append((field.name, True, rows.ids[:, place]))
        elif field.kind == "numeric":
            columns.append((field.name, False, rows.numbers[:, place]))
        else:
            tokens = rows.sequences[place]
            held = np.count_nonzero(tokens, axis=1)
            last = tokens[np.arange(len(tokens)), np.maximum(held - 1, 0)]
            columns.append((f"{field.name}_length", False, held))
            columns.append((f"{field.name}_first", True, tokens[:, 0]))
            columns.append((f"{field.name}_last", True, last))
    large = max((field.size for field in rows.fields), default=0) > _EXACT_IN_FLOAT32
    values = np.empty((len(rows), len(columns)), np.float64 if large else np.float32)
    for position, (_, _, column) in enumerate(columns):
        values[:, position] = column
    names = tuple(name for name, _, _ in columns)
    return TreeTable(values, names, np.array([is_id for _, is_id, _ in columns], bool))

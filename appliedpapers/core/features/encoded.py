"""Encoded rows: ids, numbers and padded sequences, by field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = Literal["categorical", "numeric", "sequence"]

PADDING = 0
Number = TypeVar("Number", np.int32, np.float32)


@dataclass(frozen=True)
class EncodedField:
    """One input of a model.

    Attributes:
        name: Unique among the fields of an encoder.
        kind: How it is held in :class:`EncodedRows`.
        size: Rows of its table, ``tokens + 2``: id 0 is padding, ``1 .. tokens`` are known, ``tokens + 1`` is
            what was never seen (OOV). 0 for numeric fields.
        length: Most tokens of a sequence; 0 for other fields.
        column: The column that it is made from.
    """

    name: str
    kind: Kind
    size: int
    length: int
    column: str

    @property
    def unseen(self) -> int:
        """The id of tokens that were never seen."""
        return self.size - 1


@dataclass(frozen=True)
class EncodedRows:
    """Rows as numbers; row ``i`` of every array belongs together.

    Attributes:
        fields: All fields in schema order; the arrays below hold those of one kind in the same order.
        ids: Categorical ids, ``(rows, categorical fields)`` int32.
        numbers: Normalised numeric values, missing ones 0, ``(rows, numeric fields)`` float32.
        sequences: One ``(rows, length)`` int32 array a sequence field, padded with 0 behind.
        label: ``(rows,)`` float32 of 0 and 1; None where rows are to be predicted.
        weight: ``(rows,)`` float32, positive; None for equal weights.
    """

    fields: tuple[EncodedField, ...]
    ids: NDArray[np.int32]
    numbers: NDArray[np.float32]
    sequences: tuple[NDArray[np.int32], ...]
    label: NDArray[np.float32] | None = None
    weight: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp] | slice) -> EncodedRows:
        """Return some rows, in the order asked for."""
        return EncodedRows(
            self.fields,
            self.ids[rows],
            self.numbers[rows],
            tuple(one[rows] for one in self.sequences),
            None if self.label is None else self.label[rows],
            None if self.weight is None else self.weight[rows],
        )

    def unseen(self) -> NDArray[np.int32]:
        """Return how many categorical fields of each row hold a token that is new, ``(rows,)`` int32."""
        last = np.array([field.unseen for field in self.fields if field.kind == "categorical"], np.int32)
        return np.asarray((self.ids == last).sum(axis=1), np.int32)


def concat_rows(parts: Sequence[EncodedRows]) -> EncodedRows:
    """Return the rows of several parts of the same fields, one after the other; at least one part."""
    first = parts[0]
    return EncodedRows(
        first.fields,
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.numbers for part in parts]),
        tuple(np.concatenate([part.sequences[i] for part in parts]) for i in range(len(first.sequences))),
        None
        if first.label is None
        else np.concatenate([part.label for part in parts if part.label is not None]),
        None
        if first.weight is None
        else np.concatenate([part.weight for part in parts if part.weight is not None]),
    )


def collect_rows(parts: Iterable[EncodedRows], rows: int) -> EncodedRows:
    """Return ``rows`` rows that come in parts; beside the result, one part is in memory at a time.

    Args:
        parts: At least one, of the same fields.
        rows: How many rows there are in all.

    Raises:
        ValueError: There are more or fewer.
    """
    whole: EncodedRows | None = None
    end = 0
    for part in parts:
        if whole is None:
            whole = replace(
                part,
                ids=_room(part.ids, rows),
                numbers=_room(part.numbers, rows),
                sequences=tuple(_room(one, rows) for one in part.sequences),
                label=None if part.label is None else _room(part.label, rows),
                weight=None if part.weight is None else _room(part.weight, rows),
            )
        start, end = end, end + len(part)
        if end > rows:
            break
        for target, values in zip(_arrays(whole), _arrays(part), strict=True):
            target[start:end] = values
    if whole is None or end != rows:
        raise ValueError(f"expected {rows} rows, found {end}")
    return whole


def _room(like: NDArray[Number], rows: int) -> NDArray[Number]:
    return np.empty((rows, *like.shape[1:]), like.dtype)


def _arrays(rows: EncodedRows) -> list[NDArray[np.int32] | NDArray[np.float32]]:
    arrays = [rows.ids, rows.numbers, *rows.sequences, rows.label, rows.weight]
    return [one for one in arrays if one is not None]

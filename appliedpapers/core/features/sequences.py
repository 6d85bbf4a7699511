"""Columns with several tokens a row: lists, or text with a separator."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.tokens import is_text


def elements_of(
    values: pa.Array, column: str, separator: str | None = None
) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return the tokens of all rows one after the other, and how many each row has.

    Null rows and empty ones have none; nulls in a list are left out, and so are empty pieces of text. Lists
    are taken as they are even where a separator is given.

    Args:
        values: ``(rows,)`` lists of any scalar type, or text.
        column: Its name, for errors.
        separator: The character between the tokens of text.

    Returns:
        ``(tokens,)`` of the element type without nulls, and ``(rows,)`` int64.

    Raises:
        DataError: The column holds neither lists nor text with a separator.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_null(kind):
        return pa.nulls(0), np.zeros(len(values), np.int64)
    split = False
    if is_text(kind):
        if separator is None:
            raise DataError(
                f"column '{column}' holds text, where lists are expected.",
                hint="Give the character between its tokens as the option separator of the column.",
            )
        values = pc.split_pattern(pc.cast(values, pa.large_string()), separator)
        split = True
    elif pa.types.is_fixed_size_list(kind):
        values = pc.cast(values, pa.list_(kind.value_type))
    elif not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise DataError(
            f"column '{column}' holds {kind}, where lists are expected.",
            hint="Give the column the role categorical or numeric, or store lists in it.",
        )
    if values.null_count:
        # what a null list spans in memory is not part of it
        values = pc.if_else(values.is_valid(), values, pa.scalar([], values.type))
    offsets = values.offsets.to_numpy().astype(np.int64)
    elements = values.values[int(offsets[0]) : int(offsets[-1])]
    counts = np.diff(offsets)
    kept = elements.is_valid()
    if split:
        kept = pc.and_(kept, pc.not_equal(elements, ""))
    if not pc.all(kept, min_count=0).as_py():
        rows = np.repeat(np.arange(len(counts)), counts)[kept.to_numpy(zero_copy_only=False)]
        counts = np.bincount(rows, minlength=len(counts)).astype(np.int64)
        elements = elements.filter(kept)
    return elements, counts


def padded(ids: NDArray[np.int32], counts: NDArray[np.int64], length: int) -> NDArray[np.int32]:
    """Return ids row by row, the last ``length`` of each, padded with 0 behind.

    Args:
        ids: ``(tokens,)`` of all rows one after the other.
        counts: ``(rows,)`` how many each row has.
        length: Columns of the result.
    """
    result = np.zeros((len(counts), length), np.int32)
    ends = np.cumsum(counts)
    # place of each token counted from the first that is kept; negative ones are cut
    places = np.arange(len(ids)) - np.repeat(np.maximum(ends - length, ends - counts), counts)
    rows = np.repeat(np.arange(len(counts)), counts)
    kept = places >= 0
    result[rows[kept], places[kept]] = ids[kept]
    return result

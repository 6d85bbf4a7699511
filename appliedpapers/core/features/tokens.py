"""Values of any column type as tokens: text by which a category is known."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError

# so few rows are turned into tokens directly: finding the distinct ones first costs more than it saves
FEW = 64


def distinct_tokens(values: pa.Array, column: str) -> tuple[pa.Array, NDArray[np.int64] | None]:
    """Return tokens of a column and, for each row, the place of its token.

    Args:
        values: ``(rows,)`` of any scalar type, dictionaries included.
        column: Its name, for errors.

    Returns:
        ``(tokens,)`` text of any Arrow type, null for missing values, and ``(rows,)`` int64; None stands for
        one token a row in order. Tokens may repeat, and some may have no row.

    Raises:
        DataError: The column holds lists or other nested values.
    """
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        # a slice of a table drags the whole dictionary along
        if len(values.dictionary) > len(values):
            return distinct_tokens(values.dictionary_decode(), column)
        tokens = tokens_of(values.dictionary, column)
        indices = values.indices
        if indices.null_count:
            tokens = pa.concat_arrays([tokens, pa.nulls(1, tokens.type)])
            indices = pc.fill_null(pc.cast(indices, pa.int64()), len(tokens) - 1)
        return tokens, indices.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    if len(values) <= FEW:
        # a cast costs more than all else that is done for one row
        return (values if is_text(values.type) else tokens_of(values, column)), None
    if pa.types.is_nested(values.type) or pa.types.is_null(values.type):
        return tokens_of(values, column), None
    encoded = values.dictionary_encode(null_encoding="encode")
    return tokens_of(encoded.dictionary, column), encoded.indices.to_numpy().astype(np.int64, copy=False)


def counted_tokens(values: pa.Array, column: str) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return tokens of a column, large_string, and how often each occurs; they may repeat, null is missing.

    Raises:
        DataError: The column holds lists or other nested values.
    """
    tokens, places = distinct_tokens(values, column)
    tokens = pc.cast(tokens, pa.large_string())
    if places is None:
        return tokens, np.ones(len(tokens), np.int64)
    return tokens, np.bincount(places, minlength=len(tokens)).astype(np.int64, copy=False)


def tokens_of(values: pa.Array, column: str) -> pa.Array:
    """Return the token of each value, ``(rows,)`` large_string; null for missing values.

    Integers are written as decimals, whole floats as integers (``3.0`` is ``"3"``), other floats by the
    shortest text that reads back in their own type, booleans as ``true`` and ``false``, timestamps and dates
    as ISO 8601 (UTC where they have a zone). NaN counts as missing; text stays as it is.

    Raises:
        DataError: The values are nested, or bytes that are not UTF-8.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return tokens_of(values.dictionary_decode(), column)
    if pa.types.is_nested(kind):
        raise DataError(
            f"column '{column}' holds {kind}, where one value a row is expected.",
            hint="Give the column the role sequence, or turn its values into text.",
        )
    if pa.types.is_floating(kind):
        return _floats(values)
    if pa.types.is_decimal(kind):
        return pa.array(
            [None if one is None else _plain(one) for one in values.to_pylist()], pa.large_string()
        )
    if pa.types.is_integer(kind) and len(values) <= FEW:
        return pa.array([None if one is None else str(one) for one in values.to_pylist()], pa.large_string())
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return _moments(values)
    try:
        return pc.cast(values, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"column '{column}' holds {kind} that cannot be read as text.",
            hint="Store the column as UTF-8 text.",
        ) from error


def is_text(kind: pa.DataType) -> bool:
    """Say whether a type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _floats(values: pa.Array) -> pa.Array:
    numbers = values.to_numpy(zero_copy_only=False)
    if values.null_count and pa.types.is_float16(values.type):
        numbers = numbers.astype(np.float32)
    with np.errstate(invalid="ignore"):
        whole = (np.trunc(numbers) == numbers) & (np.abs(numbers) < 2.0**62)
        if (whole | np.isnan(numbers)).all():
            # the common case of pandas: integers that became floats for the sake of a missing one
            return pc.cast(pa.array(numbers.astype(np.int64), mask=~whole), pa.large_string())
    return pa.array([_number(one) for one in numbers], pa.large_string())


def _number(value: np.floating) -> str | None:
    if np.isnan(value):
        return None
    if np.isfinite(value) and value == np.trunc(value):
        return str(int(value))
    return str(value)


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moments(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        values = pc.cast(values, pa.timestamp(kind.unit, "UTC"))
    text = pc.cast(values, pa.large_string())
    text = pc.replace_substring(text, " ", "T", max_replacements=1)
    # the same moment is one token, whatever the unit of the column
    text = pc.replace_substring_regex(text, r"(\.\d*[1-9])0+(Z?)$", r"\1\2")
    return pc.replace_substring_regex(text, r"\.0+(Z?)$", r"\1")

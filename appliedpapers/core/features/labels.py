"""Labels of 0 and 1, and weights of rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.numeric import floats_of
from appliedpapers.core.features.tokens import is_text

_WORDS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def labels_of(values: pa.Array, column: str, first_row: int = 1) -> NDArray[np.float32]:
    """Return the label of each row, ``(rows,)`` float32 of 0 and 1.

    Booleans, the numbers 0 and 1, and the texts 0, 1, true and false (in any case) are labels.

    Args:
        values: ``(rows,)`` of any type.
        column: Its name, for errors.
        first_row: Number of the first row, for errors.

    Raises:
        DataError: A value is anything else; column, value and row are named.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if is_text(kind):
        encoded = pc.cast(values, pa.large_string()).dictionary_encode(null_encoding="encode")
        words = [_WORDS.get((word or "").strip().lower(), np.nan) for word in encoded.dictionary.to_pylist()]
        numbers = np.array(words, np.float64).take(encoded.indices.to_numpy())
    elif pa.types.is_nested(kind) or pa.types.is_temporal(kind) or pa.types.is_binary(kind):
        numbers = np.full(len(values), np.nan)
    else:
        numbers = floats_of(values, column, first_row)
    bad = (numbers != 0) & (numbers != 1)
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"label column '{column}', row {first_row + at}: {_shown(values[at])} is neither 0 nor 1.",
            hint="Expected 0 or 1, true or false in every row; leave out rows without a label.",
        )
    labels: NDArray[np.float32] = numbers.astype(np.float32)
    return labels


def weights_of(values: pa.Array, column: str, first_row: int = 1) -> NDArray[np.float32]:
    """Return the weight of each row, ``(rows,)`` float32, positive and finite.

    Raises:
        DataError: A value is not a positive finite number; column, value and row are named.
    """
    numbers = floats_of(values, column, first_row)
    with np.errstate(over="ignore", under="ignore"):
        weights = numbers.astype(np.float32)
    bad = ~(np.isfinite(weights) & (weights > 0))
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"weight column '{column}', row {first_row + at}: {_shown(values[at])} is not a positive number.",
            hint="Weights are positive and finite; leave out rows that should not count.",
        )
    return weights


def _shown(value: pa.Scalar) -> str:
    plain = value.as_py()
    return "null" if plain is None else repr(plain)[:80]

"""Whether a table has the columns that its fields name, and whether they can play their roles."""

from __future__ import annotations

import pyarrow as pa

from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.features.fields import INPUTS, Fields, FieldSpec
from appliedpapers.core.features.tokens import is_text


def check_columns(fields: Fields, schema: pa.Schema, *, training: bool = True) -> tuple[str, ...]:
    """Check that columns exist and hold what their roles need.

    Args:
        fields: Roles by column.
        schema: Columns of the table.
        training: True where the rows are learned from or scored against; otherwise they are to be
            predicted: then only inputs matter, optional ones may be absent, and a column without any value
            is one of missing values.

    Returns:
        Columns that no field names and nothing reads.

    Raises:
        DataError: A column is absent or holds what its role cannot use; what was found and what was
            expected are named.
    """
    for name, spec in fields.items():
        if spec.role == "ignore" or (not training and spec.role not in (*INPUTS, "timestamp")):
            continue
        if name not in schema.names:
            if not training and spec.optional:
                continue
            raise DataError(
                f"column '{name}' is absent; it has the role {spec.role}.",
                hint=did_you_mean(name, [other for other in schema.names if other not in fields])
                if set(schema.names) - set(fields)
                else "Add the column, or take it out of the fields.",
            )
        _check(name, spec, schema.field(name).type, training)
    return tuple(name for name in schema.names if name not in fields)


def _check(name: str, spec: FieldSpec, kind: pa.DataType, training: bool) -> None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        if training:
            raise DataError(
                f"column '{name}' has no value in any row; it has the role {spec.role}.",
                hint="Give it the role ignore.",
            )
        return
    fits, expected = _needs(spec, kind)
    if not fits:
        raise DataError(
            f"column '{name}' holds {kind}, but has the role {spec.role}.", hint=f"Expected {expected}."
        )


def _needs(spec: FieldSpec, kind: pa.DataType) -> tuple[bool, str]:
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    scalar = not pa.types.is_nested(kind) and not binary
    if spec.role in ("numeric", "weight"):
        return number or (spec.role == "numeric" and pa.types.is_boolean(kind)), "numbers"
    if spec.role == "sequence":
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if spec.separator is None:
            return lists and not pa.types.is_nested(kind.value_type), (
                "lists of tokens, or texts and the option separator"
            )
        return is_text(kind) or lists, f"texts with '{spec.separator}' between tokens"
    if spec.role == "timestamp":
        times = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
        return times or number or is_text(kind), "timestamps, dates, texts of a format, or Unix times"
    if spec.role == "label":
        return number or pa.types.is_boolean(kind) or is_text(kind), "0 and 1"
    if spec.role == "categorical":
        return scalar, "one value a row: text, whole numbers or true and false; lists need the role sequence"
    return scalar, "one value a row"

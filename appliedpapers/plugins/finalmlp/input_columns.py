"""The columns that a click model is sent, as the contract of requests and batches."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from appliedpapers.core.features.fields import INPUTS, Fields, FieldSpec
from appliedpapers.core.schema import Column, DType

Kinds = Mapping[str, DType]


def kinds_of(fields: Fields, schema: pa.Schema) -> dict[str, DType]:
    """Return the types of columns whose role leaves them open: carried ids and times.

    Args:
        fields: Role of each column.
        schema: Of the train rows.
    """
    found: dict[str, DType] = {}
    for name, field in fields.items():
        if name in schema.names and (field.role == "timestamp" or (field.role == "ignore" and field.carry)):
            found[name] = _kind(schema.field(name).type)
    return found


def input_columns(fields: Fields, kinds: Kinds) -> tuple[Column, ...]:
    """Return the columns of the input schema, in schema order."""
    return tuple(
        _column(name, field, kinds)
        for name, field in fields.items()
        if field.role in INPUTS
        or (field.role == "timestamp" and field.derive)
        or (field.role == "ignore" and field.carry)
    )


def _column(name: str, field: FieldSpec, kinds: Kinds) -> Column:
    if field.role == "numeric":
        return Column(
            name,
            "float64",
            "number",
            nullable=True,
            required=not field.optional,
            infinity="missing",
            example=1.0,
        )
    if field.role == "categorical":
        return Column(
            name,
            "string",
            "category; new ones are allowed",
            nullable=True,
            required=not field.optional,
            example="a",
        )
    if field.role == "sequence":
        many = field.separator is None
        text = "list of tokens" if many else f"tokens, separated by '{field.separator}'"
        return Column(
            name,
            "string",
            text,
            nullable=True,
            required=not field.optional,
            shape=(None,) if many else None,
            example=["a", "b"] if many else f"a{field.separator}b",
        )
    if field.role == "timestamp":
        kind = kinds.get(name, "timestamp")
        text = f"time, written as {field.format}" if field.format else "time of the row"
        return Column(name, kind, text, nullable=True, required=not field.optional)
    return Column(
        name, kinds.get(name, "string"), "id of the row, carried over", nullable=True, required=False
    )


def _kind(kind: pa.DataType) -> DType:
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "timestamp"
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int64"
    return "float64" if pa.types.is_floating(kind) else "string"

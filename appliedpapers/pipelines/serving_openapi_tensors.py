"""Cells and tensors in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliedpapers.core.schema import Column
from appliedpapers.pipelines.serving_about import datatype_of, example_records, tensor_shape

if TYPE_CHECKING:
    from appliedpapers.pipelines.serving_settings import ServedModel

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_BITS = {"int64": 63, "int32": 31}
TENSORS: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": _TEXT,
            "datatype": _TEXT,
            "shape": {"type": "array", "items": {"type": "integer"}},
        },
    },
}
TENSOR_ANSWER: Json = {
    "type": "object",
    "required": ["model_name", "outputs"],
    "properties": {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": TENSORS},
}


def cell_schema(column: Column) -> Json:
    """Return the JSON Schema of one cell of a request."""
    if column.file is not None:
        sent = {
            "type": "object",
            "required": ["b64"],
            "properties": {"b64": _TEXT},
            "additionalProperties": False,
        }
        choices: list[Json] = [_TEXT | {"description": "a path in a folder that the server may read"}, sent]
        return {"anyOf": [*choices, *([{"type": "null"}] if column.nullable else [])]}
    return _bounded(column.json_schema(), column)


def tensor_body(served: ServedModel) -> Json:
    """Return the JSON body of ``infer``, in one exact form: a row, and a tensor for each column of it."""
    columns = [
        column for column in served.model.input_schema.columns if not column.file and not column.ragged
    ]
    record = next(iter(example_records(served, 1)), {})
    tensors = [_tensor(column) for column in columns]
    return {
        "schema": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "inputs": {
                    "type": "array",
                    "prefixItems": tensors,
                    "items": False,
                    "minItems": len(tensors),
                    "maxItems": len(tensors),
                }
            },
            "additionalProperties": False,
        },
        "example": {
            "inputs": [
                {
                    "name": column.name,
                    "shape": [1, *tensor_shape(column)],
                    "datatype": datatype_of(column),
                    "data": [record.get(column.name)],
                }
                for column in columns
            ]
        },
    }


def _tensor(column: Column) -> Json:
    cell = {"type": "array", "prefixItems": [cell_schema(column)], "items": False, "minItems": 1}
    properties: Json = {
        "name": {"const": column.name},
        "shape": {"const": [1, *tensor_shape(column)]},
        "datatype": {"const": datatype_of(column)},
        "data": cell,
    }
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _bounded(cell: Json, column: Column) -> Json:
    if cell.get("type") == "array":
        return cell | {"items": _bounded(cell["items"], column)}
    if "anyOf" in cell:
        return cell | {"anyOf": [_bounded(choice, column) for choice in cell["anyOf"]]}
    if cell.get("type") == "integer":
        most = 2 ** _BITS[column.dtype]
        return {"minimum": -most, "maximum": most - 1, "format": column.dtype} | cell
    if cell.get("type") == "number":
        most_float = 3.4e38 if column.dtype == "float32" else 1.7e308
        return {"minimum": -most_float, "maximum": most_float} | cell
    if column.dtype == "timestamp" and cell.get("type") == "string":
        return cell | {"format": "date-time"}
    return cell

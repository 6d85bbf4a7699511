"""What a server says about its models: metadata and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from appliedpapers.core.json_rows import plain, records
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.pipelines.serving_settings import ServedModel

_EXAMPLE_ROWS = 1000
_DATATYPES = {
    "float64": "FP64",
    "float32": "FP32",
    "int64": "INT64",
    "int32": "INT32",
    "bool": "BOOL",
    "string": "BYTES",
    "timestamp": "BYTES",
}


def metadata(served: ServedModel) -> dict[str, Any]:
    """Return what ``/v2/models/{name}`` says: the Open Inference fields, and our schemas beside them."""
    model, info = served.model, served.info
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": "applied-papers",
        "inputs": _tensors(model.input_schema),
        "outputs": _tensors(model.output_schema),
        "summary": served.summary,
        "plugin": info.plugin,
        "task": info.task,
        "cost": model.cost,
        "streams": served.model.streams,
        "dataset": info.dataset,
        "package_version": info.package_version,
        "input_schema": model.input_schema.to_json(),
        "output_schema": model.output_schema.to_json(),
        "json_schema": {
            "input": model.input_schema.json_schema(),
            "output": model.output_schema.json_schema(),
        },
    }


def example_records(served: ServedModel, most: int = _EXAMPLE_ROWS) -> list[dict[str, Any]]:
    """Return the example as JSON records; without one, a record of the columns' own examples."""
    if served.example is not None:
        return [plain(row) for row in records(served.example.slice(0, most))]
    return [{column.name: column.example for column in served.model.input_schema.columns if column.required}]


def documented(summary: str, *, job: bool = False) -> dict[str, Any]:
    """Return what FastAPI is told of a predicting route; the OpenAPI document is completed afterwards."""
    return {
        "tags": ["jobs" if job else "predict"],
        "summary": summary,
        "response_class": Response,
        "status_code": 202 if job else 200,
    }


def datatype_of(column: Column) -> str:
    """Return the Open Inference datatype of a column; files and arrays of differing shapes are texts."""
    return "BYTES" if column.file or column.ragged else _DATATYPES[column.dtype]


def tensor_shape(column: Column) -> tuple[int, ...]:
    """Return the axes of a column's tensor after the rows."""
    return () if column.ragged else tuple(axis or 0 for axis in column.shape or ())


def _tensors(schema: TableSchema) -> Sequence[dict[str, Any]]:
    return [
        {"name": column.name, "datatype": datatype_of(column), "shape": [-1, *tensor_shape(column)]}
        for column in schema.columns
    ]

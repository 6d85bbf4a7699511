"""The OpenAPI document: every route with every status, bodies by the schema, examples that can be sent.

It describes one exact form of each shape. The server takes more: columns in any order and with others beside
them, numbers as text, ``inputs`` as lists by column.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from appliedpapers.core.schema import TableSchema
from appliedpapers.pipelines.serving_about import example_records
from appliedpapers.pipelines.serving_arrow import ARROW, PARQUET
from appliedpapers.pipelines.serving_openapi_tensors import TENSOR_ANSWER, TENSORS, cell_schema, tensor_body
from appliedpapers.pipelines.serving_problems import MEDIA_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI

    from appliedpapers.pipelines.serving_routes import Serving
    from appliedpapers.pipelines.serving_settings import ServedModel

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_TIME: Json = {"type": ["string", "null"]}
_EVERYWHERE = {
    401: "The token is missing or wrong",
    403: "The Host header is not known",
    503: "Too many requests, warming up, or shutting down",
}
_PREDICTING = {
    400: "Not of the media type, or not one of the shapes",
    408: "The body did not arrive in time",
    413: "The body is too large, or unfolds to too much",
    415: "Another media type, or a compressed body",
    422: "Too many rows, or rows that break the contract",
    500: "The model failed; the server's log says why",
}
_AT_ONCE = {504: "The answer took too long"}
_JOBS = {429: "Too many jobs wait"}
_MISSING = {404: "There is no such model, job or file"}
_PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "hint": _TEXT,
        "violations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "row": {"type": ["integer", "null"]},
                    "column": _TEXT,
                    "value": _TEXT,
                    "rule": _TEXT,
                },
            },
        },
        "violations_total": {"type": "integer"},
    },
    "example": {
        "type": "urn:applied-papers:problem:malformed",
        "title": "Bad Request",
        "status": 400,
        "detail": "Not JSON: Expecting value at line 1, column 1.",
        "hint": "Expected a JSON object with one of dataframe_split, dataframe_records, instances, inputs.",
    },
}
_JOB: Json = {
    "type": "object",
    "required": ["id", "status", "model", "version", "rows", "links"],
    "properties": {
        "id": _TEXT,
        "status": {"enum": ["queued", "running", "interrupted", "done", "failed"]},
        "model": _TEXT,
        "version": _TEXT,
        "rows": {"type": "integer", "minimum": 0},
        "created": _TIME,
        "started": _TIME,
        "finished": _TIME,
        "problem": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "links": {"type": "object", "required": ["self", "result"]},
    },
}
_INFER = "/infer"


def describe(app: FastAPI, serving: Serving) -> None:
    """Have the application give out the whole document."""
    made = app.openapi
    cache: dict[tuple[str, ...], Json] = {}

    def document() -> Json:
        # the routes stay while they are served; a model may be replaced by another version
        versions = tuple(served.version for served in serving.models.values())
        if versions not in cache:
            cache.clear()
            cache[versions] = completed(deepcopy(made()), serving)
        return cache[versions]

    app.openapi = document  # type: ignore[method-assign]


def completed(document: Json, serving: Serving) -> Json:
    """Return FastAPI's document with bodies, examples and all statuses.

    Args:
        document: What FastAPI says of the routes.
        serving: The models.
    """
    slow = [served for served in serving.models.values() if served.model.cost == "job"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            served = _model_of(path, serving, slow)
            _complete(method, path, operation, served, [item.name for item in slow])
            _name_models(operation, serving)
    document["components"] = {"schemas": {"Problem": _PROBLEM, "Job": _JOB}}
    if serving.settings.token is not None:
        schemes = {kind: {"type": "http", "scheme": kind} for kind in ("bearer", "basic")}
        document["components"]["securitySchemes"] = schemes
        document["security"] = [{kind: []} for kind in schemes]
        for path in ("/v2/health/live", "/v2/health/ready"):
            document["paths"][path]["get"]["security"] = []
    return document


def bodies(served: ServedModel) -> Json:
    """Return the content of a request body by media type."""
    rows = example_records(served)
    names = list(rows[0]) if rows else []
    split = {"columns": names, "data": [list(row.values()) for row in rows]}
    binary = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {
        "application/json": {
            "schema": _shapes(served.model.input_schema),
            "example": {"dataframe_split": split},
        },
        "text/csv": {"schema": _TEXT, "example": csv_text(served.model.input_schema, rows)},
        PARQUET: {"schema": binary},
        ARROW: {"schema": binary},
    }


def csv_text(schema: TableSchema, rows: list[Json]) -> str:
    """Return records as the CSV that ``/invocations`` reads; arrays stand as JSON in their cell."""
    names = list(rows[0]) if rows else list(schema.names)
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])
    return sink.getvalue()


def _csv_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict | bool) else value


def _shapes(schema: TableSchema) -> Json:
    cells = {column.name: cell_schema(column) for column in schema.columns}
    row = {
        "type": "object",
        "required": [column.name for column in schema.columns if column.required],
        "properties": cells,
    }
    rows = {"type": "array", "items": row, "minItems": 1}
    split = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"const": list(cells)},
            "data": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "array",
                    "prefixItems": list(cells.values()),
                    "items": False,
                    "minItems": len(cells),
                    "maxItems": len(cells),
                },
            },
        },
    }
    shapes = {"dataframe_split": split, "dataframe_records": rows, "instances": rows, "inputs": rows}
    return {
        "oneOf": [
            {"type": "object", "required": [name], "properties": {name: shape}, "additionalProperties": False}
            for name, shape in shapes.items()
        ]
    }


def _model_of(path: str, serving: Serving, slow: list[ServedModel]) -> ServedModel | None:
    if path == "/invocations":
        return serving.first
    if path == "/v2/jobs":
        return slow[0]
    name = path.removeprefix("/v2/models/").removesuffix("/invocations").removesuffix(_INFER)
    return serving.models.get(name)


def _complete(method: str, path: str, operation: Json, served: ServedModel | None, slow: list[str]) -> None:
    statuses = dict(_EVERYWHERE)
    good = _gone() if method == "delete" else _good(path)
    if served is not None:
        tensors = path.endswith(_INFER)
        content = {"application/json": tensor_body(served)} if tensors else bodies(served)
        operation["requestBody"] = {"required": True, "content": content}
        waits = served.name in slow
        made = TENSOR_ANSWER if tensors else _answer(served, files=waits)
        answer = {200: _content(made, "Predictions")}
        accepted = {202: _accepted()}
        good = accepted if path == "/v2/jobs" else answer | accepted if waits else answer
        statuses |= (
            _PREDICTING | (_JOBS | _MISSING if waits else {}) | ({} if path == "/v2/jobs" else _AT_ONCE)
        )
    if "{" in path:
        statuses |= _MISSING
    if path.endswith("/result"):
        statuses |= {409: "The job is not done"} | _PREDICTING
    if method == "delete":
        statuses |= {409: "The job is running"}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    operation["responses"] = {str(status): said for status, said in good.items()} | {
        str(status): {"description": said, "content": {MEDIA_TYPE: problem}}
        for status, said in sorted(statuses.items())
    }


def _good(path: str) -> dict[int, Json]:
    """Return the answers to what was asked well, of routes that predict nothing."""
    named = {"type": "object", "required": ["name"], "properties": {"name": _TEXT, "version": _TEXT}}
    job = {"$ref": "#/components/schemas/Job"}
    schemas: dict[str, tuple[Json, str]] = {
        "/v2": (named, "The server"),
        "/v2/health/live": (_flag("live"), "It answers"),
        "/v2/health/ready": (_flag("ready"), "It takes requests"),
        "/v2/models": (_list("models", named), "The models"),
        "/v2/models/{name}": (_metadata(), "The model"),
        "/v2/models/{name}/versions/{version}": (_metadata(), "The model"),
        "/v2/models/{name}/ready": (_flag("ready"), "It takes requests"),
        "/v2/models/{name}/versions/{version}/ready": (_flag("ready"), "It takes requests"),
        "/v2/jobs/{key}": (job, "The job"),
        "/v2/jobs/{key}/result": (_list("predictions", {"type": "object"}), "The prediction"),
    }
    if path in schemas:
        return {200: _content(*schemas[path])}
    kind = "text/plain" if path == "/metrics" else "*/*"
    return {200: {"description": "The content", "content": {kind: {"schema": {}}}}}


def _gone() -> dict[int, Json]:
    return {204: {"description": "Forgotten"}}


def _answer(served: ServedModel, *, files: bool) -> Json:
    made = {"type": "array", "items": served.model.output_schema.json_schema()}
    properties: Json = {"predictions": made}
    if files:
        properties["files"] = {"type": "array", "items": {"type": "object", "required": ["path", "url"]}}
    return {"type": "object", "required": list(properties), "properties": properties}


def _accepted() -> Json:
    location = {"Location": {"schema": _TEXT, "description": "Where to ask for the job", "required": True}}
    return _content({"$ref": "#/components/schemas/Job"}, "Accepted; Location names the job") | {
        "headers": location
    }


def _metadata() -> Json:
    return {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": _TEXT,
            "versions": {"type": "array", "items": _TEXT},
            "platform": _TEXT,
            "inputs": TENSORS,
            "outputs": TENSORS,
        },
    }


def _flag(name: str) -> Json:
    return {"type": "object", "required": [name], "properties": {name: {"const": True}}}


def _list(name: str, item: Json) -> Json:
    return {"type": "object", "required": [name], "properties": {name: {"type": "array", "items": item}}}


def _content(schema: Mapping[str, Any], said: str) -> Json:
    return {"description": said, "content": {"application/json": {"schema": schema}}}


def _name_models(operation: Json, serving: Serving) -> None:
    """Name the models that can be asked for where FastAPI knows only that a text is wanted."""
    for parameter in operation.get("parameters", ()):
        if (
            parameter["name"] == "name"
            and parameter["in"] == "path"
            and "files" not in operation["operationId"]
        ):
            parameter["schema"] = {"enum": list(serving.models)}
        elif parameter["name"] == "version":
            parameter["schema"] = {"enum": sorted({served.version for served in serving.models.values()})}
        elif parameter["name"] == "model":
            parameter["schema"] = {"enum": list(serving.runners)}

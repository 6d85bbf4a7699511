"""The two pages of a server: ``/``, where a person tries the model, and ``/docs``; no outside resource."""

from __future__ import annotations

import json
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.pipelines.serving_about import example_records
from appliedpapers.pipelines.serving_arrow import ARROW, PARQUET
from appliedpapers.pipelines.serving_openapi import csv_text, describe
from appliedpapers.pipelines.serving_problems import MEDIA_TYPE, shorten
from appliedpapers.pipelines.serving_routes import Serving
from appliedpapers.pipelines.serving_settings import ServedModel

if TYPE_CHECKING:
    from fastapi import FastAPI
    from jinja2 import Template

_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src blob:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_WIDE_ARRAY = 12
_SHOWN_ROWS = 3
_LARGEST_EXAMPLE = 2**20
_TAGS = ("predict", "jobs", "models", "operation")


def add_pages(app: FastAPI, serving: Serving) -> None:
    """Add ``/``, ``/models/{name}`` and ``/docs``, and complete the OpenAPI document."""
    describe(app, serving)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _html(request, "serve_page.html", page_context(serving, serving.first))

    @app.get("/models/{name}", include_in_schema=False)
    async def model_page(request: Request, name: str) -> Response:
        return _html(request, "serve_page.html", page_context(serving, serving.model(name)))

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return _html(request, "serve_docs.html", docs_context(app, serving))


def page_context(serving: Serving, served: ServedModel) -> dict[str, Any]:
    """Return what the page of a model shows."""
    schema, output = served.model.input_schema, served.model.output_schema
    rows = example_records(served)
    tabular = bool(schema.group_by) and not any(column.file for column in schema.columns)
    first = served is serving.first
    data = {
        "url": "/invocations" if first else f"/v2/models/{served.name}/invocations",
        "name": served.name,
        "tabular": tabular,
        "groupBy": list(schema.group_by),
        "types": {"csv": "text/csv", "json": "application/json", "parquet": PARQUET, "arrow": ARROW},
        "instant": served.model.cost == "instant" and served.example is not None,
        "columns": schema.to_json()["columns"],
        "output": output.to_json()["columns"],
        "files": _example_files(schema, rows[0] if rows else {}),
        "keys": list(output.keys),
        "orderBy": output.order_by,
    }
    return {
        "served": served,
        "others": [other for other in serving.models.values() if other is not served],
        "dataset": served.info.dataset,
        "secured": serving.settings.token is not None,
        "tabular": tabular,
        "streams": served.model.streams and tabular,
        "many_files": sum(column.file is not None for column in schema.columns) == 1,
        "fields": [
            _form_field(column, (rows[0] if rows else {}).get(column.name)) for column in schema.columns
        ],
        "rows": len(rows),
        "csv": csv_text(schema, rows) if tabular else "",
        "data": script_json(data),
    }


def docs_context(app: FastAPI, serving: Serving) -> dict[str, Any]:
    """Return what the documentation page shows: every route of the OpenAPI document, and the schemas."""
    document = app.openapi()
    routes = [
        {
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "tag": operation.get("tags", [""])[0],
            "example": _example_text(operation),
            "statuses": sorted(operation.get("responses", {})),
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    routes.sort(key=lambda route: _TAGS.index(route["tag"]))
    models = [
        {
            "served": served,
            "input": _rows(served.model.input_schema),
            "output": _rows(served.model.output_schema),
        }
        for served in serving.models.values()
    ]
    return {
        "served": serving.first,
        "routes": routes,
        "models": models,
        "settings": serving.settings,
        "problem_type": MEDIA_TYPE,
        "streams": any(served.model.streams for served in serving.models.values()),
    }


def script_json(document: Any) -> str:
    """Return JSON that may stand inside a ``<script>`` element."""
    text = json.dumps(document, default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html(request: Request, template: str, context: dict[str, Any]) -> Response:
    nonce = secrets.token_urlsafe(16)
    host = request.headers.get("host", "127.0.0.1")
    base = f"{request.url.scheme}://{host}"
    text = _template(template).render(nonce=nonce, base=base, **context)
    return Response(
        text,
        headers={"Content-Security-Policy": _POLICY.format(nonce)},
        media_type="text/html; charset=utf-8",
    )


@lru_cache(maxsize=4)
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("appliedpapers.pipelines", "")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        name
    )


def _form_field(column: Column, value: Any) -> dict[str, Any]:
    return {
        "column": column,
        "kind": _field_kind(column),
        "value": "" if value is None else value if isinstance(value, str) else json.dumps(value),
        "range": _range(column) if column.categories is None else "",
        "bytes": isinstance(value, dict) and len(value["b64"]) <= _LARGEST_EXAMPLE,
        "step": "1" if column.dtype.startswith("int") else "any",
        "tall": column.size > _WIDE_ARRAY or column.ragged,
    }


def _range(column: Column) -> str:
    if column.categories is not None:
        return ", ".join(column.categories)
    if column.maximum is None and column.minimum is not None:
        return f"from {column.minimum:g}"
    if column.minimum is None and column.maximum is not None:
        return f"up to {column.maximum:g}"
    return column.range_text()


def _example_files(schema: TableSchema, row: dict[str, Any]) -> dict[str, Any]:
    """Return the small files of the example; a browser cannot fill a file field."""
    cells = {column.name: row.get(column.name) for column in schema.columns if column.file is not None}
    return {
        name: cell
        for name, cell in cells.items()
        if isinstance(cell, dict) and len(cell["b64"]) <= _LARGEST_EXAMPLE
    }


def _field_kind(column: Column) -> str:
    if column.file is not None:
        return "file"
    if column.shape is not None:
        return "array"
    if column.categories is not None:
        return "choice"
    return {"bool": "bool", "string": "text", "timestamp": "time"}.get(column.dtype, "number")


def _rows(schema: TableSchema) -> list[dict[str, str]]:
    return [
        {
            "name": column.name,
            "type": column.file or column.dtype + (f" {list(column.shape)}" if column.shape else ""),
            "unit": column.unit or "",
            "range": _range(column),
            "missing": "allowed" if column.nullable else "no",
            "meaning": column.description,
        }
        for column in schema.columns
    ]


def _example_text(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if "example" not in content:
        return ""
    frame = content["example"].get("dataframe_split")
    if frame is None:
        tensors = [shorten(json.dumps(tensor, default=str)) for tensor in content["example"]["inputs"]]
        return '{"inputs": [\n    ' + ",\n    ".join(tensors) + "]}"
    rows = [json.dumps(row, default=str) for row in frame["data"]]
    data = ",\n    ".join(shorten(row) for row in rows[:_SHOWN_ROWS])
    text = (
        f'{{"dataframe_split": {{\n  "columns": {json.dumps(frame["columns"])},\n  "data": [\n    {data}]}}}}'
    )
    more = len(rows) - _SHOWN_ROWS
    return text if more <= 0 else f"{text}\n({more} more rows)"

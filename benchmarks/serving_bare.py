"""The least that serves a model: FastAPI on uvloop, no check, no limit. ``BUNDLE`` names its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
from fastapi import FastAPI, Request
from starlette.responses import Response

from appliedpapers.core.bundle import load_bundle

_model, _ = load_bundle(Path(os.environ["BUNDLE"]))
_schema = _model.input_schema.arrow_schema()

app = FastAPI()


@app.get("/ping")
async def ping() -> Response:
    """Answer a probe."""
    return Response(b"")


@app.post("/invocations")
async def invocations(request: Request) -> Response:
    """Predict for records of JSON."""
    rows = json.loads(await request.body())["dataframe_records"]
    output = _model.predict(pa.Table.from_pylist(rows, _schema))
    return Response(json.dumps({"predictions": output.to_pylist()}), media_type="application/json")

"""Fuzzing of what strangers send to a server: bodies of every media type, and lines of a stream."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from appliedpapers.core.json_rows import plain, records
from benchmarks.fuzz_cases import Change, changed_bytes, changed_words, mutated, nearly
from benchmarks.fuzz_target import Fuzzing, Target
from benchmarks.serving import tiny_bundle

_UNDERSTOOD = frozenset({200, 400, 413, 415, 422})
_ARROW, _PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


class WrongAnswer(AssertionError):
    """The server answered with another status than those that a body can cause, or not in JSON."""


def _asking(folder: Path) -> tuple[pa.Table, Callable[[bytes, str], None]]:
    """Return an example of the smallest model, and what sends a body to the real application."""
    from appliedpapers.pipelines.serve import ServeSettings, create_app, load_served

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient
    served = load_served(str(tiny_bundle(folder)))
    settings = ServeSettings(state_folder=folder / "state", max_body_mb=1, max_rows=1000)
    client = TestClient(
        create_app([served], settings), base_url="http://localhost", raise_server_exceptions=False
    )
    client.__enter__()
    while client.get("/v2/health/ready").status_code != 200:
        pass

    def ask(body: bytes, media_type: str) -> None:
        answer = client.post("/invocations", content=body, headers={"content-type": media_type})
        if answer.status_code not in _UNDERSTOOD:
            raise WrongAnswer(f"status {answer.status_code}: {answer.text[:200]}")
        found = json.loads(answer.content, parse_constant=_no_constant)
        if answer.status_code != 200 and ("title" not in found or "Traceback" in answer.text):
            raise WrongAnswer(f"no problem document: {answer.text[:200]}")

    assert served.example is not None
    return served.example, ask


def _no_constant(word: str) -> None:
    raise WrongAnswer(f"{word} in an answer")


def _json_bodies(folder: Path) -> Fuzzing:
    example, ask = _asking(folder)
    rows = [plain(row) for row in records(example)]
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    shapes: list[Any] = [{"dataframe_records": rows}, {"dataframe_split": split}]
    shapes += [{"instances": rows}, {"inputs": {name: [row[name] for row in rows] for name in rows[0]}}]
    odd = st.one_of([nearly(shape) for shape in shapes]).map(_encoded)
    cases = st.one_of(odd, mutated([_encoded(shape) for shape in shapes], changed_words))
    return Fuzzing(cases, lambda body: ask(body, "application/json"))


def _encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def _bodies(media_type: str, change: Change) -> Callable[[Path], Fuzzing]:
    def prepare(folder: Path) -> Fuzzing:
        example, ask = _asking(folder)
        return Fuzzing(mutated([_written(example, media_type)], change), lambda body: ask(body, media_type))

    return prepare


def _written(table: pa.Table, media_type: str) -> bytes:
    from appliedpapers.core.tables import csv_bytes

    sink = io.BytesIO()
    if media_type == _PARQUET:
        pq.write_table(table, sink)
    elif media_type == _ARROW:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        return csv_bytes(table)
    return sink.getvalue()


def _lines(folder: Path) -> Fuzzing:
    """Read lines as ``apps stream`` does, judged by the schema of the smallest model."""
    from appliedpapers.core.bundle import read_info
    from appliedpapers.core.record_check import RecordCheck
    from appliedpapers.pipelines.serve import load_served
    from appliedpapers.pipelines.stream import _by_table, _records

    bundle = tiny_bundle(folder)
    example, schema = load_served(str(bundle)).example, read_info(bundle).input_schema
    assert example is not None
    rows = [plain(row) for row in records(example)]
    quick = RecordCheck(schema)
    texts = [b"\n".join(map(_encoded, rows)), _written(example, "text/csv")]

    def attempt(content: bytes) -> None:
        lines = content.decode("utf-8", "surrogateescape").splitlines()
        for source, given, _ in _records(lines, schema):
            quick.row(given) or _by_table(given, schema, source)

    return Fuzzing(st.one_of(mutated(texts, changed_words), nearly(rows[0]).map(_encoded)), attempt)


TARGETS = (
    Target("server-json", "JSON bodies of /invocations", _json_bodies),
    Target("server-csv", "CSV bodies of /invocations", _bodies("text/csv", changed_words)),
    Target("server-parquet", "Parquet bodies of /invocations", _bodies(_PARQUET, changed_bytes)),
    Target("server-arrow", "Arrow bodies of /invocations", _bodies(_ARROW, changed_bytes)),
    Target("stream-lines", "lines of apps stream", _lines),
)

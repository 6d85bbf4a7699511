"""Rows that tests of batch scoring send, and what they read of the result."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from tinyplugins.bundles import plots


def write_rows(folder: Path) -> str:
    """Write three files of a hundred rows, three bad ones among them; the pattern that names them."""
    folder.mkdir(exist_ok=True)
    for number in range(3):
        rows = plots(100, seed=number, first=100 * number).to_pylist()
        rows[50]["soil"] = "moss"
        folder.joinpath(f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "*.jsonl")


def content(output: Path) -> tuple[list[dict], list[dict]]:
    """What was scored and what was not, each in an order that does not depend on how."""
    scores = pq.read_table(output / "predictions.parquet").sort_by("plot").to_pylist()
    bad = pq.read_table(output / "quarantine.parquet").sort_by([("file", "ascending"), ("row", "ascending")])
    return scores, bad.to_pylist()


def everything(output: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}

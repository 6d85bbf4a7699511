"""Fuzzing of tables: CSV, Parquet, JSON lines, Arrow, XLSX, lists of files, and every plugin's own rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from appliedpapers.core import plugin as plugins
from appliedpapers.core.config import resolve
from benchmarks.fuzz_cases import Change, changed_bytes, changed_ends, changed_members, changed_words, mutated
from benchmarks.fuzz_target import Fuzzing, Target, of_file

_TABLE = pa.table(
    {
        "name": ["a", "b", None],
        "time": pa.array([datetime(2024, 1, day) for day in (1, 2, 3)], pa.timestamp("us")),
        "value": [1.5, None, -3.0],
        "count": [1, 2, 3],
        "list": [[1.0, 2.0], [], None],
    }
)


def _table(suffix: str, change: Change) -> Callable[[Path], Fuzzing]:
    from appliedpapers.core.tables import read_table, write_table

    def prepare(folder: Path) -> Fuzzing:
        path = folder / f"table{suffix}"
        write_table(_TABLE, path)
        return Fuzzing(mutated([path.read_bytes()], change), of_file(path, read_table))

    return prepare


def _sheet(folder: Path) -> Fuzzing:
    import openpyxl

    from appliedpapers.core.sheets import read_sheet

    book = openpyxl.Workbook()
    for row in (["soil", "ph", "day"], ["loam", 6.5, datetime(2024, 1, 1)], ["clay", None, True]):
        book.active.append(row)
    path = folder / "table.xlsx"
    book.save(path)
    return Fuzzing(mutated([path.read_bytes()], changed_members), of_file(path, read_sheet))


def _manifest(folder: Path) -> Fuzzing:
    from appliedpapers.core.manifests import read_manifest

    text = b"path,split,label\na.png,train,3\nb.png,test,4\n\nc.png,,x\n"

    def read(path: Path) -> None:
        for row in read_manifest(path, ("path",), ("split", "label")):
            row.part()

    return Fuzzing(
        mutated([text, text.replace(b",", b";")], changed_words), of_file(folder / "list.csv", read)
    )


def _inputs(suffix: str, change: Change) -> Callable[[Path], Fuzzing]:
    """Return the cases of every plugin's own reader: samples as ``apps config init`` writes them."""
    from appliedpapers.core.tables import write_table

    def prepare(folder: Path) -> Fuzzing:
        seeds: list[tuple[Any, Any, Path, bytes]] = []
        for state in plugins.discover():
            if state.spec is None or state.id.startswith("tiny"):
                continue
            for task in state.spec.tasks:
                place = folder / f"{state.spec.id}-{task.name}"
                place.mkdir()
                config = task.load("config")
                catalog = task.load("datasets")
                resolved = resolve(config, preset="check" if "check" in config.presets else "quick")
                path = place / f"sample{suffix}"
                write_table(catalog.sample(place, resolved).slice(0, 40), path)
                seeds.append((catalog, resolved, path, path.read_bytes()))

        def attempt(case: tuple[int, int]) -> None:
            catalog, resolved, path, content = seeds[case[0]]
            path.write_bytes(change(content, random.Random(case[1])))
            catalog.inputs(path, resolved)

        return Fuzzing(st.tuples(st.integers(0, len(seeds) - 1), st.integers(0, 2**63 - 1)), attempt)

    return prepare


TARGETS = (
    Target("csv", "CSV tables", _table(".csv", changed_words)),
    Target("parquet", "Parquet tables", _table(".parquet", changed_ends)),
    Target("jsonl", "JSON lines", _table(".jsonl", changed_words)),
    Target("arrow", "Arrow tables", _table(".arrow", changed_bytes)),
    Target("xlsx", "XLSX tables", _sheet),
    Target("manifest", "lists of files", _manifest),
    Target("inputs-csv", "every plugin's own rows as CSV", _inputs(".csv", changed_words)),
    Target("inputs-jsonl", "every plugin's own rows as JSON lines", _inputs(".jsonl", changed_words)),
    Target("inputs-parquet", "every plugin's own rows as Parquet", _inputs(".parquet", changed_bytes)),
)

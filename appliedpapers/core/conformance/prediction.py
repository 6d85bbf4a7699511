"""What a plugin's predictions promise: independence, order, schema, streams, threads, resumption."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from appliedpapers.core.conformance.subject import (
    CheckFailed,
    NotApplicable,
    Subject,
    require,
    require_equal,
    shaken_randomness,
)
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.model import Stream
from appliedpapers.core.validation import check

_THREADS = 8


def repeatable(subject: Subject) -> str:
    """Fitting twice with one seed gives equal predictions, wherever the global generators stand."""
    first = subject.prediction
    with shaken_randomness(3):
        require_equal(subject.predict(subject.example), first, "predicted again", exact=True)
        again = subject.fit()
    require_equal(subject.predict(subject.example, again), first, "fitted again", exact=True)
    return f"seed {subject.config.seed}"


def independent(subject: Subject) -> str:
    """A row (or group) gets the same answer alone, in company, and in another order."""
    units = _several(subject)
    alone = [subject.predict(unit) for unit in units]
    require_equal(pa.concat_tables(alone), subject.prediction, "each alone")
    backwards = subject.predict(pa.concat_tables(units[::-1]))
    require_equal(backwards, pa.concat_tables(alone[::-1]), "in reverse order")
    half = len(units) // 2
    parts = [subject.predict(pa.concat_tables(part)) for part in (units[:half], units[half:])]
    require_equal(pa.concat_tables(parts), subject.prediction, "in two batches")
    return f"{len(units)} units"


def keys_and_order(subject: Subject) -> str:
    """Input keys are carried over, order is kept, and the row rule holds."""
    schema, output = subject.model.output_schema, subject.prediction
    absent = [name for name in schema.keys if name not in subject.example.column_names]
    require(not absent, f"key '{absent[0] if absent else ''}' is not an input column")
    dropped = [name for name in schema.keys if name not in output.column_names]
    require(not dropped, f"key '{dropped[0] if dropped else ''}' is not carried over")
    if schema.rows == "per_row":
        require(_keys(output, schema.keys) == _keys(subject.example, schema.keys), "keys or order differ")
        _require_order_when_mixed(subject)
    elif schema.rows == "per_group":
        count = len(subject.units)
        require(output.num_rows == count, f"per_group: {output.num_rows} output rows for {count} groups")
    given = list(dict.fromkeys(_keys(subject.example, schema.keys)))
    found = list(dict.fromkeys(_keys(output, schema.keys)))
    require(set(found) <= set(given), "an output key is none of the input's")
    require(found == [key for key in given if key in set(found)], "the order of the keys differs")
    return f"{schema.rows}, keys {', '.join(schema.keys) or 'none'}"


def output_schema(subject: Subject) -> str:
    """The output has the declared columns with the declared types and legal values."""
    schema, output = subject.model.output_schema, subject.prediction
    for field in schema.arrow_schema():
        found = output.schema.field(field.name).type
        require(found == field.type, f"column '{field.name}' is {found}, declared {field.type}")
    problems = check(output, schema, source="output").violations
    require(not problems, problems[0].sentence() if problems else "")
    return f"{len(schema.names)} columns"


def violations(subject: Subject) -> str:
    """A broken value is reported with its row and column, and a missing column by name."""
    schema, table = subject.model.input_schema, subject.example
    tried = 0
    for column in schema.columns:
        if column.name not in table.column_names:
            continue
        if column.required:
            _require_reported(subject, table.drop_columns([column.name]), column.name, None)
        row = table.num_rows - 1
        for value in _broken_values(column):
            cells = table.column(column.name).to_pylist()
            cells[row] = value
            _require_reported(subject, _with_cells(table, column.name, cells), column.name, row + 1)
            tried += 1
    return f"{tried} broken values"


def streaming(subject: Subject) -> str:
    """A stream over a group equals ``predict`` on it, also when it moves to another process half-way."""
    if not subject.model.streams:
        raise NotApplicable("does not stream")
    group = subject.units[0] if subject.model.input_schema.group_by else subject.example
    expected = subject.predict(group)
    records = check(group, subject.model.input_schema).require_clean().to_pylist()
    whole = _through(subject.model.stream(), records)
    require_equal(_as_output(whole, expected), expected, "the stream")
    for cut in sorted({1, len(records) // 2, len(records) - 1} - {0}):
        stream = subject.model.stream()
        before = _through(stream, records[:cut])
        state = stream.state()
        _require_plain(state)
        after = _through(subject.reload().stream(state), records[cut:])
        require_equal(_as_output(before + after, expected), expected, f"moved after {cut} records")
    return f"{len(records)} records"


def threads(subject: Subject) -> str:
    """Eight threads that predict at once get what one gets."""
    units = subject.units
    expected = [subject.predict(unit) for unit in units]
    folders = [subject.fresh("thread") for _ in range(_THREADS)]
    together = threading.Barrier(_THREADS)

    def work(number: int) -> pa.Table:
        together.wait()
        return predict_all(subject.model, units[number % len(units)], files=folders[number])

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(work, range(_THREADS)))
    for number, table in enumerate(found):
        require_equal(table, expected[number % len(units)], f"thread {number + 1}")
    return f"{_THREADS} threads"


def resumes(subject: Subject) -> str:
    """A job that was interrupted continues from its scratch and gives the same result."""
    if subject.model.cost != "job":
        raise NotApplicable("answers at once")
    unit, untouched = subject.units[0], subject.fresh("whole")
    with _counted_renames(untouched) as renames:
        expected = predict_all(subject.model, unit, files=untouched)
    total = len(renames)
    require(total >= 2, "a job keeps scratch: fewer than two files were renamed into place under 'files'")
    folder = subject.fresh("interrupted")
    try:
        with _counted_renames(folder, stop_after=(total + 1) // 2):
            predict_all(subject.model, unit, files=folder)
    except KeyboardInterrupt:
        pass
    else:
        raise CheckFailed("the interruption was swallowed")
    with _counted_renames(folder) as renames:
        found = predict_all(subject.model, unit, files=folder)
    require_equal(found, expected, "after an interruption", exact=True)
    require(len(renames) < total, f"the second try wrote all {total} files again: the scratch is not reused")
    return f"{len(renames)} of {total} files written in the second try"


def _several(subject: Subject) -> list[pa.Table]:
    if len(subject.units) < 2:
        raise NotApplicable("the example has one group only")
    return subject.units


def _keys(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def _require_order_when_mixed(subject: Subject) -> None:
    schema = subject.model.output_schema
    if not subject.model.input_schema.group_by or len(subject.units) < 2:
        return
    rows: list[pa.Table] = []
    for position in range(max(unit.num_rows for unit in subject.units)):
        rows += [unit.slice(position, 1) for unit in subject.units if position < unit.num_rows]
    mixed = pa.concat_tables(rows)
    found = _keys(subject.predict(mixed), schema.keys)
    require(found == _keys(mixed, schema.keys), "the order differs when groups alternate")


def _broken_values(column: Any) -> Iterator[Any]:
    if not column.nullable:
        yield None
    if column.file is not None or column.shape is not None:
        return
    if column.dtype != "string":
        yield "not a value"
    if column.categories is not None:
        yield "not a category"
    if column.minimum is not None and column.dtype != "string":
        yield column.minimum - 1
    if column.maximum is not None and column.dtype != "string":
        yield column.maximum + 1


def _with_cells(table: pa.Table, name: str, cells: list[Any]) -> pa.Table:
    kind = table.schema.field(name).type
    try:
        array = pa.array(cells, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        # as a CSV reader or a JSON request would hold a mixed column
        texts = [None if cell is None else cell if isinstance(cell, str) else _plain(cell) for cell in cells]
        array = pa.array(cells) if isinstance(kind, pa.FixedShapeTensorType) else pa.array(texts, pa.string())
    return table.set_column(table.column_names.index(name), name, array)


def _plain(cell: Any) -> str:
    return cell.isoformat() if hasattr(cell, "isoformat") else repr(cell)


def _require_reported(subject: Subject, table: pa.Table, column: str, row: int | None) -> None:
    what = f"column '{column}'" + ("" if row is None else f", row {row}")
    # the items of a job are dear: one that is left out ends it before the others are worked on
    whole = subject.model.cost == "job"
    try:
        listed = predict_usable(subject.model, table, files=subject.fresh("files"), whole=whole).violations
    except Exception as error:
        if row is None:
            require(column in str(error), f"{what} is missing: reported as '{error}'")
            return
        raise CheckFailed(f"{what}: {type(error).__name__} without a list of violations: {error}") from error
    require(bool(listed), f"{what} is broken and was predicted all the same")
    places = [(item.column, item.row) for item in listed]
    require((column, row) in places, f"{what} is broken, reported are {places[:5]}")


def _through(stream: Stream, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [output for record in records for output in stream.step(record)]


def _as_output(records: list[dict[str, Any]], expected: pa.Table) -> pa.Table:
    names = expected.column_names
    return pa.table({name: pa.array([record.get(name) for record in records]) for name in names})


def _require_plain(state: Any) -> None:
    require(isinstance(state, bytes), f"Stream.state() returned {type(state).__name__}, expected bytes")
    header = int.from_bytes(state[:8], "little")
    try:
        json.loads(state[8 : 8 + header] if state[8:9] == b"{" and header < len(state) else state)
    except ValueError:
        raise CheckFailed("Stream.state() is neither JSON nor safetensors") from None


@contextmanager
def _counted_renames(folder: Path, stop_after: int | None = None) -> Iterator[list[str]]:
    # files appear whole by being renamed, so a rename marks a step that survives
    done: list[str] = []
    rename: Callable[..., None] = os.replace

    def counted(source: Any, target: Any, **options: Any) -> None:
        rename(source, target, **options)
        if Path(target).is_relative_to(folder):
            done.append(str(target))
            if len(done) == stop_after:
                raise KeyboardInterrupt

    with patch.object(os, "replace", counted):
        yield done

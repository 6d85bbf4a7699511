"""Predictions as records come: lines in, lines out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliedpapers.core.errors import DataError
from appliedpapers.core.json_rows import plain, records
from appliedpapers.core.schema import TableSchema, violations_error
from appliedpapers.pipelines import DEFAULT_STORE
from appliedpapers.pipelines.locate import ModelRef
from appliedpapers.pipelines.predict import load_model, read_as

if TYPE_CHECKING:
    from appliedpapers.core.model import Stream

_SHOWN = 5
_NUMBERS = ("float64", "float32", "int64", "int32")


def stream_lines(
    reference: str | ModelRef,
    lines: Iterable[str],
    *,
    device: str = "cpu",
    store_folder: Path = DEFAULT_STORE,
    assignments: Sequence[str] = (),
    as_json: bool = False,
) -> Iterator[str]:
    """Feed lines to a model and yield lines; each group has a stream of its own.

    Lines are JSON objects, or CSV with the names of the columns first; the answers come in the same form.

    Args:
        reference: The model.
        lines: What comes.
        device: ``auto``, ``cpu`` or ``cuda``.
        store_folder: Where MLflow's store lies.
        assignments: ``a.b=c`` overrides that say how records are read.
        as_json: Answer with JSON lines whatever comes.

    Raises:
        ConfigError: The model does not stream.
        DataError: A line is neither, or breaks the contract; its number is named.
    """
    from appliedpapers.core.record_check import RecordCheck

    model, _ = load_model(reference, device=device, store_folder=store_folder)
    read_as(model, assignments)
    schema, names = model.input_schema, model.output_schema.names
    quick = RecordCheck(schema)
    unused = model.stream()
    streams: dict[tuple[Any, ...], Stream] = {}
    header_due = True
    for source, given, is_csv in _records(lines, schema):
        record = quick.row(given) or _by_table(given, schema, source)
        group = tuple(record[name] for name in schema.group_by)
        if group not in streams:
            streams[group] = model.stream() if streams else unused
        try:
            made = streams[group].step(record)
        except DataError as error:
            raise DataError(f"{source}: {error.message}", hint=error.hint) from None
        for answer in map(plain, made):
            if as_json or not is_csv:
                yield json.dumps(answer)
                continue
            if header_due:
                header_due = False
                yield _csv_line(names)
            yield _csv_line([_cell(answer[name]) for name in names])


def _by_table(given: Mapping[str, Any], schema: TableSchema, source: str) -> dict[str, Any]:
    """Return a record as a table of one row is judged.

    Raises:
        DataError: It breaks the contract.
    """
    from appliedpapers.core.validation import check, from_records

    try:
        table = from_records([given], schema, source=source)
    except UnicodeEncodeError:
        raise DataError(f"{source}: half a surrogate pair is no character.", hint="Expected UTF-8.") from None
    checked = check(table, schema, source=source)
    if checked.violations:
        # the line says where; a record has no other rows
        raise violations_error([replace(found, row=None) for found in checked.violations])
    (record,) = records(checked.table)
    return record


def _records(lines: Iterable[str], schema: TableSchema) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Yield where each record stands, the record, and whether it came as CSV."""
    header: list[str] | None = None
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source = f"stdin, line {number}"
        if first and not line.lstrip().startswith("{"):
            header = [name.strip() for name in _cells(line.lstrip("\ufeff"))]
            first = False
            _require_names(header, schema, source)
            continue
        first = False
        if header is None:
            yield source, _json_record(line, source), False
        else:
            yield source, _csv_record(line, header, schema, source), True


def _require_names(header: Sequence[str], schema: TableSchema, source: str) -> None:
    absent = [column.name for column in schema.columns if column.required and column.name not in header]
    if absent:
        unknown = [name for name in header if name not in schema.names]
        strange = f" Not one of them: {', '.join(unknown[:_SHOWN])}." if unknown else ""
        raise DataError(
            f"{source}: neither a JSON object nor a CSV header with '{absent[0]}'.",
            hint=f'Expected {{"column": value}}, or the columns {", ".join(schema.names)} first.{strange}',
        )


def _json_record(line: str, source: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not JSON ({error}).", hint='Expected {"column": value}.') from None
    if not isinstance(record, dict):
        raise DataError(f"{source}: not a JSON object.", hint='Expected {"column": value}.')
    return record


def _csv_record(line: str, header: Sequence[str], schema: TableSchema, source: str) -> dict[str, Any]:
    cells = _cells(line)
    if len(cells) != len(header):
        raise DataError(
            f"{source}: {len(cells)} cells.", hint=f"Expected {len(header)}, as in the first line."
        )
    numeric = {column.name for column in schema.columns if column.dtype in _NUMBERS}
    return {
        name: _number(cell) if name in numeric else (cell or None)
        for name, cell in zip(header, cells, strict=True)
    }


def _number(cell: str) -> Any:
    """Return the number that a cell holds; what is none is left to the schema, which names it."""
    if not cell.strip():
        return None
    try:
        return float(cell)
    except ValueError:
        return cell


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")]))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()

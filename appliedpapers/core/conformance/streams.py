"""What a stream promises: the answers of ``predict``, record by record, wherever it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from appliedpapers.core.conformance.subject import (
    CheckFailed,
    NotApplicable,
    Subject,
    require,
    require_equal,
)
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.json_rows import records as records_of
from appliedpapers.core.model import Stream
from appliedpapers.core.schema import TableSchema
from appliedpapers.core.validation import check

_FIRST = 60

Records = list[dict[str, Any]]


def streaming(subject: Subject) -> str:
    """A stream equals ``predict`` on its group, beside others and when it moves to another process."""
    if not subject.model.streams:
        raise NotApplicable("does not stream")
    try:
        subject.model.stream()
    except ConfigError as error:
        raise CheckFailed(f"the model says that it streams, and refuses: {error}") from None
    grouped = bool(subject.model.input_schema.group_by)
    units = subject.units[:2] if grouped else [subject.example]
    given = [_records(subject, unit) for unit in units]
    expected = subject.alone[:2] if grouped else [subject.prediction]
    _require_moves(subject, given[0], expected[0])
    first = [records[:_FIRST] for records in given]
    alone = [_as_output(subject, _through(subject.model.stream(), records)) for records in first]
    _require_state_is_only_read(subject, first[0], alone[0])
    _require_alone(subject, first, alone)
    _require_refusals_leave_no_trace(subject, first[0])
    return f"{len(given[0])} records"


def _require_moves(subject: Subject, records: Records, expected: pa.Table) -> None:
    def same(answers: Records, what: str) -> None:
        require_equal(_as_output(subject, answers).select(expected.column_names), expected, what)

    same(_through(subject.model.stream(), records), "the stream")
    for cut in sorted({1, len(records) // 2, len(records) - 1} - {0}):
        stream = subject.model.stream()
        before = _through(stream, records[:cut])
        state = stream.state()
        _require_plain(state)
        same(before + _through(subject.reload().stream(state), records[cut:]), f"moved after {cut} records")


def _require_state_is_only_read(subject: Subject, records: Records, expected: pa.Table) -> None:
    stream, answers = subject.model.stream(), list[dict[str, Any]]()
    for record in records:
        answers += stream.step(record)
        stream.state()
    require_equal(_as_output(subject, answers), expected, "with state() asked for at each record")


def _require_alone(subject: Subject, given: Sequence[Records], expected: Sequence[pa.Table]) -> None:
    streams = [subject.model.stream() for _ in given]
    answers: list[Records] = [[] for _ in given]
    for records in zip_longest(*given):
        for stream, answer, record in zip(streams, answers, records, strict=True):
            answer += [] if record is None else stream.step(record)
    for answer, table in zip(answers, expected, strict=True):
        require_equal(_as_output(subject, answer), table, "two streams in turn")


def _require_refusals_leave_no_trace(subject: Subject, records: Records) -> None:
    half = max(len(records) // 2, 1)
    stream = subject.model.stream()
    _through(stream, records[:half])
    state = stream.state()
    for bad in _doubtful(records[:half], subject.model.input_schema):
        stream = subject.model.stream(state)
        try:
            stream.step(bad)
        except DataError:
            same = stream.state() == state
            require(same, f"a refused record changes the stream: check it before anything is kept ({bad})")
        except Exception as error:
            raise CheckFailed(
                f"{type(error).__name__} instead of a DataError for a record that keeps the schema: {error}"
            ) from None


def _doubtful(records: Records, schema: TableSchema) -> Iterator[Mapping[str, Any]]:
    """Yield records that keep the schema and that a stream may refuse: repeated, out of order, empty."""
    last = records[-1]
    yield last
    yield records[0]
    optional = [column.name for column in schema.columns if column.nullable and column.name in last]
    for name in optional:
        if name not in schema.group_by:
            yield last | {name: None}


def _records(subject: Subject, group: pa.Table) -> Records:
    return records_of(check(group, subject.model.input_schema).require_clean())


def _through(stream: Stream, records: Sequence[Mapping[str, Any]]) -> Records:
    return [output for record in records for output in stream.step(record)]


def _as_output(subject: Subject, records: Records) -> pa.Table:
    names = subject.model.output_schema.arrow_schema().names
    for record in records:
        differ = set(record) ^ set(names)
        require(not differ, f"a record of the stream lacks, or has besides, '{', '.join(sorted(differ))}'")
    return pa.table({name: pa.array([record[name] for record in records]) for name in names})


def _require_plain(state: Any) -> None:
    require(isinstance(state, bytes), f"Stream.state() returned {type(state).__name__}, expected bytes")
    header = int.from_bytes(state[:8], "little")
    try:
        json.loads(state[8 : 8 + header] if state[8:9] == b"{" and header < len(state) else state)
    except ValueError:
        raise CheckFailed("Stream.state() is neither JSON nor safetensors") from None

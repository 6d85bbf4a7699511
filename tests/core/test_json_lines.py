"""JSON lines that are no objects: Arrow's reader ends the process on some of them, ours names the line."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.errors import DataError
from appliedpapers.core.features.rows import open_rows
from appliedpapers.core.json_lines import parse_json_lines
from appliedpapers.core.tables import read_table
from appliedpapers.plugins.imu_attitude.config import ColumnsConfig
from appliedpapers.plugins.imu_attitude.recording_files import read_file

ROW = b'{"a": 1}\n'
MEGABYTE = ROW * ((1 << 20) // len(ROW) + 1)
NULLS = {
    "alone": (b"null\n", 1),
    "first": (b"null\n" + ROW, 1),
    "before an object": (b"null" + ROW, 1),
    "after a byte order mark": (b"\xef\xbb\xbfnull\n" + ROW, 1),
    "after empty lines": (b" \n\n  null\n" + ROW, 3),
    "between": (ROW + b"null\n" + ROW, 2),
    "at the start of a later block": (MEGABYTE + b"null\n" * 5 + ROW, MEGABYTE.count(b"\n") + 1),
    "in a later block of ours": (MEGABYTE * 5 + b"null\n", 5 * MEGABYTE.count(b"\n") + 1),
}


@pytest.mark.parametrize(("text", "line"), NULLS.values(), ids=NULLS)
@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson.gz"])
def test_a_line_that_is_null_is_named(tmp_path, suffix, text, line):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    for read in (read_table, lambda path: list(open_rows(path).batches())):
        with pytest.raises(DataError, match=f"line {line} is null, not an object"):
            read(path)


@pytest.mark.parametrize("row", [b'{"a": "\xff"}\n', b'{"\xff": 1}\n'], ids=["text", "name"])
def test_what_is_not_in_utf_8_is_named_by_its_line(tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(MEGABYTE * 5 + row)
    for read in (read_table, lambda path: list(open_rows(path).batches())):
        with pytest.raises(DataError, match=f"line {5 * MEGABYTE.count(10) + 1} is not in UTF-8"):
            read(path)


def test_recordings_refuse_null_in_the_same_words(tmp_path):
    path = tmp_path / "recording.jsonl"
    path.write_bytes(b"null\n" + ROW)
    with pytest.raises(DataError, match=r"recording\.jsonl: .*line 1 is null, not an object"):
        read_file(path, ColumnsConfig())


@pytest.mark.parametrize("space", [b"\n", b"\r\n", b" ", b"\t\n"], ids=repr)
def test_megabytes_of_space_are_looked_at_once(tmp_path, space):
    """A search that began anew at each empty line would take hours here."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROW + b"\n" + space * 500_000 + ROW)
    blocks = [batch.to_pylist() for batch in open_rows(path).batches()]
    assert [row for block in blocks for row in block] == [{"a": 1}, {"a": 1}]


def test_null_inside_an_object_or_a_text_is_data(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": null, "b": "\\nnull"}\n{"a": 1, "b": "null"}\n')
    assert read_table(path).to_pylist() == [{"a": None, "b": "\nnull"}, {"a": 1, "b": "null"}]


VALUES = st.sampled_from(
    ["null", "nul", "true", "1", '"x"', "[]", "[null]", "{}", '{"a": 1}', '{"a": null}', '{"a": [1]}']
)
BETWEEN = st.sampled_from(["", " ", "\n", "\r", "\r\n", "\n\n", "\t"])


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.tuples(VALUES, BETWEEN), min_size=1, max_size=6))
def test_any_order_of_values_is_read_or_refused(parts):
    text = "".join(value + space for value, space in parts)
    try:
        table = parse_json_lines(text.encode())
    except pa.ArrowInvalid:
        return
    assert all(row is None or isinstance(row, dict) for row in table.to_pylist())
    if all(space == "\n" for _, space in parts):
        lines = [json.loads(line) for line in text.splitlines()]
        assert [row.get("a") for row in table.to_pylist()] == [line.get("a") for line in lines] or (
            "a" not in table.column_names
        )

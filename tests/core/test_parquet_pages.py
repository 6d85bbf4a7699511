"""What a Parquet file unfolds to is counted from its pages, and nothing broken gets through."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliedpapers.core.compact_thrift import read_struct
from appliedpapers.core.parquet_pages import count_pages

TABLE = pa.table(
    {
        "number": np.arange(5000.0),
        "text": [f"x{n % 7}" for n in range(5000)],
        "gaps": pa.array([None, 1] * 2500),
        "truth": [True, False] * 2500,
        "list": [["p", "q"]] * 5000,
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((5000, 2, 2), np.float32)),
    }
)


def written(table=TABLE, **options) -> tuple[bytes, pq.FileMetaData]:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue(), pq.read_metadata(pa.BufferReader(sink.getvalue()))


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("dictionaries", [True, False])
def test_pages_add_up_to_what_the_footer_says(version, compression, dictionaries):
    content, footer = written(
        compression=compression,
        data_page_version=version,
        use_dictionary=dictionaries,
        row_group_size=1700,
        data_page_size=3000,
        write_page_index=True,
        write_page_checksum=True,
    )
    found = count_pages(content, footer, 10_000)
    columns = [footer.row_group(g).column(c) for g in range(3) for c in range(footer.num_columns)]
    said = sum(column.total_uncompressed_size for column in columns)
    # the footer counts page headers, too
    assert said - 200 * found.pages <= found.page_bytes <= said
    assert found.value_bytes >= 5000 * (8 + 4 + 8 + 1 + 2 * 4 + 4 * 4)


def test_a_list_that_unfolds_is_counted_by_its_values():
    content, footer = written(pa.table({"x": [np.zeros(3_000_000)]}), compression="zstd")
    assert len(content) < 10_000
    assert count_pages(content, footer, 10_000).value_bytes == 24_000_000


def test_a_text_that_repeats_in_lists_is_counted_as_often():
    content, footer = written(pa.table({"x": [["a" * 10_000] * 50] * 10}))
    assert len(content) < 20_000
    assert count_pages(content, footer, 10_000).value_bytes >= 500 * 10_000


def test_too_many_pages_are_not_walked():
    content, footer = written(data_page_size=100, use_dictionary=False)
    with pytest.raises(ValueError, match="more than 20 pages"):
        count_pages(content, footer, 20)


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_broken_pages_are_refused_or_counted(changes):
    content, footer = written()
    broken = bytearray(content)
    for place, value in changes:
        broken[place % len(broken)] = value
    try:
        found = count_pages(bytes(broken), footer, 1000)
    except ValueError:
        return
    assert found.page_bytes >= 0
    assert found.pages <= 1000


def test_a_footer_that_contradicts_itself_does_not_end_the_process():
    # asked for the column, pyarrow would abort: a required one with the histogram of an optional one
    content, _ = written(pa.table({"number": [1.0, 2.0]}))
    optional, required = b"\x25\x02\x18\x06number", b"\x25\x00\x18\x06number"
    assert content.count(optional) == 1
    damaged = content.replace(optional, required)
    footer = pq.read_metadata(pa.BufferReader(damaged))
    assert count_pages(damaged, footer, 10).page_bytes > 0
    with pytest.raises(OSError, match="histogram"):
        pq.read_table(pa.BufferReader(damaged))


def test_a_footer_of_other_columns_is_refused():
    content, _ = written()
    _, other = written(pa.table({"number": [1.0]}))
    with pytest.raises(ValueError, match="without each of the columns"):
        count_pages(content, other, 10_000)


@pytest.mark.parametrize("end", [b"PARE", b"\xff\xff\xff\x7fPAR1", b"\x00\x00\x00\x00PAR1"])
def test_a_footer_that_is_not_there_is_refused(end):
    content, footer = written()
    with pytest.raises(ValueError, match=r"footer|cut off"):
        count_pages(content[: -len(end)] + end, footer, 10_000)


def test_lists_in_lists_are_refused_before_they_exhaust_the_stack():
    with pytest.raises(ValueError, match="nested too deeply"):
        read_struct(b"\x19" + b"\x19" * 100_000, 0)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_structure_or_refused(content):
    try:
        _, end = read_struct(content, 0)
    except ValueError:
        return
    assert end <= len(content)

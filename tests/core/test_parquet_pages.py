"""What a Parquet file unfolds to is counted from its pages, and nothing broken gets through."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

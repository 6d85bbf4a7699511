"""What the pages of a Parquet file unfold to, counted from their headers before any is decoded.

A page names its own size and number of values, whatever the footer says, and run lengths let a few bytes
stand for a billion values. pyarrow gives its callers the footer alone, and it ends the process when it is
asked for a column of which the footer contradicts itself: both are read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliedpapers.core.compact_thrift import read_struct

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_UNCOMPRESSED, _COMPRESSED, _VALUES = 2, 3, 1
_DICTIONARY, _PAGES = 7, (5, 8)
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
_GROUPS, _COLUMNS, _CHUNK = 4, 1, 3
_COMPRESSED_SIZE, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11
_END = b"PAR1"
_LONGEST_FOOTER = 1 << 20


@dataclass(frozen=True)
class Unfolded:
    """What a file takes once it is decoded, flat columns of texts apart: they can be read as dictionaries.

    Attributes:
        page_bytes: Bytes of all pages without compression.
        value_bytes: Bytes of all values, each as wide as its type. A text counts as its offset, one in a
            list as the whole dictionary of its column, too, which it may be.
        pages: Number of pages.
    """

    page_bytes: int
    value_bytes: int
    pages: int


def count_pages(content: bytes, metadata: pq.FileMetaData, most_pages: int) -> Unfolded:
    """Count what the pages of a file unfold to.

    Args:
        content: The file.
        metadata: Its footer.
        most_pages: Where to stop.

    Raises:
        ValueError: The footer or a page header is broken or lies outside the file, or there are more pages.
    """
    page_bytes, value_bytes, pages = 0, 0, 0
    for columns in read_groups(content, metadata):
        for place, column in enumerate(columns):
            leaf = metadata.schema.column(place)
            width = _width(leaf)
            nested = leaf.physical_type == "BYTE_ARRAY" and not is_flat(leaf)
            # a column without rows has a dictionary alone
            starts = (_count(column, _DATA_PAGE), _count({_DICTIONARY_PAGE: 0, **column}, _DICTIONARY_PAGE))
            at = min((start for start in starts if start), default=0)
            end = at + _count(column, _COMPRESSED_SIZE)
            if end > at and not 0 < at < end <= len(content):
                raise ValueError("a column lies outside the file")
            while at < end:
                pages += 1
                if pages > most_pages:
                    raise ValueError(f"more than {most_pages} pages")
                header, at = read_struct(content, at)
                uncompressed, compressed = _count(header, _UNCOMPRESSED), _count(header, _COMPRESSED)
                parts = [part for part in map(header.get, _PAGES) if isinstance(part, dict)]
                page_bytes += uncompressed
                if nested and _DICTIONARY in header:
                    width += uncompressed
                value_bytes += width * sum(_count(part, _VALUES) for part in parts)
                at += compressed
    return Unfolded(page_bytes, value_bytes, pages)


def is_flat(leaf: pq.ColumnSchema) -> bool:
    """Return whether a column of a file is one of the table, no part of a list or a structure."""
    return bool(leaf.max_repetition_level == 0 and leaf.max_definition_level <= 1 and leaf.path == leaf.name)


def read_groups(content: bytes, metadata: pq.FileMetaData) -> list[list[dict[int, Any]]]:
    """Return what a footer says of each column of each group of rows, by the numbers of the fields.

    Args:
        content: The file, or its end with the whole footer.
        metadata: The footer as pyarrow read it.

    Raises:
        ValueError: The footer is broken or longer than 1 MiB, or a group lacks a column.
    """
    size = int.from_bytes(content[-8:-4], "little")
    if content[-4:] != _END or size + 8 > len(content):
        raise ValueError("a footer that cannot be read")
    if size > _LONGEST_FOOTER:
        raise ValueError("a footer of more than 1 MiB")
    footer, _ = read_struct(content[-8 - size : -8], 0)
    groups = [
        [column.get(_CHUNK) for column in _structs(group.get(_COLUMNS))]
        for group in _structs(footer.get(_GROUPS))
    ]
    if any(len(columns) != metadata.num_columns for columns in groups):
        raise ValueError("a group of rows without each of the columns")
    return [_structs(columns) for columns in groups]


def _structs(values: Any) -> list[dict[int, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("a footer without groups of rows, or columns")
    return values


def _width(leaf: pq.ColumnSchema) -> int:
    if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return max(int(leaf.length), 1)
    return _WIDTHS.get(leaf.physical_type, 16)


def _count(fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        raise ValueError("a column or page that does not say how large it is")
    return value

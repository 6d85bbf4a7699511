"""What the pages of a Parquet file unfold to, counted from their headers before any is decoded.

A page names its own size and number of values, whatever the footer says, and run lengths let a few bytes
stand for a billion values. pyarrow gives its callers the footer alone; the headers of pages are Thrift's
compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_UNCOMPRESSED, _COMPRESSED, _VALUES = 2, 3, 1
_DICTIONARY, _PAGES = 7, (5, 8)
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
_DEEPEST = 8
_LONGEST_VARINT = 10


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
        ValueError: A page header is broken or lies outside the file, or there are more pages.
    """
    page_bytes, value_bytes, pages = 0, 0, 0
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            width = _width(metadata, place, column.physical_type)
            nested = column.physical_type == "BYTE_ARRAY" and not is_flat(metadata.schema.column(place))
            # a column without rows has a dictionary alone
            starts = (column.data_page_offset, column.dictionary_page_offset)
            at = min((start for start in starts if start), default=0)
            end = at + column.total_compressed_size
            if end > at and not 0 < at < end <= len(content):
                raise ValueError("a column lies outside the file")
            while at < end:
                pages += 1
                if pages > most_pages:
                    raise ValueError(f"more than {most_pages} pages")
                header, at = _struct(content, at, 0)
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


def _width(metadata: pq.FileMetaData, place: int, physical: str) -> int:
    if physical == "FIXED_LEN_BYTE_ARRAY":
        return max(int(metadata.schema.column(place).length), 1)
    return _WIDTHS.get(physical, 16)


def _count(fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        raise ValueError("a page that does not say how large it is")
    return value


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the numbers and structures of a compact structure by their field, and where it ends."""
    if depth > _DEEPEST:
        raise ValueError("a page header nested too deeply")
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head, at = _byte(content, at)
        if head == 0:
            return fields, at
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(content, at)
        fields[number], at = _value(content, at, kind, depth)


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return None, at
    if kind == 3:
        return None, at + 1
    if kind in (4, 5, 6):
        return _zigzag(content, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(content, at)
        return None, at + length
    if kind == 12:
        return _struct(content, at, depth + 1)
    # lists, sets and maps stand in no page header
    raise ValueError("an unknown field in a page header")


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_VARINT):
        byte, at = _byte(content, at)
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at
    raise ValueError("a number in a page header is too long")


def _byte(content: bytes, at: int) -> tuple[int, int]:
    if at >= len(content):
        raise ValueError("a page header is cut off")
    return content[at], at + 1

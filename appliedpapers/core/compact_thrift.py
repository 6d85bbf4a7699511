"""Thrift's compact protocol as far as Parquet needs it: structures as fields by number, without a schema.

Work and depth are bounded by the bytes: nothing is read twice, and what a length claims is not believed.
"""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_DEEPEST = 12
_LONGEST_VARINT = 10
_LONG_LIST = 15


def read_struct(content: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Read one structure.

    Args:
        content: All bytes.
        at: Where it begins.
        depth: How deep it lies in others.

    Returns:
        Whole numbers, lists and structures by the number of their field, anything else as None; and where it
        ends.

    Raises:
        ValueError: The bytes are no such structure, end within it, or are nested too deeply.
    """
    _require_shallow(depth)
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
        # the value of a truth is its kind
        fields[number], at = (None, at) if kind in (_TRUE, _FALSE) else _value(content, at, kind, depth)


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _zigzag(content, at)
    if kind == _STRUCT:
        return read_struct(content, at, depth + 1)
    if kind in (_LIST, _SET):
        return _list(content, at, depth + 1)
    if kind in (_TRUE, _FALSE, _BYTE):
        return None, _within(content, at + 1)
    if kind == _DOUBLE:
        return None, _within(content, at + 8)
    if kind == _BINARY:
        length, at = _varint(content, at)
        return None, _within(content, at + length)
    if kind == _MAP:
        return None, _after_map(content, at, depth + 1)
    raise ValueError("a field of an unknown kind")


def _list(content: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    _require_shallow(depth)
    head, at = _byte(content, at)
    length, kind = head >> 4, head & 15
    if length == _LONG_LIST:
        length, at = _varint(content, at)
    found = []
    for _ in range(length):
        value, at = _value(content, at, kind, depth)
        found.append(value)
    return found, at


def _after_map(content: bytes, at: int, depth: int) -> int:
    _require_shallow(depth)
    length, at = _varint(content, at)
    if length:
        kinds, at = _byte(content, at)
        for _ in range(length):
            _, at = _value(content, at, kinds >> 4, depth)
            _, at = _value(content, at, kinds & 15, depth)
    return at


def _require_shallow(depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("fields nested too deeply")


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
    raise ValueError("a number that is too long")


def _byte(content: bytes, at: int) -> tuple[int, int]:
    _within(content, at + 1)
    return content[at], at + 1


def _within(content: bytes, end: int) -> int:
    if end > len(content):
        raise ValueError("it is cut off")
    return end

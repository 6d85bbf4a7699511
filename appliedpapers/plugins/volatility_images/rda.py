"""Data frames out of R's ``.rda`` files: the little of R's serialisation that published frames need.

Own reader of the XDR form, versions 2 and 3 (R Internals, section 1.8): lists, vectors of numbers and texts,
factors and attributes. Code and environments are read over, never run.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from appliedpapers.core.errors import DataError

_MAGIC = {b"\x1f\x8b": gzip.decompress, b"BZ": bz2.decompress, b"\xfd7": lzma.decompress}
_NULL, _SYMBOL, _PAIRS, _CLOSURE, _ENVIRONMENT, _PROMISE, _LANGUAGE = 0, 1, 2, 3, 4, 5, 6
_TEXT, _LOGICAL, _INTEGER, _REAL, _COMPLEX, _TEXTS, _DOTS, _LIST, _EXPRESSION = (
    9,
    10,
    13,
    14,
    15,
    16,
    17,
    19,
    20,
)
_POINTER, _WEAK, _RAW, _S4, _ALTREP = 22, 23, 24, 25, 238
_REFERENCE, _NIL, _GLOBAL, _UNBOUND, _MISSING, _BASE_NAMESPACE, _NAMESPACE, _EMPTY, _BASE = (
    255, 254, 253, 252, 251, 250, 249, 242, 241,
)  # fmt: skip
_CONSTANTS = {_NIL, _GLOBAL, _UNBOUND, _MISSING, _BASE_NAMESPACE, _EMPTY, _BASE, _NULL}
_MISSING_INTEGER = -(2**31)


class _Vector:
    """A value of R and its attributes."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.attributes: dict[str, Any] = {}


class _Stream:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.seen: list[Any] = []

    def integer(self) -> int:
        (value,) = struct.unpack_from(">i", self.data, self.at)
        self.at += 4
        return int(value)

    def array(self, kind: str, count: int) -> np.ndarray[Any, Any]:
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values.astype(values.dtype.newbyteorder("="))

    def length(self) -> int:
        size = self.integer()
        return size if size >= 0 else (self.integer() << 32) + self.integer()

    def text(self, size: int) -> str:
        raw = self.data[self.at : self.at + size]
        self.at += size
        return raw.decode("utf-8", "replace")

    def item(self) -> Any:
        flags = self.integer()
        kind, attributed, tagged = flags & 255, bool(flags & 512), bool(flags & 1024)
        if kind in _CONSTANTS:
            return None
        if kind == _REFERENCE:
            return self.seen[(flags >> 8 or self.integer()) - 1]
        if kind == _SYMBOL:
            self.seen.append(self.item())
            return self.seen[-1]
        if kind == _TEXT:
            size = self.integer()
            return None if size < 0 else self.text(size)
        if kind in (_PAIRS, _LANGUAGE, _CLOSURE, _PROMISE, _DOTS):
            return self._pairs(attributed, tagged)
        if kind == _ENVIRONMENT:
            return self._environment()
        if kind == _NAMESPACE:
            self.integer()
            self.seen.append([self.item() for _ in range(self.integer())])
            return None
        if kind in (_POINTER, _WEAK):
            return self._pointer(kind, attributed)
        if kind == _ALTREP:
            return _expanded(self.item(), self.item(), self.item())
        made = _Vector(self._values(kind))
        if attributed:
            made.attributes = self.item() or {}
        return made

    def _values(self, kind: int) -> Any:
        if kind == _S4:
            return None
        size = self.length()
        if kind in (_LOGICAL, _INTEGER):
            return self.array(">i4", size)
        if kind == _REAL:
            return self.array(">f8", size)
        if kind == _COMPLEX:
            return self.array(">c16", size)
        if kind == _RAW:
            return self.array("u1", size)
        if kind in (_TEXTS, _LIST, _EXPRESSION):
            return [self.item() for _ in range(size)]
        raise ValueError(f"kind {kind}")

    def _pairs(self, attributed: bool, tagged: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while True:
            if attributed:
                self.item()
            name = self.item() if tagged else str(len(found))
            found[name] = self.item()
            flags = self.integer()
            if flags & 255 == _NIL:
                return found
            if flags & 255 not in (_PAIRS, _LANGUAGE):
                self.at -= 4
                self.item()
                return found
            attributed, tagged = bool(flags & 512), bool(flags & 1024)

    def _environment(self) -> None:
        self.integer()
        self.seen.append(None)
        for _ in range(4):
            self.item()

    def _pointer(self, kind: int, attributed: bool) -> None:
        self.seen.append(None)
        if kind == _POINTER:
            self.item()
            self.item()
        if attributed:
            self.item()


def _expanded(info: Any, state: Any, attributes: Any) -> Any:
    """Return a compact sequence, a wrapped or a deferred vector as a plain one."""
    name = next(iter(info.values())) if isinstance(info, dict) else ""
    if name in ("compact_intseq", "compact_realseq"):
        count, first, step = state.value[:3]
        made = _Vector(first + step * np.arange(int(count)))
    elif str(name).startswith("wrap_"):
        made = state.value[0] if isinstance(state, _Vector) else next(iter(state.values()))
    elif name == "deferred_string":
        numbers = next(iter(state.values()))
        made = _Vector([str(one) for one in numbers.value])
    else:
        raise ValueError(f"compact form {name}")
    if isinstance(attributes, dict) and isinstance(made, _Vector):
        made.attributes = attributes
    return made


def read_rda(path: Path) -> dict[str, pd.DataFrame]:
    """Return the data frames of a file by name; other objects are left out.

    Times (``POSIXct``) become int64 microseconds UTC, factors texts.

    Raises:
        DataError: The file is absent, broken, or no such file.
    """
    try:
        raw = path.read_bytes()
        unpack = _MAGIC.get(raw[:2])
        whole = unpack(raw) if unpack else raw
        if whole[:5] not in (b"RDX2\n", b"RDX3\n") or whole[5:7] != b"X\n":
            raise ValueError("no RDX2 or RDX3 header")
        stream = _Stream(whole)
        stream.at = 7
        version = stream.integer()
        stream.at += 8
        if version == 3:
            stream.text(stream.integer())
        objects = stream.item()
        return {name: frame for name, one in objects.items() if (frame := _frame(one)) is not None}
    except (OSError, EOFError, ValueError, struct.error, IndexError, lzma.LZMAError, AttributeError) as error:
        raise DataError(
            f"{path}: no data frame of R can be read ({error}).",
            hint="Is it complete, and what its name says?",
        ) from None


def _frame(one: Any) -> pd.DataFrame | None:
    if not isinstance(one, _Vector) or not isinstance(one.value, list) or "names" not in one.attributes:
        return None
    names = one.attributes["names"].value
    return pd.DataFrame({name: _column(column) for name, column in zip(names, one.value, strict=True)})


def _column(column: _Vector) -> Any:
    kinds = column.attributes.get("class")
    classes = set(kinds.value) if isinstance(kinds, _Vector) else set()
    if "factor" in classes:
        levels = np.array([*column.attributes["levels"].value, ""], dtype=object)
        return levels[np.where(column.value > 0, column.value - 1, -1)]
    if "POSIXct" in classes:
        return np.rint(np.asarray(column.value, np.float64) * 1e6).astype(np.int64)
    if "Date" in classes:
        return (np.asarray(column.value, np.float64) * 86_400e6).astype(np.int64)
    if isinstance(column.value, list):
        return np.array(["" if text is None else text for text in column.value], dtype=object)
    return column.value

"""Reading the one R file that a dataset comes in: a data frame in R's XDR serialisation, compressed by xz.

Our own reader of the format that "R Internals", section 1.8, describes: what a data frame of numbers needs.
"""

from __future__ import annotations

import lzma
import struct
from pathlib import Path
from typing import Any

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.core.tables import write_table

_REFERENCE, _NIL, _ALTREP = 255, 254, 238
_GLOBAL_ENVIRONMENT, _EMPTY = 253, 242
_SYMBOL, _PAIRS, _TEXT, _LOGICAL, _INTEGER, _REAL, _TEXTS, _LIST = 1, 2, 9, 10, 13, 14, 16, 19
_HAS_ATTRIBUTES, _HAS_TAG = 0x200, 0x400
_MISSING = -(2**31)


class _Reader:
    """Reads objects one after the other; lists become dictionaries by name where they have names."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._seen: list[Any] = []

    def begin(self) -> None:
        """Read past the header."""
        if self._take(7) not in (b"RDX3\nX\n", b"RDX2\nX\n"):
            raise ValueError("no R data in XDR")
        version = self._integer()
        self._take(8)
        if version >= 3:
            self._take(self._integer())

    def value(self) -> Any:
        """Return the next object."""
        flags = self._integer()
        kind = flags & 0xFF
        if kind in (_NIL, _GLOBAL_ENVIRONMENT, _EMPTY):
            return None
        if kind == _REFERENCE:
            return self._seen[(flags >> 8) - 1 if flags >> 8 else self._integer() - 1]
        if kind == _SYMBOL:
            name = self.value()
            self._seen.append(name)
            return name
        if kind == _TEXT:
            length = self._integer()
            return None if length < 0 else self._take(length).decode("utf-8", "replace")
        if kind == _PAIRS:
            return self._pairs(flags)
        if kind == _ALTREP:
            return self._compact()
        return self._vector(kind, flags)

    def _pairs(self, flags: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while flags & 0xFF == _PAIRS:
            if flags & _HAS_ATTRIBUTES:
                self.value()
            name = self.value() if flags & _HAS_TAG else str(len(found))
            found[str(name)] = self.value()
            flags = self._integer()
        return found

    def _vector(self, kind: int, flags: int) -> Any:
        count = self._integer()
        value: Any
        if kind in (_LOGICAL, _INTEGER):
            numbers = np.frombuffer(self._take(4 * count), ">i4")
            value = np.where(numbers == _MISSING, np.nan, numbers.astype(np.float64))
        elif kind == _REAL:
            value = np.frombuffer(self._take(8 * count), ">f8").astype(np.float64)
        elif kind in (_TEXTS, _LIST):
            value = [self.value() for _ in range(count)]
        else:
            raise ValueError(f"an R object of type {kind}")
        attributes = self.value() if flags & _HAS_ATTRIBUTES else {}
        if kind == _LIST and "names" in attributes:
            return dict(zip(attributes["names"], value, strict=True))
        if "dim" in attributes:
            rows, columns = (int(one) for one in attributes["dim"])
            names = (attributes.get("dimnames") or [None, None])[1]
            return {"matrix": value.reshape(columns, rows).T, "names": names}
        return value

    def _compact(self) -> Any:
        info, state, _ = self.value(), self.value(), self.value()
        if "compact_intseq" in map(str, info.values()):
            count, first, step = (float(one) for one in state)
            return first + step * np.arange(count)
        return state

    def _integer(self) -> int:
        return int(struct.unpack(">i", self._take(4))[0])

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ValueError("the file ends too early")
        self._at += count
        return self._data[self._at - count : self._at]


def read_frames(path: Path) -> dict[str, Any]:
    """Return the data frames of an R file by name, each a dictionary of columns.

    Raises:
        DataError: It cannot be read.
    """
    try:
        reader = _Reader(lzma.decompress(path.read_bytes()))
        reader.begin()
        found = reader.value()
    except (OSError, ValueError, IndexError, KeyError, lzma.LZMAError, struct.error) as error:
        raise DataError(f"{path}: cannot be read ({error}).", hint="Remove it and fetch it again.") from None
    return dict(found)


def write_nirsoil(source: Path, target: Path) -> None:
    """Turn the R data frame of NIRsoil into our Parquet table.

    Raises:
        DataError: It does not hold what it should.
    """
    import pyarrow as pa

    frame = read_frames(source).get("NIRsoil")
    if frame is None or not {"Nt", "Ciso", "CEC", "train", "spc"} <= set(frame):
        raise DataError(f"{source}: no NIRsoil in it.", hint="Remove it and fetch it again.")
    names = {"Nt": "Nt_g_per_kg", "Ciso": "Ciso_g_per_100g", "CEC": "CEC_meq_per_100g"}
    columns: dict[str, Any] = {
        name: pa.array(frame[key], pa.float64(), mask=np.isnan(frame[key])) for key, name in names.items()
    }
    columns["train"] = pa.array(frame["train"].astype(np.int64))
    spectra = frame["spc"]
    for place, name in enumerate(spectra["names"]):
        columns[f"A{int(float(name))}"] = pa.array(spectra["matrix"][:, place].astype(np.float32))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_table(pa.table(columns), target)

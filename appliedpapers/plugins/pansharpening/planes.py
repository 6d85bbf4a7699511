"""Stacks of bands that are filled one by one: in memory, or in a ``.npy`` file where they are too large.

A file is written with plain writes and mapped only once it is whole: pages of a map that is being written
would count as memory of the process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError
from appliedpapers.core.files import whole_file, write_json

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_memory(text: str) -> int:
    """Return a number of bytes: ``"2GB"``, ``"500 MB"``, ``"1.5GiB"``.

    Raises:
        ConfigError: It is no positive number with a unit.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text, re.I)
    factor = {**_UNITS, **_BINARY}.get(match[2].upper()) if match else None
    size = int(float(match[1]) * factor) if match and factor else 0
    if size <= 0:
        raise ConfigError(
            f"option 'memory': {text!r} is not a size.",
            hint="Give a number and a unit, such as 2GB or 500MB.",
        )
    return size


class Planes(Protocol):
    """A stack ``(B, h, w)`` of float32 whose bands and rows are written in any order."""

    def write(self, band: int, values: NDArray[np.float32], top: int = 0) -> None:
        """Store rows ``top`` and following of a band; ``values`` has the full width."""

    def read(self, band: int) -> NDArray[np.float32]:
        """Return a band as stored so far."""
        ...

    def close(self) -> None:
        """End writing."""


class MemoryPlanes:
    """A stack in memory."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.array: NDArray[np.float32] = np.zeros(shape, dtype=np.float32)

    def write(self, band: int, values: NDArray[np.float32], top: int = 0) -> None:
        """Store rows of a band."""
        self.array[band, top : top + len(values)] = values

    def read(self, band: int) -> NDArray[np.float32]:
        """Return a band."""
        plane: NDArray[np.float32] = self.array[band]
        return plane

    def close(self) -> None:
        """Do nothing."""


class FilePlanes:
    """A stack in a ``.npy`` file.

    Args:
        path: The file, which is created.
        shape: Bands, rows and columns.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._file = path.open("w+b")
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        # claims the whole size in the directory entry, so that a map of it never ends early
        self._file.truncate(self._start + 4 * int(np.prod(shape)))

    def write(self, band: int, values: NDArray[np.float32], top: int = 0) -> None:
        """Store rows of a band."""
        self._seek(band, top)
        self._file.write(np.ascontiguousarray(values, dtype="<f4").data)

    def read(self, band: int) -> NDArray[np.float32]:
        """Return a band."""
        self._seek(band, 0)
        _, rows, columns = self._shape
        values = np.frombuffer(self._file.read(4 * rows * columns), dtype="<f4")
        return values.reshape(rows, columns)

    def _seek(self, band: int, top: int) -> None:
        _, rows, columns = self._shape
        self._file.seek(self._start + 4 * columns * (rows * band + top))

    def close(self) -> None:
        """Write what is still held back."""
        self._file.close()


@contextmanager
def file_planes(path: Path, shape: tuple[int, int, int], record: dict[str, Any]) -> Iterator[FilePlanes]:
    """Yield a stack that appears at ``path`` when the block succeeds, with ``record`` beside it as JSON.

    Args:
        path: The ``.npy`` file.
        shape: Bands, rows and columns.
        record: What :func:`recorded` returns later; it may be filled within the block.

    Raises:
        RunError: The disk is full or the folder is not writable.
    """
    with whole_file(path) as aside:
        # a record must never stand beside a stack that it does not describe
        _record_of(path).unlink(missing_ok=True)
        planes = FilePlanes(aside, shape)
        try:
            yield planes
        finally:
            planes.close()
    write_json(_record_of(path), record)


def recorded(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the record of a stack that an earlier run left, or None if there is none of these sources."""
    try:
        record = json.loads(_record_of(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(record, dict) and record.get("fingerprint") == fingerprint and path.is_file()
    return record if known else None


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")


def mapped(path: Path) -> NDArray[Any]:
    """Return the stack at ``path`` as a read-only memory map."""
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array

"""Archives of people and of strangers: how much they unpack to is known before anything is unpacked."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError

MOST_BYTES = 4 << 30
"""What a file for training may unpack to; a model's server has bounds of its own."""

_CHUNK = 1 << 20


def require_unpacked(path: Path, most: int = MOST_BYTES) -> None:
    """Refuse a ZIP whose members say that they are larger than ``most`` bytes together.

    Readers take no more of a member than it says, so that a false statement is met as damage.

    Raises:
        DataError: It is too large; other errors of :mod:`zipfile` pass through.
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > most:
        raise DataError(
            f"{path}: {size / 2**30:,.1f} GiB when unpacked, more than {most / 2**30:g}.",
            hint="Divide it in several files.",
        )


def read_npz(path: Path, most: int = MOST_BYTES) -> dict[str, NDArray[Any]]:
    """Return the arrays of an NPZ file without unpickling anything; errors of the readers pass through.

    Raises:
        DataError: It unpacks to more than ``most`` bytes.
    """
    require_unpacked(path, most)
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    # numpy hands out the bytes of a member that is no array
    other = next((name for name, array in arrays.items() if not isinstance(array, np.ndarray)), None)
    if other is not None:
        raise DataError(f"{path}: '{other}' is no array.", hint="Is it complete? Write it with numpy.savez.")
    return arrays


def gunzipped(content: bytes, name: str, most: int) -> bytes:
    """Return what a gzip holds; errors of :mod:`gzip` pass through.

    Raises:
        DataError: It is more than ``most`` bytes.
    """
    parts, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        while part := stream.read(_CHUNK):
            size += len(part)
            if size > most:
                raise DataError(
                    f"{name}: more than {most / 2**20:,.0f} MiB when unpacked.",
                    hint="Divide it in several files.",
                )
            parts.append(part)
    return b"".join(parts)

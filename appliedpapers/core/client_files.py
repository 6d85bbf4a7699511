"""Files that a client of a server sent or named: what may be opened for a stranger, and where it is kept.

Some formats name further files: a GDAL virtual raster may point at any path or address. Opened for a
stranger they would let a request read what its sender may not. Whoever works on requests does so within
:func:`for_a_client`; readers that follow references ask :func:`serves_a_client` and take plain formats alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import whole_file
from appliedpapers.core.image_headers import read_header

_CLIENT: ContextVar[bool] = ContextVar("appliedpapers_for_a_client", default=False)


@contextmanager
def for_a_client() -> Iterator[None]:
    """Read files within the block as those of a stranger."""
    token = _CLIENT.set(True)
    try:
        yield
    finally:
        _CLIENT.reset(token)


def serves_a_client() -> bool:
    """Return whether files are those of a stranger."""
    return _CLIENT.get()


def stored(content: bytes, folder: Path, name: str = "the file") -> Path:
    """Write the bytes of an image or a raster into ``folder``, under a name that fits what they are.

    Args:
        content: The file.
        folder: Where it goes; what lies there already is not written again.
        name: What messages call it.

    Raises:
        DataError: The bytes are no image and no raster that one file can hold.
        RunError: The disk is full.
    """
    header = read_header(content)
    if header is None or header.suffix == ".webp":
        raise DataError(
            f"{name}: {len(content)} bytes that are neither TIFF, PNG, JPEG nor BMP.",
            hint="Send a GeoTIFF; other formats, and products of several files, are read by their path.",
        )
    path = folder / f"{hashlib.sha256(content).hexdigest()}{header.suffix}"
    if not path.is_file():
        with whole_file(path) as aside:
            aside.write_bytes(content)
    return path

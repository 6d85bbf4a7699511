"""Uncompressed TIFF files whose other tags are broken, read from the format's own description.

Some microscopes and export scripts write tags that image libraries stumble over. What an image needs are a
dozen tags of the baseline format (TIFF revision 6.0, sections 2 to 6); all others are not looked at.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANES, _COLOURS = 273, 277, 278, 279, 284, 320
_KINDS = {1: "B", 3: "H", 4: "I"}
_MAX_TAGS = 4096


def is_tiff(content: bytes) -> bool:
    """Tell whether a file begins as a classic TIFF."""
    return content[:4] in (b"II*\0", b"MM\0*")


def read_strips(content: bytes, max_pixels: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode the first image of an uncompressed TIFF.

    Args:
        content: The file.
        max_pixels: Larger images are refused.

    Returns:
        Grey ``(h, w)``, uint8 or uint16, 0 is black; or colours ``(h, w, 3)``, uint8.

    Raises:
        ValueError: It is compressed, tiled, incomplete, or of a form that the baseline does not know.
    """
    order = "<" if content[:2] == b"II" else ">"
    tags = _tags(content, order)
    width, height = _one(tags, _WIDTH), _one(tags, _HEIGHT)
    if not 0 < width * height <= max_pixels:
        raise ValueError(f"{width} x {height} pixels")
    if _one(tags, _COMPRESSION, 1) != 1:
        raise ValueError("its pixels are compressed")
    samples, bits = _one(tags, _SAMPLES, 1), _one(tags, _BITS, 1)
    if (
        bits not in (1, 8, 16)
        or (bits == 1 and samples != 1)
        or (samples > 1 and _one(tags, _PLANES, 1) != 1)
    ):
        raise ValueError(f"{samples} samples of {bits} bits a pixel")
    row_bytes = (width * samples * bits + 7) // 8
    pixels = _strips(content, tags, height, row_bytes)
    if bits == 1:
        values: NDArray[Any] = np.unpackbits(pixels.reshape(height, row_bytes), axis=1)[:, :width]
    else:
        wide = pixels.view(np.uint8 if bits == 8 else np.dtype(f"{order}u2"))
        values = wide.reshape(height, width, samples)
        values = values[..., :3] if samples >= 3 else values[..., 0]
    return _meaning(values, tags, bits)


def _meaning(
    values: NDArray[Any], tags: dict[int, tuple[int, ...]], bits: int
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return grey levels or colours for samples: white may be 0, and a palette may stand between."""
    photometric = _one(tags, _PHOTOMETRIC, 1)
    if photometric == 3:
        table = np.array(tags.get(_COLOURS, ()), dtype=np.uint16)
        if len(table) != 3 << bits or values.ndim != 2:
            raise ValueError("its palette is not whole")
        return np.asarray((table.reshape(3, -1).T[values] >> 8).astype(np.uint8))
    if bits == 16:
        whole = values.astype(np.uint16)
        if values.ndim == 3:
            return (whole >> 8).astype(np.uint8)
        return np.uint16(65535) - whole if photometric == 0 else whole
    grey = (values * 255 if bits == 1 else values).astype(np.uint8)
    return np.uint8(255) - grey if photometric == 0 else grey


def _strips(
    content: bytes, tags: dict[int, tuple[int, ...]], height: int, row_bytes: int
) -> NDArray[np.uint8]:
    offsets = tags.get(_OFFSETS, ())
    rows = min(_one(tags, _ROWS, height), height)
    if not offsets or rows < 1 or len(offsets) < -(-height // rows):
        raise ValueError("it has no strips")
    parts = []
    for number, offset in enumerate(offsets[: -(-height // rows)]):
        # the size follows from the rows: the stored one is not needed, and may be wrong
        size = min(rows, height - number * rows) * row_bytes
        part = content[offset : offset + size]
        if len(part) < size:
            raise ValueError("its pixels are not complete")
        parts.append(part)
    return np.frombuffer(b"".join(parts), dtype=np.uint8)


def _tags(content: bytes, order: str) -> dict[int, tuple[int, ...]]:
    """Return the whole-numbered tags of the first directory that do not point outside the file."""
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
    except struct.error:
        raise ValueError("it has no directory") from None
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(min(count, _MAX_TAGS)):
        at = start + 2 + 12 * number
        if at + 12 > len(content):
            break
        tag, kind, length = struct.unpack_from(f"{order}HHI", content, at)
        code = _KINDS.get(kind)
        if code is None or not length:
            continue
        size = length * struct.calcsize(code)
        place = at + 8 if size <= 4 else struct.unpack_from(f"{order}I", content, at + 8)[0]
        if place + size <= len(content):
            tags[tag] = struct.unpack_from(f"{order}{length}{code}", content, place)
    return tags


def _one(tags: dict[int, tuple[int, ...]], tag: int, default: int | None = None) -> int:
    values = tags.get(tag)
    if values:
        return values[0]
    if default is None:
        raise ValueError(f"tag {tag} is absent")
    return default

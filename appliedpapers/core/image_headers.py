"""What the header of an image or a raster promises, read before anything is decoded.

A file of a few kilobytes may unfold to gigabytes. Whoever takes files from strangers adds up what their
headers declare and refuses before memory is spent.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

Content = bytes | mmap.mmap
"""A file in memory, or mapped into it."""

_PNG, _BMP = b"\x89PNG\r\n\x1a\n", b"BM"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES = 256, 257, 258, 277
_TIFF_KINDS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_TAGS = 4096


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of itself.

    Attributes:
        suffix: What a file of this format is called: ``.png``, ``.jpg``, ``.bmp``, ``.tif`` or
            ``.webp``.
        width: Pixels of a row.
        height: Number of rows.
        samples: Values of a pixel.
        bits: Bits of a value.
    """

    suffix: str
    width: int
    height: int
    samples: int
    bits: int

    @property
    def decoded_bytes(self) -> int:
        """Bytes that the pixels take once they are decoded; a value takes whole bytes."""
        return self.width * self.height * self.samples * max(math.ceil(self.bits / 8), 1)


def read_header(content: Content) -> ImageHeader | None:
    """Return what a PNG, JPEG, BMP, TIFF or WebP declares; None for others and for a broken header."""
    try:
        if content[:8] == _PNG:
            return _png(content)
        if content[:3] == b"\xff\xd8\xff":
            return _jpeg(content)
        if content[:2] == _BMP:
            return _bmp(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp(content)
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(content)
    except (struct.error, IndexError, KeyError):
        pass
    return None


def _png(content: Content) -> ImageHeader:
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    return ImageHeader(".png", width, height, _PNG_SAMPLES.get(colour, 4), bits)


def _bmp(content: Content) -> ImageHeader:
    (size,) = struct.unpack_from("<I", content, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", content, 18)
    # readers unfold palettes to colours
    return ImageHeader(".bmp", abs(width), abs(height), 4 if bits == 32 else 3, 8)


def _jpeg(content: Content) -> ImageHeader | None:
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            at += 1
            continue
        marker = content[at + 1]
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES:
            bits, height, width, samples = struct.unpack_from(">BHHB", content, at + 4)
            return ImageHeader(".jpg", width, height, samples, bits)
        at += 2 + max(struct.unpack_from(">H", content, at + 2)[0], 2)
    return None


def _webp(content: Content) -> ImageHeader | None:
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return ImageHeader(".webp", width & 0x3FFF, height & 0x3FFF, 3, 8)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", content, 21)
        samples = 4 if packed >> 28 & 1 else 3
        return ImageHeader(".webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, samples, 8)
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        return ImageHeader(".webp", width, height, 4 if content[20] & 0x10 else 3, 8)
    return None


def _tiff(content: Content) -> ImageHeader:
    tags = dict(_tiff_tags(content))
    return ImageHeader(
        ".tif",
        tags[_TIFF_WIDTH],
        tags[_TIFF_HEIGHT],
        tags.get(_TIFF_SAMPLES, 1),
        tags.get(_TIFF_BITS, 1),
    )


def _tiff_tags(content: Content) -> Iterator[tuple[int, int]]:
    """Yield the first value of each whole-numbered tag of the first directory."""
    order = "<" if content[:2] == b"II" else ">"
    # the large form has offsets of 8 bytes and longer entries
    large = content[2:4] in (b"+\0", b"\0+")
    offset, entry, count = ("Q", "HHQ", "Q") if large else ("I", "HHI", "H")
    (start,) = struct.unpack_from(order + offset, content, 8 if large else 4)
    (entries,) = struct.unpack_from(order + count, content, start)
    head = struct.calcsize(order + entry)
    room = struct.calcsize(offset)
    for number in range(min(entries, _MOST_TAGS)):
        at = start + struct.calcsize(order + count) + number * (head + room)
        tag, kind, length = struct.unpack_from(order + entry, content, at)
        code = _TIFF_KINDS.get(kind)
        if code is None or not length:
            continue
        place = at + head
        if length * struct.calcsize(code) > room:
            (place,) = struct.unpack_from(order + offset, content, place)
        if place + struct.calcsize(code) <= len(content):
            yield tag, struct.unpack_from(order + code, content, place)[0]

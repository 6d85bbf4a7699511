"""Images, rasters and tables that are small to send and large, crooked or far-reaching to open."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def png(width: int, height: int, rows: int = 1, colour: int = 0, bits: int = 8) -> bytes:
    """Return a PNG that declares a size, whatever its pixels are."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + min(width, 10**6)) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(width: int, height: int, samples: int = 1, *, large: bool = False) -> bytes:
    """Return a TIFF of one strip that declares a size."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: samples, 278: height, 279: 1}
    if large:
        entries = b"".join(struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in tags.items())
        return b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + struct.pack("<Q", len(tags)) + entries + bytes(8)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def jpeg(width: int, height: int) -> bytes:
    """Return a JPEG whose frame declares a size and that ends there."""
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


def bmp(width: int, height: int) -> bytes:
    """Return a BMP header without pixels."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def gzipped(megabytes: int) -> bytes:
    return gzip.compress(bytes(megabytes * 2**20))


def vrt(source: Path | str, size: int = 2) -> bytes:
    """Return a GDAL virtual raster that shows another file."""
    return (
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    ).encode()


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    """Return one text many times, which takes the bytes of one."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])


def broken_offsets() -> bytes:
    """Return an Arrow stream whose texts would be read from outside of their buffer."""
    honest, crooked = (np.array(ends, np.int32).tobytes() for ends in ([0, 50, 77], [0, 50, 2**30]))
    body = arrow(pa.table({"plot": ["x" * 50, "y" * 27]}))
    assert honest in body
    return body.replace(honest, crooked)

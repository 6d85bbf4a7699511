"""Fingerprints: of tables, equal for equal values however they are held in memory, of arrays and of files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    from hashlib import _Hash

_HASHED_BYTES = 64 << 20


def table_fingerprint(table: pa.Table) -> str:
    """Return the sha256 of a table's column names, types and values.

    Chunks, slices, dictionaries and whatever lies in memory below a null make no difference.
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        _feed_text(digest, name)
        _feed_array(digest, _joined(column))
    return digest.hexdigest()


def arrays_sha256(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 over names and values of arrays, in the order of names."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # one array of text holds 2 GiB unless its offsets are wide
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        column = column.cast(pa.large_string() if pa.types.is_string(column.type) else pa.large_binary())
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _feed_array(digest: _Hash, values: pa.Array) -> None:
    kind = values.type
    _feed_text(digest, f"{kind} {len(values)}")
    _feed(digest, np.packbits(np.asarray(pc.is_null(values))))
    if isinstance(kind, pa.BaseExtensionType):
        _feed_array(digest, values.storage)
    elif pa.types.is_struct(kind):
        for position, part in enumerate(values.drop_null().flatten()):
            _feed_text(digest, kind.field(position).name)
            _feed_array(digest, part)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        present = values.drop_null()
        _feed(digest, np.asarray(pc.list_value_length(present), dtype=np.int64))
        _feed_array(digest, present.flatten())
    else:
        _feed_leaves(digest, values.drop_null())


def _feed_leaves(digest: _Hash, values: pa.Array) -> None:
    kind = values.type
    if pa.types.is_null(kind) or not len(values):
        return
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        values = values.cast(pa.large_binary())
    if pa.types.is_large_string(kind):
        values = values.cast(pa.large_binary())
    if pa.types.is_large_binary(values.type):
        _feed(digest, np.asarray(pc.binary_length(values), dtype=np.int64))
        _, offsets, content = values.buffers()
        ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
        digest.update(memoryview(content)[ends[0] : ends[-1]] if content is not None else b"")
    elif pa.types.is_boolean(kind):
        _feed(digest, np.packbits(values.to_numpy(zero_copy_only=False)))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        _feed(digest, values.to_numpy(zero_copy_only=False))
    elif pa.types.is_temporal(kind):
        _feed(digest, values.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_numpy())
    else:
        _feed_text(digest, repr(values.to_pylist()))


def _feed(digest: _Hash, values: np.ndarray[Any, Any]) -> None:
    digest.update(np.ascontiguousarray(values).data)


def _feed_text(digest: _Hash, text: str) -> None:
    content = text.encode()
    digest.update(len(content).to_bytes(8, "little") + content)


def file_fingerprint(path: Path) -> str:
    """Return what tells whether a file (or folder) changed.

    Files up to 64 MB are hashed; of bigger ones size and time of modification are taken, and so of the files
    in a folder. An absent file has the fingerprint ``absent``.
    """
    try:
        status = path.stat()
        if path.is_dir():
            listing = [
                (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
                for file in sorted(path.rglob("*"))
                if file.is_file()
            ]
            return "folder:" + hashlib.sha256(repr(listing).encode()).hexdigest()
        if status.st_size > _HASHED_BYTES:
            return f"stat:{status.st_size}:{status.st_mtime_ns}"
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}).", hint="Check its permissions."
        ) from None

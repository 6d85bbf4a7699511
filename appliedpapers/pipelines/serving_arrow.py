"""Parquet and Arrow bodies to tables, bounded by what they unfold to before it is unfolded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.parquet_pages import count_pages, is_flat
from appliedpapers.pipelines.serving_problems import Refused, refuse, shorten

PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
_DEEPEST = 16
_MOST_BATCHES = 10_000
_BATCH_ROWS = 4096
_LEAVES: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)


@dataclass(frozen=True)
class Bounds:
    """What one body may unfold to.

    Attributes:
        rows: Most rows.
        columns: Most columns.
        decoded: Most bytes.
    """

    rows: int
    columns: int
    decoded: int

    def require_rows(self, rows: int) -> None:
        """Raise where there are more rows than are taken.

        Raises:
            Refused: 422.
        """
        if rows > self.rows:
            raise refuse(
                422,
                "too-many-rows",
                f"The request has {rows} rows; at most {self.rows} are taken.",
                "Send several requests, or score files with apps score run.",
            )

    def require_columns(self, columns: int) -> None:
        """Raise where there are more columns than are taken.

        Raises:
            Refused: 422.
        """
        if columns > self.columns:
            raise refuse(
                422,
                "too-many-columns",
                f"The request has {columns} columns; at most {self.columns} are taken.",
                "Send the columns of the schema.",
            )

    def require_size(self, size: int, what: str = "The body unfolds") -> None:
        """Raise where more bytes would be taken than are allowed.

        Raises:
            Refused: 413.
        """
        if size > self.decoded:
            raise refuse(
                413,
                "too-large",
                f"{what} to more than {self.decoded // 2**20} MiB.",
                "Send several requests, or score files with apps score run.",
            )


def read_parquet(body: bytes, bounds: Bounds) -> pa.Table:
    """Return the table of a Parquet file.

    Raises:
        Refused: 400 no Parquet or a type that is not read, 413 too large once decoded, 422 too many rows.
    """
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(pa.BufferReader(body))
        bounds.require_rows(metadata.num_rows)
        bounds.require_columns(metadata.num_columns)
        size = count_pages(body, metadata, _MOST_BATCHES)
        bounds.require_size(max(size.page_bytes, size.value_bytes))
        leaves = [metadata.schema.column(place) for place in range(metadata.num_columns)]
        # texts stay apart from their dictionary: 100,000 rows may name one text of a megabyte
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and is_flat(leaf)]
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=texts)
        _require_types(file.schema_arrow)
        return _table(file.schema_arrow, _validated(file.iter_batches(batch_size=_BATCH_ROWS)), bounds)
    except Refused:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise _malformed("Parquet", error) from None


def read_arrow(body: bytes, bounds: Bounds) -> pa.Table:
    """Return the table of an Arrow IPC stream.

    Raises:
        Refused: 400 no such stream, compressed, or a type that is not read; 413, 422 as for Parquet.
    """
    try:
        _require_plain_messages(body)
        reader = pa.ipc.open_stream(pa.BufferReader(body))
        _require_types(reader.schema)
        bounds.require_columns(len(reader.schema))
        return _table(reader.schema, _validated(reader), bounds)
    except Refused:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, struct.error) as error:
        raise _malformed("an Arrow stream", error) from None


def decoded_bytes(array: pa.Array) -> int:
    """Return the bytes that an array takes once dictionaries are looked up."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return decoded_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        return _looked_up(array)
    if pa.types.is_struct(kind):
        return sum(decoded_bytes(child) for child in array.flatten()) + len(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return decoded_bytes(array.flatten()) + 8 * len(array)
    return max(int(array.nbytes), len(array))


def _looked_up(array: pa.Array) -> int:
    words = array.dictionary
    if not pa.types.is_primitive(words.type):
        lengths = pc.take(pc.fill_null(pc.binary_length(words), 0), array.indices)
        return int(pc.sum(lengths).as_py() or 0) + 8 * len(array)
    return 8 * len(array)


def _table(schema: pa.Schema, batches: Iterator[pa.RecordBatch], bounds: Bounds) -> pa.Table:
    kept: list[pa.RecordBatch] = []
    rows, size = 0, 0
    for batch in batches:
        rows += batch.num_rows
        bounds.require_rows(rows)
        size += sum(decoded_bytes(column) for column in batch.columns)
        bounds.require_size(size)
        kept.append(batch)
        if len(kept) > _MOST_BATCHES:
            raise refuse(
                400, "malformed", f"More than {_MOST_BATCHES} batches.", "Join them before they are sent."
            )
    table = pa.Table.from_batches(kept, schema=schema).combine_chunks()
    plain = pa.schema([field.with_type(_without_dictionary(field.type)) for field in table.schema])
    return table if plain.equals(table.schema) else table.cast(plain)


def _without_dictionary(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(_without_dictionary(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_without_dictionary(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_without_dictionary(kind.value_type), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_dictionary(field.type)) for field in kind])
    return kind


def _validated(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        # offsets that point outside would take the process down
        batch.validate(full=True)
        yield batch


def _require_plain_messages(body: bytes) -> None:
    """Refuse compressed buffers, which name their own size.

    Raises:
        Refused: 400.
    """
    reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(body))
    for _ in range(2 * _MOST_BATCHES):
        try:
            message = reader.read_next_message()
        except (StopIteration, EOFError):
            return
        if message.type in ("record batch", "dictionary") and _compressed(message):
            raise refuse(400, "malformed", "The Arrow stream is compressed.", "Write it without compression.")
    raise refuse(400, "malformed", "Too many Arrow messages.", "Join batches before they are sent.")


def _compressed(message: pa.ipc.Message) -> bool:
    # Message.header is field 2; a dictionary batch holds its record batch in field 1
    flat = message.metadata.to_pybytes()
    (root,) = struct.unpack_from("<I", flat, 0)
    batch = _field(flat, root, 2)
    if batch is not None and message.type == "dictionary":
        batch = _field(flat, batch, 1)
    return batch is None or _field(flat, batch, 3) is not None


def _field(flat: bytes, table: int, number: int) -> int | None:
    """Return where a table of a flatbuffer is that stands in a field of another; None where it is absent."""
    (back,) = struct.unpack_from("<i", flat, table)
    (size,) = struct.unpack_from("<H", flat, table - back)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", flat, table - back + slot)
    if not offset:
        return None
    (relative,) = struct.unpack_from("<I", flat, table + offset)
    return int(table + offset + relative)


def _require_types(schema: pa.Schema) -> None:
    for field in schema:
        if not _read(field.type, 0):
            raise refuse(
                400,
                "malformed",
                f"Column '{shorten(field.name)}' is of type {shorten(str(field.type), 60)}: it is not read.",
                "Expected numbers, texts, times, bytes, or lists and structures of them.",
            )


def _read(kind: pa.DataType, depth: int) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(kind, pa.FixedShapeTensorType):
        return _read(kind.storage_type, depth)
    if pa.types.is_dictionary(kind):
        return _leaf(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return not pa.types.is_null(kind.value_type) and _read(kind.value_type, depth + 1)
    if pa.types.is_struct(kind):
        return all(_read(field.type, depth + 1) for field in kind)
    return _leaf(kind)


def _leaf(kind: pa.DataType) -> bool:
    return any(fits(kind) for fits in _LEAVES)


def _malformed(what: str, error: Exception) -> Refused:
    said = shorten((str(error).splitlines() or [type(error).__name__])[0], 120)
    return refuse(400, "malformed", f"Not {what}: {said}", "Send it as the library that wrote it closed it.")

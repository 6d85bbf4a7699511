"""Raw downloads of Criteo, Avazu and MovieLens tags, read in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import whole_file

CRITEO_NUMBERS = tuple(f"I{i}" for i in range(1, 14))
CRITEO_CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
AVAZU_TOKENS = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{i}" for i in range(14, 22)),
)
MOVIELENS_TOKENS = ("user_id", "item_id", "tag_id")

Types = dict[str, pa.DataType]

_BLOCK = 1 << 24

_FORM = "Compare the file with its owner's description; it may be cut off or another file."

_CRITEO: Types = {"Label": pa.int8()} | dict.fromkeys(CRITEO_NUMBERS, pa.float64())
_CRITEO |= dict.fromkeys(CRITEO_CATEGORIES, pa.string())
_MOVIELENS: Types = {"label": pa.int8()} | dict.fromkeys(MOVIELENS_TOKENS, pa.string())

CRITEO_TYPES: Types = {"Id": pa.string()} | _CRITEO
"""Columns of a sample of Criteo; ``train.txt`` has no ``Id``."""

AVAZU_TYPES: Types = {"id": pa.string(), "click": pa.int8(), "hour": pa.string()}
AVAZU_TYPES |= dict.fromkeys(AVAZU_TOKENS, pa.string())


def criteo_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield rows of Criteo: ``Label`` int8, ``I1 .. I13`` float64, ``C1 .. C26`` text; empty cells are null.

    Args:
        path: ``train.txt`` of the Kaggle contest (tabs, no header), or a sample of it as CSV with a header
            (``Id, Label, I1 ..``; rows to predict have no ``Label``); ``.gz`` too.

    Raises:
        DataError: The file is absent, or a line is malformed; file and column or line are named.
    """
    first = _first_line(path)
    if "\t" in first:
        yield from _rows(path, _CRITEO, delimiter="\t", header=False)
        return
    there = {name: kind for name, kind in CRITEO_TYPES.items() if name != "Label" or "Label" in first}
    yield from _rows(path, there, delimiter=",", header=True)


def avazu_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield rows of Avazu: ``id`` text, ``click`` int8, ``hour`` text (YYMMDDHH), everything else text.

    Args:
        path: ``train.csv`` of the Kaggle contest or a sample of it, with a header; ``.gz`` too.

    Raises:
        DataError: The file is absent, or a line is malformed; file and column or line are named.
    """
    yield from _rows(path, AVAZU_TYPES, delimiter=",", header=True)


def movielens_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield rows of MovieLens tags: ``label`` int8 (1 above 0), ``user_id``, ``item_id``, ``tag_id`` text.

    Args:
        path: ``train.csv`` and so on with a header, or libsvm lines ``label user:1 item:1 tag:1``, whose
            ids are taken as they are; ``.gz`` too.

    Raises:
        DataError: The file is absent, or a line is malformed; file and column or line are named.
    """
    if ":" not in _first_line(path):
        yield from map(_above_zero, _rows(path, _MOVIELENS, delimiter=",", header=True))
        return
    for batch in map(_above_zero, _rows(path, _MOVIELENS, delimiter=" ", header=False)):
        yield _without_value(path, batch)


def write_batches(batches: Iterable[pa.RecordBatch], path: Path) -> Path:
    """Write rows to one Parquet file as they come; return the file.

    Raises:
        DataError: There are no rows, or reading them failed; nothing is left behind.
        RunError: The file cannot be written.
    """
    waiting = iter(batches)
    first = next(waiting, None)
    if first is None:
        raise DataError(f"{path}: there are no rows to write.", hint="Is the raw file the right one?")
    with whole_file(path) as aside, pq.ParquetWriter(aside, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for batch in waiting:
            writer.write_batch(batch)
    return path


def _rows(path: Path, types: Types, *, delimiter: str, header: bool) -> Iterator[pa.RecordBatch]:
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            yield from csv.open_csv(
                stream,
                csv.ReadOptions(
                    block_size=_BLOCK, use_threads=False, column_names=None if header else list(types)
                ),
                csv.ParseOptions(delimiter=delimiter, quote_char=False),
                csv.ConvertOptions(
                    include_columns=list(types),
                    column_types=types,
                    # an empty text is a missing one; the word "null" is a token
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise _unreadable(path, error) from None


def _above_zero(batch: pa.RecordBatch) -> pa.RecordBatch:
    label = pc.greater(batch["label"], 0).cast(pa.int8())
    return batch.set_column(0, "label", label)


def _without_value(path: Path, batch: pa.RecordBatch) -> pa.RecordBatch:
    for place, name in enumerate(MOVIELENS_TOKENS, 1):
        cells = batch[name]
        wrong = pc.index(pc.match_substring_regex(cells, r"^\d+:1$").fill_null(False), False).as_py()
        if wrong >= 0:
            raise DataError(f"{path}, column '{name}': {cells[wrong].as_py()!r}, expected ID:1.", hint=_FORM)
        batch = batch.set_column(place, name, pc.replace_substring_regex(cells, ":1$", ""))
    return batch


def _first_line(path: Path) -> str:
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            return bytes(stream.read(1 << 16)).split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file.", hint="Check the path.")
    said = " ".join(str(error).split())
    return DataError(f"{path}: cannot be read ({said[:200]}).", hint=_FORM)

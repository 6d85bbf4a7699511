"""Frappe in its published form: uses of apps in context, and sampled negatives (arXiv 1505.03014)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import whole_file, write_json

SIZES = MappingProxyType(
    {
        "user": 957,
        "item": 4082,
        "daytime": 7,
        "weekday": 7,
        "isweekend": 2,
        "homework": 3,
        "cost": 2,
        "weather": 9,
        "country": 80,
        "city": 233,
    }
)
"""Fields in their order, and how many codes each has."""

SPLITS = ("train.libsvm", "valid.libsvm", "test.libsvm")
"""The files of split 0, 1 and 2."""

LOG = "Mobile_Frappe.zip"
"""The raw log: what the codes stand for."""

_AGAIN = "Move the file away and fetch it again."


def prepare_frappe(folder: Path) -> Path:
    """Write ``frappe_x1.parquet`` and ``frappe_vocab.json`` from the four files of Frappe in a folder.

    The Parquet has the columns ``label`` int8, the ten fields of :data:`SIZES` int16 codes from 0, and
    ``split`` int8 (0 train, 1 valid, 2 test); the JSON has the raw text of each code, by field.

    Args:
        folder: Holds :data:`SPLITS` and :data:`LOG`; the two files are written beside them.

    Returns:
        The Parquet file.

    Raises:
        DataError: A file is absent or malformed; file and line are named.
        RunError: The folder is not writable.
    """
    table, names = frappe_table(folder), read_names(folder / LOG)
    target = folder / "frappe_x1.parquet"
    with whole_file(target) as aside:
        pq.write_table(table, aside, compression="zstd")
    write_json(folder / "frappe_vocab.json", names)
    return target


def frappe_table(folder: Path) -> pa.Table:
    """Return all rows of the three splits as one table, see :func:`prepare_frappe`.

    Raises:
        DataError: A file is absent or malformed; file and line are named.
    """
    parts = []
    for split, name in enumerate(SPLITS):
        part = read_libsvm(folder / name, SIZES)
        parts.append(part.append_column("split", pa.array(np.full(part.num_rows, split, np.int8))))
    return pa.concat_tables(parts).combine_chunks()


def read_libsvm(path: Path, sizes: MappingProxyType[str, int]) -> pa.Table:
    """Read lines such as ``-1 3:1 960:1``: a label and one global id a field.

    Args:
        path: The text file.
        sizes: Fields in their order, and how many codes each has; the global id of code c is c plus the
            sizes of all fields before.

    Returns:
        ``label`` int8, 1 where the line's is above 0, and one int16 column of codes a field.

    Raises:
        DataError: The file is absent, or a line is malformed; file and line are named.
    """
    cells = _read_cells(path, ["label", *sizes])
    label = cells["label"]
    _require(path, label, pc.is_in(label, pa.array(["1", "+1", "-1", "0"])), "'label'", "expected 1, -1 or 0")
    columns = {"label": pa.array(pc.is_in(label, pa.array(["1", "+1"])).cast(pa.int8()))}
    firsts = accumulate(sizes.values(), initial=0)
    for (name, size), first in zip(sizes.items(), firsts, strict=False):
        cell = cells[name]
        _require(path, cell, pc.match_substring_regex(cell, r"^\d{1,9}:1$"), f"'{name}'", "expected ID:1")
        code = pc.subtract(pc.replace_substring(cell, ":1", "", max_replacements=1).cast(pa.int32()), first)
        inside = pc.and_(pc.greater_equal(code, 0), pc.less(code, size))
        _require(path, cell, inside, f"'{name}'", f"expected an id from {first} to {first + size - 1}")
        columns[name] = code.cast(pa.int16())
    return pa.table(columns)


def read_names(path: Path) -> dict[str, list[str]]:
    """Return what each code stands for: the values of the raw log by first occurrence, for every field.

    Raises:
        DataError: The archive is absent or broken, or its log has other columns or numbers of values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            log = _find_log(archive)
            if log is None:
                raise DataError(f"{path}: no table in it has the columns {', '.join(SIZES)}.", hint=_AGAIN)
            table = _parse_tabs(archive.read(log))
    except (OSError, zipfile.BadZipFile, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).".replace("\n", " "), hint=_AGAIN) from None
    names = {name: pc.unique(table[name]).to_pylist() for name in SIZES}
    for name, size in SIZES.items():
        if len(names[name]) != size:
            raise DataError(
                f"{path}: column '{name}' has {len(names[name])} different values, expected {size}.",
                hint=_AGAIN,
            )
    return names


def _read_cells(path: Path, columns: Sequence[str]) -> pa.Table:
    broken: list[tuple[int, int]] = []

    def remember(row: csv.InvalidRow) -> str:
        broken.append((row.number, row.actual_columns))
        return "skip"

    try:
        content = re.sub(rb"[ \r]+$", b"", path.read_bytes(), flags=re.MULTILINE)
        table = csv.read_csv(
            pa.BufferReader(content),
            # one thread, or a broken row does not know its number
            csv.ReadOptions(column_names=list(columns), use_threads=False),
            csv.ParseOptions(
                delimiter=" ", quote_char=False, ignore_empty_lines=False, invalid_row_handler=remember
            ),
            csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Fetch the dataset first.") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}).", hint=_AGAIN) from None
    if broken:
        line, found = broken[0]
        raise DataError(
            f"{path}, line {line}: {found} words, expected a label and {len(columns) - 1} of the form ID:1.",
            hint=_AGAIN,
        )
    return table


def _require(path: Path, cells: pa.ChunkedArray, good: pa.ChunkedArray, name: str, expected: str) -> None:
    line = pc.index(good, False).as_py()
    if line >= 0:
        shown = cells[line].as_py()[:40]
        raise DataError(f"{path}, line {line + 1}, column {name}: '{shown}', {expected}.", hint=_AGAIN)


def _find_log(archive: zipfile.ZipFile) -> str | None:
    for member in archive.namelist():
        with archive.open(member) as file:
            first = file.readline(10_000).decode("utf-8", "replace")
        if set(SIZES) <= set(first.strip().split("\t")):
            return member
    return None


def _parse_tabs(content: bytes) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(content),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(
            include_columns=list(SIZES), column_types=dict.fromkeys(SIZES, pa.string())
        ),
    )

"""Files of series as cells: text or Parquet, packed or not, with the line that each row stands on."""

from __future__ import annotations

import csv
import gzip
import io
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.delimited import decimal_of
from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.sheets import SUFFIX as SHEET_SUFFIX
from appliedpapers.core.sheets import read_sheet
from appliedpapers.plugins.frets.config import ColumnsConfig

if TYPE_CHECKING:
    import pandas as pd

Layout = Literal["long", "wide", "headless"]

TEXT_SUFFIXES = (".csv", ".txt", ".tsv", ".dat")
PARQUET_SUFFIXES = (".parquet", ".pq")
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None", "<NA>", "#N/A")


@dataclass(frozen=True)
class Cells:
    """One file, read but not yet understood.

    Attributes:
        file: Its name, for messages.
        layout: How series are arranged in it.
        frame: Its cells; texts stay texts, numbers are float64.
        lines: ``(rows,)`` line number of each row. The first line of a text file is 1, its header included;
            in Parquet, which has no lines, the first row is 1.
    """

    file: str
    layout: Layout
    frame: pd.DataFrame
    lines: NDArray[np.int64]


def read_cells(path: Path, layout: Layout | Literal["auto"], names: ColumnsConfig) -> Cells:
    """Read one file.

    Raises:
        DataError: The file is absent, empty, damaged, of an unknown kind, or its columns do not
            fit ``layout``.
    """
    kinds = [suffix.lower() for suffix in path.suffixes]
    packed = bool(kinds) and kinds[-1] == ".gz"
    kind = (kinds[-2] if len(kinds) > 1 else ".txt") if packed else (kinds[-1] if kinds else "")
    if kind in PARQUET_SUFFIXES and not packed:
        frame = _read_parquet(path)
        cells = Cells(path.name, "wide", frame, np.arange(1, len(frame) + 1))
    elif kind == SHEET_SUFFIX and not packed:
        frame = _without_row_numbers(path.name, read_sheet(path).to_pandas())
        cells = Cells(path.name, "wide", frame, np.arange(2, len(frame) + 2))
    elif kind in TEXT_SUFFIXES:
        cells = _read_text(path.name, _text(path, packed), layout, names)
    else:
        raise DataError(
            f"{path.name}: unknown format.",
            hint="Expected .csv, .txt, .tsv (each also .gz), .xlsx or .parquet.",
        )
    if not len(cells.frame):
        raise DataError(f"{path.name}: no rows.", hint="Expected at least one row below the column names.")
    if cells.layout == "headless":
        return cells
    settled = _settle_layout(cells, layout, names)
    return Cells(cells.file, settled, cells.frame, cells.lines)


def is_readable(path: Path) -> bool:
    """Whether ``path`` is a visible file of a kind that :func:`read_cells` reads."""
    kinds = [suffix.lower() for suffix in path.suffixes]
    plain = kinds[:-1] if kinds and kinds[-1] == ".gz" else kinds
    known = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES, SHEET_SUFFIX)
    return path.is_file() and not path.name.startswith(".") and bool(plain) and plain[-1] in known


def _settle_layout(cells: Cells, layout: Layout | Literal["auto"], names: ColumnsConfig) -> Layout:
    columns = list(cells.frame.columns)
    if layout == "headless":
        raise DataError(
            f"{cells.file}: it has column names.", hint="Use --set data.layout=wide, long or auto."
        )
    chosen: Layout = layout if layout != "auto" else ("long" if names.id in columns else "wide")
    if chosen == "wide":
        if len(columns) < 2:
            raise DataError(
                f"{cells.file}: it has one column only, '{columns[0]}'.",
                hint="A wide file has a date column and one column a series.",
            )
        return chosen
    for wanted, option in ((names.id, "id"), (names.ds, "ds"), (names.y, "y")):
        if wanted not in columns:
            raise DataError(
                f"{cells.file}: column '{wanted}' is missing; found {', '.join(map(repr, columns[:12]))}.",
                hint=f"{did_you_mean(wanted, columns)} Name it with --set data.columns.{option}=NAME.",
            )
    return chosen


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError:
        raise _absent(path) from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path.name}: it is not a whole Parquet file ({reason}).",
            hint="The file is damaged or cut short; copy or write it again.",
        ) from None
    _require_distinct(path.name, table.column_names)
    kept = []
    for field in table.schema:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise DataError(
                f"{path.name}, column '{field.name}': its type is {field.type}.",
                hint="Expected numbers, texts or timestamps.",
            )
        column = table.column(field.name)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        elif pa.types.is_decimal(field.type) or pa.types.is_null(field.type):
            column = column.cast(pa.float64())
        elif pa.types.is_date(field.type):
            column = column.cast(pa.timestamp("us"))
        kept.append(column)
    frame = pa.table(kept, names=table.column_names).to_pandas(ignore_metadata=True)
    return _without_row_numbers(path.name, frame)


def _text(path: Path, packed: bool) -> str:
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if packed else raw
    except FileNotFoundError:
        raise _absent(path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path.name}: it is not a whole gzip file ({error}).",
            hint="The file is damaged or cut short; copy or download it again.",
        ) from None
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror}).", hint="Check the path.") from None
    if not content.strip():
        raise DataError(f"{path.name}: the file is empty.", hint="Expected column names and rows.")
    if b"\0" in content:
        raise DataError(
            f"{path.name}: it is not text in UTF-8 or Latin-1.",
            hint="Save it as CSV in UTF-8; a file packed with gzip must end in .gz.",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _absent(path: Path) -> DataError:
    return DataError(f"{path}: no such file.", hint="Check the path.")


def _read_text(file: str, text: str, layout: Layout | Literal["auto"], names: ColumnsConfig) -> Cells:
    first = len(text) - len(text.lstrip("\n \t"))
    blank_above = text.count("\n", 0, first)
    head = text[first:].split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    if layout in ("auto", "headless") and not any(mark in head for mark in ",;\t"):
        separator = r"\s+"
    fields = head.split() if separator == r"\s+" else _fields(file, head, separator)
    headless = layout == "headless" or (layout == "auto" and all(_is_number(field) for field in fields))
    if separator == r"\s+" and not headless:
        separator, fields = ",", [head.strip()]
    if headless:
        header, fields = 0, [f"series_{number}" for number in range(1, len(fields) + 1)]
    else:
        header, fields = 1, [field.strip() for field in fields]
        _require_header(file, fields)
    if separator != r"\s+" and '"' not in text:
        _require_whole_rows(file, text, separator, len(fields), blank_above)
    frame = _parse(file, text, separator, fields, blank_above + header, headless, names)
    lines = np.arange(len(frame), dtype=np.int64) + blank_above + header + 1
    blank = frame.isna().all(axis=1).to_numpy() if not headless or len(fields) > 1 else _blank_tail(frame)
    frame, lines = frame.loc[~blank].reset_index(drop=True), lines[~blank]
    frame = frame if headless else _without_row_numbers(file, frame)
    return Cells(file, "headless" if headless else "wide", frame, lines)


def _parse(
    file: str, text: str, separator: str, fields: list[str], skip: int, headless: bool, names: ColumnsConfig
) -> pd.DataFrame:
    import pandas as pd

    date = names.ds if names.ds in fields else fields[0]
    texts = [] if headless else [name for name in (names.id, date) if name in fields]
    # an identifier may well read "NA"; anywhere else that means missing
    missing = {name: [""] if name == names.id else list(MISSING) for name in fields}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(text),
                sep=separator,
                decimal=decimal_of(text, separator),
                header=None,
                names=fields,
                skiprows=skip,
                index_col=False,
                skip_blank_lines=False,
                dtype=dict.fromkeys(texts, "str"),
                na_values=missing,
                keep_default_na=False,
                low_memory=False,
            )
    except pd.errors.EmptyDataError:
        return pd.DataFrame({name: [] for name in fields})
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "").strip().splitlines()[0]
        raise DataError(
            f"{file}: it cannot be read as a table ({reason}).",
            hint="Expected one row a line and the same number of fields in each.",
        ) from None


def _fields(file: str, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator))
    except (csv.Error, StopIteration) as error:
        raise DataError(
            f"{file}: its first line cannot be read ({error}).", hint="Expected a header."
        ) from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return field.strip() in MISSING
    return True


def _require_header(file: str, fields: list[str]) -> None:
    numbers = sum(_is_number(field) for field in fields[1:])
    dated = len(fields) > 1 and fields[0][:4].isdigit() and not fields[0].isdigit()
    if dated and numbers == len(fields) - 1 and not _is_number(fields[0]):
        raise DataError(
            f"{file}: its first line holds data, not column names.",
            hint="Put a header above it: a name for the date column and one for each series.",
        )
    _require_distinct(file, fields)


def _require_distinct(file: str, names: list[str]) -> None:
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{file}: two columns are named '{twice[0]}'.", hint="Give each column its own name.")
    if names.count("") > 1:
        raise DataError(
            f"{file}: {names.count('')} columns have no name.", hint="Name each column in line 1."
        )


def _require_whole_rows(file: str, text: str, separator: str, width: int, blank_above: int) -> None:
    content = np.frombuffer(text.rstrip("\n").encode() + b"\n", np.uint8)
    ends = np.flatnonzero(content == ord("\n"))
    marks = np.cumsum(content == ord(separator))[ends]
    counts = np.diff(marks, prepend=0) + 1
    blank = np.diff(ends, prepend=-1) == 1
    wrong = np.flatnonzero((counts != width) & ~blank)
    wrong = wrong[wrong >= blank_above]
    if len(wrong):
        row = int(wrong[0])
        more = f" {len(wrong):,} rows are like this." if len(wrong) > 1 else ""
        raise DataError(
            f"{file}, row {row + 1}: it has {counts[row]} fields, not {width}.",
            hint=f"The file is cut short or a separator is missing.{more}",
        )


def _blank_tail(frame: pd.DataFrame) -> NDArray[np.bool_]:
    absent = frame.isna().all(axis=1).to_numpy()
    return np.asarray(np.logical_and.accumulate(absent[::-1])[::-1])


def _without_row_numbers(file: str, frame: pd.DataFrame) -> pd.DataFrame:
    for name in [name for name in frame.columns if name == "" or str(name).startswith("__index_level_")]:
        column = frame[name]
        numbers = column.astype("str").str.fullmatch(r"\d+").fillna(False).to_numpy(bool)
        if column.isna().all() or numbers.all():
            frame = frame.drop(columns=name)
        else:
            raise DataError(f"{file}: a column has no name.", hint="Name each column in line 1.")
    return frame

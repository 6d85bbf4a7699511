"""The user's own series: long, wide and headerless files, and tables that are already validated.

Row numbers in messages are line numbers of the file: its first line, the header included, is row 1. In
Parquet, which has no lines, the first record is row 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.schema import Violation, violations_table
from appliedpapers.plugins.frets.config import ColumnsConfig, DataConfig
from appliedpapers.plugins.frets.observations import Observations, assemble
from appliedpapers.plugins.frets.panel import SeriesPanel
from appliedpapers.plugins.frets.tables import Cells, is_readable, read_cells
from appliedpapers.plugins.frets.timestamps import (
    ISO_HINT,
    MixedFormatsError,
    fixed_step,
    parse_timestamps,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_ROWS_NAMED = 5


def read_panel(path: Path, data: DataConfig) -> SeriesPanel:
    """Read a file of series, or a folder of files of one layout.

    The order of rows and of columns changes nothing: series are sorted by name, rows by time.

    Args:
        path: ``.csv``, ``.txt``, ``.tsv`` (each also ``.gz``) or ``.parquet``; or a folder of such files.
        data: How it is read. Layouts are ``long`` (one row a value), ``wide`` (a date column and one column
            a series) and ``headless`` (numbers alone, one column a series); ``auto`` tells them apart by the
            first line.

    Returns:
        The panel; its notes tell of sentinels, gaps, imputations, ragged ends and series left out.

    Raises:
        DataError: The files break the contract; every bad cell is in ``violations``.
        ConfigError: ``freq``, ``start`` or ``date_format`` is not valid.
    """
    cells = [read_cells(file, data.layout, data.columns) for file in series_files(path)]
    _require_one_layout(path, cells)
    seen = _observed(cells, data, data.exogenous)
    return assemble(seen, freq=data.freq, sentinels=data.sentinels, method=data.impute, season=data.season)


def read_long(path: Path, data: DataConfig) -> pa.Table:
    """Read a wide or headless file as a long table ``unique_id, ds, y``, values as they stand there.

    What a column lacks after its last value is left out: that series ends there. The arguments are those of
    :func:`read_panel`.

    Raises:
        DataError: The file breaks the contract; every bad cell is in ``violations``.
        ConfigError: ``freq``, ``start`` or ``date_format`` is not valid.
    """
    import pyarrow as pa

    seen = _observed([read_cells(path, data.layout, data.columns)], data, "refuse")
    order = np.lexsort((seen.stamps, seen.code))
    code, stamps, y = seen.code[order], seen.stamps[order], seen.y[order]
    last = np.full(len(seen.names), np.datetime64("NaT", "us"))
    last[code[~np.isnan(y)]] = stamps[~np.isnan(y)]
    # a series without any value stays, so that it is named as unusable rather than lost
    kept = np.isnat(last[code]) | (stamps <= last[code])
    return pa.table(
        {
            "unique_id": pa.array([seen.names[number] for number in code[kept]], pa.string()),
            "ds": pa.array(stamps[kept], pa.timestamp("us")),
            "y": pa.array(y[kept], pa.float64(), from_pandas=True),
        }
    )


def with_iso_dates(table: pa.Table, name: str, date_format: str | None) -> pa.Table:
    """Return a table whose dates are ISO 8601 wherever :func:`read_panel` understands them.

    Args:
        table: Cells as they were read, not yet checked.
        name: The date column; a table without it is returned as it is.
        date_format: strptime format, where dates are not ISO 8601.
    """
    import pyarrow as pa

    kind = table.schema.field(name).type if name in table.column_names else pa.null()
    if not (pa.types.is_string(kind) or (date_format and pa.types.is_integer(kind))):
        return table
    given = table[name].cast(pa.string())
    try:
        parsed = parse_timestamps(given.to_pandas(), date_format)
    except MixedFormatsError:
        # the check of the table names what is no timestamp
        return table
    texts = np.where(parsed.bad, given.to_numpy(), np.datetime_as_string(parsed.stamps))
    at = table.column_names.index(name)
    return table.set_column(at, name, pa.array(texts.tolist(), pa.string()))


def panel_from_table(table: pa.Table, *, freq: str | None = None, source: str = "input") -> SeriesPanel:
    """Arrange a validated long table as a panel.

    Args:
        table: ``unique_id`` string, ``ds`` timestamp, ``y`` float64; further columns are ignored.
        freq: pandas offset alias; inferred when None.
        source: What to call the table in messages; rows count from 1.

    Raises:
        DataError: Duplicate timestamps, timestamps off the calendar, or nothing but missing values.
    """
    import pyarrow as pa

    if not table.num_rows:
        raise DataError(f"{source}: no rows.", hint="Send at least one row a series.")
    coded = table.column("unique_id").combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    known = [str(name) for name in coded.dictionary.to_pylist()]
    rank = np.empty(len(known), np.int64)
    rank[np.argsort(np.array(known, dtype=object), kind="stable")] = np.arange(len(known))
    stamps = table.column("ds").cast(pa.timestamp("us")).cast(pa.int64()).to_numpy().view("M8[us]")
    seen = Observations(
        names=tuple(sorted(known)),
        code=rank[coded.indices.to_numpy()],
        stamps=stamps,
        y=np.asarray(table.column("y").cast(pa.float64()).to_numpy(), np.float64),
        files=(source,),
        file=np.zeros(len(stamps), np.int64),
        line=np.arange(1, len(stamps) + 1, dtype=np.int64),
    )
    return assemble(seen, freq=freq, sentinels="auto", method=None, season=None)


def series_files(path: Path) -> list[Path]:
    """Return the files that :func:`read_panel` reads of a file or folder.

    Raises:
        DataError: There is none.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.", hint="Check the path.")
    if path.is_file():
        return [path]
    found = sorted(item for item in path.iterdir() if is_readable(item))
    if not found:
        raise DataError(
            f"{path}: no file of series in it.",
            hint="Expected .csv, .txt, .tsv or .parquet files.",
        )
    return found


def _require_one_layout(path: Path, cells: list[Cells]) -> None:
    other = next((item for item in cells if item.layout != cells[0].layout), None)
    if other is not None:
        raise DataError(
            f"{path}: {cells[0].file} is {cells[0].layout} and {other.file} is {other.layout}.",
            hint="Put files of one layout into a folder, or name the layout with --set data.layout=....",
        )


def _observed(cells: list[Cells], data: DataConfig, exogenous: Literal["refuse", "drop"]) -> Observations:
    if cells[0].layout == "headless":
        return _from_headless(cells, data.freq, data.start)
    return _from_dated(cells, data.columns, data.date_format, exogenous)


def _from_headless(cells: list[Cells], freq: str | None, start: str | None) -> Observations:
    import pandas as pd

    first = cells[0]
    if len(cells) > 1:
        raise DataError(
            f"{first.file} and {len(cells) - 1} other files have no dates, so their order is unknown.",
            hint="Give one file without header, or files with a date column.",
        )
    if freq is None or start is None:
        raise DataError(
            f"{first.file}: it has no header and no dates.",
            hint="Say when it starts and how it steps, such as --start 1990-01-01 --freq B.",
        )
    try:
        begin = pd.Timestamp(start)
    except ValueError:
        raise ConfigError(
            f"option 'data.start': {start!r} is not a timestamp.", hint=f"{ISO_HINT}."
        ) from None
    length = len(first.frame)
    fixed_step(freq)
    try:
        stamps = pd.date_range(begin, periods=length, freq=freq, unit="us").to_numpy()
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{first.file}: {length:,} steps of '{freq}' from {start} leave the calendar ({error}).",
            hint="Check --start and --freq.",
        ) from None
    bad: list[Violation] = []
    columns = [str(name) for name in first.frame.columns]
    values = np.column_stack([_numbers(first, name, bad) for name in columns])
    _raise_bad(bad)
    return _flattened(first, columns, stamps, values, 0)


def _from_dated(
    cells: list[Cells], names: ColumnsConfig, date_format: str | None, exogenous: Literal["refuse", "drop"]
) -> Observations:
    bad: list[Violation] = []
    parts = []
    for number, item in enumerate(cells):
        if item.layout == "long":
            parts.append(_from_long(item, number, names, date_format, exogenous, bad))
        else:
            parts.append(_from_wide(item, number, names, date_format, bad))
    _raise_bad(bad)
    return _joined(parts)


def _from_long(
    cells: Cells,
    number: int,
    names: ColumnsConfig,
    date_format: str | None,
    exogenous: Literal["refuse", "drop"],
    bad: list[Violation],
) -> Observations:
    import pandas as pd

    extra = [str(name) for name in cells.frame.columns if name not in (names.id, names.ds, names.y)]
    if extra and exogenous == "refuse":
        raise DataError(
            f"{cells.file}: column '{extra[0]}' is none of {names.id}, {names.ds}, {names.y}; "
            "FreTS has no exogenous inputs.",
            hint="Remove it, or leave such columns out with --set data.exogenous=drop.",
        )
    ids = cells.frame[names.id]
    absent = ids.isna().to_numpy()
    _note_bad(bad, cells, names.id, absent, None, "the name of the series is missing")
    stamps, zoned = _stamps(cells, names.ds, date_format, bad)
    y = _numbers(cells, names.y, bad)
    code, unique = pd.factorize(ids.astype("str"), sort=True)
    notes = [f"columns left out on request: {', '.join(extra)}"] if extra else []
    return Observations(
        names=tuple(str(name) for name in unique),
        code=code.astype(np.int64),
        stamps=stamps,
        y=y,
        files=(cells.file,),
        file=np.full(len(y), number),
        line=cells.lines,
        ds_name=names.ds,
        notes=(*notes, *zoned),
    )


def _from_wide(
    cells: Cells, number: int, names: ColumnsConfig, date_format: str | None, bad: list[Violation]
) -> Observations:
    columns = [str(name) for name in cells.frame.columns]
    ds_name = names.ds if names.ds in columns else columns[0]
    series = [name for name in columns if name != ds_name]
    stamps, zoned = _stamps(cells, ds_name, date_format, bad)
    values = np.column_stack([_numbers(cells, name, bad) for name in series])
    seen = _flattened(cells, series, stamps, values, number)
    return replace(seen, ds_name=ds_name, notes=zoned)


def _flattened(
    cells: Cells,
    series: list[str],
    stamps: NDArray[np.datetime64],
    values: NDArray[np.float64],
    number: int,
) -> Observations:
    order = sorted(range(len(series)), key=series.__getitem__)
    rows, count = values.shape
    return Observations(
        names=tuple(series[position] for position in order),
        code=np.tile(np.arange(count), rows),
        stamps=np.repeat(stamps, count),
        y=values[:, order].ravel(),
        files=(cells.file,),
        file=np.full(rows * count, number),
        line=np.repeat(cells.lines, count),
    )


def _joined(parts: list[Observations]) -> Observations:
    if len(parts) == 1:
        return parts[0]
    names = sorted({name for part in parts for name in part.names})
    place = {name: position for position, name in enumerate(names)}
    maps = [np.array([place[name] for name in part.names], np.int64) for part in parts]
    return Observations(
        names=tuple(names),
        code=np.concatenate([mapping[part.code] for part, mapping in zip(parts, maps, strict=True)]),
        stamps=np.concatenate([part.stamps for part in parts]),
        y=np.concatenate([part.y for part in parts]),
        files=tuple(part.files[0] for part in parts),
        file=np.concatenate([part.file for part in parts]),
        line=np.concatenate([part.line for part in parts]),
        ds_name=parts[0].ds_name,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _stamps(
    cells: Cells, name: str, date_format: str | None, bad: list[Violation]
) -> tuple[NDArray[np.datetime64], tuple[str, ...]]:
    column = cells.frame[name]
    if column.dtype.kind in "fb" or (column.dtype.kind in "iu" and date_format is None):
        raise DataError(
            f"{cells.file}, column '{name}': its values are {column.dtype}, not timestamps.",
            hint=f"{ISO_HINT}. The date column is the one named '{name}', or the first of a wide file.",
        )
    try:
        parsed = parse_timestamps(column, date_format)
    except MixedFormatsError as error:
        rows = np.flatnonzero(error.rows)
        found = [_violation(cells, name, int(row), column, error.reason) for row in rows]
        raise DataError(
            f"{cells.file}, column '{name}': {error.reason}; first in row {cells.lines[rows[0]]}: "
            f"'{column.iloc[int(rows[0])]}'.",
            hint=f"{len(rows):,} rows are concerned. Write all dates in one way and name it, such as "
            "--set data.date_format=%d.%m.%Y, or use ISO 8601.",
            violations=violations_table(found),
        ) from None
    rule = "is not a timestamp" if date_format is None else f"is not a timestamp of the form {date_format}"
    _note_bad(bad, cells, name, parsed.bad, column, rule)
    return parsed.stamps, ("timestamps with an offset were converted to UTC",) if parsed.zoned else ()


def _numbers(cells: Cells, name: str, bad: list[Violation]) -> NDArray[np.float64]:
    import pandas as pd

    column = cells.frame[name]
    if column.dtype.kind in "fiu":
        numbers = column.to_numpy(np.float64, na_value=np.nan)
        wrong = np.isinf(numbers)
    elif (
        column.dtype.kind == "b" or column.dtype.kind in "mM" or isinstance(column.dtype, pd.DatetimeTZDtype)
    ):
        numbers = np.full(len(column), np.nan)
        wrong = column.notna().to_numpy()
    else:
        text = column.astype("str").where(column.notna()).str.strip()
        given = column.notna().to_numpy() & (text != "").to_numpy(bool)
        numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        wrong = given & ~np.isfinite(numbers)
    _note_bad(bad, cells, name, wrong, column, "is not a finite number")
    return numbers


def _note_bad(
    bad: list[Violation],
    cells: Cells,
    name: str,
    wrong: NDArray[np.bool_],
    column: pd.Series[Any] | None,
    rule: str,
) -> None:
    bad.extend(_violation(cells, name, int(row), column, rule) for row in np.flatnonzero(wrong))


def _violation(cells: Cells, name: str, row: int, column: pd.Series[Any] | None, rule: str) -> Violation:
    cell = None if column is None else column.iloc[row]
    # a missing cell is a float NaN whatever the type of its column
    value = "" if cell is None or cell != cell else str(cell)
    return Violation(cells.file, int(cells.lines[row]), name, value, rule)


def _raise_bad(bad: list[Violation]) -> None:
    if not bad:
        return
    bad.sort(key=lambda item: (item.file, item.row or 0))
    first = bad[0]
    rows = sorted({(item.file, item.row or 0) for item in bad})
    several = len({file for file, _ in rows}) > 1
    listed = ", ".join(f"{file} {row}" if several else str(row) for file, row in rows[:_ROWS_NAMED])
    more = ", …" if len(rows) > _ROWS_NAMED else ""
    expected = ISO_HINT if "timestamp" in first.rule else "Expected a number with a decimal point, or nothing"
    expected = "Expected a name in each row" if "missing" in first.rule else expected
    count = f"{len(rows):,} rows are bad: {listed}{more}" if len(rows) > 1 else "1 row is bad"
    subject = f"'{first.value}' " if "missing" not in first.rule else ""
    raise DataError(
        f"{first.file}, column '{first.column}', row {first.row}: {subject}{first.rule}.",
        hint=f"{expected}. {count}.",
        violations=violations_table(bad),
    )

"""Feeds of five formats, and of our own: what a file is, and who reads it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.errors import DataError
from appliedpapers.core.tables import kind_of, read_table
from appliedpapers.plugins.volatility_images.cleaning import CleaningReport, Feed
from appliedpapers.plugins.volatility_images.config import DataConfig
from appliedpapers.plugins.volatility_images.reader_binance import is_capture, lines_of, read_binance
from appliedpapers.plugins.volatility_images.reader_frames import (
    is_book_frame,
    read_book_frame,
    read_trades_alone,
)
from appliedpapers.plugins.volatility_images.reader_numbers import with_numbers
from appliedpapers.plugins.volatility_images.reader_orders import read_orders
from appliedpapers.plugins.volatility_images.readers_taq import read_taq
from appliedpapers.plugins.volatility_images.tables import seconds_schema, sessions_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PEEK = 4096
_QUOTES = {"bid", "ofr"}
_ORDERS = {"id", "action", "direction"}
_SECONDS = {"session", "time", "bid", "ask"}


def feed_files(path: Path) -> list[Path]:
    """Return the files of a feed in the order of their names; a folder is read as a whole.

    Raises:
        DataError: There is no such path, or the folder holds no file.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.", hint="Check the path.")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not found:
        raise DataError(f"{path}: no file in it.", hint="Expected captures, or a book and its trades.")
    return found


def read_feed(path: Path, data: DataConfig) -> Feed:
    """Read a user's feed.

    Args:
        path: A file, or a folder with a book and its trades, or captures one after the other.
        data: How.

    Raises:
        DataError: The files break the contract; file, row or line, and a remedy are named.
    """
    files = feed_files(path)
    kind = data.format if data.format != "auto" else _guess(files, data.columns.time)
    if kind == "binance-ws":
        return read_binance(lines_of(files), data, source=path.name)
    if kind == "seconds":
        return read_seconds(
            [with_time(read_table(file), data.columns.time) for file in files], data, path.name
        )
    frames = {file: _frame(file) for file in files}
    if kind == "taq":
        quotes = _joined(
            frames, lambda names: names >= _QUOTES, path, "quotes (EX, BID, BIDSIZ, OFR, OFRSIZ, ts_us)"
        )
        trades = _joined(frames, _is_taq_trades, path, "trades (EX, COND, SIZE, PRICE, CORR, ts_us)")
        return read_taq(_named_time(quotes, data), _named_time(trades, data), data, source=path.name)
    if kind == "l3-events":
        return read_orders(
            _joined(frames, lambda names: names >= _ORDERS, path, "order events"), data, source=path.name
        )
    rest = [frame for frame in frames.values() if not is_book_frame([str(name) for name in frame.columns])]
    if kind == "trades":
        return read_trades_alone(_stack(rest), data, source=path.name)
    book = _joined(
        frames, lambda names: is_book_frame(sorted(names)), path, "a book (bid_px_0, bid_qty_0, ...)"
    )
    return read_book_frame(book, _stack(rest) if rest else None, data, source=path.name)


def _guess(files: Sequence[Path], time: str) -> str:
    if any(_looks_like_capture(file) for file in files):
        return "binance-ws"
    kinds = set()
    for file in files:
        columns = [str(name) for name in _head(file)]
        names = _lower(columns, time)
        if names >= _SECONDS:
            return "seconds"
        if names >= _QUOTES:
            kinds.add("taq")
        elif names >= _ORDERS:
            kinds.add("l3-events")
        elif is_book_frame(columns):
            kinds.add("l2-frame")
        else:
            kinds.add("trades")
    for kind in ("taq", "l3-events", "l2-frame"):
        if kind in kinds:
            return kind
    return "trades"


def _looks_like_capture(file: Path) -> bool:
    if kind_of(file) is not None:
        return False
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        if not packed:
            with file.open("rb") as plain:
                return is_capture(plain.read(_PEEK))
        with gzip.open(file, "rb") as stream:
            return is_capture(stream.read(_PEEK))
    except (OSError, EOFError) as error:
        raise DataError(f"{file}: cannot be read ({error}).", hint="Is it complete?") from None


def is_seconds(file: Path, time: str = "time") -> bool:
    """Whether a table is in our own form; ``time`` is its name of the time there."""
    return _lower(_head(file), time) >= _SECONDS


def _lower(columns: Sequence[str], time: str) -> set[str]:
    return {"time" if name == time else name.lower() for name in columns}


def _head(file: Path) -> list[str]:
    return list(read_table(file).column_names)


def _frame(file: Path) -> pd.DataFrame:
    frame: pd.DataFrame = read_table(file).to_pandas()
    if frame.empty:
        raise DataError(f"{file}: no rows.", hint="Expected at least one row below the column names.")
    return with_numbers(frame, file.name)


def _is_taq_trades(names: set[str]) -> bool:
    return {"price", "size", "corr"} <= names


def _joined(frames: dict[Path, pd.DataFrame], fits: object, path: Path, what: str) -> pd.DataFrame:
    assert callable(fits)
    found = [frame for frame in frames.values() if fits({str(name).lower() for name in frame.columns})]
    if not found:
        raise DataError(f"{path}: no {what}.", hint="Give the folder that holds all files of the feed.")
    return _stack(found)


def _stack(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(list(frames), ignore_index=True)


def _named_time(frame: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    from appliedpapers.plugins.volatility_images.reader_times import time_us

    if "ts_us" in frame.columns and data.columns.time == "time":
        return frame
    upper = frame.rename(
        columns={name: str(name).upper() for name in frame.columns if str(name).lower() != "side"}
    )
    return upper.assign(ts_us=time_us(frame, "taq", data.columns.time))


def with_time(table: pa.Table, called: str) -> pa.Table:
    """Return rows of our own form, whose time is ``called`` otherwise, with its name of ours."""
    if called == "time" or called not in table.column_names:
        return table
    rest = table.drop_columns("time") if "time" in table.column_names else table
    return rest.rename_columns(["time" if name == called else name for name in rest.column_names])


def read_seconds(tables: Sequence[pa.Table], data: DataConfig, source: str) -> Feed:
    """Read our own canonical form.

    Raises:
        DataError: A row breaks the schema, or a session cannot be used.
    """
    import pyarrow as pa

    from appliedpapers.core.validation import check

    report = CleaningReport(clock="the file's")
    schema = seconds_schema()
    clean = pa.concat_tables([check(table, schema, source=source).require_clean() for table in tables])
    sessions = []
    for rows in sessions_of(clean, max_gap=data.max_gap, price=data.price):
        if rows.session is None:
            assert rows.problem is not None
            raise DataError(
                f"{source}, column '{rows.problem.column}', row {rows.problem.row}: {rows.problem.rule}.",
                hint="Correct the row and try again.",
            )
        sessions.append(rows.session)
        report.add("messages", len(rows.session))
        report.add("halted", int(rows.session.broken.sum()))
    return Feed(sessions, report, "given")

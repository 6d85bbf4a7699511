"""The column with the time of a feed, under whatever name and in whatever unit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.market import Floats, Ints
from appliedpapers.plugins.volatility_images.reader_numbers import numbers_of

_TIMES = ("time", "timestamp", "ts", "ts_us", "ts_ms", "ts_ns", "local_ts_ms", "datetime", "date", "dt")
CALLED = "time"
_UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}


def _time_column(frame: pd.DataFrame, source: str, called: str) -> str:
    """Return the column that is called so, in any case; else, where nobody chose a name, a usual one."""
    usual = _TIMES if called == CALLED else ()
    for names in ((called.lower(),), usual):
        for column in frame.columns:
            if str(column).lower() in names:
                return str(column)
    found = [str(name) for name in frame.columns]
    raise DataError(
        f"{source}: column '{called}' is missing; found: {', '.join(found[:10])}.",
        hint="Name the column with the time with --set data.columns.time=…; numbers are since 1970.",
    )


def time_us(frame: pd.DataFrame, source: str, called: str = CALLED) -> Ints:
    """Return the time column as microseconds UTC.

    Args:
        frame: Rows of a feed.
        source: Name in messages.
        called: Name of the column; without one of the default name a usual one is taken.

    Raises:
        DataError: There is none, a cell is no time, or time goes backwards.
    """
    name = _time_column(frame, source, called)
    column = numbers_of(frame[name], source, "time", "Expected a number since 1970, as in the other rows.")
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.to_numpy(np.float64)
        unit = str(name).rpartition("_")[2]
        factor = _UNITS[unit] if unit in _UNITS else _unit_by_size(numbers)
        whole = column.to_numpy(np.int64) if pd.api.types.is_integer_dtype(column) else None
        exact = whole is not None and factor >= 1
        times = (
            whole * int(factor) if whole is not None and exact else np.rint(numbers * factor).astype(np.int64)
        )
    else:
        parsed = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
        bad = np.flatnonzero(parsed.isna().to_numpy())
        if bad.size:
            raise DataError(
                f"{source}, column '{name}', row {int(bad[0]) + 1}: {column.iloc[int(bad[0])]!r} "
                "is not a time.",
                hint="Expected ISO 8601, such as 2024-08-09T00:00:01.5, or a number since 1970.",
            )
        times = parsed.astype("datetime64[ns, UTC]").astype("int64").to_numpy() // 1000
    back = np.flatnonzero(np.diff(times) < 0)
    if back.size:
        raise DataError(
            f"{source}, column '{name}', row {int(back[0]) + 2}: time goes backwards "
            f"({back.size:,} times in the file).",
            hint="Sort the file by time; if two clocks are mixed, keep to one.",
        )
    return np.asarray(times, dtype=np.int64)


def _unit_by_size(numbers: Floats) -> float:
    size = float(np.nanmax(np.abs(numbers))) if len(numbers) else 0.0
    return 1e-3 if size > 1e17 else 1.0 if size > 1e14 else 1e3 if size > 1e11 else 1e6

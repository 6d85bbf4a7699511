"""Sessions as tables and back: the one canonical form, in Parquet, in requests and in streams.

A row is a second: the touch, the levels of the book at its end, and the trades within it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from appliedpapers.core.model import GroupProblem
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from appliedpapers.plugins.volatility_images.config import VolatilityConfig
from appliedpapers.plugins.volatility_images.market import (
    SECOND_US,
    Floats,
    Ints,
    Session,
    Trades,
    mark_scale_changes,
)

SIDES = ("bid_px", "bid_qty", "ask_px", "ask_qty")
FLOW = ("trade_px", "trade_qty", "trade_side")
PAIRS = (("bid_px", "bid_qty"), ("ask_px", "ask_qty"), ("trade_px", "trade_qty"))


def seconds_schema() -> TableSchema:
    """Return the schema of seconds, which files, requests and streams keep."""
    columns = (
        Column("session", "string", "name of the session, such as its date", example="2024-08-09"),
        Column(
            "time",
            "timestamp",
            "end of the second, UTC; rows stand whole seconds apart",
            example="2024-08-09T00:00:01",
        ),
        Column("bid", "float64", "best bid at the end of the second", minimum=0, example=61685.99),
        Column("ask", "float64", "best ask then", minimum=0, example=61686.0),
        *(
            Column(name, "float64", words, nullable=True, required=False, minimum=0, shape=(None,))
            for name, words in (
                ("bid_px", "prices of the bid levels, any number, in any order"),
                ("bid_qty", "their sizes"),
                ("ask_px", "prices of the ask levels"),
                ("ask_qty", "their sizes"),
                ("trade_px", "prices of the trades within the second, in their order"),
                ("trade_qty", "their sizes"),
            )
        ),
        Column(
            "trade_side",
            "float64",
            "1 where the buyer took, -1 where the seller did, 0 unknown",
            nullable=True,
            required=False,
            minimum=-1,
            maximum=1,
            shape=(None,),
        ),
        Column(
            "broken",
            "bool",
            "updates were lost or trading was halted before this second: windows do not cross it",
            nullable=True,
            required=False,
        ),
    )
    return TableSchema(columns, group_by=("session",), order_by="time")


def forecast_schema(config: VolatilityConfig) -> OutputSchema:
    """Return the schema of forecasts."""
    width, level = config.data.window, config.model.level
    columns = [
        Column("session", "string", "name of the session"),
        Column("time", "timestamp", "end of the last second that is known, UTC"),
        Column(
            "volatility",
            "float64",
            f"forecast of the realised volatility of the next {width} s, in return units",
            minimum=0,
        ),
        Column("low", "float64", f"lower end of the {level} % interval", minimum=0),
        Column("high", "float64", f"upper end of the {level} % interval", minimum=0),
        Column("past", "float64", f"realised volatility of the last {width} s", minimum=0),
        Column(
            "outside", "float64", "share of the traded size beyond the image's rows", minimum=0, maximum=1
        ),
    ]
    if config.output.images != "none":
        columns.append(
            Column("image", "string", "the image behind the forecast", nullable=True, file="image")
        )
    return OutputSchema(
        tuple(columns), group_by=("session",), order_by="time", rows="many", keys=("session",)
    )


def table_of(sessions: Iterable[Session]) -> pa.Table:
    """Return sessions as one table of seconds; lists that nobody has are left empty."""
    parts = [_table(session) for session in sessions]
    return pa.concat_tables(parts)


def _table(session: Session) -> pa.Table:
    trades, seconds = session.trades, len(session)
    offsets = np.searchsorted(trades.second, np.arange(seconds + 1)).astype(np.int32)
    columns: dict[str, pa.Array] = {
        "session": pa.array([session.name] * seconds, pa.string()),
        "time": pa.array(session.time_us, pa.timestamp("us")),
        "bid": pa.array(session.bid, pa.float64()),
        "ask": pa.array(session.ask, pa.float64()),
    }
    for name in SIDES:
        columns[name] = _lists(getattr(session, name))
    for name, values in zip(FLOW, (trades.price, trades.qty, trades.side.astype(np.float64)), strict=True):
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.float64()))
    columns["broken"] = pa.array(session.broken, pa.bool_())
    return pa.table(columns)


def _lists(values: Floats) -> pa.ListArray:
    known = np.isfinite(values)
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[known], pa.float64()))


@dataclass(frozen=True)
class Rows:
    """The rows of one session in a table, read and judged.

    Attributes:
        session: On a grid without holes; None where the rows cannot be used.
        problem: Why not.
    """

    session: Session | None
    problem: GroupProblem | None = None


def sessions_of(table: pa.Table, *, max_gap: int, price: str) -> list[Rows]:
    """Read a validated table of seconds, a session at a time in the order of appearance.

    Args:
        table: By :func:`seconds_schema`; the rows of a session in any order.
        max_gap: Seconds without a row that the last book bridges; beyond, windows are cut.
        price: ``mid`` or ``wap``.
    """
    names = table.column("session").to_pylist()
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        rows.setdefault(name, []).append(number)
    times = table.column("time").cast(pa.int64()).to_numpy()
    found = []
    for name, own in rows.items():
        index = np.array(own, dtype=np.int64)
        index = index[np.argsort(times[index], kind="stable")]
        found.append(_one(name, table.take(pa.array(index)), times[index], index, max_gap, price))
    return found


def _one(name: str, part: pa.Table, times: Ints, rows: Ints, max_gap: int, price: str) -> Rows:
    problem = _fault(name, part, times, rows)
    if problem is not None:
        return Rows(None, problem)
    seconds = len(part)
    flow = [_values(part, column) for column in FLOW]
    counts = _lengths(part, "trade_px")
    side = flow[2] if len(flow[2]) == len(flow[0]) else np.zeros(len(flow[0]))
    broken = np.zeros(seconds, dtype=bool)
    if "broken" in part.column_names:
        broken = np.asarray(
            pc.fill_null(part.column("broken"), False).to_numpy(zero_copy_only=False), dtype=bool
        )
    session = Session(
        name,
        times,
        part.column("bid").to_numpy(),
        part.column("ask").to_numpy(),
        **{column: _padded(part, column) for column in SIDES},
        trades=Trades(
            np.repeat(np.arange(seconds, dtype=np.int64), counts),
            flow[0],
            flow[1],
            np.sign(side).astype(np.int8),
        ),
        broken=broken,
        price=price,
    )
    return Rows(mark_scale_changes(bridged(session, max_gap))[0])


def _fault(name: str, part: pa.Table, times: Ints, rows: Ints) -> GroupProblem | None:
    """Return what makes the rows of a session unusable, the first such thing."""
    steps = np.diff(times)
    for bad, rule in (
        (steps == 0, "two rows of the session have the same time"),
        (
            steps % SECOND_US != 0,
            "rows of a session stand whole seconds apart; resample, or give the feed itself",
        ),
    ):
        if bad.any():
            row = int(rows[1:][bad][0]) + 1
            return GroupProblem((name,), rule, row=row, column="time")
    for column in ("bid", "ask"):
        bad = ~(part.column(column).to_numpy() > 0)
        if bad.any():
            return GroupProblem(
                (name,), f"no {column}: the price must be above zero", int(rows[bad][0]) + 1, column
            )
    for prices, sizes in PAIRS:
        differ = _lengths(part, prices) != _lengths(part, sizes)
        if differ.any():
            return GroupProblem(
                (name,), f"'{prices}' and '{sizes}' differ in length", int(rows[differ][0]) + 1, sizes
            )
    counts = _lengths(part, "trade_side")
    differ = (counts != _lengths(part, "trade_px")) & (counts > 0)
    if differ.any():
        return GroupProblem(
            (name,), "'trade_px' and 'trade_side' differ in length", int(rows[differ][0]) + 1, "trade_side"
        )
    return None


def _lengths(part: pa.Table, column: str) -> NDArray[np.int64]:
    if column not in part.column_names:
        return np.zeros(part.num_rows, np.int64)
    return np.asarray(pc.fill_null(pc.list_value_length(part.column(column)), 0).to_numpy(), dtype=np.int64)


def _values(part: pa.Table, column: str) -> Floats:
    if column not in part.column_names:
        return np.empty(0)
    return np.asarray(pc.list_flatten(part.column(column)).to_numpy(), dtype=np.float64)


def _padded(part: pa.Table, column: str) -> Floats:
    counts = _lengths(part, column)
    width = int(counts.max(initial=0))
    out = np.full((part.num_rows, width), np.nan)
    out[np.arange(width) < counts[:, None]] = _values(part, column)
    return out


def bridged(session: Session, max_gap: int) -> Session:
    """Fill holes of up to ``max_gap`` seconds with the last book, without trades; mark longer ones as broken.

    Rows stay as they are across a longer hole: the seconds before and after it are neighbours that no
    window joins.
    """
    steps = np.diff(session.time_us) // SECOND_US
    if (steps <= 1).all():
        return session
    missing = np.where(steps <= max_gap, steps - 1, 0)
    repeats = np.concatenate([missing, [0]]) + 1
    source = np.repeat(np.arange(len(session)), repeats)
    place = np.concatenate([[0], np.cumsum(repeats)[:-1]])
    offset = np.arange(len(source)) - place[source]
    broken = np.zeros(len(source), dtype=bool)
    broken[place] = session.broken
    broken[place[1:]] |= steps > max_gap
    trades = session.trades
    return Session(
        session.name,
        session.time_us[source] + SECOND_US * offset,
        **{name: getattr(session, name)[source] for name in ("bid", "ask", *SIDES)},
        trades=Trades(place[trades.second], trades.price, trades.qty, trades.side),
        broken=broken,
        price=session.price,
    )


def write_seconds(sessions: Sequence[Session], path: Path) -> None:
    """Write sessions in the canonical form; the file appears whole.

    Args:
        sessions: Any.
        path: Ends with ``.parquet``.
    """
    from appliedpapers.core.tables import write_table

    write_table(table_of(sessions), path)


def record_lists(record: Any, name: str) -> list[float]:
    """Return the list in a cell of a record; empty where there is none."""
    value = record.get(name)
    return [] if value is None else [float(item) for item in value]

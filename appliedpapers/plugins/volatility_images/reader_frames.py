"""Books as wide frames (a row a snapshot, columns a level), lists of trades, and trades alone."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.cleaning import CleaningReport, Feed
from appliedpapers.plugins.volatility_images.config import DataConfig, hours_of
from appliedpapers.plugins.volatility_images.market import (
    SECOND_US,
    Floats,
    Ints,
    Session,
    Trades,
    mark_scale_changes,
)
from appliedpapers.plugins.volatility_images.reader_times import time_us
from appliedpapers.plugins.volatility_images.readers_taq import prevailing_side, snapshot_side

_LEVEL = re.compile(
    r"(?P<side>bid|ask|b|a)s?[_.\[]?(?P<kind>px|price|p|qty|size|quantity|amount|volume|q)?s?[_.\[\]]*(?P<level>\d{1,2})"
    r"(?:[_.\]]*(?P<late>px|price|p|qty|size|quantity|amount|volume|q))?\]?"
)
_PRICES = {"px", "price", "p"}
_TOUCH = {"bid": ("bbid", "bid", "best_bid"), "ask": ("bask", "ask", "best_ask", "ofr")}
_DAY_US = 86_400 * SECOND_US
MOST_LEVELS = 50


def is_book_frame(names: list[str]) -> bool:
    """Whether columns are levels of a book."""
    return len(_levels_of(names)) >= 2


def _levels_of(names: list[str]) -> dict[tuple[str, str, int], str]:
    """Return column names by side (bid, ask), kind (px, qty) and level."""
    found = {}
    for name in names:
        match = _LEVEL.fullmatch(name.lower())
        kind = match and (match["kind"] or match["late"])
        if match and kind:
            side = "bid" if match["side"].startswith("b") else "ask"
            found[side, "px" if kind in _PRICES else "qty", int(match["level"])] = name
    return found


def read_book_frame(
    book: pd.DataFrame,
    trades: pd.DataFrame | None,
    data: DataConfig,
    *,
    source: str,
    clock: str = "the file's",
) -> Feed:
    """Read snapshots of any cadence and resample them to seconds; the last before a second's end stands.

    Args:
        book: A time and, for each level, ``bid_px_0, bid_qty_0, ask_px_0, ask_qty_0`` or alike; the touch as
            ``bbid, bask`` where it is known apart.
        trades: ``time, price, size`` and, where known, ``side``; None for none.
        data: Hours, gaps, direction rule, what to do on crossed books.
        source: Name in messages.
        clock: Which clock the times are of.

    Raises:
        DataError: Time goes backwards, sizes are negative, too many levels, several symbols, no sound row.
    """
    report = CleaningReport(clock=clock)
    report.said.append(f"clock: {clock} stamps throughout, UTC")
    book = one_symbol(book, data, source)
    times = time_us(book, source, data.columns.time)
    levels = _levels_of([str(name) for name in book.columns])
    depth = (
        1
        + max((level for _, _, level in levels), default=-1)
        - min((level for _, _, level in levels), default=0)
    )
    if depth > MOST_LEVELS:
        raise DataError(
            f"{source}: {depth} levels.", hint=f"At most {MOST_LEVELS} are read; leave deeper ones out."
        )
    sides = {
        (side, kind): _side(book, levels, side, kind, source)
        for side in ("bid", "ask")
        for kind in ("px", "qty")
    }
    bid = _touch(book, "bid", sides["bid", "px"], source)
    ask = _touch(book, "ask", sides["ask", "px"], source)
    sound = _judge(bid, ask, data, report, source)
    repeated = np.concatenate([np.diff(times) == 0, [False]]) if len(times) else np.zeros(0, bool)
    report.add("duplicates", int(repeated.sum()))
    report.add("messages", len(book))
    usable = np.flatnonzero(sound)
    if not usable.size:
        raise DataError(
            f"{source}: no row has a bid below an ask.", hint="Are the columns of the sides mixed up?"
        )
    _drop_stale(sides, bid, ask, report)
    flow = None if trades is None else read_trades(trades, data, report, source)
    sessions = _by_day(times, usable, bid, ask, sides, flow, data, report)
    return Feed(sessions, report, _direction(flow, data))


def one_symbol(frame: pd.DataFrame, data: DataConfig, source: str) -> pd.DataFrame:
    """Return the rows of one symbol.

    Raises:
        DataError: There are several and none was chosen, or the chosen one is absent.
    """
    name = next(
        (column for column in frame.columns if str(column).lower() in ("symbol", "sym", "ticker")), None
    )
    if name is None:
        return frame
    known = sorted(frame[name].astype(str).unique().tolist())
    if data.symbol is not None:
        if data.symbol not in known:
            raise DataError(
                f"{source}: no symbol '{data.symbol}'.", hint=f"There are {', '.join(known[:10])}."
            )
        return frame[frame[name].astype(str) == data.symbol].reset_index(drop=True)
    if len(known) > 1:
        raise DataError(
            f"{source}, column '{name}': {len(known)} symbols are mixed ({', '.join(known[:5])}).",
            hint=f"Choose one, such as --set data.symbol={known[0]}.",
        )
    return frame


def _side(
    book: pd.DataFrame, levels: dict[tuple[str, str, int], str], side: str, kind: str, source: str
) -> Floats:
    names = [levels[key] for key in sorted(levels) if key[:2] == (side, kind)]
    values = book[names].to_numpy(np.float64) if names else np.empty((len(book), 0))
    if kind == "qty":
        bad = np.argwhere(values < 0)
        if len(bad):
            row, column = bad[0]
            raise DataError(
                f"{source}, column '{names[column]}', row {row + 1}: a size of {values[row, column]:g}.",
                hint="Sizes are never below zero; are these changes rather than sizes?",
            )
    return np.where(values > 0, values, np.nan)


def _touch(book: pd.DataFrame, side: str, prices: Floats, source: str) -> Floats:
    for name in _TOUCH[side]:
        if name in book.columns:
            return book[name].to_numpy(np.float64)
    empty = np.full(len(book), -np.inf if side == "bid" else np.inf)
    if not prices.shape[1]:
        raise DataError(
            f"{source}: no column of {side} prices; found: {', '.join(map(str, book.columns[:10]))}.",
            hint=f"Call them {side}_px_0, {side}_price_1 or alike, and the touch alone '{side}'.",
        )
    filled = np.where(np.isnan(prices), empty[:, None], prices)
    return np.asarray(filled.max(axis=1) if side == "bid" else filled.min(axis=1))


def _judge(
    bid: Floats, ask: Floats, data: DataConfig, report: CleaningReport, source: str
) -> NDArray[np.bool_]:
    empty = ~(np.isfinite(bid) & np.isfinite(ask) & (bid > 0) & (ask > 0))
    crossed = ~empty & (bid >= ask)
    if data.crossed == "error" and (crossed | empty).any():
        row = int(np.flatnonzero(crossed | empty)[0])
        what = "an empty side" if empty[row] else f"bid {bid[row]:g}, ask {ask[row]:g}"
        raise DataError(
            f"{source}, row {row + 1}: {what}.", hint="--set data.crossed=repair keeps the last sound book."
        )
    report.add("empty_side", int(empty.sum()))
    report.add("crossed", int(crossed.sum()))
    return np.asarray(~(empty | crossed))


def _drop_stale(
    sides: dict[tuple[str, str], Floats], bid: Floats, ask: Floats, report: CleaningReport
) -> None:
    for side, beyond in (
        ("bid", sides["bid", "px"] > bid[:, None]),
        ("ask", sides["ask", "px"] < ask[:, None]),
    ):
        sides[side, "px"][beyond] = np.nan
        sides[side, "qty"][beyond] = np.nan
        report.add("stale_levels", int(beyond.sum()))
    for side in ("bid", "ask"):
        half = np.isnan(sides[side, "px"]) | np.isnan(sides[side, "qty"]) if sides[side, "qty"].size else None
        if half is not None and sides[side, "qty"].shape == sides[side, "px"].shape:
            sides[side, "px"][half] = np.nan
            sides[side, "qty"][half] = np.nan


def read_trades(trades: pd.DataFrame, data: DataConfig, report: CleaningReport, source: str) -> pd.DataFrame:
    """Return trades as ``ts_us, price, qty, side`` (0 where the feed does not say), cleaned and counted."""
    trades = one_symbol(trades, data, source)
    lower = {str(name).lower(): name for name in trades.columns}
    times = time_us(trades, f"{source}, trades", data.columns.time)

    def column(*names: str) -> pd.Series | None:
        return next((trades[lower[name]] for name in names if name in lower), None)

    price, size = column("price", "px", "p"), column("qty", "size", "volume", "amount", "quantity", "q")
    if price is None or size is None:
        raise DataError(f"{source}, trades: no column of prices or sizes.", hint="Call them price and size.")
    side = column("side", "direction", "aggressor")
    made = pd.DataFrame(
        {
            "ts_us": times,
            "price": price.to_numpy(np.float64),
            "qty": size.to_numpy(np.float64),
            "side": np.zeros(len(trades)) if side is None else _signs(side),
        }
    )
    odd = ~((made["price"] > 0) & (made["qty"] > 0)).to_numpy(bool)
    report.add("trades_read", len(made))
    report.add("odd_price_trades", int(odd.sum()))
    return made[~odd].reset_index(drop=True)


def _signs(side: pd.Series) -> Floats:
    if pd.api.types.is_numeric_dtype(side):
        return np.asarray(np.sign(side.to_numpy(np.float64)))
    first = side.astype(str).str.strip().str.lower().str[:1]
    return np.asarray(np.where(first == "b", 1.0, np.where(first.isin(["s", "a"]), -1.0, 0.0)))


def _direction(flow: pd.DataFrame | None, data: DataConfig) -> str:
    if flow is None:
        return "none"
    if data.direction != "auto":
        return data.direction
    return "given" if (flow["side"] != 0).any() else "snapshot"


def _by_day(
    times: Ints,
    usable: NDArray[np.intp],
    bid: Floats,
    ask: Floats,
    sides: dict[tuple[str, str], Floats],
    flow: pd.DataFrame | None,
    data: DataConfig,
    report: CleaningReport,
) -> list[Session]:
    sessions = []
    first, stop = hours_of(data)
    outside = 0
    days = np.unique(times[usable] // _DAY_US).tolist()
    # a market that never closes is one session, whatever midnight it crosses
    whole = data.hours is None
    for day in days[:1] if whole else days:
        opening, closing = day * _DAY_US + first * SECOND_US, day * _DAY_US + stop * SECOND_US
        closing = (days[-1] + 1) * _DAY_US if whole else closing
        own = usable[(times[usable] >= day * _DAY_US) & (times[usable] < closing)]
        inside = own[times[own] >= opening]
        if not inside.size:
            report.add("empty_sessions")
            continue
        begin = max(int(times[own[0]]), opening)
        # seconds end on whole seconds, the first once a sound row stands
        ends = (
            np.arange(begin // SECOND_US + 1, int(times[inside[-1]]) // SECOND_US + 2, dtype=np.int64)
            * SECOND_US
        )
        ends = ends[ends <= closing]
        index = own[np.searchsorted(times[own], ends, side="left") - 1]
        session = _session_of(day, ends, index, times, bid, ask, sides, flow, data, report)
        outside += len(session.trades)
        session, jumps = mark_scale_changes(session)
        report.add("scale_changes", jumps)
        sessions.append(session)
    if flow is not None:
        report.add("trades_outside_book", len(flow) - outside)
    return sessions


def _session_of(
    day: int,
    ends: Ints,
    index: NDArray[np.intp],
    times: Ints,
    bid: Floats,
    ask: Floats,
    sides: dict[tuple[str, str], Floats],
    flow: pd.DataFrame | None,
    data: DataConfig,
    report: CleaningReport,
) -> Session:
    # without a row for longer than the bridge, seconds in between say nothing
    age = (ends - times[index]) / SECOND_US
    fresh = age <= data.max_gap
    report.add("filled_seconds", int((fresh & (age > 1)).sum()))
    kept, ends = index[fresh], ends[fresh]
    gaps = np.diff(ends, prepend=ends[:1]) > SECOND_US
    report.add("time_gaps", int(gaps.sum()))
    session = Session(
        str(np.datetime64(day, "D")),
        ends,
        bid[kept],
        ask[kept],
        **{f"{side}_{kind}": values[kept] for (side, kind), values in sides.items()},
        trades=Trades.none(),
        broken=gaps,
        price=data.price,
    )
    return session if flow is None else _with_trades(session, flow, data, report)


def _with_trades(session: Session, flow: pd.DataFrame, data: DataConfig, report: CleaningReport) -> Session:
    times = flow["ts_us"].to_numpy(np.int64)
    second = np.searchsorted(session.time_us, times, side="right")
    close = np.minimum(second, len(session) - 1)
    inside = (second < len(session)) & (session.time_us[close] - times <= SECOND_US)
    chosen, second = flow[inside], second[inside]
    price = chosen["price"].to_numpy(np.float64)
    side = chosen["side"].to_numpy(np.float64).astype(np.int8)
    rule = _direction(flow, data)
    if rule == "snapshot":
        side = snapshot_side(price, session.mid[second])
    elif rule == "prevailing":
        before = np.where(second > 0, session.mid[np.maximum(second - 1, 0)], np.nan)
        side = prevailing_side(price, before)
    report.add("unsigned_trades", int((side == 0).sum()))
    trades = Trades(second.astype(np.int64), price, chosen["qty"].to_numpy(np.float64), side)
    return replace(session, trades=trades)


def read_trades_alone(trades: pd.DataFrame, data: DataConfig, *, source: str) -> Feed:
    """Read trades without a book: the price is the last trade's, and the depth channels stay empty.

    Raises:
        DataError: There is no trade.
    """
    report = CleaningReport(clock="the file's")
    report.said.append("trades alone: the price is the last trade's, the depth channels are empty")
    flow = read_trades(trades, data, report, source)
    if flow.empty:
        raise DataError(f"{source}: no trade.", hint="Expected columns time, price, size and perhaps side.")
    times, price = flow["ts_us"].to_numpy(np.int64), flow["price"].to_numpy(np.float64)
    if not (flow["side"] != 0).any():
        flow = flow.assign(side=prevailing_side(price, np.full(len(price), np.nan)).astype(np.float64))
    nothing = np.empty((len(price), 0))
    sides = {(side, kind): nothing for side in ("bid", "ask") for kind in ("px", "qty")}
    everything = np.arange(len(price))
    # a quiet market is no gap where nothing but trades is seen
    patient = data.model_copy(update={"max_gap": 3600, "direction": "given"})
    sessions = _by_day(times, everything, price, price, sides, flow, patient, report)
    return Feed(sessions, report, "given")

"""Quotes and trades of an equity (TAQ): the best of all venues each second, and clean trades."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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

DAY_US = 86_400 * SECOND_US
PRICE_UNIT = 1e4
"""Prices are compared as whole numbers of 1e-4, free of rounding noise."""
AUCTION_CODES = frozenset("MOQ56")
"""Sale conditions of opening, closing, reopening and crossing prints (M and Q official, O, 5 and 6)."""


@dataclass(frozen=True)
class _Quotes:
    """Sound quotes of all venues, in the order of time."""

    time: Ints
    venue: NDArray[np.intp]
    bid: Floats
    bid_qty: Floats
    ask: Floats
    ask_qty: Floats
    venues: int


def read_taq(quotes: pd.DataFrame, trades: pd.DataFrame, data: DataConfig, *, source: str) -> Feed:
    """Put quotes and trades onto the grid of seconds, a session a UTC date.

    The touch is the best over venues of the last sound quote of each before the second's end, starting from
    the first quote of the date, before the session as well.

    Args:
        quotes: ``EX, BID, BIDSIZ, OFR, OFRSIZ, ts_us``.
        trades: ``EX, COND, SIZE, PRICE, CORR, ts_us``; ``side`` (+1 or -1) where the feed gives it.
        data: Hours, direction rule, auctions.
        source: What the files are called in messages.

    Raises:
        DataError: Time goes backwards, sizes are negative, or no second of any session has both sides.
    """
    report = CleaningReport(clock="exchange")
    report.said.append("clock: the exchange's stamps throughout, UTC")
    _require_order(quotes, f"{source}, quotes")
    _require_order(trades, f"{source}, trades")
    for frame, name in ((quotes, "BIDSIZ"), (quotes, "OFRSIZ"), (trades, "SIZE")):
        _require_not_negative(frame, name, source)
    sound = _sound_quotes(quotes, data, report, source)
    kept = _sound_trades(trades, data, report)
    rule = _rule(data, trades)
    first, stop = hours_of(data)
    sessions = []
    for day in _days(quotes):
        session = _session(day, first, stop, sound, kept, rule, data, report)
        if session is None:
            report.add("empty_sessions")
        else:
            sessions.append(session)
    if not sessions:
        raise DataError(
            f"{source}: no second between {first // 3600:02d}:{first % 3600 // 60:02d} and the session's end "
            "has a bid and an ask.",
            hint="Give the session's hours in UTC, such as --set 'data.hours=[14:30, 21:00]'.",
        )
    return Feed(sessions, report, rule)


def _days(quotes: pd.DataFrame) -> Iterator[int]:
    yield from np.unique(quotes["ts_us"].to_numpy(np.int64) // DAY_US).tolist()


def _require_order(frame: pd.DataFrame, source: str) -> None:
    times = frame["ts_us"].to_numpy(np.int64)
    back = np.flatnonzero(np.diff(times) < 0)
    if back.size:
        raise DataError(
            f"{source}, row {int(back[0]) + 2}: time goes backwards ({back.size:,} times in the file).",
            hint="Sort the file by time; if two clocks are mixed, keep to one.",
        )


def _require_not_negative(frame: pd.DataFrame, column: str, source: str) -> None:
    bad = np.flatnonzero(frame[column].to_numpy(np.float64) < 0)
    if bad.size:
        raise DataError(
            f"{source}, column '{column}', row {int(bad[0]) + 1}: a size below zero ({bad.size:,} in all).",
            hint="Sizes are numbers of lots or shares, not changes; correct or remove the rows.",
        )


def _sound_quotes(quotes: pd.DataFrame, data: DataConfig, report: CleaningReport, source: str) -> _Quotes:
    bid, ask = quotes["BID"].to_numpy(np.float64), quotes["OFR"].to_numpy(np.float64)
    good = (bid > 0) & (ask > bid)
    report.add("quotes_read", len(quotes))
    report.add("quotes_removed", int((~good).sum()))
    if data.crossed == "error" and not good.all():
        row = int(np.flatnonzero(~good)[0]) + 1
        raise DataError(
            f"{source}, quotes, row {row}: bid {bid[row - 1]:g}, offer {ask[row - 1]:g}.",
            hint="--set data.crossed=repair leaves such quotes out and counts them.",
        )
    names, venue = np.unique(quotes["EX"].astype(str).to_numpy()[good], return_inverse=True)
    return _Quotes(
        quotes["ts_us"].to_numpy(np.int64)[good],
        venue,
        bid[good],
        quotes["BIDSIZ"].to_numpy(np.float64)[good],
        ask[good],
        quotes["OFRSIZ"].to_numpy(np.float64)[good],
        len(names),
    )


def _sound_trades(trades: pd.DataFrame, data: DataConfig, report: CleaningReport) -> pd.DataFrame:
    report.add("trades_read", len(trades))
    corrected = trades["CORR"].to_numpy(np.int64) != 0
    report.add("corrected_trades", int(corrected.sum()))
    kept = trades[~corrected]
    odd = ~((kept["PRICE"] > 0) & (kept["SIZE"] > 0)).to_numpy(bool)
    report.add("odd_price_trades", int(odd.sum()))
    sound: pd.DataFrame = kept[~odd]
    return sound


def _rule(data: DataConfig, trades: pd.DataFrame) -> str:
    if data.direction != "auto":
        return data.direction
    return "given" if "side" in trades.columns else "snapshot"


def standing(quotes: _Quotes, at: Ints, first_us: int) -> NDArray[np.intp]:
    """Return which quote of each venue stands strictly before each moment, -1 where none does.

    Args:
        quotes: Of all venues.
        at: Moments, microseconds.
        first_us: Quotes before this moment do not count (another date).

    Returns:
        ``(moments, venues)`` indices.
    """
    out = np.full((len(at), quotes.venues), -1, dtype=np.intp)
    for number in range(quotes.venues):
        own = np.flatnonzero((quotes.venue == number) & (quotes.time >= first_us))
        place = np.searchsorted(quotes.time[own], at, side="left") - 1
        some = place >= 0
        out[some, number] = own[place[some]]
    return out


def _at(values: Floats, index: NDArray[np.intp]) -> Floats:
    return np.where(index >= 0, values[index], np.nan)


def _best(bids: Floats, asks: Floats) -> tuple[Floats, Floats]:
    best_bid = np.where(np.isnan(bids), -np.inf, bids).max(axis=1)
    best_ask = np.where(np.isnan(asks), np.inf, asks).min(axis=1)
    return best_bid, best_ask


def _session(
    day: int,
    first: int,
    stop: int,
    quotes: _Quotes,
    trades: pd.DataFrame,
    rule: str,
    data: DataConfig,
    report: CleaningReport,
) -> Session | None:
    midnight = day * DAY_US
    opening = midnight + first * SECOND_US
    ends = opening + SECOND_US * np.arange(1, stop - first + 1, dtype=np.int64)
    index = standing(quotes, ends, midnight)
    own_day = quotes.time // DAY_US == day
    inside = own_day & (quotes.time >= opening) & (quotes.time < ends[-1])
    report.add("out_of_session_quotes", int((own_day & ~inside).sum()))
    if not inside.any():
        # such as the last evening's quotes, whose UTC date is the next
        return None
    bids, asks = _at(quotes.bid, index), _at(quotes.ask, index)
    bid, ask = _best(bids, asks)
    known = np.flatnonzero(np.isfinite(bid) & np.isfinite(ask))
    last = quotes.time[own_day].max(initial=midnight)
    # a day all of whose hours count ends with its last quote
    shown = known[(ends[known] <= last + SECOND_US) | (data.hours is not None)]
    if not shown.size:
        return None
    span = slice(int(shown[0]), int(shown[-1]) + 1)
    middle = (bid + ask) / 2
    made, outside = _trades(trades, opening, ends, span, middle, quotes, midnight, rule, data, report)
    report.add("out_of_session_trades", outside)
    seconds = span.stop - span.start
    session = Session(
        name=str(np.datetime64(day, "D")),
        time_us=ends[span],
        bid=bid[span],
        ask=ask[span],
        bid_px=bids[span],
        bid_qty=_at(quotes.bid_qty, index)[span],
        ask_px=asks[span],
        ask_qty=_at(quotes.ask_qty, index)[span],
        trades=made,
        broken=np.zeros(seconds, dtype=bool),
        price=data.price,
    )
    report.add("crossed_venues", int((session.spread <= 0).sum()))
    session, jumps = mark_scale_changes(session)
    report.add("scale_changes", jumps)
    return session


def _trades(
    trades: pd.DataFrame,
    opening: int,
    ends: Ints,
    span: slice,
    middle: Floats,
    quotes: _Quotes,
    midnight: int,
    rule: str,
    data: DataConfig,
    report: CleaningReport,
) -> tuple[Trades, int]:
    times = trades["ts_us"].to_numpy(np.int64)
    low, high = opening + SECOND_US * span.start, int(ends[span.stop - 1])
    today = (times >= midnight) & (times < midnight + DAY_US)
    chosen = trades[(times >= low) & (times < high)]
    outside = int(today.sum()) - len(chosen)
    if "COND" in chosen.columns:
        auction = np.array([bool(AUCTION_CODES & set(str(code))) for code in chosen["COND"]], dtype=bool)
        report.add("auction_trades" if data.auctions == "drop" else "auction_trades_kept", int(auction.sum()))
        chosen = chosen[~auction] if data.auctions == "drop" else chosen
    second = (chosen["ts_us"].to_numpy(np.int64) - opening) // SECOND_US
    price = chosen["PRICE"].to_numpy(np.float64)
    if rule == "given":
        side = np.sign(chosen["side"].to_numpy(np.float64)).astype(np.int8)
    elif rule == "snapshot":
        side = snapshot_side(price, middle[second])
    else:
        index = standing(quotes, chosen["ts_us"].to_numpy(np.int64), midnight)
        bid, ask = _best(_at(quotes.bid, index), _at(quotes.ask, index))
        side = prevailing_side(price, (bid + ask) / 2)
    report.add("unsigned_trades", int((side == 0).sum()))
    return Trades(second - span.start, price, chosen["SIZE"].to_numpy(np.float64), side), outside


def snapshot_side(price: Floats, middle: Floats) -> NDArray[np.int8]:
    """Return +1 where a trade is not below the mid at its second's end, in units of 1e-4; else -1."""
    above = np.rint(price * PRICE_UNIT) >= np.rint(middle * PRICE_UNIT)
    return np.where(above, 1, -1).astype(np.int8)


def prevailing_side(price: Floats, middle: Floats) -> NDArray[np.int8]:
    """Return the side by the mid that stood before each trade; ties, and unknown mids, by the tick rule.

    The tick rule takes the direction of the last price that differed; before any has, the side is 0.
    """
    told = np.sign(np.rint(price * PRICE_UNIT) - np.rint(np.nan_to_num(middle) * PRICE_UNIT))
    told[~np.isfinite(middle)] = 0
    moves = np.sign(np.diff(np.rint(price * PRICE_UNIT), prepend=np.nan))
    moves[~np.isfinite(moves)] = 0
    place = np.where(moves != 0, np.arange(len(moves)), -1)
    last = np.maximum.accumulate(place) if len(place) else place
    ticks = np.where(last >= 0, moves[last], 0.0)
    return np.where(told != 0, told, ticks).astype(np.int8)

"""Order-level events (L3): the book put together from orders that are created, changed and deleted."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.cleaning import CleaningReport, Feed
from appliedpapers.plugins.volatility_images.config import DataConfig
from appliedpapers.plugins.volatility_images.market import (
    SECOND_US,
    Session,
    Trades,
    mark_scale_changes,
    stacked,
)
from appliedpapers.plugins.volatility_images.reader_frames import one_symbol
from appliedpapers.plugins.volatility_images.reader_times import time_us
from appliedpapers.plugins.volatility_images.tables import SIDES

_SIDES = {
    "bid": "bid",
    "buy": "bid",
    "b": "bid",
    "0": "bid",
    "ask": "ask",
    "sell": "ask",
    "s": "ask",
    "a": "ask",
    "1": "ask",
}
_NEEDED = ("id", "price", "volume", "action", "direction")
_ACTIONS = ("created", "changed", "deleted")
SHOWN = 20


@dataclass
class _Order:
    side: str
    price: float
    volume: float
    number: int


@dataclass
class OrderBook:
    """Resting orders, and the levels that they make.

    An order that stands where a later one of the other side was placed would have been met: its deletion
    was lost, so it is pruned.
    """

    orders: dict[str, _Order] = field(default_factory=dict)
    pruned: int = 0

    def __post_init__(self) -> None:
        self._levels: dict[str, dict[float, dict[str, _Order]]] = {"bid": {}, "ask": {}}
        self._prices: dict[str, list[float]] = {"bid": [], "ask": []}

    def add(self, name: str, order: _Order) -> None:
        """Place an order, and prune those that it could not have met."""
        for stale in self._met_by(order):
            self.remove(stale)
            self.pruned += 1
        levels = self._levels[order.side]
        if order.price not in levels:
            levels[order.price] = {}
            insort(self._prices[order.side], order.price)
        levels[order.price][name] = order
        self.orders[name] = order

    def remove(self, name: str) -> _Order:
        """Take an order away."""
        order = self.orders.pop(name)
        level = self._levels[order.side][order.price]
        del level[name]
        if not level:
            del self._levels[order.side][order.price]
            self._prices[order.side].remove(order.price)
        return order

    def top(self, side: str) -> tuple[list[float], list[float]]:
        """Return the best prices of a side and the volume that rests there."""
        prices = self._prices[side][-SHOWN:][::-1] if side == "bid" else self._prices[side][:SHOWN]
        return prices, [sum(order.volume for order in self._levels[side][price].values()) for price in prices]

    def _met_by(self, order: _Order) -> list[str]:
        other = "ask" if order.side == "bid" else "bid"
        prices = self._prices[other]
        if order.side == "bid":
            reached = [price for price in prices if price <= order.price]
        else:
            reached = [price for price in prices if price >= order.price]
        return [name for price in reached for name in self._levels[other][price]]


def read_orders(events: pd.DataFrame, data: DataConfig, *, source: str) -> Feed:
    """Read order events into seconds; a reduction of a resting order's volume is held for a trade with it.

    An order that is deleted with volume left was cancelled; one that is deleted at volume 0 was filled.

    Args:
        events: ``id, timestamp, price, volume, action, direction``.
        data: Options of reading.
        source: Name in messages.

    Raises:
        DataError: A column is missing, an action or direction is unknown, a volume is below zero, time goes
            backwards, or no second has both sides.
    """
    report = CleaningReport(clock="the file's")
    report.said.append("clock: the file's stamps throughout, UTC")
    report.said.append("trades are inferred: where a resting order loses volume without being cancelled")
    events = one_symbol(events, data, source)
    frame = events.rename(columns={name: str(name).lower() for name in events.columns})
    absent = [name for name in _NEEDED if name not in frame.columns]
    if absent:
        raise DataError(
            f"{source}: no column '{absent[0]}'.", hint=f"Expected {', '.join(_NEEDED)} and a time."
        )
    times = time_us(frame, source, data.columns.time)
    volumes = frame["volume"].to_numpy(np.float64)
    _require(volumes >= 0, frame, "volume", source, "volumes are never below zero")
    _require(frame["price"].to_numpy(np.float64) > 0, frame, "price", source, "prices are above zero")
    actions = frame["action"].astype(str).str.lower()
    _require(actions.isin(_ACTIONS).to_numpy(), frame, "action", source, f"expected {', '.join(_ACTIONS)}")
    sides = frame["direction"].astype(str).str.lower().map(_SIDES)
    _require(sides.notna().to_numpy(), frame, "direction", source, "expected bid or ask (buy or sell)")
    rows = zip(
        times.tolist(),
        frame["id"].astype(str).tolist(),
        frame["price"].astype(float).tolist(),
        volumes.tolist(),
        actions.tolist(),
        sides.tolist(),
        strict=True,
    )
    session = _Replay(report, data).run(rows)
    if session is None:
        raise DataError(
            f"{source}: no second has orders on both sides.", hint="Does the file begin with the book?"
        )
    report.add("messages", len(frame))
    session, jumps = mark_scale_changes(session)
    report.add("scale_changes", jumps)
    return Feed([session], report, "given")


def _require(good: np.ndarray, frame: pd.DataFrame, column: str, source: str, rule: str) -> None:
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"{source}, column '{column}', row {row + 1}: {frame[column].iloc[row]}, {rule}.",
            hint="Correct the row, or take it out.",
        )


class _Replay:
    """Events one after the other, and the state of the book at each second's end."""

    def __init__(self, report: CleaningReport, data: DataConfig) -> None:
        self.report, self.data = report, data
        self.book = OrderBook()
        self.rows: list[tuple[int, tuple[list[float], ...]]] = []
        self.trades: list[tuple[int, float, float, int]] = []
        self.waiting: list[tuple[float, float, int]] = []

    def run(self, events: zip[tuple[int, str, float, float, str, str]]) -> Session | None:
        end = 0
        last = 0
        for number, (now, name, price, volume, action, side) in enumerate(events):
            if not end:
                end = (now // SECOND_US + 1) * SECOND_US
            gap = now - last > self.data.max_gap * SECOND_US and last > 0
            while now >= end:
                self._close(end)
                end += SECOND_US
                if gap and now >= end:
                    end = (now // SECOND_US + 1) * SECOND_US
            last = now
            self._event(name, _Order(side, price, volume, number), action)
        if last:
            self._close(end)
        self.report.add("stale_orders", self.book.pruned)
        return self._session() if self.rows else None

    def _event(self, name: str, order: _Order, action: str) -> None:
        known = self.book.orders.get(name)
        if action == "created":
            if order.volume > 0 and known is None:
                self.book.add(name, order)
            elif known is not None:
                self.report.add("duplicates")
            return
        if known is None:
            self.report.add("unknown_orders")
            return
        taken = known.volume - order.volume
        filled = action == "deleted" and order.volume == 0
        if (action == "changed" and taken > 0 and order.price == known.price) or filled:
            self.waiting.append((known.price, taken, 1 if known.side == "ask" else -1))
        self.book.remove(name)
        if action == "changed" and order.volume > 0:
            self.book.add(name, order)

    def _close(self, end: int) -> None:
        bids, asks = self.book.top("bid"), self.book.top("ask")
        if bids[0] and asks[0]:
            self.trades += [(len(self.rows), *trade) for trade in self.waiting if trade[1] > 0]
            self.rows.append((end, (*bids, *asks)))
        elif self.rows:
            self.report.add("empty_side")
            self.trades += [(len(self.rows), *trade) for trade in self.waiting if trade[1] > 0]
            self.rows.append((end, self.rows[-1][1]))
        else:
            self.report.add("trades_outside_book", len(self.waiting))
        self.waiting = []

    def _session(self) -> Session:
        ends = np.array([row[0] for row in self.rows], dtype=np.int64)
        gaps = np.diff(ends, prepend=ends[:1]) > SECOND_US
        self.report.add("time_gaps", int(gaps.sum()))
        flow = np.array(self.trades, dtype=np.float64).reshape(-1, 4)
        return Session(
            str(np.datetime64(int(ends[0]), "us").astype("datetime64[D]")),
            ends,
            np.array([row[1][0][0] for row in self.rows]),
            np.array([row[1][2][0] for row in self.rows]),
            **{name: stacked([row[1][place] for row in self.rows]) for place, name in enumerate(SIDES)},
            trades=Trades(
                flow[:, 0].astype(np.int64), flow[:, 1].copy(), flow[:, 2].copy(), flow[:, 3].astype(np.int8)
            ),
            broken=gaps,
            price=self.data.price,
        )

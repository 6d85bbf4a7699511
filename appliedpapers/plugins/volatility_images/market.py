"""The canonical form of a market: one session, second by second, with the book's state and the trades.

Second ``s`` covers one second of the clock; the book is what stood at its end (the last update strictly
before it), trades are those within it. ``time_us`` is the end of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SECOND_US = 1_000_000
LEVELS = 5
"""How many distinct price levels a side features look at."""
SCALE_JUMP = 1.5
"""Factor from one second to the next beyond which prices are held for prices on another scale."""


@dataclass(frozen=True)
class Trades:
    """Trades in the order of their time.

    Attributes:
        second: Index of the second that each belongs to, shape ``(trades,)``, never falling.
        price: Price.
        qty: Size, in the feed's unit.
        side: +1 where a buyer took, -1 where a seller did, 0 unknown.
    """

    second: Ints
    price: Floats
    qty: Floats
    side: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.second)

    @classmethod
    def none(cls) -> Trades:
        """Return no trades at all."""
        return cls(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.int8))

    def part(self, first: int, stop: int) -> Trades:
        """Return the trades of the seconds ``first .. stop - 1``, counted from ``first``."""
        low, high = np.searchsorted(self.second, (first, stop))
        chosen = slice(int(low), int(high))
        return Trades(self.second[chosen] - first, self.price[chosen], self.qty[chosen], self.side[chosen])


@dataclass(frozen=True)
class Session:
    """One session on a grid of seconds.

    Attributes:
        name: Its name; sessions of a dataset differ in it.
        time_us: End of each second, microseconds UTC, int64 ``(seconds,)``, rising in whole seconds.
        bid: Best bid, float64 ``(seconds,)``.
        ask: Best ask.
        bid_px: Prices of the bid side, ``(seconds, levels)``, in any order, NaN where there is no level;
            several venues may stand at one price.
        bid_qty: Their sizes.
        ask_px: Prices of the ask side.
        ask_qty: Their sizes.
        trades: The trades.
        broken: ``(seconds,)``; True where something was lost, or trading was halted, before this second: no
            window crosses that place.
    """

    name: str
    time_us: Ints
    bid: Floats
    ask: Floats
    bid_px: Floats
    bid_qty: Floats
    ask_px: Floats
    ask_qty: Floats
    trades: Trades
    broken: Flags
    price: str = field(default="mid")

    def __len__(self) -> int:
        return len(self.time_us)

    @cached_property
    def mid(self) -> Floats:
        """The price that returns are of: the mean of the touch, or weighted by the sizes there (``wap``)."""
        middle: Floats = (self.bid + self.ask) / 2
        if self.price == "mid":
            return middle
        bid, ask = self.touch
        total = bid + ask
        weighted = np.divide(self.bid * ask + self.ask * bid, total, out=middle.copy(), where=total > 0)
        return np.asarray(weighted)

    @cached_property
    def spread(self) -> Floats:
        """Ask less bid, ``(seconds,)``; below zero where venues cross each other."""
        return np.asarray(self.ask - self.bid)

    @cached_property
    def touch(self) -> tuple[Floats, Floats]:
        """Sizes at the best bid and at the best ask; zero where the book does not show that price."""
        return (
            _size_at(self.bid_px, self.bid_qty, self.bid),
            _size_at(self.ask_px, self.ask_qty, self.ask),
        )

    @cached_property
    def returns(self) -> Floats:
        """Log returns of :attr:`mid`, ``(seconds,)``; zero in the first second of a segment."""
        made = np.zeros(len(self))
        made[1:] = np.log(self.mid[1:]) - np.log(self.mid[:-1])
        made[self.starts] = 0.0
        return made

    @cached_property
    def starts(self) -> Ints:
        """First seconds of the segments that windows stay within."""
        firsts = self.broken.copy()
        if len(firsts):
            firsts[0] = True
        return np.flatnonzero(firsts)

    def segments(self) -> list[tuple[int, int]]:
        """Return first and last-plus-one second of each segment."""
        bounds = [*self.starts.tolist(), len(self)]
        return list(pairwise(bounds))

    def part(self, first: int, stop: int) -> Session:
        """Return the seconds ``first .. stop - 1`` as a session of its own."""
        cut = slice(first, stop)
        arrays = ("time_us", "bid", "ask", "bid_px", "bid_qty", "ask_px", "ask_qty", "broken")
        return replace(
            self, **{name: getattr(self, name)[cut] for name in arrays}, trades=self.trades.part(first, stop)
        )

    @property
    def has_depth(self) -> bool:
        """Whether any second shows a level of the book."""
        return bool(np.isfinite(self.bid_px).any() or np.isfinite(self.ask_px).any())


def _size_at(prices: Floats, sizes: Floats, touch: Floats) -> Floats:
    at_touch = np.where(prices == touch[:, None], sizes, 0.0)
    return summed(at_touch)


def summed(values: Floats) -> Floats:
    """Sum along the last axis one after the other: zeros that are appended change no bit."""
    if not values.shape[-1]:
        return np.zeros(values.shape[:-1])
    return np.asarray(np.add.accumulate(values, axis=-1)[..., -1])


def top_levels(
    prices: Floats, sizes: Floats, *, highest: bool, levels: int = LEVELS
) -> tuple[Floats, Floats]:
    """Return the best distinct prices of a side and what stands there in all.

    Args:
        prices: ``(seconds, places)``, NaN where there is no level.
        sizes: Their sizes.
        highest: Whether the best is the highest (bids) or the lowest (asks).
        levels: How many.

    Returns:
        Prices (NaN beyond the last level) and sizes (0 there), each ``(seconds, levels)``.
    """
    seconds = len(prices)
    found_px, found_qty = np.full((seconds, levels), np.nan), np.zeros((seconds, levels))
    if not prices.shape[1]:
        return found_px, found_qty
    signed = -prices if highest else prices
    order = np.argsort(signed, axis=1, kind="stable")
    px = np.take_along_axis(prices, order, axis=1)
    qty = np.nan_to_num(np.take_along_axis(sizes, order, axis=1))
    known = np.isfinite(px)
    new = np.ones(px.shape, dtype=bool)
    new[:, 1:] = px[:, 1:] != px[:, :-1]
    rank = np.cumsum(new & known, axis=1) - 1
    for level in range(levels):
        here = known & (rank == level)
        found_qty[:, level] = summed(np.where(here, qty, 0.0))
        some = here.any(axis=1)
        found_px[some, level] = px[some, here[some].argmax(axis=1)]
    return found_px, found_qty


def stacked(rows: Sequence[Sequence[float]]) -> Floats:
    """Return lists of different lengths as one array, NaN behind the shorter ones."""
    width = max((len(row) for row in rows), default=0)
    out = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out


def unstacked(values: NDArray[Any]) -> list[list[float]]:
    """Return the rows of an array without their NaN."""
    known = np.isfinite(values)
    return [row[seen].tolist() for row, seen in zip(values, known, strict=True)]


def mark_scale_changes(session: Session) -> tuple[Session, int]:
    """Mark seconds where the price jumps to another scale, such as a split or another unit, as broken.

    Returns:
        The session, and how many such places it has.
    """
    middle = (session.bid + session.ask) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.abs(np.diff(np.log(middle), prepend=np.log(middle[:1])))
    jumps = (step > np.log(SCALE_JUMP)) & ~session.broken
    if not jumps.any():
        return session, 0
    return replace(session, broken=session.broken | jumps), int(jumps.sum())

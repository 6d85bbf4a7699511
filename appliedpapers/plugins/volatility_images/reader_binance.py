"""Raw captures of Binance websockets: lines ``<local ns> <json>``, turned into seconds as they come.

Depth updates set sizes at prices, a REST snapshot replaces the book, the book ticker says the touch, trades
say who took. One clock is used throughout: the local one, because the spot book ticker carries no other.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.book_side import BookSide, Levels
from appliedpapers.plugins.volatility_images.cleaning import CleaningReport, Feed
from appliedpapers.plugins.volatility_images.config import DataConfig
from appliedpapers.plugins.volatility_images.market import Session, Trades, mark_scale_changes, stacked

_US = 1000
_WAITING = 1000
"""Updates that are kept until the first snapshot comes."""


@dataclass(frozen=True)
class SecondState:
    """The market at the end of one second, and what was traded within it.

    Attributes:
        end_ms: End of the second, local milliseconds since the epoch.
        bid: Best bid by the book ticker; NaN before the first.
        ask: Best ask.
        bids: Price and size, best first, none beyond the touch.
        asks: Likewise.
        trades: Price, size, side (+1 bought, -1 sold) in their order.
        broken: Whether updates were lost since the second before.
    """

    end_ms: int
    bid: float
    ask: float
    bids: Levels
    asks: Levels
    trades: list[tuple[float, float, int]]
    broken: bool


@dataclass
class BinanceStream:
    """A capture taken line by line; :meth:`step` returns the seconds that a line completes.

    The reader of files is this class and nothing else, so that live and stored feeds agree.

    Args:
        data: Market, symbol, what to do on gaps.
        source: Name of the capture in messages.
    """

    data: DataConfig
    source: str = "feed"
    report: CleaningReport = field(default_factory=lambda: CleaningReport(clock="local"))
    line: int = 0

    def __post_init__(self) -> None:
        self._bids, self._asks = BookSide({}, highest=True), BookSide({}, highest=False)
        self._touch: tuple[Any, Any] | None = None
        self._snapshot, self._update = -1, -1
        self._chained = False
        self._waiting: list[dict[str, Any]] = []
        self._end, self._last_ms = 0, 0
        self._trades: list[tuple[float, float, int]] = []
        self._symbol = self.data.symbol
        self._broken = False
        self.offsets: list[int] = []
        self.all_trades: list[tuple[int, int, float, float, int]] = []
        self.begun = False
        self._take: dict[str, Callable[[dict[str, Any], int], None]] = {
            "depthUpdate": self._depth,
            "trade": self._trade,
            "aggTrade": self._trade,
            "bookTicker": self._ticker,
        }

    def step(self, text: bytes) -> list[SecondState]:
        """Take one line.

        Raises:
            DataError: It is not such a line, time goes backwards, another symbol comes, a size is negative,
                or, where ``data.on_gap`` is ``error``, updates are missing.
        """
        self.line += 1
        try:
            # nineteen digits of nanoseconds: the first thirteen are milliseconds
            now = int(text[:13])
            if text[19:20] != b" ":
                raise ValueError
            message = orjson.loads(text[20:])
            content = message.get("data", message)
        except (ValueError, AttributeError):
            raise self._error(
                "not '<local nanoseconds> <JSON>'.", "Is it complete? Each line holds one message."
            ) from None
        done: list[SecondState] = []
        if now >= self._end:
            done = self._pass(now)
        if now < self._last_ms:
            raise self._error(
                f"time goes backwards by {self._last_ms - now} ms.",
                "Sort the capture by its local stamp; files are read in the order of their names.",
            )
        self._last_ms = now
        try:
            self._message(content, now)
        except (KeyError, TypeError, ValueError):
            raise self._error(
                "a message without the fields of its kind.",
                "Expected depthUpdate, trade, bookTicker or a snapshot as Binance sends them.",
            ) from None
        return done

    def _message(self, content: dict[str, Any], now: int) -> None:
        kind = content.get("e")
        if kind is None:
            if "lastUpdateId" in content:
                self._book(content, now)
                return
            kind = "bookTicker"
        take = self._take.get(kind)
        if take is None:
            return
        symbol = content["s"]
        if symbol != self._symbol:
            if self._symbol is None:
                self._symbol = symbol
            elif self.data.symbol is not None:
                return
            else:
                raise self._error(
                    f"symbol {symbol} after {self._symbol}: the capture mixes symbols.",
                    f"Choose one, such as --set data.symbol={self._symbol}.",
                )
        take(content, now)

    def _pass(self, now: int) -> list[SecondState]:
        """Close every second that ends at or before ``now``."""
        done = []
        if self._end:
            while now >= self._end:
                if self._snapshot >= 0 and self._touch is not None:
                    done.append(self._state())
                self._trades = [] if self._snapshot >= 0 else self._trades
                self._end += 1000
                if now - self._end > 3_600_000:
                    # a silence of hours: no second of it is of use
                    self._end, self._broken = now // 1000 * 1000 + 1000, True
        else:
            self._end = now // 1000 * 1000 + 1000
        return done

    def _state(self) -> SecondState:
        assert self._touch is not None
        bid, ask = float(self._touch[0]), float(self._touch[1])
        bids, stale_bids = self._bids.best(bid)
        asks, stale_asks = self._asks.best(ask)
        self.report.add("stale_levels", stale_bids + stale_asks)
        broken, self._broken = self._broken, False
        return SecondState(self._end, bid, ask, bids, asks, self._trades, broken)

    def _book(self, content: dict[str, Any], now: int) -> None:
        sides = [{float(price): float(size) for price, size in content[name]} for name in ("bids", "asks")]
        self._bids, self._asks = BookSide(sides[0], highest=True), BookSide(sides[1], highest=False)
        self._snapshot = int(content["lastUpdateId"])
        self._update, self._chained = self._snapshot, False
        if not all(sides):
            raise self._error("the snapshot has an empty side.", "Take another snapshot.")
        # a snapshot is taken on the way: updates that came before it may be newer than it
        waiting, self._waiting = self._waiting, []
        if self.data.before_snapshot == "drop":
            self.report.add("before_snapshot", len(waiting))
            return
        for update in waiting:
            self._depth(update, now)

    def _depth(self, content: dict[str, Any], now: int) -> None:
        if self._snapshot < 0:
            self._waiting = [*self._waiting[-_WAITING:], content]
            return
        last = content["u"]
        if last <= self._snapshot:
            self.report.add("old_updates")
            return
        self._sequence(content)
        self._update, self._chained = last, True
        for side, changes in ((self._bids, content["b"]), (self._asks, content["a"])):
            book, near, low, high = side.book, side.near, side.low, side.high
            for price, size in changes:
                level, amount = float(price), float(size)
                if amount > 0:
                    book[level] = amount
                    if low <= level <= high:
                        near.add(level)
                elif amount == 0:
                    book.pop(level, None)
                    near.discard(level)
                else:
                    raise self._error(f"a size of {size}.", "Sizes are never below zero.")

    def _sequence(self, content: dict[str, Any]) -> None:
        before = content.get("pu")
        gap = content["U"] > self._update + 1
        if before is not None and self._chained:
            gap = before != self._update
        if not gap:
            return
        if self.data.on_gap == "error":
            raise self._error(
                f"updates {self._update + 1} to {content['U'] - 1} are missing.",
                "Take a new snapshot there, or --set data.on_gap=count cuts windows at such places.",
            )
        self.report.add("sequence_gaps")
        self._broken = True

    def _ticker(self, content: dict[str, Any], now: int) -> None:
        bid, ask = content["b"], content["a"]
        # numbers of one length compare as texts do, which is nearly always
        sound = bid < ask if len(bid) == len(ask) else float(bid) < float(ask)
        if not sound:
            if self.data.crossed == "error":
                raise self._error(
                    f"bid {bid}, ask {ask}.", "--set data.crossed=repair keeps the last sound one."
                )
            self.report.add("crossed")
            return
        self._touch = (bid, ask)

    def _trade(self, content: dict[str, Any], now: int) -> None:
        if self.data.market != "spot" and content.get("X", "MARKET") != "MARKET":
            self.report.add("not_market_trades")
            return
        price, size, side = float(content["p"]), float(content["q"]), -1 if content["m"] else 1
        if not (price > 0 and size > 0):
            self.report.add("odd_price_trades")
            return
        self._trades.append((price, size, side))
        self.all_trades.append((now, content["T"], price, size, side))

    def _error(self, what: str, hint: str) -> DataError:
        return DataError(f"{self.source}, line {self.line}: {what}", hint=hint)

    def finish(self) -> None:
        """Judge the whole capture at its end.

        Raises:
            DataError: No snapshot came, or no book ticker.
        """
        if self._snapshot < 0:
            raise DataError(
                f"{self.source}, lines 1 to {self.line}: no snapshot, "
                "and a book cannot be built from changes alone.",
                hint="Put a REST snapshot (lastUpdateId, bids, asks) into the capture, or give the file "
                "that has it together with this one as a folder.",
            )
        if self._touch is None:
            raise DataError(
                f"{self.source}: no sound book ticker.", hint="Record the bookTicker stream along with depth."
            )
        self.report.add("messages", self.line)
        if self.all_trades:
            self.offsets = [there - here for here, there, *_ in self.all_trades]


def lines_of(paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the lines of captures, plain or gzip, one file after the other."""
    for path in paths:
        try:
            raw = path.read_bytes()
            whole = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        except (OSError, EOFError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}).", hint="Is it complete, and what its name says?"
            ) from None
        yield from filter(None, whole.split(b"\n"))


def read_binance(lines: Iterable[bytes], data: DataConfig, *, source: str) -> Feed:
    """Read a whole capture.

    Args:
        lines: All lines in the order of time.
        data: Market, symbol, what to do on gaps.
        source: Name in messages.

    Raises:
        DataError: As :meth:`BinanceStream.step` and :meth:`BinanceStream.finish`.
    """
    stream = BinanceStream(data, source)
    seconds: list[SecondState] = []
    step, keep = stream.step, seconds.extend
    for line in lines:
        done = step(line)
        if done:
            keep(done)
    stream.finish()
    if not seconds:
        raise DataError(f"{source}: no whole second.", hint="A capture of a minute or more is needed.")
    report = stream.report
    report.said.append(_clock_sentence(stream))
    if data.market == "coinm":
        report.said.append("sizes are numbers of contracts (coin-margined futures), not coins")
    outside = len(stream.all_trades) - sum(len(one.trades) for one in seconds)
    report.add("trades_outside_book", outside)
    session, jumps = mark_scale_changes(session_of_states(seconds, data))
    report.add("scale_changes", jumps)
    return Feed([session], report, "given")


def _clock_sentence(stream: BinanceStream) -> str:
    if not stream.offsets:
        return "clock: the local stamps throughout"
    middle = float(np.median(stream.offsets))
    word = "behind" if middle > 0 else "ahead of"
    return (
        f"clock: the local stamps throughout; they are {abs(middle) / 1000:.3f} s {word} the exchange's "
        f"(median of {len(stream.offsets):,} trades)"
    )


def session_of_states(seconds: Sequence[SecondState], data: DataConfig, name: str | None = None) -> Session:
    """Put seconds of a stream into one session, named after its UTC date."""
    ends = np.array([one.end_ms for one in seconds], dtype=np.int64)
    counts = [len(one.trades) for one in seconds]
    flat = [trade for one in seconds for trade in one.trades]
    columns = np.array(flat, dtype=np.float64).reshape(-1, 3)
    price, size = itemgetter(0), itemgetter(1)
    broken = np.array([one.broken for one in seconds])
    gaps = np.diff(ends, prepend=ends[:1]) > 1000 * data.max_gap
    return Session(
        name=name or str(np.datetime64(int(ends[0]), "ms").astype("datetime64[D]")),
        time_us=ends * _US,
        bid=np.array([one.bid for one in seconds]),
        ask=np.array([one.ask for one in seconds]),
        bid_px=stacked([[price(level) for level in one.bids] for one in seconds]),
        bid_qty=stacked([[size(level) for level in one.bids] for one in seconds]),
        ask_px=stacked([[price(level) for level in one.asks] for one in seconds]),
        ask_qty=stacked([[size(level) for level in one.asks] for one in seconds]),
        trades=Trades(
            np.repeat(np.arange(len(seconds), dtype=np.int64), counts),
            columns[:, 0].copy(),
            columns[:, 1].copy(),
            columns[:, 2].astype(np.int8),
        ),
        broken=broken | gaps,
        price=data.price,
    )


def is_capture(start: bytes) -> bool:
    """Whether a file begins like a capture: digits, a space, a JSON object."""
    stamp, _, body = start.lstrip().partition(b" ")
    return stamp.isdigit() and len(stamp) >= 13 and body.startswith(b"{") and not math.isnan(len(stamp))

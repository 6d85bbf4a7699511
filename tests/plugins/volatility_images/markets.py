"""Small markets that the tests of this folder share."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np

from appliedpapers.core.config import resolve
from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.plugins.volatility_images.config import VolatilityConfig
from appliedpapers.plugins.volatility_images.data import build_dataset
from appliedpapers.plugins.volatility_images.features import Clock
from appliedpapers.plugins.volatility_images.market import SECOND_US, Session, Trades
from appliedpapers.plugins.volatility_images.splits import Grid

TICK = 0.01


def config(*assignments: str) -> VolatilityConfig:
    """The preset of the conformance suite with changes."""
    return resolve(VolatilityConfig, preset="check", assignments=assignments)


@cache
def session(seconds: int = 700, seed: int = 0, name: str = "a", levels: int = 6, begin: int = 0) -> Session:
    """A random walk of whole half ticks with a book of random sizes and a few trades a second."""
    random = np.random.default_rng(seed)
    middle = 10_000 + np.cumsum(random.integers(-1, 2, seconds))
    bid, ask = (middle - 1) * TICK, (middle + random.integers(0, 2, seconds)) * TICK
    depth = np.arange(levels) * TICK
    count = random.poisson(2.0, seconds)
    second = np.repeat(np.arange(seconds), count)
    trades = Trades(
        second,
        np.round(bid[second] + TICK * random.integers(-1, 3, len(second)), 2),
        random.integers(1, 50, len(second)).astype(np.float64),
        random.choice(np.array([-1, 1], np.int8), len(second)),
    )
    return Session(
        name,
        SECOND_US * (begin + np.arange(1, seconds + 1, dtype=np.int64)),
        bid,
        ask,
        bid[:, None] - depth,
        random.integers(1, 30, (seconds, levels)).astype(np.float64),
        ask[:, None] + depth,
        random.integers(1, 30, (seconds, levels)).astype(np.float64),
        trades,
        np.zeros(seconds, dtype=bool),
    )


def dataset(of: VolatilityConfig, sessions: list[Session] | None = None) -> Dataset:
    """Windows of some sessions."""
    sessions = sessions or [
        session(700, number, f"day-{number}", begin=100_000 * number) for number in range(3)
    ]
    return build_dataset(
        sessions, of, Grid(TICK, Clock()), name="small", provenance=Provenance.of_simulator("tests")
    )


def noisy_after(one: Session, anchor: int, seed: int = 9) -> Session:
    """The same session with everything from an anchor on replaced by noise."""
    random = np.random.default_rng(seed)
    arrays = {}
    for field in ("bid", "ask", "bid_px", "bid_qty", "ask_px", "ask_qty"):
        values = getattr(one, field).copy()
        values[anchor:] *= random.uniform(0.8, 1.2, values[anchor:].shape)
        arrays[field] = values
    kept = one.trades.second < anchor
    extra = np.sort(random.integers(anchor, len(one), 500))
    trades = Trades(
        np.concatenate([one.trades.second[kept], extra]),
        np.concatenate([one.trades.price[kept], random.uniform(90, 110, 500)]),
        np.concatenate([one.trades.qty[kept], random.uniform(1, 1000, 500)]),
        np.concatenate([one.trades.side[kept], np.ones(500, np.int8)]),
    )
    return replace(one, trades=trades, **arrays)


def capture(seconds: int = 4, *, snapshot: bool = True, first: int = 1_723_161_254_000) -> list[bytes]:
    """Lines of a small websocket capture: a snapshot, then each second a ticker, a trade and an update."""
    lines, update = [], 100
    if snapshot:
        book = {
            "lastUpdateId": update,
            "bids": [["100.00", "5"], ["99.99", "4"], ["99.98", "1"]],
            "asks": [["100.01", "2"], ["100.02", "7"]],
        }
        lines.append(line(first + 10, book))
    for number in range(seconds):
        now = first + 1000 * number + 100
        lines.append(line(now, ticker("100.00", "100.01")))
        lines.append(line(now + 5, trade("100.01", "0.5", seller=False, now=now)))
        lines.append(line(now + 10, depth(update + 1, update + 3, bids=[["99.97", str(number + 1)]])))
        update += 3
    lines.append(line(first + 1000 * seconds + 100, ticker("100.00", "100.01")))
    return lines


def line(ms: int, message: dict) -> bytes:
    """One line of a capture."""
    return f"{ms}000000 {json.dumps(message, separators=(',', ':'))}".encode()


def ticker(bid: str, ask: str, symbol: str = "BTCUSDT") -> dict:
    """A book ticker as the spot market sends it."""
    return {"stream": "x", "data": {"u": 1, "s": symbol, "b": bid, "B": "1", "a": ask, "A": "1"}}


def trade(price: str, size: str, *, seller: bool, now: int, **more: str) -> dict:
    """A trade; ``seller``: the buyer was the maker."""
    content = {"e": "trade", "E": now, "s": "BTCUSDT", "p": price, "q": size, "T": now + 1250, "m": seller}
    return {"stream": "x", "data": content | more}


def depth(first: int, last: int, bids: list | None = None, asks: list | None = None) -> dict:
    """A depth update."""
    content = {
        "e": "depthUpdate",
        "E": 1,
        "s": "BTCUSDT",
        "U": first,
        "u": last,
        "b": bids or [],
        "a": asks or [],
    }
    return {"stream": "x", "data": content}

"""Images of order flow: seconds along one axis, price steps around the last mid along the other.

Row ``floor((2 floor(p/d + 1e-6) - rint(2 m/d)) / 2) + P/2`` of price ``p`` with steps of ``d`` around the
mid ``m``, in whole numbers, so that no platform rounds otherwise. Row 0 is the lowest price. Channels: bid
size, ask size (state at each second's end), size bought, size sold (sums within it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.volatility_images.config import ImageConfig
from appliedpapers.plugins.volatility_images.market import Floats, Ints, Session, Trades

BID, ASK, BUYS, SELLS = range(4)
_NEARLY = 1e-6
_TAPE_CELLS = 30_000_000
_CELLS = 6_000_000
"""Cells of images that are held in double precision at once: 48 MB."""

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """What raw sizes are divided by once their logarithm was taken.

    Attributes:
        divisor: ``(channels,)``; the 99 % quantile of what was not zero on train.
        limit: Values are clipped to this many divisors.
    """

    divisor: Floats
    limit: float = 4.0

    def __call__(self, raw: Images) -> Images:
        """Return what a network sees, float32 of the same shape."""
        scaled = np.log1p(raw) / self.divisor.astype(np.float32)[:, None, None]
        return np.asarray(np.minimum(scaled, np.float32(self.limit)), dtype=np.float32)

    @classmethod
    def fit(cls, raw: Images, limit: float = 4.0) -> Scale:
        """Fit the divisors on raw images ``(images, channels, rows, seconds)`` of the train part."""
        divisor = np.ones(raw.shape[1])
        for channel in range(raw.shape[1]):
            there = raw[:, channel][raw[:, channel] > 0]
            if there.size:
                divisor[channel] = max(float(np.quantile(np.log1p(there.astype(np.float64)), 0.99)), 1e-9)
        return cls(divisor, limit)


@dataclass(frozen=True)
class Outside:
    """What lies beyond the rows of images, by image.

    Attributes:
        trades: How many trades, ``(images,)``.
        traded: Their size.
    """

    trades: Ints
    traded: Floats


class ImageBuilder:
    """Builds images of many anchors at once; each is what it would be alone, to the last bit.

    Args:
        config: Seconds, rows, channels.
        step: Price of one row, in the price's unit; for rows of basis points it is not used.
    """

    def __init__(self, config: ImageConfig, step: float) -> None:
        self.config = config
        self.step = step

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and seconds of an image."""
        return self.config.channels, self.config.rows, self.config.seconds

    def build(self, session: Session, anchors: Ints) -> Images:
        """Return raw sizes, float32 ``(anchors, channels, rows, seconds)``."""
        taped = self._taped(session, anchors)
        return self.build_with_rest(session, anchors)[0] if taped is None else taped

    def build_with_rest(self, session: Session, anchors: Ints) -> tuple[Images, Outside]:
        """Return raw sizes, and what was traded outside the rows."""
        out = np.empty((len(anchors), *self.shape), dtype=np.float32)
        count, size = np.zeros(len(anchors), np.int64), np.zeros(len(anchors))
        block = max(_CELLS // (4 * self.config.rows * self.config.seconds), 1)
        for start in range(0, len(anchors), block):
            part = slice(start, start + block)
            out[part], count[part], size[part] = self._block(session, anchors[part])
        return out, Outside(count, size)

    def _taped(self, session: Session, anchors: Ints) -> Images | None:
        """Cut images out of one long tape of the session; None where that does not pay.

        The tape holds the same sums as single images, entry by entry in the same order.
        """
        options = self.config
        if not len(anchors) or options.basis_points is not None or options.trace:
            return None
        first, stop = int(anchors.min()) - options.seconds, int(anchors.max())
        place = self._places(session, anchors, self._steps(session.mid[anchors - 1]))
        low, width = int(place.min()), int(np.ptp(place)) + options.rows
        if stop - first > len(anchors) * options.seconds // 4 or (stop - first) * width > _TAPE_CELLS:
            return None
        cut = slice(first, stop)
        sheets = [
            self._level_tape(
                getattr(session, f"{side}_px")[cut], getattr(session, f"{side}_qty")[cut], low, width
            )
            for side in ("bid", "ask")
        ]
        sheets += self._flow_tapes(session.trades.part(first, stop), low, width, stop - first)
        if options.rgb:
            sheets = [sheets[BUYS], sheets[BID] + sheets[ASK], sheets[SELLS]]
        tape = np.stack(sheets).astype(np.float32).reshape(len(sheets), width, stop - first)
        out = np.empty((len(anchors), *self.shape), dtype=np.float32)
        rows, seconds = options.rows, options.seconds
        for number, (row, end) in enumerate(
            zip((place - low).tolist(), (anchors - first).tolist(), strict=True)
        ):
            out[number] = tape[:, row : row + rows, end - seconds : end]
        return out

    def _level_tape(self, prices: Floats, sizes: Floats, low: int, width: int) -> Floats:
        seconds = len(prices)
        row = np.floor(prices / self.step + _NEARLY) - low
        # false for NaN, too
        inside = (row >= 0) & (row < width) & (sizes > 0)
        flat = row[inside].astype(np.int64) * seconds + np.nonzero(inside)[0]
        return np.bincount(flat, sizes[inside], width * seconds).astype(np.float64)

    def _flow_tapes(self, trades: Trades, low: int, width: int, seconds: int) -> list[Floats]:
        row = np.floor(trades.price / self.step + _NEARLY).astype(np.int64) - low
        made = []
        for sign in (1, -1):
            chosen = (row >= 0) & (row < width) & (trades.side == sign)
            flat = row[chosen] * seconds + trades.second[chosen]
            made.append(np.bincount(flat, trades.qty[chosen], width * seconds).astype(np.float64))
        return made

    def _places(self, session: Session, anchors: Ints, step: Floats) -> Ints:
        """Return the price step of the lowest row of each image."""
        halves = np.rint(2 * session.mid[anchors - 1] / step)
        return np.ceil(halves / 2).astype(np.int64) - self.config.rows // 2

    def _block(self, session: Session, anchors: Ints) -> tuple[Images, Ints, Floats]:
        rows, seconds = self.config.rows, self.config.seconds
        step = self._steps(session.mid[anchors - 1])
        place = self._places(session, anchors, step)
        first, stop = int(anchors.min()) - seconds, int(anchors.max())
        session, anchors = session.part(first, stop), anchors - first
        sheet = rows * seconds
        depth = np.zeros((2, len(anchors) * sheet))
        for side, prices, sizes in (
            (BID, session.bid_px, session.bid_qty),
            (ASK, session.ask_px, session.ask_qty),
        ):
            depth[side] = self._depth(prices, sizes, anchors, place, step)
        flow, count, size = self._flow(session, anchors, place, step)
        shaped = (len(anchors), rows, seconds)
        channels = [part.reshape(shaped) for part in (*depth, *flow)]
        if self.config.rgb:
            channels = [channels[BUYS], channels[BID] + channels[ASK], channels[SELLS]]
        if self.config.trace:
            channels.append(self._trace(session, anchors, place, step).reshape(shaped))
        return np.stack(channels, axis=1).astype(np.float32), count, size

    def _steps(self, centre: Floats) -> Floats:
        if self.config.basis_points is None:
            return np.full(len(centre), self.step)
        return centre * self.config.basis_points * 1e-4

    def _depth(self, prices: Floats, sizes: Floats, anchors: Ints, place: Ints, step: Floats) -> Floats:
        rows, seconds = self.config.rows, self.config.seconds
        total = len(anchors) * rows * seconds
        if not prices.shape[1]:
            return np.zeros(total)
        if self.config.basis_points is None:
            # the same price steps serve every anchor
            ticks = np.floor(prices / self.step + _NEARLY)
            window = ticks[anchors[:, None] + np.arange(-seconds, 0)]
        else:
            window = prices[anchors[:, None] + np.arange(-seconds, 0)]
            window = np.floor(window / step[:, None, None] + _NEARLY)
        row = window - place[:, None, None]
        weights = sizes[anchors[:, None] + np.arange(-seconds, 0)]
        # false for NaN, too
        inside = (row >= 0) & (row < rows) & (weights > 0)
        image, column, _ = np.nonzero(inside)
        flat = (image * rows + row[inside].astype(np.int64)) * seconds + column
        return np.bincount(flat, weights[inside], total).astype(np.float64)

    def _flow(
        self, session: Session, anchors: Ints, place: Ints, step: Floats
    ) -> tuple[Floats, Ints, Floats]:
        rows, seconds = self.config.rows, self.config.seconds
        trades, total = session.trades, len(anchors) * rows * seconds
        first, stop = (
            np.searchsorted(trades.second, anchors - seconds),
            np.searchsorted(trades.second, anchors),
        )
        counts = stop - first
        image = np.repeat(np.arange(len(anchors)), counts)
        # the places of each anchor's trades among all of them
        index = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[image]
        row = np.floor(trades.price[index] / step[image] + _NEARLY).astype(np.int64) - place[image]
        column = trades.second[index] - (anchors - seconds)[image]
        size, side = trades.qty[index], trades.side[index]
        inside = (row >= 0) & (row < rows)
        flat = (image * rows + row) * seconds + column
        flow = np.zeros((2, total))
        for number, sign in enumerate((1, -1)):
            chosen = inside & (side == sign)
            flow[number] = np.bincount(flat[chosen], size[chosen], total)
        lost = ~inside
        return (
            flow,
            np.bincount(image[lost], minlength=len(anchors)).astype(np.int64),
            np.bincount(image[lost], size[lost], len(anchors)).astype(np.float64),
        )

    def _trace(self, session: Session, anchors: Ints, place: Ints, step: Floats) -> Floats:
        """Return 1 where the mid is and a half in the band between bid and ask."""
        rows, seconds = self.config.rows, self.config.seconds
        cut = anchors[:, None] + np.arange(-seconds, 0)
        low, high, middle = (
            np.floor(values[cut] / step[:, None] + _NEARLY).astype(np.int64) - place[:, None]
            for values in (
                np.minimum(session.bid, session.ask),
                np.maximum(session.bid, session.ask),
                session.mid,
            )
        )
        grid = np.arange(rows)[None, :, None]
        band = (grid >= low[:, None]) & (grid <= high[:, None])
        path = grid == middle[:, None]
        return np.asarray(np.where(path, 1.0, np.where(band, 0.5, 0.0)).ravel())


def infer_tick(sessions: list[Session]) -> float:
    """Return the smallest step of the price: what best bids and asks differ by, in units of 1e-8."""
    from appliedpapers.core.errors import DataError

    prices = np.concatenate([np.concatenate([one.bid, one.ask]) for one in sessions])
    whole = np.unique(np.rint(prices[np.isfinite(prices)] * 1e8).astype(np.int64))
    steps = np.diff(whole)
    if not steps.size:
        raise DataError(
            "the price never moves, so its smallest step cannot be told.",
            hint="Give it, such as --set data.tick=0.01.",
        )
    return float(np.gcd.reduce(steps)) / 1e8


def rows_for_trades(sessions: list[Session], tick: float, rows: int, seconds: int) -> int:
    """Return the fewest ticks a row for which 99 % of trades lie within the rows of the images.

    The mid is the one of the anchor that sees the trade last, so the whole path of ``seconds`` counts.
    """
    shares = []
    for one in sessions:
        if not len(one.trades):
            continue
        last = np.minimum(one.trades.second + seconds - 1, len(one) - 1)
        shares.append(np.abs(one.trades.price - one.mid[last]) / tick)
    if not shares:
        return 1
    needed = float(np.quantile(np.concatenate(shares), 0.99))
    return max(int(np.ceil(needed / (rows / 2 - 1))), 1)

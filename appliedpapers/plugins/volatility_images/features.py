"""Hand-crafted features of the seconds before an anchor ("aggr"), and the few that HAR with flow looks at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from appliedpapers.plugins.volatility_images.config import DataConfig
from appliedpapers.plugins.volatility_images.market import (
    SECOND_US,
    Floats,
    Ints,
    Session,
    top_levels,
)
from appliedpapers.plugins.volatility_images.windows import (
    floor_of,
    gathered,
    squared_sum,
    trailing,
)

FLOW = ("log_volume", "log_trades", "log_trades_long", "spread_ticks")
"""The features that "HAR with flow" adds to past volatility."""
PAST = ("log_rv_short", "log_rv_middle", "log_rv_long")
"""Past volatility over three windows, which HAR looks at."""
NAMES = (
    *PAST,
    *FLOW,
    "log_bipower",
    "jump_share",
    "log_depth_1",
    "log_depth_5",
    "depth_imbalance",
    "ofi_1",
    "ofi_5",
    "signed_volume",
    "vwap_deviation",
    "log_amihud",
    "book_slope",
    "sin_open",
    "cos_open",
)
"""All features in their order."""
_DAY_S = 86_400
_CLIP = 6.0


@dataclass(frozen=True)
class Clock:
    """When a session's day begins, for the features of the time of day.

    Attributes:
        opening: Seconds after midnight UTC.
        length: Seconds of a session.
    """

    opening: int = 0
    length: int = _DAY_S

    def angle(self, time_us: Ints) -> Floats:
        """Return the time since the open as an angle, 2 pi a session."""
        seconds = (time_us // SECOND_US - self.opening) % _DAY_S
        return np.asarray(2 * math.pi * (seconds / self.length))


@dataclass(frozen=True)
class PerSecond:
    """What features are sums of, one value a second; each looks at its own second and the one before."""

    volume: Floats
    signed: Floats
    turnover: Floats
    count: Floats
    depth_1: Floats
    depth_5: Floats
    bid_depth: Floats
    ask_depth: Floats
    ofi_1: Floats
    ofi_5: Floats
    slope: Floats

    @classmethod
    def of(cls, session: Session, tick: float) -> PerSecond:
        """Compute them for every second of a session."""
        trades, seconds = session.trades, len(session)
        bid_px, bid_qty = top_levels(session.bid_px, session.bid_qty, highest=True)
        ask_px, ask_qty = top_levels(session.ask_px, session.ask_qty, highest=False)
        bid_depth, ask_depth = _added(bid_qty), _added(ask_qty)
        flow = _order_flow(bid_px, bid_qty, ask_px, ask_qty)
        flow[session.starts] = 0.0
        return cls(
            # of no trade at all bincount makes whole numbers
            volume=np.bincount(trades.second, trades.qty, seconds).astype(np.float64),
            signed=np.bincount(trades.second, trades.qty * trades.side, seconds).astype(np.float64),
            turnover=np.bincount(trades.second, trades.qty * trades.price, seconds).astype(np.float64),
            count=np.bincount(trades.second, minlength=seconds).astype(np.float64),
            depth_1=bid_qty[:, 0] + ask_qty[:, 0],
            depth_5=bid_depth + ask_depth,
            bid_depth=bid_depth,
            ask_depth=ask_depth,
            ofi_1=flow[:, 0],
            ofi_5=_added(flow),
            slope=_slope(bid_px, bid_depth, ask_px, ask_depth, tick),
        )


def _added(columns: Floats) -> Floats:
    """Add five columns in one fixed order."""
    total = columns[:, 0].copy()
    for number in range(1, columns.shape[1]):
        total = total + columns[:, number]
    return np.asarray(total)


def _order_flow(bid_px: Floats, bid_qty: Floats, ask_px: Floats, ask_qty: Floats) -> Floats:
    """Return order flow imbalance by level between neighbouring seconds, ``(seconds, levels)``.

    Cont, Kukanov and Stoikov (2014), section 2, applied to each of the best distinct prices.
    """
    flow = np.zeros(bid_px.shape)
    low, high = np.nan_to_num(bid_px, nan=-np.inf), np.nan_to_num(ask_px, nan=np.inf)
    flow[1:] += np.where(low[1:] >= low[:-1], bid_qty[1:], 0.0) - np.where(
        low[1:] <= low[:-1], bid_qty[:-1], 0.0
    )
    flow[1:] += np.where(high[1:] >= high[:-1], ask_qty[:-1], 0.0) - np.where(
        high[1:] <= high[:-1], ask_qty[1:], 0.0
    )
    return flow


def _slope(bid_px: Floats, bid_depth: Floats, ask_px: Floats, ask_depth: Floats, tick: float) -> Floats:
    """Return depth a tick, over the range that five levels a side reach; 0 without a book."""
    parts = []
    for px, depth in ((bid_px, bid_depth), (ask_px, ask_depth)):
        known = np.isfinite(px)
        far = np.where(known.any(axis=1), np.abs(px[:, 0] - _last_known(px)), 0.0)
        parts.append(depth / (np.nan_to_num(far) / tick + 1))
    return np.asarray((parts[0] + parts[1]) / 2)


def _last_known(px: Floats) -> Floats:
    last = px[:, 0].copy()
    for number in range(1, px.shape[1]):
        last = np.where(np.isfinite(px[:, number]), px[:, number], last)
    return last


def features_of(session: Session, anchors: Ints, data: DataConfig, tick: float, clock: Clock) -> Floats:
    """Return the features before each anchor, in their natural units.

    Nothing at or after second ``k`` of an anchor is looked at.

    Returns:
        ``(anchors, features)`` float64, in the order of :data:`NAMES`.
    """
    window, (short, middle, long) = data.window, data.windows
    least, per = floor_of(window), PerSecond.of(session, tick)
    volatility = [
        np.log(np.maximum(trailing(session, anchors, window, length), least))
        for length in (short, middle, long)
    ]
    columns = [*volatility, *_flow_of(session, per, anchors, short, middle, tick)]
    columns += _variation(session, anchors, short, window)
    columns += _book_and_trades(session, per, anchors, short)
    angle = clock.angle(session.time_us[anchors - 1])
    return np.stack([*columns, np.sin(angle), np.cos(angle)], axis=1)


def _flow_of(
    session: Session, per: PerSecond, anchors: Ints, short: int, middle: int, tick: float
) -> list[Floats]:
    return [
        np.log1p(gathered(per.volume, anchors, -short, 0).sum(axis=1)),
        np.log1p(gathered(per.count, anchors, -short, 0).sum(axis=1)),
        np.log1p(gathered(per.count, anchors, -middle, 0).sum(axis=1) * (short / middle)),
        gathered(session.spread, anchors, -short, 0).mean(axis=1) / tick,
    ]


def _variation(session: Session, anchors: Ints, short: int, window: int) -> list[Floats]:
    """Return bipower variation as a logarithm and the share of jumps (Barndorff-Nielsen, Shephard 2004)."""
    size = np.abs(gathered(session.returns, anchors, -short, 0))
    bipower = (math.pi / 2) * (size[:, 1:] * size[:, :-1]).sum(axis=1) * (short / (short - 1))
    total = squared_sum(session.returns, anchors, -short, 0)
    jumps = np.divide(total - bipower, total, out=np.zeros_like(total), where=total > 0)
    scaled = np.sqrt(bipower * (window / short))
    return [np.log(np.maximum(scaled, floor_of(window))), np.clip(jumps, 0.0, 1.0)]


def _book_and_trades(session: Session, per: PerSecond, anchors: Ints, short: int) -> list[Floats]:
    bids = gathered(per.bid_depth, anchors, -short, 0).sum(axis=1)
    asks = gathered(per.ask_depth, anchors, -short, 0).sum(axis=1)
    depth = bids + asks
    volume = gathered(per.volume, anchors, -short, 0).sum(axis=1)
    turnover = gathered(per.turnover, anchors, -short, 0).sum(axis=1)
    mid = session.mid[anchors - 1]
    vwap = np.divide(turnover, volume, out=mid.copy(), where=volume > 0)
    path = np.abs(gathered(session.returns, anchors, -short, 0)).sum(axis=1)
    mean_depth = depth / short

    def share(values: Floats, of: Floats) -> Floats:
        return np.asarray(np.divide(values, of, out=np.zeros_like(values), where=of > 0))

    return [
        np.log1p(gathered(per.depth_1, anchors, -short, 0).mean(axis=1)),
        np.log1p(gathered(per.depth_5, anchors, -short, 0).mean(axis=1)),
        share(bids - asks, depth),
        share(gathered(per.ofi_1, anchors, -short, 0).sum(axis=1), mean_depth),
        share(gathered(per.ofi_5, anchors, -short, 0).sum(axis=1), mean_depth),
        share(gathered(per.signed, anchors, -short, 0).sum(axis=1), volume),
        1e4 * np.log(mid / vwap),
        np.log1p(1e8 * share(path, turnover)),
        np.log1p(gathered(per.slope, anchors, -short, 0).mean(axis=1)),
    ]


@dataclass(frozen=True)
class Standard:
    """Centre and scale of features, of the train part."""

    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, values: Floats) -> Standard:
        """Fit on ``(rows, features)``; a feature that does not vary is left at zero."""
        scale = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(scale > 1e-12, scale, np.inf))

    def __call__(self, values: Floats) -> Floats:
        """Return standardised features, held within six standard deviations."""
        return np.asarray(np.clip((values - self.mean) / self.scale, -_CLIP, _CLIP))

"""Windows of sessions as train, valid and test: cut by time, purged, in one holdout or walking forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.errors import DataError
from appliedpapers.plugins.volatility_images.config import VolatilityConfig
from appliedpapers.plugins.volatility_images.features import NAMES, Clock, features_of
from appliedpapers.plugins.volatility_images.images import ImageBuilder, Images
from appliedpapers.plugins.volatility_images.market import SECOND_US, Floats, Ints, Session
from appliedpapers.plugins.volatility_images.tables import table_of
from appliedpapers.plugins.volatility_images.windows import (
    anchors_of,
    floor_of,
    history,
    realised,
    squared_sum,
    trailing,
)

if TYPE_CHECKING:
    import pyarrow as pa

_TEST_SHARE = 0.3
_EXAMPLE_ANCHORS = 3


@dataclass(frozen=True)
class Grid:
    """What all windows of a dataset share.

    Attributes:
        tick: Smallest step of the price.
        clock: When sessions open.
    """

    tick: float
    clock: Clock


@dataclass(frozen=True)
class Window:
    """Anchors of one session.

    Attributes:
        session: The session.
        anchors: Rising.
    """

    session: Session
    anchors: Ints


class VolatilitySplit(Split):
    """Anchors of some sessions, with what is known before and what happens after each.

    Args:
        windows: By session, in the order of time.
        config: Window, features, image.
        grid: Tick and clock.
        stride: Seconds between anchors.
        period: For the train part: all anchors of the train period, validation and purged ones included, for
            models that choose nothing.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        config: VolatilityConfig,
        grid: Grid,
        *,
        stride: int,
        period: VolatilitySplit | None = None,
    ) -> None:
        self.windows = tuple(window for window in windows if len(window.anchors))
        self.config, self.grid, self.stride = config, grid, stride
        self._period = period

    @property
    def period(self) -> VolatilitySplit:
        """All anchors of the period that this part was cut out of."""
        return self._period or self

    @property
    def num_rows(self) -> int:
        """How many anchors."""
        return sum(len(window.anchors) for window in self.windows)

    @cached_property
    def targets(self) -> Floats:
        """Realised volatility after each anchor, ``(anchors,)``, in return units."""
        return self._joined(
            [realised(one.session, one.anchors, self.config.data.window) for one in self.windows]
        )

    @cached_property
    def naive(self) -> Floats:
        """Realised volatility of the window before each anchor."""
        width = self.config.data.window
        return self._joined([trailing(one.session, one.anchors, width, width) for one in self.windows])

    @cached_property
    def features(self) -> Floats:
        """Hand-crafted features in their natural units, ``(anchors, features)``."""
        data = self.config.data
        parts = [
            features_of(one.session, one.anchors, data, self.grid.tick, self.grid.clock)
            for one in self.windows
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(NAMES)))

    @cached_property
    def moving(self) -> NDArray[np.bool_]:
        """Whether anything moves after each anchor: realised volatility above the floor."""
        return np.asarray(self.targets > floor_of(self.config.data.window))

    @cached_property
    def learned(self) -> NDArray[np.bool_]:
        """Which anchors models learn from: those that move, or all where the floor is asked for."""
        if self.config.data.zero_targets == "floor":
            return np.ones(self.num_rows, dtype=bool)
        return self.moving

    @cached_property
    def time_us(self) -> Ints:
        """End of the last known second of each anchor, microseconds UTC."""
        parts = [one.session.time_us[one.anchors - 1] for one in self.windows]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    @cached_property
    def session_names(self) -> list[str]:
        """Name of the session of each anchor."""
        return [one.session.name for one in self.windows for _ in range(len(one.anchors))]

    @cached_property
    def place(self) -> tuple[NDArray[np.intp], Ints]:
        """Which of :attr:`windows` each anchor is of, and the anchor."""
        if not self.windows:
            return np.empty(0, np.intp), np.empty(0, np.int64)
        number = np.repeat(np.arange(len(self.windows)), [len(one.anchors) for one in self.windows])
        return number, np.concatenate([one.anchors for one in self.windows])

    def past_variance(self, length: int) -> Floats:
        """Return the sum of squared returns of ``length`` seconds before each anchor, not scaled."""
        return self._joined(
            [squared_sum(one.session.returns, one.anchors, -length, 0) for one in self.windows]
        )

    def images(self, builder: ImageBuilder, rows: NDArray[np.int64]) -> Images:
        """Return raw images of some anchors, ``(rows, channels, price rows, seconds)`` float32."""
        number, anchors = self.place
        out = np.empty((len(rows), *builder.shape), dtype=np.float32)
        for one in np.unique(number[rows]).tolist():
            chosen = number[rows] == one
            out[chosen] = builder.build(self.windows[one].session, anchors[rows[chosen]])
        return out

    def keys(self) -> pa.Table:
        """Return session and time of each anchor."""
        import pyarrow as pa

        return pa.table(
            {
                "session": pa.array(self.session_names, pa.string()),
                "time": pa.array(self.time_us, pa.timestamp("us")),
            }
        )

    def spans(self) -> pa.Table:
        """Return what each window covers, image and target: windows of two parts must not overlap."""
        import pyarrow as pa

        data, image = self.config.data, self.config.image
        return pa.table(
            {
                "group": pa.array(self.session_names, pa.string()),
                "first": pa.array(self.time_us - SECOND_US * image.seconds),
                "stop": pa.array(self.time_us + SECOND_US * data.window),
            }
        )

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield keys, features and target."""
        import pyarrow as pa

        table = self.keys()
        for number, name in enumerate(NAMES):
            table = table.append_column(name, pa.array(self.features[:, number]))
        table = table.append_column("realised", pa.array(self.targets))
        yield from table.to_batches(max_chunksize=max_rows)

    def example(self, limit: int = 1) -> pa.Table:
        """Return the seconds around the first anchors of up to ``limit`` sessions."""
        before = history(self.config)
        after = (_EXAMPLE_ANCHORS - 1) * self.config.data.stride + 1
        parts = []
        for one in self.windows[:limit]:
            first = int(one.anchors[0]) - before
            parts.append(one.session.part(first, min(first + before + after, len(one.session))))
        return table_of(parts)

    def chosen(self, kept: NDArray[np.bool_], period: VolatilitySplit | None = None) -> VolatilitySplit:
        """Return some of the anchors as a split of its own."""
        windows, start = [], 0
        for one in self.windows:
            stop = start + len(one.anchors)
            windows.append(Window(one.session, one.anchors[kept[start:stop]]))
            start = stop
        return VolatilitySplit(windows, self.config, self.grid, stride=self.stride, period=period)

    def _joined(self, parts: Sequence[Floats]) -> Floats:
        return np.concatenate(parts) if parts else np.empty(0)


@dataclass(frozen=True)
class Parts:
    """Train, valid and test of one triple."""

    train: VolatilitySplit
    valid: VolatilitySplit
    test: VolatilitySplit


def cut(sessions: Sequence[Session], config: VolatilityConfig, grid: Grid, tested: int, source: str) -> Parts:
    """Cut one triple.

    Args:
        sessions: In the order of time; the windows of test come from number ``tested``, those of the train
            period from the ones before it. A single session is cut at seven tenths of its anchors.
        config: Strides, validation, purge.
        grid: Tick and clock.
        tested: Number of the session that tests.
        source: Name of the data in messages.

    Raises:
        DataError: Too few seconds for any window of a part.
    """
    data, before = config.data, history(config)
    alone = len(sessions) == 1
    learned = sessions if alone else sessions[:tested]
    windows = [Window(one, anchors_of(one, before, data.window, data.stride)) for one in learned]
    test = [Window(sessions[tested], anchors_of(sessions[tested], before, data.window, data.test_stride))]
    if alone:
        windows, test = _cut_alone(windows[0], test[0], config)
    period = VolatilitySplit(windows, config, grid, stride=data.stride)
    valid = _valid_blocks(period, config)
    train = period.chosen(_clear_of(period, valid, config), period)
    parts = Parts(
        train,
        period.chosen(valid, period),
        VolatilitySplit(test, config, grid, stride=data.test_stride),
    )
    for name, part in (("train", parts.train), ("valid", parts.valid), ("test", parts.test)):
        if part.num_rows < 1 or (name == "train" and not part.moving.any()):
            longest = max((stop - first for one in sessions for first, stop in one.segments()), default=0)
            raise DataError(
                f"{source}: no window for the {name} part; the longest stretch has {longest:,} seconds, and "
                f"a window takes {before + data.window:,}.",
                hint="Bring longer sessions, or shorten data.windows, data.window or image.seconds.",
            )
    if data.zero_targets == "drop-all" and parts.test.moving.any():
        parts = Parts(parts.train, parts.valid, parts.test.chosen(parts.test.moving))
    return parts


def _cut_alone(train: Window, test: Window, config: VolatilityConfig) -> tuple[list[Window], list[Window]]:
    if not len(train.anchors):
        return [train], [test]
    number = min(int((1 - _TEST_SHARE) * len(train.anchors)), len(train.anchors) - 1)
    place = int(train.anchors[number])
    reach = _reach(config)
    times = train.session.time_us[train.anchors - 1]
    own = train.anchors[times <= train.session.time_us[place - 1] - reach * SECOND_US]
    return [Window(train.session, own)], [Window(test.session, test.anchors[test.anchors >= place])]


def _reach(config: VolatilityConfig) -> int:
    """Return how many seconds keep two windows of different parts apart: image and target together."""
    return config.data.window + config.image.seconds


def _valid_blocks(period: VolatilitySplit, config: VolatilityConfig) -> NDArray[np.bool_]:
    """Mark the anchors that validate: the end of each of several equal parts of the train period."""
    data, total = config.data, period.num_rows
    marked = np.zeros(total, dtype=bool)
    blocks = max(min(data.valid_blocks, total // 4), 1)
    for number in range(blocks):
        stop = round(total * (number + 1) / blocks)
        length = max(round(data.valid_share * total / blocks), 1)
        marked[max(stop - length, 0) : stop] = True
    return marked


def _clear_of(
    period: VolatilitySplit, valid: NDArray[np.bool_], config: VolatilityConfig
) -> NDArray[np.bool_]:
    """Mark the anchors whose windows stay clear of all validation windows, and of the embargo behind them."""
    reach, embargo = _reach(config), config.data.embargo
    number, _ = period.place
    seconds = period.time_us // SECOND_US
    clear = ~valid
    for one in np.unique(number[valid]).tolist():
        own = np.flatnonzero(number == one)
        held = np.sort(seconds[own[valid[own]]])
        at = np.searchsorted(held, seconds[own])
        after = held[np.minimum(at, len(held) - 1)]
        before = held[np.maximum(at - 1, 0)]
        near = (after >= seconds[own]) & (after - seconds[own] < reach)
        near |= (before <= seconds[own]) & (seconds[own] - before < reach + embargo)
        clear[own[near]] = False
    return clear

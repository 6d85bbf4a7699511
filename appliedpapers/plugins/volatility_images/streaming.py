"""Forecasts as seconds come: a rolling book, and the numbers of ``predict`` without knowing what follows."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from appliedpapers.core.errors import DataError
from appliedpapers.core.model import Stream
from appliedpapers.plugins.volatility_images.market import SCALE_JUMP, SECOND_US, Session, Trades
from appliedpapers.plugins.volatility_images.tables import FLOW, PAIRS, SIDES, record_lists
from appliedpapers.plugins.volatility_images.windows import history

if TYPE_CHECKING:
    from appliedpapers.plugins.volatility_images.model import VolatilityForecaster

_EPOCH = dt.datetime(1970, 1, 1)


class VolatilityStream(Stream):
    """One session, second by second; answers every ``data.stride`` seconds once there is enough behind.

    Only as many seconds are kept as a forecast looks back on, so memory is bounded however long a session is.

    Args:
        model: What answers.
        state: What an earlier stream gave out.
    """

    def __init__(self, model: VolatilityForecaster, state: bytes | None = None) -> None:
        self._model, self._config = model, model.config
        self._needed = history(model.config)
        self._kept = _Rolling(2 * self._needed + 8)
        self._count, self._time, self._name = 0, -1, ""
        if state is not None:
            self._restore(state)

    def step(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take one second.

        Raises:
            DataError: Its time is not whole seconds after the one before, a price is missing, or lists that
                belong together differ in length.
        """
        time, lists = self._judged(record)
        name = str(record["session"])
        gap = (time - self._time) // SECOND_US if self._time >= 0 else 1
        answers: list[dict[str, Any]] = []
        cut = gap > self._config.data.max_gap or bool(record.get("broken")) or self._kept.jumps(record)
        # as in a table: a short hole is filled with the last book, a long one ends the segment
        if 1 < gap <= self._config.data.max_gap:
            for hole in range(1, gap):
                self._kept.repeat(self._time + hole * SECOND_US)
                answers += self._counted(name)
        if cut:
            self._count = 0
        self._kept.append(time, float(record["bid"]), float(record["ask"]), lists, broken=cut)
        self._time, self._name = time, name
        return answers + self._counted(name)

    def state(self) -> bytes:
        """Return the seconds that are kept, as safetensors."""
        session = self._kept.session("", self._config.data.price, self._needed + 1)
        trades = session.trades
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(session, name) for name in ("time_us", "bid", "ask", *SIDES)
        }
        arrays["broken"] = session.broken.astype(np.uint8)
        arrays |= {"second": trades.second, "price": trades.price, "qty": trades.qty, "side": trades.side}
        arrays["count"] = np.array([self._count, self._time], dtype=np.int64)
        metadata = {"session": json.dumps(self._name)}
        return bytes(save({name: np.ascontiguousarray(one) for name, one in arrays.items()}, metadata))

    def _judged(self, record: Mapping[str, Any]) -> tuple[int, dict[str, list[float]]]:
        """Return time and lists of a record that can be taken; nothing is kept before."""
        moment = record["time"]
        time = (moment - _EPOCH) // dt.timedelta(microseconds=1)
        if self._time >= 0 and (time <= self._time or (time - self._time) % SECOND_US):
            raise DataError(
                f"time {moment.isoformat()} does not come whole seconds after the record before.",
                hint="Send one record a second, in order; a session has a stream of its own.",
            )
        for name in ("bid", "ask"):
            if not (math.isfinite(record[name]) and record[name] > 0):
                raise DataError(f"no {name}.", hint="The price must be above zero.")
        lists = {name: record_lists(record, name) for name in (*SIDES, *FLOW)}
        for prices, sizes in PAIRS:
            if len(lists[prices]) != len(lists[sizes]):
                raise DataError(f"'{prices}' and '{sizes}' differ in length.", hint="Send one size a price.")
        if not lists["trade_side"]:
            lists["trade_side"] = [0.0] * len(lists["trade_px"])
        if len(lists["trade_side"]) != len(lists["trade_px"]):
            raise DataError("'trade_px' and 'trade_side' differ in length.", hint="Send one side a trade.")
        return time, lists

    def _counted(self, name: str) -> list[dict[str, Any]]:
        """Count a second that was taken, and answer where one is due."""
        self._count += 1
        past = self._count - self._needed
        if past < 0 or past % self._config.data.stride:
            return []
        session = self._kept.session(name, self._config.data.price, self._needed)
        made = self._model.answer(session, np.array([len(session)], dtype=np.int64))
        answer = {key: values[0] for key, values in made.items()}
        answer["time"] = _EPOCH + dt.timedelta(microseconds=answer["time"])
        return [answer]

    def _restore(self, state: bytes) -> None:
        arrays = load(state)
        size = int.from_bytes(state[:8], "little")
        self._name = json.loads(json.loads(state[8 : 8 + size])["__metadata__"]["session"])
        self._count, self._time = (int(value) for value in arrays["count"])
        self._kept.fill(arrays)


class _Rolling:
    """The last seconds of a session, in arrays that are shifted when they are full."""

    def __init__(self, room: int) -> None:
        self._room, self._size = room, 0
        self._time = np.zeros(room, np.int64)
        self._touch = np.zeros((2, room))
        self._broken = np.zeros(room, dtype=bool)
        self._levels = {name: np.full((room, 1), np.nan) for name in SIDES}
        self._trades: list[list[tuple[float, float, float]]] = []

    def append(
        self, time: int, bid: float, ask: float, lists: Mapping[str, list[float]], *, broken: bool
    ) -> None:
        """Take one second."""
        self._make_room()
        at = self._size
        self._time[at], self._touch[0, at], self._touch[1, at], self._broken[at] = time, bid, ask, broken
        for name in SIDES:
            values, levels = lists[name], self._levels[name]
            if len(values) > levels.shape[1]:
                wider = np.full((self._room, len(values)), np.nan)
                wider[:, : levels.shape[1]] = levels
                self._levels[name] = levels = wider
            levels[at] = np.nan
            levels[at, : len(values)] = values
        self._trades.append(list(zip(*(lists[name] for name in FLOW), strict=True)))
        self._size += 1

    def jumps(self, record: Mapping[str, Any]) -> bool:
        """Whether the price comes on another scale than in the second before."""
        if not self._size:
            return False
        before = float(self._touch[:, self._size - 1].sum())
        now = float(record["bid"]) + float(record["ask"])
        return abs(math.log(now / 2) - math.log(before / 2)) > math.log(SCALE_JUMP)

    def repeat(self, time: int) -> None:
        """Let the last book stand for one more second without trades."""
        self._make_room()
        at = self._size
        self._time[at], self._broken[at] = time, False
        self._touch[:, at] = self._touch[:, at - 1]
        for levels in self._levels.values():
            levels[at] = levels[at - 1]
        self._trades.append([])
        self._size += 1

    def session(self, name: str, price: str, seconds: int) -> Session:
        """Return the last seconds as a session."""
        part = slice(max(self._size - seconds, 0), self._size)
        trades = self._trades[part]
        flow = np.array([one for second in trades for one in second], dtype=np.float64).reshape(-1, 3)
        return Session(
            name,
            self._time[part].copy(),
            self._touch[0, part].copy(),
            self._touch[1, part].copy(),
            **{side: self._levels[side][part].copy() for side in SIDES},
            trades=Trades(
                np.repeat(np.arange(len(trades), dtype=np.int64), [len(second) for second in trades]),
                flow[:, 0].copy(),
                flow[:, 1].copy(),
                np.sign(flow[:, 2]).astype(np.int8),
            ),
            broken=self._broken[part].copy(),
            price=price,
        )

    def fill(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over the seconds of a state."""
        count = len(arrays["time_us"])
        bounds = np.searchsorted(arrays["second"], np.arange(count + 1))
        flow = np.stack([arrays["price"], arrays["qty"], arrays["side"].astype(np.float64)], axis=1).tolist()
        for row in range(count):
            lists = {name: _known(arrays[name][row]) for name in SIDES}
            own = flow[bounds[row] : bounds[row + 1]]
            lists |= {name: [trade[place] for trade in own] for place, name in enumerate(FLOW)}
            self.append(
                int(arrays["time_us"][row]),
                float(arrays["bid"][row]),
                float(arrays["ask"][row]),
                lists,
                broken=bool(arrays["broken"][row]),
            )

    def _make_room(self) -> None:
        if self._size < self._room:
            return
        kept = self._room // 2
        for array in (self._time, self._broken, *self._levels.values()):
            array[:kept] = array[-kept:]
        self._touch[:, :kept] = self._touch[:, -kept:]
        self._trades = self._trades[-kept:]
        self._size = kept


def _known(values: NDArray[Any]) -> list[float]:
    return [float(value) for value in values if math.isfinite(value)]

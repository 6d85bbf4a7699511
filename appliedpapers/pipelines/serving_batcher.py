"""Micro-batching: requests that wait while the model computes are decoded and predicted together.

One thread works for each model. It takes whatever has arrived, so a lone request never waits for company.
Requests are joined only where their rows are independent and their columns have the same types; a request
that breaks the contract is then judged alone, so that its answer is the one it would have had alone.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import RunError
from appliedpapers.core.inference import predict_all, predict_usable
from appliedpapers.core.json_rows import records, to_json
from appliedpapers.pipelines.serving_codec import Decoder, Parsed
from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import Refused, problem_of
from appliedpapers.pipelines.serving_settings import ServedModel

_log = logging.getLogger("appliedpapers.serve")
_MOST_REQUESTS = 64
_MOST_ROWS = 8192


@dataclass(slots=True, eq=False)
class _Item:
    body: bytes
    content_type: str | None
    future: asyncio.Future[bytes]
    loop: asyncio.AbstractEventLoop
    parsed: Parsed | None = None
    answer: bytes | None = None
    problem: Refused | None = None


class _Group:
    """Requests whose cells are of the same kinds, so that none changes how another is read."""

    def __init__(self, first: _Item, parsed: Parsed) -> None:
        self.items = [first]
        self.parts = [parsed]
        self.rows = parsed.rows
        self._kinds = dict(parsed.kinds)

    def takes(self, item: _Item, parsed: Parsed) -> bool:
        """Take a request in, if it fits."""
        if self.rows + parsed.rows > _MOST_ROWS or not self._fits(parsed):
            return False
        self._kinds |= {name: kind for name, kind in parsed.kinds.items() if kind is not None}
        self.items.append(item)
        self.parts.append(parsed)
        self.rows += parsed.rows
        return True

    def table(self) -> tuple[dict[str, list[Any]], pa.Table | None]:
        """Return the joined columns, or the joined table."""
        tables = [part.table for part in self.parts if part.table is not None]
        if tables:
            return {}, pa.concat_tables(tables).combine_chunks()
        columns: dict[str, list[Any]] = {name: [] for name in self._kinds}
        for part in self.parts:
            for name, values in (part.columns or {}).items():
                columns[name] += values
        return columns, None

    def _fits(self, parsed: Parsed) -> bool:
        mine, theirs = self.parts[0].table, parsed.table
        if mine is not None and theirs is not None:
            return bool(mine.schema.equals(theirs.schema))
        if mine is not None or theirs is not None:
            return False
        if parsed.kinds.keys() != self._kinds.keys():
            return False
        return all(kind is None or self._kinds[name] in (None, kind) for name, kind in parsed.kinds.items())


class Batcher:
    """Answers the requests of one model.

    Args:
        served: The model.
        decoder: Turns bodies into tables.
        metrics: Where batches are counted.
    """

    def __init__(self, served: ServedModel, decoder: Decoder, metrics: Metrics) -> None:
        self._served = served
        self._decoder = decoder
        self._metrics = metrics
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def answer(self, body: bytes, content_type: str | None) -> bytes:
        """Return the JSON answer to one request.

        Raises:
            Refused: The request is malformed, breaks the contract, or the model failed.
        """
        self.start()
        loop = asyncio.get_running_loop()
        item = _Item(body, content_type, loop.create_future(), loop)
        self._queue.put(item)
        return await item.future

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"predict-{self._served.name}", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end after what was already asked."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread = None

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            items, last = self._waiting(first)
            # a client that has gone needs no answer
            items = [item for item in items if not item.future.cancelled()]
            try:
                self._answer_all(items)
            except Exception as error:
                _log.exception("the batch failed")
                for item in items:
                    item.problem = item.problem or Refused(problem_of(error))
            _deliver(items)
            if last:
                return

    def _waiting(self, first: _Item) -> tuple[list[_Item], bool]:
        items = [first]
        while len(items) < _MOST_REQUESTS:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return items, True
            items.append(item)
        return items, False

    def _answer_all(self, items: list[_Item]) -> None:
        for item in items:
            try:
                item.parsed = self._decoder.parse(item.body, item.content_type)
            except Exception as error:
                item.problem = _refused(error)
        for group in self._groups(items):
            if len(group.items) == 1:
                self._answer_alone(group.items[0])
            else:
                self._answer_joined(group)

    def _groups(self, items: list[_Item]) -> list[_Group]:
        groups: list[_Group] = []
        for item in items:
            if item.parsed is None:
                continue
            joined = self._served.joinable and any(group.takes(item, item.parsed) for group in groups)
            if not joined:
                groups.append(_Group(item, item.parsed))
        return groups

    def _answer_alone(self, item: _Item) -> None:
        parsed = item.parsed
        assert parsed is not None
        try:
            table = self._decoder.from_columns(parsed.columns) if parsed.table is None else parsed.table
            served = self._served
            output = predict_all(served.model, table, source="request", contract=served.contract)
            item.answer = to_json({"predictions": records(output)})
        except Exception as error:
            item.problem = _refused(error)
            return
        self._metrics.predicted(self._served.name, 1, parsed.rows)

    def _answer_joined(self, group: _Group) -> None:
        items = group.items
        starts = np.cumsum([0, *(part.rows for part in group.parts)])
        try:
            columns, given = group.table()
            table = self._decoder.from_columns(columns) if given is None else given
            prediction = predict_usable(self._served.model, table, contract=self._served.contract)
            kept = np.ones(starts[-1], dtype=bool)
            kept[prediction.rejected] = False
            rows = [] if prediction.table is None else records(prediction.table)
            if len(rows) != int(kept.sum()):
                raise RunError("the model did not return one row for each input row.")
        except Exception:
            # one request may have broken it for all: each shows its own answer alone
            for item in items:
                self._answer_alone(item)
            return
        before = np.concatenate([[0], np.cumsum(kept)])
        clean = 0
        for item, start, stop in zip(items, starts[:-1], starts[1:], strict=True):
            if stop == start or not kept[start:stop].all():
                self._answer_alone(item)
                continue
            clean += 1
            item.answer = to_json({"predictions": rows[before[start] : before[stop]]})
        if clean:
            self._metrics.predicted(self._served.name, clean, len(rows))


def _refused(error: Exception) -> Refused:
    problem = problem_of(error)
    if problem.status >= 500:
        _log.error("the model failed", exc_info=error)
    return Refused(problem)


def _deliver(items: list[_Item]) -> None:
    loops = {id(item.loop): item.loop for item in items}
    for key, loop in loops.items():
        mine = [item for item in items if id(item.loop) == key]
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:
            # the loop was closed meanwhile: nobody is waiting any more
            continue


def _settle(items: list[_Item]) -> None:
    for item in items:
        if item.future.done():
            continue
        if item.problem is not None:
            item.future.set_exception(item.problem)
        else:
            item.future.set_result(item.answer or b"")

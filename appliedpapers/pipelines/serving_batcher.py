"""Micro-batching: requests that arrive while the model computes are decoded and predicted together.

Whatever has arrived is taken at once, so a lone request never waits for company, and batches grow with the
load. A model that answers in a millisecond or two is asked in the event loop itself, because handing requests
to a thread and back costs more than that; any other model, and any large request, is answered by a thread of
the model's own. Either way one batch of a model is computed at a time.

Requests are joined only where their rows are independent and their columns have the same types; a request
that breaks the contract is then judged alone, so that its answer is the one it would have had alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time

import numpy as np
import pyarrow as pa

from appliedpapers.core.client_files import for_a_client
from appliedpapers.core.errors import RunError, UnusableGroups
from appliedpapers.core.inference import predict_all, predict_checked, predict_usable
from appliedpapers.core.json_rows import records
from appliedpapers.pipelines.serving_codec import Decoder
from appliedpapers.pipelines.serving_joining import MOST_ROWS, SAMPLES, SLOW_S, Finish, Group, Item, Pace
from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import Refused, problem_of, refuse
from appliedpapers.pipelines.serving_quick import Cells, QuickCheck, answer_json
from appliedpapers.pipelines.serving_settings import ServedModel

_log = logging.getLogger("appliedpapers.serve")
_MOST_REQUESTS = 64
_SMALL_BYTES = 65_536


class Batcher:
    """Answers the requests of one model, for one event loop.

    Args:
        served: The model.
        decoder: Turns bodies into tables.
        metrics: Where batches are counted.
        timeout_s: Longest wait for an answer, in seconds.
        max_rows: Most rows of one request.
    """

    def __init__(
        self,
        served: ServedModel,
        decoder: Decoder,
        metrics: Metrics,
        timeout_s: float = 60.0,
        max_rows: int = 100_000,
    ) -> None:
        self._served = served
        self._decoder = decoder
        self._metrics = metrics
        self._timeout_s = timeout_s
        quick = QuickCheck(served.contract[0], max_rows)
        self._quick = quick if quick.able and not served.model.needs_files else None
        self._pace = Pace()
        self._arrived: list[Item] = []
        self._handed = 0
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop
        self._queue: queue.SimpleQueue[list[Item] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def answer(self, body: bytes, content_type: str | None) -> bytes:
        """Return the JSON answer to one request.

        Raises:
            Refused: The request is malformed, breaks the contract or took too long, or the model failed.
        """
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def finish(answer: bytes | None, error: Refused | None) -> None:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer or b"")

        item = self.submit(body, content_type, finish)
        try:
            return await future
        finally:
            item.gone = True

    def submit(self, body: bytes, content_type: str | None, finish: Finish) -> Item:
        """Ask for an answer, in the event loop, where it is given later."""
        item = Item(body, content_type, finish)
        if not self._arrived:
            # after all that the sockets hold by now
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._take)
        self._arrived.append(item)
        return item

    def rehearse(self, table: pa.Table) -> None:
        """Predict rows that keep the contract, so that no client pays for imports, allocations and kernels.

        Raises:
            DataError: The rows break the contract after all.
        """
        for turn in range(SAMPLES):
            started = time.perf_counter()
            answer_json(records(predict_all(self._served.model, table, source="example")))
            seconds = time.perf_counter() - started
            self._pace.took(seconds)
            if turn and seconds > SLOW_S:
                return

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"predict-{self._served.name}", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Let the thread end after what was already asked; what still comes is answered all the same."""
        self._stopped = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread = None

    def _take(self) -> None:
        """Answer what has arrived, here or in the thread."""
        items = [item for item in self._arrived if not item.gone]
        self._arrived = []
        small = sum(len(item.body) for item in items) <= _SMALL_BYTES
        heavy = any(self._decoder.unfolds(item.content_type) for item in items)
        if small and not heavy and self._quick is not None and self._pace.quick and not self._handed:
            for first in range(0, len(items), _MOST_REQUESTS):
                part = items[first : first + _MOST_REQUESTS]
                self._answer_timed(part)
                _finish(part)
            return
        self._handed += len(items)
        for item in items:
            item.timer = self._loop.call_later(self._timeout_s, _expire, item)
        self.start()
        if heavy and not self._stopped:
            self._loop.run_in_executor(None, self._read_ahead, items)
        else:
            self._queue.put(items)
        if self._stopped:
            self.stop()

    def _read_ahead(self, items: list[Item]) -> None:
        """Read bodies that unfold, so that the thread that predicts does not wait for it."""
        try:
            self._read(items)
        finally:
            self._queue.put(items)

    def _read(self, items: list[Item]) -> None:
        for item in items:
            if item.parsed is not None or item.problem is not None:
                continue
            try:
                item.parsed = self._decoder.parse(item.body, item.content_type)
            except Exception as error:
                item.problem = _refused(error)

    def _return(self, items: list[Item], number: int) -> None:
        self._handed -= number
        _finish(items)

    def _work(self) -> None:
        with for_a_client():
            self._take_turns()

    def _take_turns(self) -> None:
        while (items := self._queue.get()) is not None:
            last = False
            while len(items) < _MOST_REQUESTS and not last:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                last = more is None
                items += more or []
            # a client that has gone needs no answer
            wanted = [item for item in items if not item.gone]
            self._answer_timed(wanted)
            with contextlib.suppress(RuntimeError):
                # raised where the loop was closed meanwhile: nobody is waiting any more
                self._loop.call_soon_threadsafe(self._return, wanted, len(items))
            if last:
                return

    def _answer_timed(self, items: list[Item]) -> None:
        started = time.perf_counter()
        try:
            with for_a_client():
                self._answer_all(items)
        except Exception as error:
            _log.exception("the batch failed")
            for item in items:
                item.problem = item.problem or Refused(problem_of(error))
        # refusals take no time, and say nothing of the model's
        if any(item.answer for item in items) and sum(len(item.body) for item in items) <= _SMALL_BYTES:
            self._pace.took(time.perf_counter() - started)

    def _answer_all(self, items: list[Item]) -> None:
        self._read(self._not_quick(items))
        for group in self._groups(items):
            if len(group.items) == 1:
                self._answer_alone(group.items[0])
            else:
                self._answer_together(group)

    def _not_quick(self, items: list[Item]) -> list[Item]:
        """Answer the requests that are seen at once to keep the contract; return the others."""
        if self._quick is None:
            return items
        left = []
        groups: dict[tuple[tuple[str, ...], int], list[tuple[Item, list[Cells]]]] = {}
        for number, item in enumerate(items):
            found = self._quick.read(item.body, item.content_type)
            if found is None:
                left.append(item)
                continue
            names, rows = found
            alone = not self._served.joinable or len(rows) > MOST_ROWS // _MOST_REQUESTS
            groups.setdefault((names, number if alone else -1), []).append((item, rows))
        for (names, _), members in groups.items():
            if not self._answer_quickly(names, members):
                left += [item for item, _ in members]
        return left

    def _answer_quickly(self, names: tuple[str, ...], members: list[tuple[Item, list[Cells]]]) -> bool:
        """Answer requests with one set of columns; False where the long way has to look."""
        assert self._quick is not None
        alone = len(members) == 1
        rows = members[0][1] if alone else [row for _, part in members for row in part]
        try:
            table = self._quick.table(names, rows)
            if table is None:
                return False
            made = records(predict_checked(self._served.model, table, self._served.contract))
        except (UnusableGroups, UnicodeEncodeError):
            return False
        except Exception as error:
            if alone:
                members[0][0].problem = _refused(error)
            return alone
        if not alone and len(made) != len(rows):
            return False
        start = 0
        for item, part in members:
            item.answer = answer_json(made if alone else made[start : start + len(part)])
            start += len(part)
        self._metrics.predicted(self._served.name, len(members), len(rows))
        return True

    def _groups(self, items: list[Item]) -> list[Group]:
        groups: list[Group] = []
        for item in items:
            if item.parsed is None or item.answer is not None or item.problem is not None:
                continue
            joined = self._served.joinable and any(group.takes(item, item.parsed) for group in groups)
            if not joined:
                groups.append(Group(item, item.parsed))
        return groups

    def _answer_alone(self, item: Item) -> None:
        parsed = item.parsed
        assert parsed is not None
        try:
            table = self._decoder.from_columns(parsed.columns) if parsed.table is None else parsed.table
            served = self._served
            output = predict_all(served.model, table, source="request", contract=served.contract)
            item.answer = answer_json(records(output))
        except Exception as error:
            item.problem = _refused(error)
            return
        self._metrics.predicted(self._served.name, 1, parsed.rows)

    def _answer_together(self, group: Group) -> None:
        starts = np.cumsum([0, *(part.rows for part in group.parts)])
        try:
            prediction = predict_usable(
                self._served.model, group.table(self._decoder), contract=self._served.contract
            )
            kept = np.ones(starts[-1], dtype=bool)
            kept[prediction.rejected] = False
            rows = [] if prediction.table is None else records(prediction.table)
            if len(rows) != int(kept.sum()):
                raise RunError("the model did not return one row for each input row.")
        except Exception:
            # one request may have broken it for all: each shows its own answer alone
            for item in group.items:
                self._answer_alone(item)
            return
        before = np.concatenate([[0], np.cumsum(kept)])
        clean = 0
        for item, start, stop in zip(group.items, starts[:-1], starts[1:], strict=True):
            if stop == start or not kept[start:stop].all():
                self._answer_alone(item)
                continue
            clean += 1
            item.answer = answer_json(rows[before[start] : before[stop]])
        if clean:
            self._metrics.predicted(self._served.name, clean, len(rows))


def _refused(error: Exception) -> Refused:
    problem = problem_of(error)
    if problem.status >= 500:
        _log.error("the model failed", exc_info=error)
    return Refused(problem)


def _finish(items: list[Item]) -> None:
    for item in items:
        if item.timer is not None:
            item.timer.cancel()
        if not item.gone:
            item.gone = True
            item.finish(item.answer, item.problem)


def _expire(item: Item) -> None:
    if not item.gone:
        item.gone = True
        item.finish(None, refuse(504, "timeout", "The answer took too long.", "Send fewer rows."))

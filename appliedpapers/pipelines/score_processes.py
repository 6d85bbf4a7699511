"""Scoring in several processes of this machine; the chunk of one that is killed is done again by another."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from appliedpapers.core.errors import AppsError, ConfigError, DataError, RunError
from appliedpapers.pipelines.engines import BatchScorer, NamedChunk
from appliedpapers.pipelines.score_local import score_here
from appliedpapers.pipelines.score_manifest import PartRecord

_TRIES = 3
_QUEUED = 2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def score_in_processes(scorer: BatchScorer, work: Iterator[NamedChunk], workers: int) -> Iterator[PartRecord]:
    """Yield the records of parts, as they are finished.

    This process reads and cuts, the others score and write. A single chunk is scored here: starting a
    process takes longer.

    Raises:
        AppsError: Whatever reading, scoring or writing raises, after the parts that are finished.
        RunError: One chunk ended three processes.
    """
    first = list(itertools.islice(work, 2))
    if len(first) < 2:
        yield from score_here(scorer, iter(first))
        return
    pool = _Pool(scorer, workers)
    try:
        with ThreadPoolExecutor(1, "read") as reader:
            yield from pool.score(itertools.chain(first, work), reader)
    finally:
        pool.close()


@dataclass
class _Job:
    """A chunk on its way, and how often it was begun."""

    work: NamedChunk
    tries: int = 0

    @property
    def place(self) -> str:
        """Where its rows begin, for a person."""
        rows = [origin for origin in self.work.chunk.origins if len(origin.rows)]
        if not rows:
            return self.work.name
        return f"{rows[0].fragment.name}, row {int(rows[0].rows[0])} and those behind it"


@dataclass(eq=False)
class _Worker:
    """A process, and what it was given and has not answered."""

    process: BaseProcess
    pipe: Connection
    jobs: list[_Job] = field(default_factory=list)

    def takes(self, job: _Job) -> bool:
        """Whether ``job`` may be given to it: one that ended a process before is tried alone."""
        if job.tries or any(given.tries for given in self.jobs):
            return not self.jobs
        return len(self.jobs) < _QUEUED


class _Pool:
    def __init__(self, scorer: BatchScorer, workers: int) -> None:
        self._scorer = scorer
        self._context = multiprocessing.get_context("spawn")
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._workers = [self._start() for _ in range(workers)]
        self._waiting: deque[_Job] = deque()

    def score(self, work: Iterator[NamedChunk], reader: ThreadPoolExecutor) -> Iterator[PartRecord]:
        """Keep every process busy until all chunks are done."""
        ahead = reader.submit(next, work, None)
        more = True
        failure: Exception | None = None
        while more or self._waiting or any(worker.jobs for worker in self._workers):
            if more and failure is None and not self._waiting and self._room():
                try:
                    item = ahead.result()
                except Exception as error:
                    failure, item = error, None
                more = item is not None
                if item is not None:
                    self._waiting.append(_Job(item))
                    ahead = reader.submit(next, work, None)
            self._hand_out()
            # while there is something to read and room for it, answers are looked at and not waited for
            for answer in self._answers(block=bool(self._waiting) or not (more and self._room())):
                if isinstance(answer, PartRecord):
                    yield answer
                else:
                    failure = failure or answer
            if failure is not None:
                more = False
                self._waiting.clear()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let the processes end."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.jobs:
                # interrupted, or the disk is full: what it writes aside now is swept up by the next run
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        given = (theirs, self._scorer, self._threads)
        process = self._context.Process(target=_serve, args=given, daemon=True)
        process.start()
        # its end of ours is in nobody's hands but its own: that it is gone is seen as an end of file
        theirs.close()
        return _Worker(process, ours)

    def _room(self) -> bool:
        return any(len(worker.jobs) < _QUEUED for worker in self._workers)

    def _hand_out(self) -> None:
        while self._waiting:
            free = [worker for worker in self._workers if worker.takes(self._waiting[0])]
            if not free:
                return
            worker = min(free, key=lambda item: len(item.jobs))
            job = self._waiting.popleft()
            worker.jobs.append(job)
            # a process that has just gone is noticed when it is listened to
            with suppress(OSError):
                worker.pipe.send(job.work)

    def _answers(self, *, block: bool) -> Iterator[PartRecord | Exception]:
        pipes = {worker.pipe: worker for worker in self._workers if worker.jobs}
        for pipe in wait(list(pipes), timeout=None if block else 0) if pipes else []:
            assert isinstance(pipe, Connection)
            worker = pipes[pipe]
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            if isinstance(answer, PartRecord):
                worker.jobs = [job for job in worker.jobs if job.work.name != answer.name]
            else:
                worker.jobs = []
            yield answer

    def _replace(self, worker: _Worker) -> Iterator[Exception]:
        worker.pipe.close()
        worker.process.join()
        lost, worker.jobs = worker.jobs, []
        for job in reversed(lost):
            job.tries += 1
            if job.tries >= _TRIES:
                yield RunError(
                    f"{job.place}: {_TRIES} processes that scored it were ended from outside or crashed "
                    f"(the last one with {worker.process.exitcode}).",
                    hint="Mostly memory is short: fewer --workers need less. The same command continues.",
                )
                return
            self._waiting.appendleft(job)
        self._workers[self._workers.index(worker)] = self._start()


def _serve(pipe: Connection, scorer: BatchScorer, threads: int) -> None:
    """Score what comes through ``pipe`` until it is closed."""
    # Ctrl-C reaches every process of a terminal; the first one decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _THREADS:
        os.environ.setdefault(name, str(threads))
    with suppress(OSError):
        try:
            for record in score_here(scorer, _received(pipe)):
                pipe.send(record)
        except Exception as error:
            pipe.send(_plain(error))


def _received(pipe: Connection) -> Iterator[NamedChunk]:
    with suppress(EOFError, OSError):
        while True:
            yield pipe.recv()


def _plain(error: Exception) -> AppsError:
    """Return an error that can travel: one of ours by its kind, anything else in words."""
    if isinstance(error, AppsError):
        kind = next(kind for kind in (DataError, ConfigError, RunError, AppsError) if isinstance(error, kind))
        return kind(error.message, hint=error.hint)
    return RunError(f"{type(error).__name__}: {error}")

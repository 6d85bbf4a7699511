"""Scoring in one process: the next chunk is read and the last one written while a chunk is scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from appliedpapers.pipelines.engines import BatchScorer, NamedChunk
from appliedpapers.pipelines.score_manifest import PartRecord

_WRITTEN_BEHIND = 1


def score_here(scorer: BatchScorer, work: Iterator[NamedChunk]) -> Iterator[PartRecord]:
    """Yield the records of parts, in the order of ``work``.

    At most three chunks are in memory beside the one that is being read: Arrow and the disk release the
    interpreter, so that a model which works in one thread leaves the other cores busy.

    Raises:
        AppsError: Whatever reading, scoring or writing raises, after the parts that are finished.
    """
    reader = ThreadPoolExecutor(1, "read")
    try:
        with ThreadPoolExecutor(1, "write") as writer:
            yield from _score(scorer, work, reader, writer)
    finally:
        # who fails does not wait for rows that nobody needs any more
        reader.shutdown(wait=False)


def _score(
    scorer: BatchScorer, work: Iterator[NamedChunk], reader: ThreadPoolExecutor, writer: ThreadPoolExecutor
) -> Iterator[PartRecord]:
    behind: deque[Future[PartRecord]] = deque()
    ahead: Future[NamedChunk | None] | None = reader.submit(next, work, None)
    try:
        while ahead is not None:
            awaited: list[Future[Any]] = [ahead, *list(behind)[:1]]
            wait(awaited, return_when=FIRST_COMPLETED)
            while behind and (behind[0].done() or len(behind) > _WRITTEN_BEHIND):
                yield behind.popleft().result()
            if not ahead.done():
                continue
            item = ahead.result()
            ahead = None
            if item is not None:
                ahead = reader.submit(next, work, None)
                behind.append(writer.submit(scorer.write, scorer.score(item)))
    except Exception:
        while behind:
            yield behind.popleft().result()
        raise
    while behind:
        yield behind.popleft().result()

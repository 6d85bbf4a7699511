"""Requests that wait for a model: one, several that may share a table, and how fast they are answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from appliedpapers.pipelines.serving_codec import Decoder, Parsed
from appliedpapers.pipelines.serving_problems import Refused

MOST_ROWS = 8192
_QUICK_S, SLOW_S = 0.002, 0.010
SAMPLES = 8

Finish = Callable[[bytes | None, Refused | None], None]
"""What is called in the event loop with the answer, or with the refusal."""


@dataclass(slots=True, eq=False)
class Item:
    """One request.

    Attributes:
        gone: Nobody waits for the answer any more.
    """

    body: bytes
    content_type: str | None
    finish: Finish
    gone: bool = False
    parsed: Parsed | None = None
    answer: bytes | None = None
    problem: Refused | None = None
    timer: asyncio.TimerHandle | None = None


class Group:
    """Requests whose cells are of the same kinds, so that none changes how another is read."""

    def __init__(self, first: Item, parsed: Parsed) -> None:
        self.items = [first]
        self.parts = [parsed]
        self.rows = parsed.rows
        self._kinds = dict(parsed.kinds)

    def takes(self, item: Item, parsed: Parsed) -> bool:
        """Take a request in, if it fits."""
        if self.rows + parsed.rows > MOST_ROWS or not self._fits(parsed):
            return False
        self._kinds |= {name: kind for name, kind in parsed.kinds.items() if kind is not None}
        self.items.append(item)
        self.parts.append(parsed)
        self.rows += parsed.rows
        return True

    def table(self, decoder: Decoder) -> pa.Table:
        """Return the joined rows, loosely typed."""
        tables = [part.table for part in self.parts if part.table is not None]
        return pa.concat_tables(tables).combine_chunks() if tables else decoder.from_columns(self._columns)

    @property
    def _columns(self) -> Mapping[str, list[Any]]:
        parts = [part.columns or {} for part in self.parts]
        if len(parts) == 1:
            return parts[0]
        return {name: [cell for part in parts for cell in part[name]] for name in self._kinds}

    def _fits(self, parsed: Parsed) -> bool:
        mine, theirs = self.parts[0].table, parsed.table
        if mine is not None and theirs is not None:
            return bool(mine.schema.equals(theirs.schema))
        if mine is not None or theirs is not None:
            return False
        if parsed.kinds.keys() != self._kinds.keys():
            return False
        return all(kind is None or self._kinds[name] in (None, kind) for name, kind in parsed.kinds.items())


class Pace:
    """Whether batches are computed in the event loop, judged by how long the last ones took.

    Attributes:
        quick: They are.
    """

    def __init__(self) -> None:
        self.quick = False
        self._recent: deque[float] = deque(maxlen=SAMPLES)

    def took(self, seconds: float) -> None:
        """Learn from a small batch."""
        if self.quick:
            self.quick = seconds < SLOW_S
            return
        self._recent.append(seconds)
        # the least of them: in a thread, time goes by while others hold the interpreter
        if len(self._recent) == SAMPLES and min(self._recent) < _QUICK_S:
            self.quick = True
            self._recent.clear()

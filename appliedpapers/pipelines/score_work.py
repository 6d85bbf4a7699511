"""The work of a scoring run: which parts there will be, which are there already, and making the others."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from appliedpapers.core.bundle import BundleInfo
from appliedpapers.core.fingerprint import file_fingerprint
from appliedpapers.core.progress import Progress, Task, rate_text
from appliedpapers.core.validation import check
from appliedpapers.pipelines.engines import NamedChunk
from appliedpapers.pipelines.score_chunks import Chunk, cut, cut_sorted
from appliedpapers.pipelines.score_files import Fragment
from appliedpapers.pipelines.score_manifest import Ledger, PartRecord
from appliedpapers.pipelines.score_sort import sorted_rows

if TYPE_CHECKING:
    from appliedpapers.core.plugin import TaskSpec


Engine = Callable[[Iterator[NamedChunk]], Iterator[PartRecord]]
"""Scores chunks, in any order; what it has finished it hands over before it raises."""


_SAID_EVERY_S, _FIRST_AFTER_S = 10.0, 2.0
_LOOKED_AT = 20


@dataclass
class Work:
    """What a run depends on.

    Attributes:
        fragments: The inputs, in order.
        info: The bundle's manifest.
        task: The model's task.
        identity: Job and model, as they enter the names of parts.
        rows: Rows of a chunk.
        limit: Rows after which scoring ends.
        sorting: Scratch folder where rows are first sorted by their groups; None where they stand together.
        say: Where a person is told something.
        notes: What was said.
    """

    fragments: Sequence[Fragment]
    info: BundleInfo
    task: TaskSpec
    identity: Sequence[Any]
    rows: int
    limit: int | None
    sorting: Path | None
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    _prints: dict[str, str] = field(default_factory=dict)

    @cached_property
    def alone(self) -> bool:
        """Whether every item is a chunk of its own, since items are dear."""
        # not before it is asked for: it imports the model, and a run that keeps all parts needs none
        return bool(self.task.load("model").cost == "job")

    @property
    def file_columns(self) -> tuple[str, ...]:
        """Input columns whose cells are files."""
        return tuple(column.name for column in self.info.input_schema.columns if column.file is not None)

    def note(self, text: str) -> None:
        """Say something that the summary repeats."""
        self.notes.append(text)
        self.say(text)

    def units(self) -> list[Sequence[Fragment]]:
        """Return the fragments that are read together: alone, or all where groups may reach over files."""
        if self.info.input_schema.group_by:
            return [self.fragments]
        return [[fragment] for fragment in self.fragments]

    @cached_property
    def expected_rows(self) -> int | None:
        """About how many rows there will be, by some of the files; None where they do not tell."""
        looked = self.fragments[:_LOOKED_AT]
        counts = [fragment.rows() for fragment in looked]
        if None in counts:
            return self.limit
        share = sum(item.size for item in self.fragments) / sum(item.size for item in looked)
        total = round(share * sum(count or 0 for count in counts))
        return total if self.limit is None else min(total, self.limit)

    def unit_key(self, unit: Sequence[Fragment], left: int | None) -> str:
        """Hash everything that the parts of a unit depend on, apart from the files that its rows name."""
        files = [[fragment.place, fragment.fingerprint] for fragment in unit]
        return _digest([*self.identity, self.rows, left, files, *(["sorted"] if self.sorting else [])])

    def chunks(self, unit: Sequence[Fragment], left: int | None) -> Iterator[NamedChunk]:
        """Yield the chunks of a unit with the names of their parts, up to ``left`` rows."""
        for chunk in self._cut(unit):
            if left is not None:
                if left <= 0:
                    return
                chunk = chunk.head(left)
                left -= chunk.table.num_rows + len(chunk.broken)
            yield self._named(chunk)

    def _cut(self, unit: Sequence[Fragment]) -> Iterator[Chunk]:
        schema = self.info.input_schema
        if self.sorting is None:
            yield from cut(unit, schema, rows=self.rows, alone=self.alone, say=self.note)
            return
        self.say(f"sorting {len(unit)} inputs by {', '.join(schema.group_by)}")
        with sorted_rows(unit, schema, self.rows, self.sorting, self.note) as rows:
            yield from cut_sorted(rows, schema, size=self.rows, alone=self.alone)

    def _named(self, chunk: Chunk) -> NamedChunk:
        """Name a chunk by row numbers and file fingerprints, or by content where items are dear."""
        chunk, given = _absolute_paths(chunk, self.file_columns)
        rows: list[Any] = [[item.row, item.value] for item in chunk.broken]
        for origin in chunk.origins:
            numbers = hashlib.sha256(origin.rows.data).hexdigest()
            rows.append([origin.fragment.place, numbers, "" if self.alone else origin.fragment.fingerprint])
        if self.alone:
            rows.append(repr(chunk.table.to_pylist()))
        prints = [self._print(path) for path in sorted(given)]
        return NamedChunk(f"part-{_digest([*self.identity, rows, prints])[:20]}", chunk, given)

    def _print(self, path: str) -> str:
        if path not in self._prints:
            self._prints[path] = file_fingerprint(Path(path))
        return f"{path}:{self._prints[path]}"


@dataclass
class Tally:
    """The parts of a run.

    Attributes:
        parts: Records of written and kept parts, in input order.
        written: How many were written, or would be.
        written_rows: Input rows of those.
        waiting_rows: Rows that a dry run found to be scored.
        waiting_rejected: How many of them break the contract.
    """

    parts: list[PartRecord] = field(default_factory=list)
    written: int = 0
    written_rows: int = 0
    waiting_rows: int = 0
    waiting_rejected: int = 0


def execute(work: Work, ledger: Ledger, engine: Engine, progress: Progress) -> Tally:
    """Score what is not there yet; keep what is.

    Raises:
        DataError: An input cannot be read, lacks a column, or a group reappears. Finished parts stay.
        RunError: A part cannot be written, or the model fails on everything.
    """
    tally = Tally()
    with progress.task("score", work.expected_rows) as task:
        plan = _Plan(work, ledger, task)
        for part in engine(plan.waiting()):
            plan.done(part)
            tally.written += 1
            tally.written_rows += part.rows_in
        tally.parts = plan.finished()
    return tally


@dataclass
class _Unit:
    """Fragments that are read together, and the names of their parts as far as they are known."""

    key: str
    names: list[str] = field(default_factory=list)
    read: bool = False


class _Pace:
    """Rows a second and the time that is left, now and then."""

    def __init__(self, total: int | None) -> None:
        self._left, self._done = total, 0
        self._began = time.monotonic()
        self._said = self._began - _SAID_EVERY_S + _FIRST_AFTER_S

    def skip(self, rows: int) -> None:
        """Count rows whose part was there already."""
        self._left = None if self._left is None else self._left - rows

    def note(self, rows: int) -> str | None:
        """Count rows that were scored; return what to say, or None too soon after it was said last."""
        self.skip(rows)
        self._done += rows
        now = time.monotonic()
        if now - self._said < _SAID_EVERY_S:
            return None
        self._said = now
        speed = self._done / (now - self._began)
        said = f"{rate_text(speed)} rows/s"
        if self._left is None:
            return said
        seconds = round(max(self._left, 0) / speed)
        return f"{said} · {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"


class _Plan:
    """Which parts a run consists of, in input order, while they are made in any order.

    An engine may ask for what waits in another thread than it hands in what is done.
    """

    def __init__(self, work: Work, ledger: Ledger, task: Task) -> None:
        self._work, self._ledger, self._task = work, ledger, task
        self._units: list[_Unit] = []
        self._parts: dict[str, PartRecord] = {}
        self._closed = 0
        self._pace = _Pace(work.expected_rows)

    def waiting(self) -> Iterator[NamedChunk]:
        """Yield the chunks whose parts are not there yet."""
        left = self._work.limit
        for fragments in self._work.units():
            if left is not None and left <= 0:
                break
            unit = _Unit(self._work.unit_key(fragments, left))
            kept = _kept_unit(self._work, self._ledger, unit.key)
            self._units.append(unit)
            rows = 0
            if kept is not None:
                for part in kept:
                    self._keep(unit, part)
                    rows += part.rows_in
            else:
                for named in self._work.chunks(fragments, left):
                    rows += named.chunk.table.num_rows + len(named.chunk.broken)
                    found = _kept(self._ledger, named.name)
                    if found is None:
                        unit.names.append(named.name)
                        yield named
                    else:
                        self._keep(unit, found)
            unit.read = True
            left = None if left is None else left - rows

    def done(self, part: PartRecord) -> None:
        """Take over a part that was just made, also across a kill."""
        self._ledger.add_part(part)
        self._parts[part.name] = part
        self._task.advance(part.rows_in, note=self._pace.note(part.rows_in))
        self._close()

    def finished(self) -> list[PartRecord]:
        """Return the records of all parts, in input order."""
        self._close()
        return [self._parts[name] for unit in self._units for name in unit.names]

    def _keep(self, unit: _Unit, part: PartRecord) -> None:
        self._parts[part.name] = part
        unit.names.append(part.name)
        self._pace.skip(part.rows_in)
        self._task.advance(part.rows_in)

    def _close(self) -> None:
        for unit in self._units[self._closed :]:
            if not unit.read or not all(name in self._parts for name in unit.names):
                return
            self._ledger.add_unit(unit.key, unit.names)
            self._closed += 1


def rehearse(work: Work, ledger: Ledger) -> Tally:
    """Read and check what is not there yet; predict and write nothing."""
    tally = Tally()
    left = work.limit
    for unit in work.units():
        for named in work.chunks(unit, left):
            chunk = named.chunk
            rows = chunk.table.num_rows
            left = None if left is None else left - rows - len(chunk.broken)
            kept = _kept(ledger, named.name)
            if kept is not None:
                tally.parts.append(kept)
                continue
            tally.written += 1
            tally.waiting_rows += rows + len(chunk.broken)
            tally.waiting_rejected += len(chunk.broken)
            if rows:
                checked = check(chunk.table, work.info.input_schema, source=chunk.locate(0)[0])
                tally.waiting_rejected += len(checked.rejected)
    return tally


def _kept(ledger: Ledger, name: str) -> PartRecord | None:
    part = ledger.parts.get(name)
    return part if part is not None and part.intact(ledger.output) else None


def _kept_unit(work: Work, ledger: Ledger, key: str) -> list[PartRecord] | None:
    """Return the parts of a unit that needs not even be read, or None."""
    if work.file_columns or key not in ledger.units:
        return None
    parts = [_kept(ledger, name) for name in ledger.units[key]]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) else None


def _absolute_paths(chunk: Chunk, columns: Sequence[str]) -> tuple[Chunk, dict[str, str]]:
    """Make paths absolute, which the input gives relative to its own folder."""
    table, given = chunk.table, {}
    for name in columns:
        if name not in table.column_names or not pa.types.is_string(table.schema.field(name).type):
            continue
        cells = table.column(name).to_pylist()
        position = 0
        for origin in chunk.origins:
            for place in range(position, position + len(origin.rows)):
                if cells[place] is not None:
                    path = origin.fragment.beside(cells[place])
                    given[path] = cells[place]
                    cells[place] = path
            position += len(origin.rows)
        table = table.set_column(table.column_names.index(name), name, pa.array(cells, pa.string()))
    return replace(chunk, table=table), given


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

"""The work of a scoring run: which parts there will be, which are there already, and making the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from appliedpapers.core.bundle import BundleInfo
from appliedpapers.core.fingerprint import file_fingerprint
from appliedpapers.core.progress import Progress
from appliedpapers.core.validation import check
from appliedpapers.pipelines.engines import BatchScorer, NamedChunk, score_locally
from appliedpapers.pipelines.score_chunks import Chunk, cut
from appliedpapers.pipelines.score_input import Fragment
from appliedpapers.pipelines.score_manifest import Ledger, PartRecord


@dataclass
class Work:
    """What a run depends on.

    Attributes:
        fragments: The inputs, in order.
        info: The bundle's manifest.
        alone: Every item is a chunk of its own, since items are dear.
        identity: Job and model, as they enter the names of parts.
        rows: Rows of a chunk.
        limit: Rows after which scoring ends.
        say: Where a person is told something.
        notes: What was said.
    """

    fragments: Sequence[Fragment]
    info: BundleInfo
    alone: bool
    identity: Sequence[Any]
    rows: int
    limit: int | None
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    _prints: dict[str, str] = field(default_factory=dict)

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

    def unit_key(self, unit: Sequence[Fragment], left: int | None) -> str:
        """Hash everything that the parts of a unit depend on, apart from the files that its rows name."""
        files = [[str(fragment.path), fragment.fingerprint] for fragment in unit]
        return _digest([*self.identity, self.rows, left, files])

    def chunks(self, unit: Sequence[Fragment], left: int | None) -> Iterator[NamedChunk]:
        """Yield the chunks of a unit with the names of their parts, up to ``left`` rows."""
        schema = self.info.input_schema
        for chunk in cut(unit, schema, rows=self.rows, alone=self.alone, say=self.note):
            if left is not None:
                if left <= 0:
                    return
                chunk = chunk.head(left)
                left -= chunk.table.num_rows + len(chunk.broken)
            yield self._named(chunk)

    def _named(self, chunk: Chunk) -> NamedChunk:
        """Name a chunk by row numbers and file fingerprints, or by content where items are dear."""
        chunk, given = _absolute_paths(chunk, self.file_columns)
        rows: list[Any] = [[item.row, item.value] for item in chunk.broken]
        for origin in chunk.origins:
            numbers = hashlib.sha256(origin.rows.tobytes()).hexdigest()
            rows.append(
                [str(origin.fragment.path), numbers, "" if self.alone else origin.fragment.fingerprint]
            )
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


def execute(work: Work, ledger: Ledger, scorer: BatchScorer, progress: Progress) -> Tally:
    """Score what is not there yet; keep what is.

    Raises:
        DataError: An input cannot be read, lacks a column, or a group reappears. Finished parts stay.
        RunError: A part cannot be written, or the model fails on everything.
    """
    tally = Tally()
    left = work.limit
    with progress.task("score") as task:
        for unit in work.units():
            if left is not None and left <= 0:
                break
            key = work.unit_key(unit, left)
            parts = _kept_unit(work, ledger, key)
            if parts is None:
                parts = []
                for part, fresh in _parts(work, ledger, unit, left, scorer):
                    parts.append(part)
                    tally.written += fresh
                    tally.written_rows += part.rows_in if fresh else 0
                    task.advance(part.rows_in)
                ledger.add_unit(key, [part.name for part in parts])
            tally.parts += parts
            if left is not None:
                left -= sum(part.rows_in for part in parts)
    return tally


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


def _parts(
    work: Work, ledger: Ledger, unit: Sequence[Fragment], left: int | None, scorer: BatchScorer
) -> Iterator[tuple[PartRecord, bool]]:
    for named in work.chunks(unit, left):
        kept = _kept(ledger, named.name)
        if kept is not None:
            yield kept, False
            continue
        for part in score_locally(scorer, [named]):
            ledger.add_part(part)
            yield part, True


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
                    path = str(origin.fragment.path.parent / cells[place])
                    given[path] = cells[place]
                    cells[place] = path
            position += len(origin.rows)
        table = table.set_column(table.column_names.index(name), name, pa.array(cells, pa.string()))
    return replace(chunk, table=table), given


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

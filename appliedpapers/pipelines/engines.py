"""The unit of work of batch scoring."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import DataError, RunError
from appliedpapers.core.files import delivered_files, whole_file
from appliedpapers.core.inference import predict_usable
from appliedpapers.core.profile import Counts, counts_of, sample
from appliedpapers.core.progress import Progress
from appliedpapers.core.schema import Violation, violations_table
from appliedpapers.core.tables import storable
from appliedpapers.pipelines.predict import read_rows_as
from appliedpapers.pipelines.score_chunks import Chunk, join
from appliedpapers.pipelines.score_drift import profile_in
from appliedpapers.pipelines.score_manifest import (
    FILES,
    PREDICTIONS,
    QUARANTINE,
    FailedItem,
    PartOrigin,
    PartRecord,
    StoredFile,
)

if TYPE_CHECKING:
    from appliedpapers.core.model import Model
    from appliedpapers.pipelines.locate import ModelRef

_HOPELESS = 64
_LOOKED_AT = 4096
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


@dataclass(frozen=True)
class NamedChunk:
    """A chunk, and the name of the part that it becomes.

    Attributes:
        name: By job, model, rows and fingerprints.
        chunk: The rows; paths in file columns are absolute.
        given: The paths as the input writes them, by absolute path.
    """

    name: str
    chunk: Chunk
    given: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Outcome:
    """What became of the rows of a chunk."""

    tables: list[pa.Table] = field(default_factory=list)
    inputs: list[pa.Table] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    rejected: int = 0
    failed: list[FailedItem] = field(default_factory=list)


@dataclass(frozen=True)
class ScoredChunk:
    """A chunk whose rows are scored and not written yet."""

    work: NamedChunk
    outcome: _Outcome
    table: pa.Table


class BatchScorer:
    """Scores one chunk: predicts, and writes its part, its quarantine and its files.

    A chunk is the only thing that travels to it and a :class:`PartRecord` the only thing that comes back, so
    that it may live in another process.

    Args:
        found: The model, loaded when the first chunk comes.
        output: The output folder.
        device: A resolved device.
        progress: Where models report whose items are jobs.
        assignments: ``a.b=c`` overrides that say how the model reads its rows.
    """

    def __init__(
        self,
        found: ModelRef,
        output: Path,
        device: str = "cpu",
        progress: Progress | None = None,
        assignments: Sequence[str] = (),
    ) -> None:
        self._progress = progress
        self._assignments = assignments
        self.found = found
        self.output = output
        self.device = device
        self._scored_any = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as what it was made of; the model is loaded there."""
        found = replace(self.found)
        return BatchScorer, (found, self.output, self.device, None, self._assignments)

    @cached_property
    def model(self) -> Model:
        """The model.

        Raises:
            ConfigError: An override says nothing about how rows are read.
        """
        model = self.found.load(self.device)
        read_rows_as(model, self._assignments)
        if self._progress is not None:
            model.progress = self._progress
        return model

    def __call__(self, work: NamedChunk) -> PartRecord:
        """Score ``work`` and write its part.

        Raises:
            RunError: Nothing can be written, or the model fails on everything.
        """
        return self.write(self.score(work))

    def score(self, work: NamedChunk) -> ScoredChunk:
        """Predict, and write what the model delivers beside its rows.

        Raises:
            RunError: The model fails on everything, or its files cannot be written.
        """
        outcome = self._score(work.chunk, self.output / FILES / work.name)
        table = self._collect(outcome.tables)
        return ScoredChunk(work, outcome, _restore_keys(table, self.model.output_schema.keys, work.given))

    def write(self, scored: ScoredChunk) -> PartRecord:
        """Write the part and the quarantine of a scored chunk; may be called while the next one is scored.

        Raises:
            RunError: They cannot be written.
        """
        outcome, table = scored.outcome, scored.table
        name, chunk = scored.work.name, scored.work.chunk
        files = self.output / FILES / name
        violations = [*chunk.broken, *outcome.violations]
        quarantine = self._write(QUARANTINE, name, violations_table(violations)) if violations else None
        predictions = self._write(PREDICTIONS, name, table)
        return PartRecord(
            name=name,
            model=f"{self.found.name}@{self.found.edition}",
            origins=tuple(
                PartOrigin(
                    origin.fragment.place,
                    origin.fragment.fingerprint,
                    len(origin.rows),
                    int(origin.rows.min()) if len(origin.rows) else None,
                    int(origin.rows.max()) if len(origin.rows) else None,
                )
                for origin in chunk.origins
            ),
            rows_in=chunk.table.num_rows + len(chunk.broken),
            rows_out=table.num_rows,
            rejected=outcome.rejected + len(chunk.broken),
            failed=tuple(outcome.failed),
            predictions=predictions,
            quarantine=quarantine,
            files=tuple(StoredFile.of(path, self.output) for path in delivered_files(files)),
            counts=self._counts(outcome, table),
        )

    @cached_property
    def _profile(self) -> dict[str, Any]:
        found = profile_in(self.found.info)
        # rows that are read otherwise than in training may well have other units
        return {**found, "inputs": {}} if self._assignments else found

    def _counts(self, outcome: _Outcome, table: pa.Table) -> dict[str, Counts]:
        inputs, predictions = self._profile.get("inputs"), self._profile.get("predictions")
        counts = {}
        if inputs and outcome.inputs:
            counts["inputs"] = counts_of(join(outcome.inputs), inputs)
        if predictions and table.num_rows:
            counts["predictions"] = counts_of(table, predictions)
        return counts

    def _score(self, chunk: Chunk, files: Path) -> _Outcome:
        outcome = _Outcome()
        if not chunk.table.num_rows:
            return outcome
        if self.model.cost == "instant":
            # left by a run that was killed; of a job, the next try goes on from it
            shutil.rmtree(files, ignore_errors=True)
        whole = self._with_files(chunk, outcome)
        if len(whole.starts):
            self._score_items(whole, 0, len(whole.starts), files, outcome)
        if not any(path.is_file() for path in files.rglob("*")):
            shutil.rmtree(files, ignore_errors=True)
        return outcome

    def _score_items(self, chunk: Chunk, first: int, last: int, files: Path, outcome: _Outcome) -> None:
        """Predict items ``first`` to ``last``; where that raises, halve until the culprits stand alone.

        Each half has a folder of its own, since a model may list in one file all that it is asked for.
        """
        begin, end = (int(place) for place in np.append(chunk.starts, chunk.table.num_rows)[[first, last]])
        files.mkdir(parents=True, exist_ok=True)
        try:
            prediction = predict_usable(
                self.model,
                chunk.table.slice(begin, end - begin),
                source=chunk.locate(begin)[0],
                files=files,
                first_row=begin,
                listed=(end - begin) * len(self.model.input_schema.columns),
            )
        except Exception as error:
            if _disk_refuses(error):
                raise
            if self.model.cost == "instant":
                shutil.rmtree(files)
            if last - first > 1:
                middle = (first + last) // 2
                self._score_items(chunk, first, middle, files / "1", outcome)
                self._score_items(chunk, middle, last, files / "2", outcome)
            else:
                self._note_failure(chunk, begin, end, error, outcome)
            return
        outcome.violations += [_placed(item, chunk) for item in prediction.violations]
        outcome.rejected += len(prediction.rejected)
        if prediction.table is not None:
            self._scored_any = True
            if prediction.inputs is not None and (known := self._profile.get("inputs")):
                # a sample: to count them all would cost as much as a cheap model
                outcome.inputs.append(sample(prediction.inputs, known))
            outcome.tables.append(self._below_output(prediction.table, files))

    def _note_failure(self, chunk: Chunk, begin: int, end: int, error: Exception, outcome: _Outcome) -> None:
        names = self.model.input_schema.group_by or self.model.input_schema.names[:1]
        key = ", ".join(str(chunk.table.column(name)[begin].as_py()) for name in names)
        if isinstance(error, DataError):
            found = Violation("", begin, ", ".join(names), key, error.message)
            outcome.violations.append(_placed(found, chunk))
            outcome.rejected += end - begin
            return
        file, row = chunk.locate(begin)
        outcome.failed.append(FailedItem(file, row, key, f"{type(error).__name__}: {error}"))
        if not self._scored_any and len(outcome.failed) >= _HOPELESS:
            raise RunError(
                f"the model failed on each of the first {_HOPELESS} items: {outcome.failed[0].error}",
                hint="Nothing was scored. Check that the model fits these inputs (apps predict, --debug).",
            ) from error

    def _with_files(self, chunk: Chunk, outcome: _Outcome) -> Chunk:
        """Return the items that have all the files that they name."""
        keep = np.ones(len(chunk.starts), dtype=bool)
        for column in self.model.input_schema.columns:
            if column.file is None or column.name not in chunk.table.column_names:
                continue
            cells = chunk.table.column(column.name)
            if not pa.types.is_string(cells.type):
                continue
            for position, cell in enumerate(cells.to_pylist()):
                if cell is not None and not Path(cell).exists():
                    keep[np.searchsorted(chunk.starts, position, side="right") - 1] = False
                    found = Violation("", position, column.name, cell, f"{cell!r}: no such file")
                    outcome.violations.append(_placed(found, chunk))
        whole = chunk.only(keep)
        outcome.rejected += chunk.table.num_rows - whole.table.num_rows
        return whole

    def _collect(self, tables: list[pa.Table]) -> pa.Table:
        expected = self.model.output_schema.arrow_schema()
        if not tables:
            return expected.empty_table()
        return _conform(pa.concat_tables(tables, promote_options="permissive"), expected)

    def _below_output(self, table: pa.Table, files: Path) -> pa.Table:
        """Make the paths of delivered files relative to the output folder."""
        prefix = files.relative_to(self.output).as_posix()
        for column in self.model.output_schema.columns:
            if column.file is not None:
                place = table.column_names.index(column.name)
                cells = table.column(place).to_pylist()
                paths = [None if cell is None else f"{prefix}/{cell}" for cell in cells]
                table = table.set_column(place, column.name, pa.array(paths, pa.string()))
        return table

    def _write(self, folder: str, name: str, table: pa.Table) -> StoredFile:
        import pyarrow.parquet as pq

        path = self.output / folder / f"{name}.parquet"
        table = storable(table)
        with whole_file(path) as aside:
            pq.write_table(table, aside, compression="zstd", use_dictionary=_repetitive(table))
        return StoredFile.of(path, self.output)


def _repetitive(table: pa.Table) -> list[str]:
    """Return the columns whose values repeat: a dictionary of values that do not costs half the writing."""
    few = table.slice(0, _LOOKED_AT)
    names = []
    for name, column in zip(few.column_names, few.columns, strict=True):
        plain = pa.types.is_primitive(column.type) or pa.types.is_string(column.type)
        if not plain or column.type == pa.float64() or column.type == pa.float32():
            continue
        if len(column.unique()) <= len(column) // 2:
            names.append(name)
    return names


def _placed(violation: Violation, chunk: Chunk) -> Violation:
    if violation.row is None:
        return replace(violation, file=chunk.origins[0].fragment.name)
    file, row = chunk.locate(violation.row)
    return replace(violation, file=file, row=row)


def _restore_keys(table: pa.Table, keys: Sequence[str], given: Mapping[str, str]) -> pa.Table:
    for name in keys if given else ():
        place = table.column_names.index(name)
        kind = table.schema.field(place).type
        if pa.types.is_string(kind):
            cells = [given.get(cell, cell) for cell in table.column(place).to_pylist()]
            table = table.set_column(place, name, pa.array(cells, kind))
    return table


def _conform(table: pa.Table, expected: pa.Schema) -> pa.Table:
    """Give the columns of the output schema their types, so that all parts read as one table."""
    for wanted in expected:
        place = table.column_names.index(wanted.name)
        if table.schema.field(place).type != wanted.type:
            try:
                column = table.column(place).cast(wanted.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise RunError(
                    f"the model returned column '{wanted.name}' as {table.schema.field(place).type}, "
                    f"its schema says {wanted.type}.",
                    hint="This is a defect of the plugin; apps check finds it.",
                ) from error
            table = table.set_column(place, pa.field(wanted.name, wanted.type), column)
    return table


def _disk_refuses(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False

"""Datasets: named splits with provenance, fingerprints and a leakage audit."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Self

from appliedpapers.core.files import sha256_file
from appliedpapers.core.fingerprint import table_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.audit import RowSet

PARTS = ("train", "valid", "test")
"""What the parts of a dataset are called."""

_WORDS = {
    **{"train": "train", "training": "train", "0": "train"},
    **{"valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "1": "valid"},
    **{"test": "test", "testing": "test", "2": "test"},
}
_EXAMPLES_SHOWN = 5


def part_named(text: str) -> str | None:
    """Return the part of :data:`PARTS` that a user's word means, such as ``Val`` or ``1``; None if none."""
    return _WORDS.get(text.strip().lower())


@dataclass(frozen=True)
class Provenance:
    """Where data comes from and on what terms.

    Attributes:
        source: A name or address that a reader can follow.
        licence: SPDX id or a sentence.
        synthetic: True when no row was ever observed.
        sha256: The sha256 of each file by its name, never another checksum.
        citation: How to cite it, if it wants to be cited.
    """

    source: str
    licence: str
    synthetic: bool
    sha256: dict[str, str] = field(default_factory=dict)
    citation: str | None = None

    @classmethod
    def of_simulator(cls, module: str) -> Self:
        """Say that data were made by a module of the package."""
        return cls(module, "Apache-2.0", synthetic=True)

    @classmethod
    def of_user(
        cls, path: Path, files: Iterable[Path] | None = None, *, sha256: Mapping[str, str] | None = None
    ) -> Self:
        """Say that data are the user's own.

        Args:
            path: The file or folder that was given.
            files: What was read of a folder, each to be hashed; a file stands for itself.
            sha256: Sums by name, where files are not hashed one by one.
        """
        if sha256 is None:
            folder = path if path.is_dir() else path.parent
            sha256 = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files or [path]}
        return cls(path.name, "not stated (the user's own data)", synthetic=False, sha256=dict(sha256))


class Split(ABC):
    """One part of a dataset; plugins extend it with the arrays that their own model reads."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """How many units are learned from or scored (rows, windows, scenes, cases)."""

    @abstractmethod
    def keys(self) -> pa.Table:
        """Return the identity of every target row; no row may stand in two splits."""

    @abstractmethod
    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield inputs and targets in record batches, lazily."""

    @abstractmethod
    def example(self, limit: int = 1) -> pa.Table:
        """Return up to ``limit`` groups as a user would send them to ``predict``."""

    def signatures(self) -> pa.Array | None:
        """Return one content hash a row for duplicate detection, or None where it has no meaning.

        Any Arrow array will do, numbers or text; null where a row has no content.
        """
        return None

    def spans(self) -> pa.Table | None:
        """Return what each row's window covers, or None where rows are no windows of a series.

        Columns ``group`` (the series), ``first`` and ``stop`` (whole numbers, ``stop`` not included).
        Windows of two parts that overlap are leakage.
        """
        return None

    def fingerprint(self) -> str:
        """Return the sha256 of the content, independent of batching."""
        import pyarrow as pa

        table = pa.Table.from_batches(list(self.batches()))
        return table_fingerprint(table)


class TableSplit(Split):
    """A split that is one in-memory table.

    Args:
        table: Inputs and targets.
        key: Columns that identify a row.
        targets: Columns that the model must not be sent.
    """

    def __init__(self, table: pa.Table, *, key: tuple[str, ...], targets: tuple[str, ...] = ()) -> None:
        self.table = table
        self._key = key
        self._targets = targets

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def keys(self) -> pa.Table:
        """Return the key columns."""
        return self.table.select(list(self._key))

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield the table in batches."""
        yield from self.table.to_batches(max_chunksize=max_rows)

    def inputs(self) -> pa.Table:
        """Return the table without its targets."""
        return self.table.drop_columns(list(self._targets))

    def example(self, limit: int = 1) -> pa.Table:
        """Return the first ``limit`` rows without their targets."""
        return self.inputs().slice(0, limit)

    def signatures(self) -> pa.Array | None:
        """Hash every input row without its key; null where a row holds nothing but nulls."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from appliedpapers.core.row_hashes import row_hashes

        rest = self.inputs().drop_columns(list(self._key))
        if not rest.num_columns:
            return None
        empty = np.ones(rest.num_rows, dtype=bool)
        for column in rest.columns:
            empty &= np.asarray(pc.is_null(column))
        return pa.array(row_hashes(rest), mask=empty)


@dataclass(frozen=True)
class Dataset:
    """Named splits and everything a report must say about them.

    Attributes:
        name: The id given to ``--dataset``, or the file name given to ``--data``.
        protocol: Name of the split and scaling rules; figures of two protocols are never compared.
        provenance: Source, licence, checksums, whether synthetic.
        train: Rows to learn from.
        valid: Rows to choose on.
        test: Rows for the last look.
        summary: One line of size, such as ``"8 series × 17,520 steps, hourly"``.
        split_note: One line of how the splits were cut.
        disjoint: Key columns whose values may not cross splits (patient, device, scene).
        notes: Sentences for the report: gaps, imputations, rows left out.
        warnings: Sentences that stand beside every table of a run.
        folds: The triples of a protocol with several: k-fold, leave-one-out, rolling, a source left out at a
            time. Everything is then fitted and tested on each of them and scores are pooled
            (:func:`appliedpapers.core.pooling.pooled`); ``train`` and ``valid`` are all that the model which
            is registered learns from, and ``test`` is not scored itself.
        fold: Name of this triple among several, such as ``"fold-2"``.
    """

    name: str
    protocol: str
    provenance: Provenance
    train: Split
    valid: Split
    test: Split
    summary: str = ""
    split_note: str = ""
    disjoint: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    folds: tuple[Dataset, ...] = ()
    fold: str = ""

    def resamples(self) -> tuple[Dataset, ...]:
        """Return the triples that are fitted and tested on: the folds, or this one alone."""
        return self.folds or (self,)

    @property
    def test_size(self) -> int:
        """How many units are scored, over all triples."""
        return sum(sample.test.num_rows for sample in self.resamples())

    def example(self, limit: int = 1) -> pa.Table:
        """Return up to ``limit`` groups of train; where it is empty, of test or else of valid."""
        parts = (self.train, self.test, self.valid)
        return next((part for part in parts if part.num_rows), self.train).example(limit)

    def fingerprint(self) -> str:
        """Return the sha256 over the content of all splits."""
        parts = [split.fingerprint() for split in (self.train, self.valid, self.test)]
        return _digest([self.protocol, *parts])

    def test_fingerprint(self) -> str:
        """Return the sha256 of the sorted test keys and the protocol's name.

        Simulated rows have the same keys under every seed, so there the content counts, too.
        """
        from appliedpapers.core.audit import digest_of_rows

        samples = self.resamples()
        made = [sample.test.fingerprint() for sample in samples] if self.provenance.synthetic else []
        return digest_of_rows([self.protocol, *made], [sample.test.keys() for sample in samples])


@dataclass(frozen=True)
class LeakageFinding:
    """Rows, groups or contents that stand in two splits of one triple."""

    kind: str
    splits: tuple[str, str]
    count: int
    examples: tuple[str, ...]

    def sentence(self) -> str:
        """Return the finding in words."""
        shown = ", ".join(self.examples)
        return f"{self.count} {self.kind} in both {self.splits[0]} and {self.splits[1]} (for example {shown})"


def leakage_audit(dataset: Dataset) -> list[LeakageFinding]:
    """Look for rows, groups and duplicated contents that cross the splits of any triple.

    Returns:
        The findings; an empty list means that none was found.
    """
    from appliedpapers.core.audit import RowSet, common_rows, overlapping

    findings: list[LeakageFinding] = []
    for sample in dataset.resamples():
        parts = {"train": sample.train, "valid": sample.valid, "test": sample.test}
        named = {f"{part} of {sample.fold}" if sample.fold else part: split for part, split in parts.items()}
        pairs, found = list(combinations(named, 2)), list[LeakageFinding]()
        kinds: dict[str, Callable[[Split], RowSet | None]] = {"rows": lambda split: RowSet(split.keys())}
        for column in dataset.disjoint:
            kinds[f"values of '{column}'"] = partial(_values_of, column)
        kinds["identical contents"] = _contents_of
        # one kind after the other: the sets of tens of millions of rows are large
        for kind, rows_of in kinds.items():
            made = {name: rows_of(split) for name, split in named.items()}
            sets = {name: rows for name, rows in made.items() if rows is not None}
            for a, b in pairs:
                if a in sets and b in sets:
                    count, examples = common_rows(sets[a], sets[b], _EXAMPLES_SHOWN)
                    found += [LeakageFinding(kind, (a, b), count, examples)] if count else []
            del made, sets
        for a, b in pairs:
            spans = named[a].spans(), named[b].spans()
            if spans[0] is not None and spans[1] is not None:
                count, examples = overlapping(spans[0], spans[1], _EXAMPLES_SHOWN)
                found += (
                    [LeakageFinding("windows that overlap one", (a, b), count, examples)] if count else []
                )
        findings += sorted(found, key=lambda finding: pairs.index(finding.splits))
    return findings


def _values_of(column: str, split: Split) -> RowSet:
    from appliedpapers.core.audit import RowSet

    return RowSet.of(split.keys().column(column))


def _contents_of(split: Split) -> RowSet | None:
    from appliedpapers.core.audit import RowSet

    contents = split.signatures()
    return None if contents is None else RowSet.of(contents.drop_null())


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

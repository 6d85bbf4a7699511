"""Datasets: named splits with provenance, fingerprints and a leakage audit."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from appliedpapers.core.fingerprint import table_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

_EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class Provenance:
    """Where data comes from and on what terms.

    Attributes:
        source: A name or address that a reader can follow.
        licence: SPDX id or a sentence.
        synthetic: True when no row was ever observed.
        sha256: Checksum of each file by its name.
        citation: How to cite it, if it wants to be cited.
    """

    source: str
    licence: str
    synthetic: bool
    sha256: dict[str, str] = field(default_factory=dict)
    citation: str | None = None


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
        """Return one content hash a row for duplicate detection, or None where it has no meaning."""
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
        import pyarrow as pa

        rest = self.inputs().drop_columns(list(self._key))
        if not rest.num_columns:
            return None
        rows = zip(*(column.to_pylist() for column in rest.columns), strict=True)
        hashes = [None if all(cell is None for cell in row) else _row_hash(row) for row in rows]
        return pa.array(hashes, pa.string())


@dataclass(frozen=True)
class Resample:
    """One triple of a protocol with several splits: k-fold, leave-one-out, rolling."""

    train: Split
    valid: Split
    test: Split
    name: str = "all"


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

    def resamples(self) -> Iterator[Resample]:
        """Yield the triples of the protocol; one unless a subclass has more."""
        yield Resample(self.train, self.valid, self.test)

    def fingerprint(self) -> str:
        """Return the sha256 over the content of all splits."""
        parts = [split.fingerprint() for split in (self.train, self.valid, self.test)]
        return _digest([self.protocol, *parts])

    def test_fingerprint(self) -> str:
        """Return the sha256 of the sorted test keys and the protocol's name.

        Simulated rows have the same keys under every seed, so there the content counts, too.
        """
        samples = list(self.resamples())
        hashes = sorted(key_hash for sample in samples for key_hash in _row_hashes(sample.test.keys()))
        made = [sample.test.fingerprint() for sample in samples] if self.provenance.synthetic else []
        return _digest([self.protocol, *made, *hashes])


@dataclass(frozen=True)
class LeakageFinding:
    """Rows, groups or contents that stand in two splits of one resample."""

    kind: str
    splits: tuple[str, str]
    count: int
    examples: tuple[str, ...]

    def sentence(self) -> str:
        """Return the finding in words."""
        shown = ", ".join(self.examples)
        return f"{self.count} {self.kind} in both {self.splits[0]} and {self.splits[1]} (for example {shown})"


def leakage_audit(dataset: Dataset) -> list[LeakageFinding]:
    """Look for rows, groups and duplicated contents that cross the splits of any resample.

    Returns:
        The findings; an empty list means that none was found.
    """
    findings: list[LeakageFinding] = []
    for sample in dataset.resamples():
        named = {"train": sample.train, "valid": sample.valid, "test": sample.test}
        keys = {name: split.keys() for name, split in named.items()}
        signatures = {name: split.signatures() for name, split in named.items()}
        for a, b in combinations(named, 2):
            findings += _overlap("rows", a, b, _row_set(keys[a]), _row_set(keys[b]))
            for column in dataset.disjoint:
                findings += _overlap(
                    f"values of '{column}'", a, b, _column_set(keys[a], column), _column_set(keys[b], column)
                )
            first, second = signatures[a], signatures[b]
            if first is not None and second is not None:
                contents = set(first.drop_null().to_pylist()), set(second.drop_null().to_pylist())
                findings += _overlap("identical contents", a, b, *contents)
    return findings


def _overlap(kind: str, a: str, b: str, first: set[Any], second: set[Any]) -> list[LeakageFinding]:
    common = first & second
    if not common:
        return []
    examples = tuple(str(item) for item in sorted(common, key=str)[:_EXAMPLES_SHOWN])
    return [LeakageFinding(kind, (a, b), len(common), examples)]


def _row_set(table: pa.Table) -> set[Any]:
    return set(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _column_set(table: pa.Table, column: str) -> set[Any]:
    return set(table.column(column).to_pylist())


def _row_hashes(keys: pa.Table) -> list[str]:
    rows = zip(*(column.to_pylist() for column in keys.columns), strict=True)
    return [_row_hash(row) for row in rows]


def _row_hash(row: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(row).encode()).hexdigest()


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

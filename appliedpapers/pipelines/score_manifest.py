"""What a scoring run keeps in its output folder: records of parts, the journal and the manifest."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from appliedpapers.core.files import sha256_file, write_error, write_json
from appliedpapers.core.profile import Counts

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PREDICTIONS = "predictions.parquet"
QUARANTINE = "quarantine.parquet"
FILES = "files"
_JOURNAL = ".journal.jsonl"
_HASHED_BYTES = 64 << 20
_PART = re.compile(r"part-[0-9a-f]{20}")
_LEFTOVER = re.compile(r"\.(part-[0-9a-f]{20}\.parquet|manifest\.json)\.[0-9a-f]{8}\.part")


@dataclass(frozen=True)
class StoredFile:
    """A file of the output folder: path relative to it, bytes and sha256."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, output: Path) -> StoredFile:
        """Record a file that was just written."""
        return cls(path.relative_to(output).as_posix(), path.stat().st_size, sha256_file(path))

    def intact(self, output: Path) -> bool:
        """Whether the file is what was recorded; of files above 64 MB the size alone is compared."""
        path = output / self.path
        try:
            if path.stat().st_size != self.size:
                return False
            return self.size > _HASHED_BYTES or sha256_file(path) == self.sha256
        except OSError:
            return False


@dataclass(frozen=True)
class PartOrigin:
    """Rows of one input behind a part; ``first`` and ``last`` are row numbers, None where there is no row."""

    input: str
    fingerprint: str
    rows: int
    first: int | None
    last: int | None


@dataclass(frozen=True)
class FailedItem:
    """An item (a row, or a group that begins at it) whose prediction raised."""

    file: str
    row: int
    key: str
    error: str


@dataclass(frozen=True)
class PartRecord:
    """One finished part.

    Attributes:
        name: ``part-`` and a hash of job, model, rows and their fingerprints.
        model: Name and version of the model.
        origins: Which rows it was made from.
        rows_in: Input rows.
        rows_out: Output rows.
        rejected: Input rows that broke the contract, with the other rows of their groups.
        failed: Items whose prediction raised.
        predictions: The Parquet file of the output rows.
        quarantine: The Parquet file of the broken values, if there are any.
        files: Files that the model delivered beside its rows.
        counts: How many ``inputs`` and ``predictions`` fall into the shares of the model's profile of its
            training data, by column (:mod:`appliedpapers.core.profile`).
    """

    name: str
    model: str
    origins: tuple[PartOrigin, ...]
    rows_in: int
    rows_out: int
    rejected: int
    failed: tuple[FailedItem, ...]
    predictions: StoredFile
    quarantine: StoredFile | None = None
    files: tuple[StoredFile, ...] = ()
    counts: dict[str, Counts] = field(default_factory=dict)

    def intact(self, output: Path) -> bool:
        """Whether every file of the part is there as recorded and no item has to be tried again."""
        stored = [self.predictions, *([self.quarantine] if self.quarantine else []), *self.files]
        return not self.failed and all(file.intact(output) for file in stored)

    def touches(self, inputs: Container[str]) -> bool:
        """Whether a row of one of these inputs is behind the part."""
        return any(origin.input in inputs for origin in self.origins)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PartRecord:
        """Rebuild a record from its ``asdict`` form."""
        values = dict(document)
        values["origins"] = tuple(PartOrigin(**item) for item in values["origins"])
        values["failed"] = tuple(FailedItem(**item) for item in values["failed"])
        values["predictions"] = StoredFile(**values["predictions"])
        values["quarantine"] = StoredFile(**values["quarantine"]) if values["quarantine"] else None
        values["files"] = tuple(StoredFile(**item) for item in values["files"])
        return cls(**values)


@dataclass
class Ledger:
    """Everything that is known about an output folder, from its manifest and the journal of a cut-off run.

    Attributes:
        parts: Records by name.
        units: Names of the parts of inputs read to their end, by a hash of everything they depend on.
        inputs: Fingerprint, bytes and rows of each input by its path.
        finished: The parts that the manifest lists.
    """

    output: Path
    parts: dict[str, PartRecord] = field(default_factory=dict)
    units: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished: frozenset[str] = frozenset()

    @classmethod
    def open(cls, output: Path) -> Ledger:
        """Read what is there; a manifest or a journal line that cannot be read counts as absent."""
        ledger = cls(output)
        try:
            document = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
            parts = [PartRecord.from_json(item) for item in document["parts"]]
            units = {key: tuple(names) for key, names in document["units"].items()}
            inputs = {item["path"]: item for item in document["inputs"]}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        else:
            ledger.parts = {part.name: part for part in parts}
            ledger.units, ledger.inputs = units, inputs
            ledger.finished = frozenset(ledger.parts)
        ledger._read_journal()
        return ledger

    def add_part(self, record: PartRecord) -> None:
        """Remember a finished part, also across a kill."""
        self.parts[record.name] = record
        self._append({"part": asdict(record)})

    def add_unit(self, key: str, names: Sequence[str]) -> None:
        """Remember that inputs were read to their end, also across a kill."""
        if self.units.get(key) == tuple(names):
            return
        self.units[key] = tuple(names)
        self._append({"unit": [key, list(self.units[key])]})

    def lists(self, parts: Iterable[PartRecord], inputs: Iterable[str]) -> bool:
        """Whether the manifest lists just these parts for ``inputs``, and no run was cut off since."""
        named = set(inputs)
        listed = {name for name in self.finished if self.parts[name].touches(named)}
        return listed == {part.name for part in parts} and not (self.output / _JOURNAL).exists()

    def close(self, document: Mapping[str, Any]) -> None:
        """Write the manifest, then drop the journal and every part that the manifest does not list."""
        write_json(self.output / MANIFEST, document)
        (self.output / _JOURNAL).unlink(missing_ok=True)
        self._remove_stale({part["name"] for part in document["parts"]})

    def _read_journal(self) -> None:
        try:
            lines = (self.output / _JOURNAL).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                entry = json.loads(line)
                if "part" in entry:
                    record = PartRecord.from_json(entry["part"])
                    self.parts[record.name] = record
                else:
                    key, names = entry["unit"]
                    self.units[key] = tuple(names)
            except (ValueError, KeyError, TypeError):
                continue

    def _append(self, entry: Mapping[str, Any]) -> None:
        path = self.output / _JOURNAL
        try:
            # the line break comes first: a line that a kill cut short cannot spoil the next one
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(entry, ensure_ascii=False))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(path, error) from error

    def _remove_stale(self, listed: set[str]) -> None:
        for folder in (PREDICTIONS, QUARANTINE):
            for path in sorted((self.output / folder).glob("*.parquet")):
                if _PART.fullmatch(path.stem) and path.stem not in listed:
                    path.unlink()
        for folder in (".", PREDICTIONS, QUARANTINE):
            # written aside by a run that was killed
            for path in (self.output / folder).glob(".*.part"):
                if _LEFTOVER.fullmatch(path.name):
                    path.unlink()
        for path in sorted((self.output / FILES).glob("part-*")):
            if _PART.fullmatch(path.name) and path.name not in listed:
                shutil.rmtree(path)

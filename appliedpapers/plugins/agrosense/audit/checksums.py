"""Lists of checksums of somebody else's photos: copies across their split are found without the photos."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from appliedpapers.core.errors import DataError
from appliedpapers.core.manifests import read_manifest

_SHOWN = 5


@dataclass(frozen=True)
class Found:
    """What the checksums of two parts tell.

    Attributes:
        train: Rows of train.
        test: Rows of test.
        distinct: Different checksums over both.
        crossing: Rows of test whose checksum stands in train, too.
        conflicts: Labels of each checksum that has several.
    """

    train: int
    test: int
    distinct: int
    crossing: int
    conflicts: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class ChecksumList:
    """The whole list.

    Attributes:
        rows: Part, label and checksum of each photo.
    """

    rows: tuple[tuple[str, str, str], ...]

    @property
    def num_rows(self) -> int:
        """How many photos are listed."""
        return len(self.rows)

    def found(self) -> Found:
        """Count crossings and conflicts."""
        labels: defaultdict[str, set[str]] = defaultdict(set)
        by_part: defaultdict[str, list[str]] = defaultdict(list)
        for part, label, checksum in self.rows:
            labels[checksum].add(label)
            by_part[part].append(checksum)
        learned = {*by_part["train"], *by_part["valid"]}
        return Found(
            train=len(by_part["train"]),
            test=len(by_part["test"]),
            distinct=len(labels),
            crossing=sum(one in learned for one in by_part["test"]),
            conflicts={one: tuple(sorted(own)) for one, own in sorted(labels.items()) if len(own) > 1},
        )

    def remarks(self) -> list[str]:
        """Return what was found, in sentences."""
        found = self.found()
        said = [
            f"{found.crossing}/{found.test} photos of test have their exact copy among the {found.train:,} "
            f"that were learned from ({found.distinct:,} distinct files in all)",
            f"{len(found.conflicts)} label conflict{'s' * (len(found.conflicts) != 1)}",
        ]
        for checksum, labels in list(found.conflicts.items())[:_SHOWN]:
            said.append(f"md5 {checksum} is labelled {' and '.join(labels)}")
        if found.crossing:
            said.append("an accuracy of this split is no accuracy: it says how well photos are remembered")
        said.append("checksums find exact copies alone; give the photos to find turned and shrunk ones, too")
        return said


def is_checksum_list(path: Path) -> bool:
    """Tell whether a file is a list of checksums: a column ``md5``, and no column with paths."""
    if not path.is_file() or path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        names = {name.strip().strip('"').lower() for name in file.readline().replace("\t", ",").split(",")}
    return {"md5", "split"} <= names and not names & {"path", "image", "file", "photo"}


def read_checksums(path: Path) -> ChecksumList:
    """Read a list with the columns ``split``, ``label`` and ``md5``.

    Raises:
        DataError: A column is missing, or a cell is empty.
    """
    rows = read_manifest(path, ("split", "label", "md5"))
    found: list[tuple[str, str, str]] = []
    for row in rows:
        part = row.part()
        if part is None or not row.cells["md5"]:
            column = "split" if part is None else "md5"
            raise DataError(
                f"{row.place(column)}: nothing there.", hint="Each photo needs a part and an md5."
            )
        found.append((part, row.cells["label"], row.cells["md5"].lower()))
    return ChecksumList(tuple(found))

"""Lists of checksums of somebody else's photos: copies across their split are found without the photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.data import Split
from appliedpapers.core.errors import DataError
from appliedpapers.core.manifests import read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

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

    def part(self, name: str) -> Checksums:
        """Return one part."""
        return Checksums(self, name)

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


class Checksums(Split):
    """A part of a list of checksums, from which nothing can be learned.

    Args:
        whole: The list.
        name: Of the part.
    """

    def __init__(self, whole: ChecksumList, name: str) -> None:
        self.whole = whole
        self._rows = [(row, *one) for row, one in enumerate(whole.rows, start=1) if one[0] == name]

    @property
    def num_rows(self) -> int:
        """Number of photos."""
        return len(self._rows)

    def keys(self) -> pa.Table:
        """Return the number of each row of the list."""
        import pyarrow as pa

        return pa.table({"row": pa.array([row for row, *_ in self._rows], pa.int64())})

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield row, label and checksum."""
        import pyarrow as pa

        columns = {
            "row": pa.array([row for row, *_ in self._rows], pa.int64()),
            "label": pa.array([label for _, _, label, _ in self._rows], pa.string()),
            "md5": pa.array([checksum for *_, checksum in self._rows], pa.string()),
        }
        yield from pa.table(columns).to_batches(max_chunksize=max_rows) or [
            pa.RecordBatch.from_pydict(columns)
        ]

    def example(self, limit: int = 1) -> pa.Table:
        """Refuse: there is no photo to send.

        Raises:
            DataError: Always.
        """
        raise no_photos()

    def signatures(self) -> pa.Array:
        """Return the checksums."""
        import pyarrow as pa

        return pa.array([checksum for *_, checksum in self._rows], pa.string())


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


def no_photos() -> DataError:
    """Return the error of whoever would learn from a list of checksums."""
    return DataError(
        "the list holds checksums and no photos: it can be audited, and not learned from.",
        hint="Use apps data audit agrosense --task soil-image, or give the folder of photos.",
    )


def require_photos(splits: Sequence[Split]) -> None:
    """Refuse lists of checksums.

    Raises:
        DataError: One of the splits is such a list.
    """
    if any(isinstance(split, Checksums) for split in splits):
        raise no_photos()

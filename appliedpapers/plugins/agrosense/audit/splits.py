"""Parts of a list of checksums, which can be audited and not learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from appliedpapers.core.data import Split
from appliedpapers.core.errors import DataError
from appliedpapers.plugins.agrosense.audit.checksums import ChecksumList

if TYPE_CHECKING:
    import pyarrow as pa


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

"""Parts of photos: groups of copies and fields stay whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import PARTS, Dataset, Split
from appliedpapers.core.errors import DataError
from appliedpapers.core.images import content_of
from appliedpapers.plugins.agrosense.soil_image.linear import grouped_parts
from appliedpapers.plugins.agrosense.soil_image.photos import Photos

if TYPE_CHECKING:
    import pyarrow as pa

Labels = NDArray[np.int64]

GROUP = "group"


class PhotoSplit(Split):
    """Labelled photos; a row is one photo.

    Args:
        photos: The photos.
        synthetic: Whether they are drawn.
        pixels: Hash of each photo's pixels, by its name; without it the file is hashed.
    """

    def __init__(
        self, photos: Photos, *, synthetic: bool = False, pixels: dict[str, bytes] | None = None
    ) -> None:
        self.photos, self.synthetic, self._pixels = photos, synthetic, pixels

    @property
    def num_rows(self) -> int:
        """Number of photos."""
        return len(self.photos)

    def take(self, rows: Sequence[int] | Labels) -> PhotoSplit:
        """Return some of the photos."""
        return PhotoSplit(self.photos.take(rows), synthetic=self.synthetic, pixels=self._pixels)

    def keys(self) -> pa.Table:
        """Return the name of each photo, and the group that may not stand on both sides of a split."""
        import pyarrow as pa

        return pa.table(
            {
                "photo": pa.array(self.photos.names, pa.string()),
                GROUP: pa.array([str(one) for one in self.photos.groups], pa.string()),
            }
        )

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield ``field``, ``photo``, ``label`` and the file's bytes as ``image``, some hundred at a time."""
        import pyarrow as pa

        own, step = self.photos, min(max_rows, 256)
        for start in range(0, max(len(own), 1), step):
            part = self._table(range(start, min(start + step, len(own))))
            yield pa.RecordBatch.from_arrays(
                [one.combine_chunks() for one in part.columns], schema=part.schema
            )

    def example(self, limit: int = 1) -> pa.Table:
        """Return the photos of up to ``limit`` fields as ``predict`` takes them."""
        fields = list(dict.fromkeys(name or str(row) for row, name in enumerate(self.photos.fields)))[:limit]
        rows = [row for row, name in enumerate(self.photos.fields) if (name or str(row)) in fields]
        return self._table(rows).drop_columns(["label"])

    def signatures(self) -> pa.Array:
        """Return a hash of each photo's pixels, or of its file."""
        import pyarrow as pa

        if self._pixels is not None:
            return pa.array([self._pixels[name] for name in self.photos.names], pa.binary())
        return pa.array(self.photos.digests(), pa.binary())

    def fingerprint(self) -> str:
        """Return the sha256 of names, labels and files."""
        digest = hashlib.sha256(repr((self.photos.names, self.photos.fields)).encode())
        digest.update(self.photos.labels.astype("<i8").tobytes())
        for one in self.photos.digests():
            digest.update(one)
        return digest.hexdigest()

    def _table(self, rows: Sequence[int]) -> pa.Table:
        import pyarrow as pa

        own = self.photos
        names = (*own.classes, None)
        return pa.table(
            {
                "field": pa.array([own.fields[row] for row in rows], pa.string()),
                "photo": pa.array([own.names[row] for row in rows], pa.string()),
                "image": pa.array(
                    [content_of(own.sources[row], own.names[row]) for row in rows], pa.binary()
                ),
                "label": pa.array([names[own.labels[row]] for row in rows], pa.string()),
            }
        )


def as_stated(whole: Dataset, split: PhotoSplit, parts: Sequence[str], seed: int) -> Dataset:
    """Cut as the source states; what is chosen on comes from train, by groups, where none is stated.

    Raises:
        DataError: Nothing is left to learn from or to judge on.
    """
    rows = {name: [row for row, part in enumerate(parts) if (part or "train") == name] for name in PARTS}
    for name in ("train", "test"):
        if not rows[name]:
            raise DataError(
                f"the source leaves {name} without a photo.",
                hint="Expected parts train and test, and if wanted valid, or none at all.",
            )
    note = "as the source says"
    if not rows["valid"]:
        train, valid = _cut(split.photos, np.array(rows["train"]), 7, seed)
        rows["train"], rows["valid"] = train.tolist(), valid.tolist()
        note += ", one seventh of train to choose on"
    return _of(whole, [split.take(rows[name]) for name in PARTS], "own-split", note)


def single(whole: Dataset, split: PhotoSplit, valid_share: float, test_share: float, seed: int) -> Dataset:
    """Deal whole groups to train, valid and test, each class about evenly."""
    photos, everything = split.photos, np.arange(len(split.photos))
    rest, test = _cut(photos, everything, max(round(1 / test_share), 2), seed)
    train, valid = _cut(photos, rest, max(round((1 - test_share) / valid_share), 2), seed + 1)
    parts = [split.take(rows) for rows in (train, valid, test)]
    return _of(whole, parts, "by-group", "whole groups of copies and fields")


def folds(whole: Dataset, split: PhotoSplit, fold: Labels, protocol: str, seed: int) -> Dataset:
    """Return a dataset in which each photo is judged once, by what was fitted on the other folds.

    Args:
        whole: What it says of itself.
        split: All photos.
        fold: Of each photo, from 0.
        protocol: Name of the rule.
        seed: Chooses the groups that are chosen on.
    """
    triples = []
    for number in range(int(fold.max()) + 1):
        learned, judged = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        train, valid = _cut(split.photos, learned, 7, seed)
        parts = [split.take(rows) for rows in (train, valid, judged)]
        triples.append(replace(_of(whole, parts, protocol, ""), fold=f"fold-{number + 1}"))
    train, valid = _cut(split.photos, np.arange(len(fold)), 7, seed)
    parts = [split.take(rows) for rows in (train, valid, np.empty(0, np.int64))]
    note = f"{len(triples)} folds of whole groups, each photo judged once"
    return replace(_of(whole, parts, protocol, note), folds=tuple(triples))


def dealt(photos: Photos, parts: int, seed: int) -> Labels:
    """Return a fold of each photo: groups whole, classes about evenly.

    Raises:
        DataError: There are fewer groups than folds.
    """
    if (found := len(np.unique(photos.groups))) < parts:
        raise DataError(
            f"{found} photos or groups of copies cannot be cut into {parts} folds.",
            hint="Bring more photos, or fewer folds: --set data.folds=2.",
        )
    return grouped_parts(photos.groups, photos.labels, parts, seed)


def _cut(photos: Photos, rows: Labels, parts: int, seed: int) -> tuple[Labels, Labels]:
    """Return rows without and with one of so many parts of whole groups."""
    own = photos.take(rows)
    if len(np.unique(own.groups)) < 2:
        raise DataError("there is one group of photos only.", hint="Bring photos of several places.")
    apart = grouped_parts(own.groups, own.labels, parts, seed) == 0
    return rows[~apart], rows[apart]


def _of(whole: Dataset, parts: Sequence[PhotoSplit], protocol: str, note: str) -> Dataset:
    train, valid, test = parts
    sizes = " : ".join(f"{one.num_rows:,}" for one in parts)
    return replace(
        whole,
        train=train,
        valid=valid,
        test=test,
        protocol=protocol,
        split_note=f"{note}, {sizes} photos" if note else sizes,
        disjoint=(GROUP,),
    )

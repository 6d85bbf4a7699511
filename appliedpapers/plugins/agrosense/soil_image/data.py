"""The photos of soil classification: drawn ones, Soil7, the user's own, and lists of checksums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.files import sha256_file
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.core.tables import with_notes
from appliedpapers.plugins.agrosense.audit.checksums import ChecksumList, is_checksum_list, read_checksums
from appliedpapers.plugins.agrosense.audit.photos import PhotoAudit, audit_photos
from appliedpapers.plugins.agrosense.audit.splits import Checksums
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.photos import NO_SOIL, Photos
from appliedpapers.plugins.agrosense.soil_image.published_data import SOIL7, open_soil7
from appliedpapers.plugins.agrosense.soil_image.readers import (
    FORMATS,
    Read,
    list_photos,
    read_photos,
)
from appliedpapers.plugins.agrosense.soil_image.simulator import draw_photos
from appliedpapers.plugins.agrosense.soil_image.splits import (
    GROUP,
    PhotoSplit,
    as_stated,
    dealt,
    folds,
    single,
)

if TYPE_CHECKING:
    import pyarrow as pa

_MANY = 2_000
_SAMPLE = {"sites": 15, "fields": 2, "distractors": 0.0}
_SAMPLED = 3


class SoilPhotos(DatasetCatalog[SoilImageConfig]):
    """Drawn photos, Soil7, and the user's own."""

    published = (SOIL7,)
    formats = FORMATS

    def simulated(self, config: SoilImageConfig) -> Dataset:
        """Draw photos of simulated fields; each site stands in one part."""
        parts = draw_photos(config)
        train, valid, test = (PhotoSplit(part, synthetic=True) for part in parts)
        counts = " : ".join(str(len(np.unique(part.soil().groups))) for part in parts)
        none = sum(int((part.labels == NO_SOIL).sum()) for part in parts)
        return Dataset(
            SIMULATED,
            "simulated-sites",
            Provenance.of_simulator("appliedpapers.plugins.agrosense.soil_image.simulator"),
            *(train, valid, test),
            summary=f"{sum(map(len, parts)):,} drawn photos of {config.simulator.sites} sites, 7 soils, "
            f"{none} that show none",
            split_note=f"whole sites, {counts}",
            disjoint=(GROUP,),
        )

    def from_user(self, path: Path, config: SoilImageConfig) -> Dataset:
        """Read the user's photos; copies of one another, and photos of a field, stay on one side of a split.

        A list of checksums (columns split, label, md5) is read, too, to be audited: nothing can be learned
        from it.
        """
        if is_checksum_list(path):
            return _checksums(path, read_checksums(path))
        data = config.data
        read = read_photos(list_photos(path), path.name, near_duplicates=data.near_duplicates)
        return _of_user(path, read, config)

    def from_published(self, entry: PublishedDataset, folder: Path, config: SoilImageConfig) -> Dataset:
        """Open Soil7 with its own groups and folds; ``config.data`` does not concern it."""
        photos, fold = open_soil7(folder)
        split = PhotoSplit(photos)
        whole = _whole(entry.id, split, entry.provenance(folder, source=entry.citation))
        return folds(whole, split, fold, "soil7-folds", config.seed)

    def remarks(self, dataset: Dataset, config: SoilImageConfig) -> Sequence[str]:
        """Say which photos are copies, which labels contradict each other, and where the pages lie."""
        if isinstance(dataset.train, Checksums):
            return dataset.train.whole.remarks()
        from appliedpapers.plugins.agrosense.audit.photo_page import write_page

        audit = audit_of(dataset, near_duplicates=config.data.near_duplicates)
        if not audit.copies:
            return audit.remarks()
        page = Path(f"photo-audit-{Path(dataset.name).stem}.html")
        write_page(audit, dataset.name, page)
        return [*audit.remarks(), f"every pair side by side: {page}"]

    def sample(self, folder: Path, config: SoilImageConfig) -> pa.Table:
        """Write some drawn photos below ``folder``, and return a list of them.

        They lie as users bring them for training, too: ``agrosense-sample/SOIL/NAME.jpg``.
        """
        import pyarrow as pa

        from appliedpapers.core.files import whole_file

        test = draw_photos(config.replace(simulator=_SAMPLE)).test.soil()
        rows = [
            row for row, name in enumerate(test.fields) if name in list(dict.fromkeys(test.fields))[:_SAMPLED]
        ]
        paths = [f"agrosense-sample/{test.classes[test.labels[row]]}/{test.names[row]}" for row in rows]
        for row, place in zip(rows, paths, strict=True):
            with whole_file(folder / place) as aside:
                source = test.sources[row]
                assert isinstance(source, bytes)
                aside.write_bytes(source)
        return pa.table(
            {
                "field": [test.fields[row] for row in rows],
                "photo": [test.names[row] for row in rows],
                "image": paths,
            }
        )

    def inputs(self, path: Path, config: SoilImageConfig) -> pa.Table:
        """List the photos of a folder, of a table, or a single one, as ``predict`` takes them."""
        import pyarrow as pa

        listed = list_photos(path)
        table = pa.table(
            {
                "field": pa.array([one.field for one in listed], pa.string()),
                "photo": pa.array([one.title or one.name for one in listed], pa.string()),
                "image": pa.array([str(Path(str(one.source)).resolve()) for one in listed], pa.string()),
            }
        )
        return with_notes(table, ())


DATASETS = SoilPhotos()


def audit_of(dataset: Dataset, *, near_duplicates: bool = True) -> PhotoAudit:
    """Look at every photo of a dataset once more, and say what is copied, contradicted, or on both sides."""
    parts: list[tuple[str, Photos]] = []
    if dataset.folds:
        parts = [(one.fold, _photos(one.test)) for one in dataset.folds]
    else:
        parts = [(name, _photos(getattr(dataset, name))) for name in ("train", "valid", "test")]
    return audit_photos(parts, near_duplicates=near_duplicates)


def _photos(split: object) -> Photos:
    assert isinstance(split, PhotoSplit)
    return split.photos


def _of_user(path: Path, read: Read, config: SoilImageConfig) -> Dataset:
    data, photos = config.data, read.photos
    pixels = dict(zip(photos.names, read.prints.pixels, strict=True))
    split = PhotoSplit(photos, pixels=pixels)
    checksum = sha256_file(path) if path.is_file() else split.fingerprint()
    whole = _whole(path.name, split, Provenance.of_user(path, sha256={path.name: checksum}), read.notes)
    if read.parts and data.split == "auto":
        return as_stated(whole, split, read.parts, config.seed)
    if data.split == "single" or (data.split == "auto" and len(photos) >= _MANY):
        return single(whole, split, data.valid_share, data.test_share, config.seed)
    fold = dealt(photos, data.folds, config.seed)
    return folds(whole, split, fold, f"{data.folds}-folds-by-group", config.seed)


def _whole(name: str, split: PhotoSplit, provenance: Provenance, notes: Sequence[str] = ()) -> Dataset:
    soil = split.photos.soil()
    counts = np.bincount(soil.labels, minlength=len(soil.classes))
    kinds = ", ".join(f"{name} {count}" for name, count in zip(soil.classes, counts, strict=True) if count)
    groups = len(np.unique(split.photos.groups))
    return Dataset(
        name,
        "",
        provenance,
        *(split, split, split),
        summary=f"{len(split.photos):,} photos in {groups:,} groups of copies: {kinds}",
        notes=tuple(notes),
    )


def _checksums(path: Path, whole: ChecksumList) -> Dataset:
    return Dataset(
        path.name,
        "checksums",
        Provenance.of_user(path),
        train=Checksums(whole, "train"),
        valid=Checksums(whole, "valid"),
        test=Checksums(whole, "test"),
        summary=f"{whole.num_rows:,} checksums of photos, without the photos",
        split_note="as the list says",
    )

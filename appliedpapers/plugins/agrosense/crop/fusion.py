"""Photos of soil beside the table: probabilities of rows not learned from, and what a missing photo means.

Late fusion: a table's numbers are joined by the probabilities of a photo's soil classes, never by its
likeliest class alone. The reader of photos is any object that gives probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.agrosense.crop.matrix import soil_block
from appliedpapers.plugins.agrosense.simulator import stream
from appliedpapers.plugins.agrosense.splits import inner_folds

if TYPE_CHECKING:
    from appliedpapers.plugins.agrosense.crop.config import FusionConfig
    from appliedpapers.plugins.agrosense.crop.data import CropSplit

Floats = NDArray[np.float64]
Picture = Path | str | bytes


class SoilReader(Protocol):
    """Reads photos of soil."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Soil classes in the order of the probabilities."""

    def probabilities(self, images: Sequence[Picture]) -> Floats:
        """Return ``(photos, classes)``; rows sum to 1.

        Raises:
            DataError: A photo cannot be read.
        """

    def write(self, folder: Path) -> dict[str, Any]:
        """Write parts whose names begin with ``soil-``, and return the state beside them."""


class SoilTeacher(Protocol):
    """Makes a reader of labelled photos."""

    def fit(
        self, images: Sequence[Picture], labels: Sequence[str], groups: Sequence[str], seed: int
    ) -> SoilReader:
        """Learn from photos; those of one group are copies of one another or of one place."""


class Photos(NamedTuple):
    """What photos add to the rows that are learned from.

    Attributes:
        reader: Learned from all photos; answers later.
        block: Probabilities by readers that did not see the row, the missing flag last,
            ``(rows, classes + 1)``.
        prior: What stands for a missing photo, ``(classes,)``.
    """

    reader: SoilReader
    block: Floats
    prior: Floats


def cross_fitted(
    teacher: SoilTeacher,
    images: Sequence[Picture],
    labels: NDArray[Any],
    groups: NDArray[Any],
    *,
    folds: int,
    seed: int,
) -> tuple[Floats, SoilReader]:
    """Return probabilities of each photo by a reader that did not see its group, and a reader of all.

    Args:
        teacher: Makes readers.
        images: ``(photos,)``.
        labels: Soil class of each, ``(photos,)``.
        groups: Photos of one group are judged together, ``(photos,)``.
        folds: Number of readers.
        seed: Of the folds and the readers.
    """
    whole = teacher.fit(images, list(labels), list(groups), seed)
    found = np.full((len(images), len(whole.classes)), np.nan)
    for learned, judged in inner_folds(labels, left_out_together(labels, groups), folds, seed):
        reader = teacher.fit(
            [images[row] for row in learned], list(labels[learned]), list(groups[learned]), seed
        )
        found[judged] = reader.probabilities([images[row] for row in judged])
    return found, whole


def left_out_together(labels: NDArray[Any], groups: NDArray[Any]) -> NDArray[Any]:
    """Return the groups that readers may be kept from, ``(photos,)``.

    A soil that stands in one group alone would be unknown to the reader that is kept from that group, and its
    probabilities would be of another kind than those that are read later: photos of such a group are dealt
    singly.

    Args:
        labels: Soil class of each photo, ``(photos,)``.
        groups: Photos of one group are copies of one another or of one place, ``(photos,)``.
    """
    homes: dict[Any, set[Any]] = {}
    for label, group in zip(labels, groups, strict=True):
        homes.setdefault(label, set()).add(group)
    alone = {next(iter(own)) for own in homes.values() if len(own) == 1}
    single = [f"photo {row} of {group}" for row, group in enumerate(groups)]
    return np.where(np.isin(groups, list(alone)), single, groups)


def learn_photos(split: CropSplit, options: FusionConfig, seed: int, teacher: SoilTeacher | None) -> Photos:
    """Read the photos of the rows that are learned from, and drop some of them.

    Args:
        split: With a column ``image``; where a reader is to be learned, with the soil class of each photo.
        options: How many folds, and how many photos are dropped.
        seed: Of folds and dropping.
        teacher: Makes readers; None takes the trained model that the options name.

    Raises:
        DataError: There are no photos, or no soil classes to learn to read them by.
    """
    if "image" not in split.table.column_names:
        raise DataError(
            "there is no column of photos.", hint="Name it 'image', or leave fusion.images at false."
        )
    cells = split.table.column("image").to_pylist()
    there = np.array([cell is not None for cell in cells])
    images = [cell for cell in cells if cell is not None]
    if not images:
        raise DataError("column 'image': no row has a photo.", hint="Leave fusion.images at false.")
    if teacher is None:
        reader = stored_reader(options)
        seen = reader.probabilities(images)
    else:
        soils, groups = split.soils, split.groups
        if soils is None:
            raise DataError(
                "the soil class of the photos is not known, so no reader can be learned from them.",
                hint="Train the task soil-image first, and give its folder as fusion.soil_model.",
            )
        names = groups if groups is not None else np.array([str(row) for row in range(len(cells))])
        seen, reader = cross_fitted(
            teacher, images, soils[there], names[there], folds=options.folds, seed=seed
        )
    prior = np.asarray(seen.mean(axis=0))
    probabilities = np.tile(prior, (len(cells), 1))
    probabilities[there] = seen
    dropped = stream(seed, "dropped photos").random(len(cells)) < options.dropped
    return Photos(reader, soil_block(probabilities, prior, ~there | dropped), prior)


def read_photos(reader: SoilReader, cells: Sequence[Picture | None], prior: Floats) -> Floats:
    """Return the soil columns of rows to answer for, ``(rows, classes + 1)``.

    Args:
        reader: Reads photos.
        cells: A photo or None, ``(rows,)``.
        prior: What stands for a missing photo.
    """
    there = np.array([cell is not None for cell in cells], dtype=bool)
    probabilities = np.tile(prior, (len(cells), 1))
    images = [cell for cell in cells if cell is not None]
    if images:
        probabilities[there] = reader.probabilities(images)
    return soil_block(probabilities, prior, ~there)


def stored_reader(options: FusionConfig) -> SoilReader:
    """Return the reader of the trained soil-image model that the options name."""
    from appliedpapers.plugins.agrosense.soil_image.reader import reader_of_bundle

    assert options.soil_model is not None
    found: SoilReader = reader_of_bundle(Path(options.soil_model))
    return found


def usual_teacher(options: FusionConfig) -> SoilTeacher | None:
    """Return what learns to read photos; None where a trained model is named."""
    if options.soil_model is not None:
        return None
    from appliedpapers.plugins.agrosense.soil_image.reader import Teacher

    found: SoilTeacher = Teacher(eye=options.eye)
    return found

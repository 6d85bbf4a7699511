"""The slides that users bring: a list, a folder, or one file; and how they are dealt to the parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliedpapers.core.data import PARTS
from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.files import is_file
from appliedpapers.core.manifests import ManifestRow, read_manifest
from appliedpapers.plugins.virtual_inking.annotations import read_shapes
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.slides import SUFFIXES

FORMATS = (
    "a list (slides.csv or Parquet: slide and, if wanted, slide_id, block, patient, annotation, mpp, split, "
    "regions, features), a folder of slides, or one slide; SVS, NDPI, MRXS, SCN, DICOM, TIFF, and PNG or "
    "JPEG with mpp"
)

_DRAWN = (".geojson", ".json", ".xml")


@dataclass(frozen=True)
class ListedSlide:
    """One line of a list.

    Attributes:
        slide_id: Its name, or the file's.
        path: Of the slide.
        group: Its block, else its patient, else its own name.
        annotation: Where the cut surface was drawn.
        mpp: Micrometres per pixel that the list states.
        part: Of the data, where the list says so.
        regions: Where a lesion or ignored regions were drawn.
        features: Features that were extracted before.
    """

    slide_id: str
    path: Path
    group: str
    annotation: Path | None = None
    mpp: float | None = None
    part: str | None = None
    regions: Path | None = None
    features: Path | None = None


def find_slides(path: Path) -> list[ListedSlide]:
    """Return the slides that a list names, that lie in a folder, or one.

    Raises:
        DataError: Nothing is found, a cell cannot be read, or a name stands twice.
    """
    if path.is_dir():
        listed = _in_folder(path)
    elif path.name.lower().endswith(SUFFIXES):
        listed = [_alone(path)]
    else:
        listed = [_of_row(row) for row in read_manifest(path, ("slide",), _OPTIONAL)]
    seen: dict[str, Path] = {}
    for one in listed:
        if one.slide_id in seen:
            raise DataError(
                f"{path}: the slide '{one.slide_id}' stands twice.",
                hint="Give each a name of its own in the column slide_id.",
            )
        seen[one.slide_id] = one.path
    return listed


_OPTIONAL = ("slide_id", "block", "patient", "annotation", "mpp", "split", "regions", "features")


def deal(
    listed: Sequence[ListedSlide], config: InkingConfig
) -> tuple[list[list[ListedSlide]], str, tuple[str, ...]]:
    """Deal slides to train, valid and test by whole blocks; a split that the list states wins.

    Returns:
        The parts, the rule in words, and what a reader must know.

    Raises:
        DataError: A block stands in two parts of the stated split, or there are fewer than three blocks.
        ConfigError: The shares leave nothing to learn from.
    """
    usable = [one for one in listed if one.annotation is not None]
    for one in usable:
        _require_readable(one)
    left = len(listed) - len(usable)
    notes = (f"{left} slides without annotation were left out",) if left else ()
    if not usable:
        raise DataError(
            "no slide has an annotation to learn from.",
            hint="Add the column annotation (GeoJSON of QuPath, XML of ASAP or Aperio), or put NAME.geojson "
            "beside NAME.svs.",
        )
    if any(one.part for one in usable):
        return _as_stated(usable), "as the column 'split' says", notes
    groups = sorted({one.group for one in usable}, key=lambda group: _draw(config.seed, group))
    if len(groups) < len(PARTS):
        raise DataError(
            f"{len(groups)} block{'s' * (len(groups) != 1)} to split; train, valid and test need one each.",
            hint="Bring slides of three blocks or more, and name them in the column block (or patient).",
        )
    wanted = config.split
    if wanted.valid_share + wanted.test_share >= 1:
        raise ConfigError(
            "split.valid_share and split.test_share leave nothing to learn from.",
            hint="Choose smaller shares.",
        )
    test = max(round(wanted.test_share * len(groups)), 1)
    valid = max(min(round(wanted.valid_share * len(groups)), len(groups) - test - 1), 1)
    test = min(test, len(groups) - valid - 1)
    named = {
        **dict.fromkeys(groups[:test], "test"),
        **dict.fromkeys(groups[test : test + valid], "valid"),
    }
    parts = [[one for one in usable if named.get(one.group, "train") == part] for part in PARTS]
    note = f"whole blocks, {len(groups) - test - valid} : {valid} : {test}"
    return parts, note, notes


def _require_readable(one: ListedSlide) -> None:
    """Look at a slide's file and at its annotation, before anything is learned from others."""
    assert one.annotation is not None
    if not one.path.exists():
        raise DataError(
            f"{one.path}: no such file.", hint="Check the path; paths start at the list's folder."
        )
    read_shapes(one.annotation)


def _as_stated(listed: Sequence[ListedSlide]) -> list[list[ListedSlide]]:
    parts = [[one for one in listed if (one.part or "train") == part] for part in PARTS]
    for name, part in zip(PARTS, parts, strict=True):
        if not part:
            raise DataError(
                f"the column 'split' leaves {name} without an annotated slide.",
                hint="Expected slides of train, valid and test, or no such column.",
            )
    for number, name in enumerate(PARTS):
        for other in range(number + 1, len(PARTS)):
            both = {one.group for one in parts[number]} & {one.group for one in parts[other]}
            if both:
                raise DataError(
                    f"the block '{min(both)}' stands in {name} and in {PARTS[other]}.",
                    hint="Slides of one block look alike: keep each block in one part.",
                )
    return parts


def _in_folder(folder: Path) -> list[ListedSlide]:
    found = [
        _alone(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(f"{folder}: no slide in it.", hint=f"Expected {FORMATS}.")
    return found


def _alone(path: Path) -> ListedSlide:
    drawn = [path.with_suffix(suffix) for suffix in _DRAWN]
    annotation = next((file for file in drawn if file.is_file()), None)
    return ListedSlide(path.stem, path.absolute(), path.stem, annotation)


def _of_row(row: ManifestRow) -> ListedSlide:
    cell = row.cells["slide"]
    if not cell:
        raise DataError(f"{row.place('slide')}: empty.", hint="Expected the path of a slide.")
    path = _path(row, "slide")
    assert path is not None
    slide_id = row.cells.get("slide_id") or path.stem
    return ListedSlide(
        slide_id,
        path,
        row.cells.get("block") or row.cells.get("patient") or slide_id,
        _path(row, "annotation", must_be=True),
        _mpp(row),
        row.part(),
        _path(row, "regions"),
        _path(row, "features"),
    )


def _path(row: ManifestRow, column: str, *, must_be: bool = False) -> Path | None:
    text = row.cells.get(column, "")
    if not text:
        return None
    path = (row.file.parent / Path(text).expanduser()).absolute()
    if must_be and not is_file(path):
        raise DataError(
            f"{row.place(column)}: {text}: no such file.", hint="Paths start at the list's folder."
        )
    return path


def _mpp(row: ManifestRow) -> float | None:
    text = row.cells.get("mpp", "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.01 < value < 100:
        raise DataError(
            f"{row.place('mpp')}: '{text}' is no resolution.",
            hint="Expected micrometres per pixel, such as 0.5.",
        )
    return value


def _draw(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed} {group}".encode()).digest()

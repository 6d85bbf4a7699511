"""Folders of photos, lists with their paths, and lists of checksums."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from appliedpapers.core.data import part_named
from appliedpapers.core.errors import DataError
from appliedpapers.core.images import read_rgb
from appliedpapers.core.manifests import ManifestRow, read_manifest
from appliedpapers.plugins.agrosense.audit.near_duplicates import (
    Pair,
    Prints,
    fingerprint,
    groups_of,
    pairs_of,
)
from appliedpapers.plugins.agrosense.soil_image.photos import NO_SOIL, Photos
from appliedpapers.plugins.agrosense.soil_image.views import Source, contents
from appliedpapers.plugins.agrosense.soils import SOILS

FORMATS = (
    "a folder with a folder of photos for each soil (SOIL/photo.jpg, or PART/SOIL/photo.jpg with parts train "
    "and test), or a table with paths (columns path and label, and if known field, group, split); JPEG, PNG, "
    "WebP, TIFF and BMP"
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_PATHS = ("path", "image", "file", "photo")
_LABELS = ("label", "soil", "class")
_NOTHING = ("not soil", "no soil", "not_soil", "no_soil", "not-soil", "no-soil", "distractor")
_BAD_SHARE = 0.05


@dataclass(frozen=True)
class Listed:
    """One photo of a source, not opened yet.

    Attributes:
        source: Its path or content.
        name: What messages and keys call it.
        label: Its soil as written; None where it is not known.
        part: ``train``, ``valid`` or ``test`` as the source states; None where it does not.
        field: The field it shows.
        group: What the source says must stay together.
        title: What its owner calls it, where that is not the path.
    """

    source: Source
    name: str
    label: str | None = None
    part: str | None = None
    field: str | None = None
    group: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class Read:
    """Photos that were opened once: what is known of them, and who is a copy of whom.

    Attributes:
        photos: All that can be used; groups are set.
        parts: What the source states of each; empty where it states nothing.
        pairs: Copies among them.
        prints: What they are recognised by.
        notes: What a reader of a report must know.
    """

    photos: Photos
    parts: tuple[str, ...]
    pairs: tuple[Pair, ...]
    prints: Prints
    notes: tuple[str, ...]


def list_photos(path: Path) -> list[Listed]:
    """List what a folder, a table of paths, or a single photo holds; photos are not opened.

    Raises:
        DataError: The source breaks the contract, or holds no photo.
    """
    if path.is_dir():
        found = list(_of_folder(path))
    elif path.suffix.lower() in SUFFIXES:
        found = [Listed(path, path.name)]
    else:
        found = list(_of_table(path))
    if not found:
        raise DataError(f"{path}: no photo in it.", hint=f"Expected {FORMATS}.")
    return found


def read_photos(listed: Sequence[Listed], source: str, *, near_duplicates: bool) -> Read:
    """Open photos, and find copies and groups among them.

    Args:
        listed: With labels.
        source: What messages call the whole.
        near_duplicates: Whether turned, mirrored and shrunk copies are looked for, too.

    Raises:
        DataError: No photo has a label, or more than 5 % cannot be read.
    """
    labelled = [one for one in listed if one.label is not None]
    if not labelled:
        raise DataError(f"{source}: no photo has a soil class.", hint=f"Expected {FORMATS}.")
    kept, prints, notes = _opened(labelled, source)
    if left := len(listed) - len(labelled):
        notes = (*notes, f"{left:,} photos without a soil class were left out")
    pairs = [one for one in pairs_of(prints) if near_duplicates or one.kind != "near"]
    classes, labels = _classes([str(one.label) for one in kept])
    photos = Photos(
        tuple(one.source for one in kept),
        tuple(one.name for one in kept),
        labels,
        classes,
        tuple(one.field for one in kept),
    )
    groups = groups_of(len(kept), [*pairs, *_together(kept)])
    parts = tuple(one.part or "" for one in kept)
    return Read(replace(photos, groups=groups), parts if any(parts) else (), tuple(pairs), prints, notes)


def soil_name(text: str) -> str:
    """Return a soil's usual name for what folders call it: ``Black_Soil`` is ``black``."""
    plain = re.sub(r"[\s_-]+", " ", text.strip().lower())
    short = plain.removesuffix(" soil")
    return short if short in SOILS else text.strip()


def _of_folder(path: Path) -> Iterator[Listed]:
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() not in SUFFIXES or not file.is_file() or file.name.startswith("."):
            continue
        place = file.relative_to(path)
        *above, label = place.parts[:-1] or (None,)
        part = next((found for one in above if one and (found := part_named(one))), None)
        yield Listed(file, place.as_posix(), label, part)


def _of_table(path: Path) -> Iterator[Listed]:
    rows = read_manifest(path, (), (*_PATHS, *_LABELS, "split", "field", "group"))
    named = next((name for name in _PATHS if name in rows[0].cells), None)
    if named is None:
        raise DataError(
            f"{path}: no column with the paths of photos; found {', '.join(rows[0].cells)}.",
            hint="Name it 'path'.",
        )
    label = next((name for name in _LABELS if name in rows[0].cells), None)
    for row in rows:
        cell = row.cells[named]
        if not cell:
            raise DataError(f"{row.place(named)}: no path.", hint="Fill it in, or leave the row out.")
        yield Listed(
            path.parent / cell,
            cell,
            (row.cells[label] or None) if label else None,
            row.part(),
            _cell(row, "field"),
            _cell(row, "group"),
            _cell(row, "photo") if named != "photo" else None,
        )


def _cell(row: ManifestRow, name: str) -> str | None:
    return row.cells.get(name) or None


def _opened(listed: Sequence[Listed], source: str) -> tuple[list[Listed], Prints, tuple[str, ...]]:
    kept, found, bad = [], [], []
    for one in listed:
        try:
            content = next(contents([one.source], [one.name]))
            found.append(fingerprint(content, read_rgb(content, one.name)))
            kept.append(one)
        except DataError as error:
            bad.append(error.message)
    if len(bad) > _BAD_SHARE * len(listed):
        raise DataError(
            f"{bad[0]}" + (f" ({len(bad) - 1} more like it)" if len(bad) > 1 else ""),
            hint=f"{len(bad)} of {len(listed)} photos of {source} cannot be read: mend or remove them.",
        )
    notes = tuple(f"left out: {reason}" for reason in bad)
    return kept, Prints.joined(found), notes


def _classes(labels: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    names = [soil_name(label) for label in labels]
    soils = {name for name in names if name.lower() not in _NOTHING}
    classes = SOILS if soils <= set(SOILS) else tuple(sorted(soils))
    place = {name: number for number, name in enumerate(classes)}
    return classes, np.array([place.get(name, NO_SOIL) for name in names], dtype=np.int64)


def _together(listed: Sequence[Listed]) -> Iterator[Pair]:
    """Yield pairs of photos of one field, or of one group of the source."""
    for attribute in ("field", "group"):
        first: dict[str, int] = {}
        for row, one in enumerate(listed):
            name = getattr(one, attribute)
            if name is not None and (before := first.setdefault(name, row)) != row:
                yield Pair(before, row, "stated", 1.0)

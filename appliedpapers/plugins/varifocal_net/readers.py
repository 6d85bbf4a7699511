"""Folders, manifests, ragged NPZ and COCO files of chromosomes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.core.files import is_file
from appliedpapers.core.tables import kind_of
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, WHITE, Chromosomes
from appliedpapers.plugins.varifocal_net.config import DataConfig
from appliedpapers.plugins.varifocal_net.corrections import plain
from appliedpapers.plugins.varifocal_net.images import SUFFIXES, Background, png_bytes, read_images
from appliedpapers.plugins.varifocal_net.listing import (
    Entry,
    Listing,
    ReadChromosomes,
    decoded,
    inverted_note,
)
from appliedpapers.plugins.varifocal_net.readers_coco import list_coco
from appliedpapers.plugins.varifocal_net.readers_manifest import NUMBERED_SEX, list_manifest
from appliedpapers.plugins.varifocal_net.readers_npz import list_npz
from appliedpapers.plugins.varifocal_net.type_names import is_numbered_sex, label_of

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (
    "a folder CASE/TYPE_N.png or SPECIMEN/CASE/TYPE_N.png (other file names: unlabelled; no folders: cases "
    "unknown), a manifest (CSV, Parquet or JSON lines: path and, if known, case, type, polarity, specimen, "
    "chromosome, split, fixed_type), corrections that were filled in, a ragged npz, or COCO json with boxes "
    "or masks on metaphase images; PNG, JPEG, BMP and TIFF, 8 or 16 bits, grey or colour"
)

_FOLDERS_ARE_TYPES = 3


def read_chromosomes(path: Path, data: DataConfig) -> ReadChromosomes:
    """Read chromosomes with everything that is known of them.

    Args:
        path: A folder, or a file of one of the formats.
        data: What the background and the polarity of labelled images are.

    Raises:
        DataError: The source breaks the contract, is empty, or 5 % of its images cannot be used.
    """
    return decoded(list_chromosomes(path, data), path.name, data.background)


def list_chromosomes(path: Path, data: DataConfig) -> Listing:
    """List what a source holds; image files are not opened, except whole metaphases.

    Raises:
        DataError: The source breaks the contract, or is empty.
    """
    listing = _list_folder(path, data) if path.is_dir() else _list_file(path, data)
    if not listing.entries:
        raise DataError(f"{path}: there is no chromosome.", hint=f"Expected {FORMATS}.")
    return listing


def input_table(listing: Listing, background: Background) -> pa.Table:
    """Return what is listed as ``predict`` takes it: ``case``, ``chromosome``, ``image``, ``fixed_type``.

    Images are absolute paths, or PNG bytes where the source is no file of its own for each chromosome.

    Raises:
        DataError: An image of a cell is absent, without which its karyotype would be wrong.
    """
    import pyarrow as pa

    entries = listing.entries
    if all(isinstance(entry.image, Path) for entry in entries):
        _require_files(entries)
        images = pa.array([str(Path(str(entry.image)).resolve()) for entry in entries], pa.string())
    else:
        images = pa.array([_bytes(entry, background) for entry in entries], pa.binary())
    fixed = [None if entry.fixed == UNKNOWN else TYPES[entry.fixed] for entry in entries]
    return pa.table(
        {
            "case": pa.array([entry.case for entry in entries], pa.string()),
            "chromosome": pa.array([entry.name for entry in entries], pa.string()),
            "image": images,
            "fixed_type": pa.array(fixed, pa.string()),
        }
    )


def chromosomes_of_table(table: pa.Table, background: Background) -> tuple[Chromosomes, dict[int, str]]:
    """Read the rows of a table that keeps the contract of ``predict``.

    Args:
        table: ``image`` and, if there are any, ``case``, ``chromosome`` and ``fixed_type``. Names that
            corrections protect from spreadsheets are read as what they were.
        background: What the images lie on.

    Returns:
        The chromosomes of all rows whose image can be used, in order, and what is wrong with each other row
        by its number (from 0).
    """
    sources = table.column("image").to_pylist()
    (cases, given), fixed = names_of_table(table), _texts(table, "fixed_type")
    names = [name or f"{row + 1}" for row, name in enumerate(given)]
    shown = [
        source if isinstance(source, str) else f"image of '{name}'"
        for source, name in zip(sources, names, strict=True)
    ]
    found = read_images(sources, shown, background)
    rows = [row for row, image in enumerate(found.images) if image is not None]
    notes = (inverted_note(found.inverted, len(sources)),) if found.inverted else ()
    chromosomes = Chromosomes(
        [image for image in found.images if image is not None],
        [names[row] for row in rows],
        [cases[row] for row in rows],
        [None] * len(rows),
        np.full(len(rows), UNKNOWN, dtype=np.int16),
        np.full(len(rows), UNKNOWN, dtype=np.int8),
        np.array([_label(fixed[row]) for row in rows], dtype=np.int16),
        notes,
    )
    return chromosomes, found.problems


def names_of_table(table: pa.Table) -> tuple[list[str | None], list[str | None]]:
    """Return the case and the name of the chromosome of each row, without a spreadsheet's apostrophes."""
    cases, names = (
        [None if name is None else plain(name) for name in _texts(table, column)]
        for column in ("case", "chromosome")
    )
    return cases, names


def _texts(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return [None if value is None else str(value) for value in table.column(name).to_pylist()]


def _require_files(entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.case is not None and isinstance(entry.image, Path) and not is_file(entry.image):
            raise DataError(
                f"{entry.place}: no such file.",
                hint="Correct the path, which is relative to the file that names it, or leave the case out.",
            )


def _label(name: str | None) -> int:
    return UNKNOWN if name is None else TYPES.index(name)


def _bytes(entry: Entry, background: Background) -> bytes:
    if isinstance(entry.image, Path):
        # a metaphase that cannot be opened: whoever predicts says so of each of its chromosomes
        return entry.image.read_bytes() if is_file(entry.image) else b""
    # where all images are said to lie on black, whoever reads this one will invert it
    return png_bytes(WHITE - entry.image if background == "black" else entry.image)


def _list_file(path: Path, data: DataConfig) -> Listing:
    name = path.name.lower()
    if name.endswith(SUFFIXES):
        return Listing([Entry(path, path.stem, path.name)])
    if name.endswith(".npz"):
        return list_npz(path, data)
    if name.endswith(".json"):
        return list_coco(path, data)
    if kind_of(path) is not None:
        return list_manifest(path, data)
    raise DataError(f"{path}: unknown format.", hint=f"Expected {FORMATS}.")


def _list_folder(path: Path, data: DataConfig) -> Listing:
    root = path / "images" if (path / "images").is_dir() else path
    files = sorted(
        file
        for file in root.rglob("*")
        if file.name.lower().endswith(SUFFIXES)
        and not any(part[0] == "." for part in file.relative_to(root).parts)
    )
    if not files:
        raise DataError(f"{path}: no image in it.", hint=f"Expected {FORMATS}.")
    cells: defaultdict[Path, list[Path]] = defaultdict(list)
    for file in files:
        cells[file.parent.relative_to(root)].append(file)
    notes: list[str] = []
    entries = [entry for cell, own in cells.items() for entry in _list_cell(root, cell, own, data, notes)]
    if any(entry.label != UNKNOWN and is_numbered_sex(_type_part(Path(entry.name))) for entry in entries):
        notes.append(NUMBERED_SEX)
    if len(cells) >= _FOLDERS_ARE_TYPES and all(label_of(cell.name) is not None for cell in cells):
        entries = _folders_of_types(entries, notes)
    return Listing(entries, tuple(notes))


def _folders_of_types(entries: list[Entry], notes: list[str]) -> list[Entry]:
    """Return entries whose folders are named like types: types they are if the names of files agree."""
    own = [None if entry.case is None else label_of(Path(entry.case).name) for entry in entries]
    if all(entry.label == label for entry, label in zip(entries, own, strict=True)):
        notes.append("folders are types, not cells")
        return [replace(entry, case=None, specimen=None, name=entry.place) for entry in entries]
    notes.append(
        "folders are named like types but were read as cells, CASE/TYPE_N.png; where they are types, bring a "
        "manifest with the columns path and type"
    )
    return entries


def _list_cell(
    root: Path, cell: Path, files: Sequence[Path], data: DataConfig, notes: list[str]
) -> list[Entry]:
    """Return the images of one folder; they are labelled if all of their names begin with a type."""
    if len(cell.parts) > 2:
        raise DataError(
            f"{root / cell}: {len(cell.parts)} folders deep.",
            hint="Expected CASE/TYPE_N.png or SPECIMEN/CASE/TYPE_N.png.",
        )
    specimen = cell.parts[0] if len(cell.parts) == 2 else None
    labels = [label_of(_type_part(file)) for file in files]
    strangers = [file.name for file, label in zip(files, labels, strict=True) if label is None]
    if strangers and len(strangers) < len(files):
        notes.append(
            f"'{cell}' was read as unlabelled: '{strangers[0]}' does not begin with a type as others do"
        )
    names = [file.stem for file in files]
    polarity = 1 if data.polarity == "q-down" else 0
    return [
        Entry(
            file,
            name if names.count(name) == 1 else file.name,
            file.relative_to(root).as_posix(),
            case=cell.as_posix() if cell.parts else None,
            specimen=specimen,
            label=UNKNOWN if strangers or label is None else label,
            polarity=UNKNOWN if strangers else polarity,
        )
        for file, name, label in zip(files, names, labels, strict=True)
    ]


def _type_part(file: Path) -> str:
    return file.stem.partition("_")[0]

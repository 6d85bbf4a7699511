"""Manifests: one line a chromosome, as CSV, Parquet or JSON lines."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.manifests import ManifestRow, read_manifest
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN
from appliedpapers.plugins.varifocal_net.config import DataConfig
from appliedpapers.plugins.varifocal_net.corrections import plain
from appliedpapers.plugins.varifocal_net.listing import Entry, Listing
from appliedpapers.plugins.varifocal_net.type_names import is_numbered_sex, require_label

NUMBERED_SEX = "types 23 and 24 were read as X and Y"

_COLUMNS = ("path", "image", "case", "type", "polarity", "specimen", "fixed_type", "chromosome", "split")
_POLARITY = {"q-down": 1, "q-up": 0, "1": 1, "0": 0, "": UNKNOWN}
_UNKNOWN_TYPES = ("", "?", "unknown", "na", "nan", "none")


def list_manifest(path: Path, data: DataConfig) -> Listing:
    """List the lines of a manifest; paths are relative to its folder.

    A file of ours that a person corrected (it has ``probability`` and ``fixed_type``) is labelled where
    ``fixed_type`` is filled in and nowhere else: what a model said is nothing to learn from.

    Raises:
        DataError: A column, a path, a type, a polarity or a split is wrong; file, row and column are named.
    """
    rows = read_manifest(path, optional=_COLUMNS)
    columns = list(rows[0].cells)
    if "path" not in columns and "image" not in columns:
        raise DataError(f"{path.name}: column 'path' is missing.", hint=_missing_hint(columns))
    reader = _Reader(columns, data)
    entries = [reader.entry(row) for row in rows]
    if _is_corrected(columns) and "specimen" not in columns:
        entries = _with_specimens(entries)
    _require_whole_split(path, entries)
    named = [bool(row.cells.get("chromosome")) for row in rows]
    return Listing(_with_names(entries, named), reader.notes(entries))


class _Reader:
    """Turns rows into entries.

    Args:
        columns: Names of the columns.
        data: How labelled images stand that have no polarity of their own.
    """

    def __init__(self, columns: Sequence[str], data: DataConfig) -> None:
        self._image = "path" if "path" in columns else "image"
        self._corrected = _is_corrected(columns)
        self._usual = None if "polarity" in columns else (1 if data.polarity == "q-down" else 0)
        self._seen: dict[Path, int] = {}
        self._numbered_sex = False

    def entry(self, row: ManifestRow) -> Entry:
        """Return what one row says."""
        fixed = self._label(row, "fixed_type")
        label = fixed if self._corrected or fixed != UNKNOWN else self._label(row, "type")
        image = self._file(row)
        return Entry(
            image,
            self._name(row, "chromosome") or image.stem,
            f"{row.file.name}, row {row.number}: {row.cells[self._image]}",
            case=self._name(row, "case"),
            specimen=self._name(row, "specimen"),
            label=label,
            polarity=self._polarity(row, label),
            fixed=fixed,
            split=row.part(),
        )

    def notes(self, entries: Sequence[Entry]) -> tuple[str, ...]:
        """Return what must be known of the rows together."""
        notes = [NUMBERED_SEX] if self._numbered_sex else []
        if self._corrected:
            open_ = sum(entry.fixed == UNKNOWN for entry in entries)
            if open_:
                notes.append(
                    f"{open_:,} of {len(entries):,} rows have no fixed_type: they are unlabelled, since what "
                    "a model said is nothing to learn from (fill fixed_type where its type is right)"
                )
        return tuple(notes)

    def _label(self, row: ManifestRow, column: str) -> int:
        name = row.cells.get(column, "")
        if name.lower() in _UNKNOWN_TYPES:
            return UNKNOWN
        self._numbered_sex |= is_numbered_sex(name)
        return require_label(name, row.place(column))

    def _file(self, row: ManifestRow) -> Path:
        given = row.cells[self._image]
        if not given:
            hint = "Fill it in."
            if self._corrected:
                hint = "Lists of an earlier version name no image of an npz, COCO or a request: predict anew."
            raise DataError(f"{row.place(self._image)}: the path is missing.", hint=hint)
        file = Path(os.path.normpath(row.file.parent / given))
        first = self._seen.setdefault(file, row.number)
        if first != row.number:
            raise DataError(
                f"{row.place(self._image)}: '{given}' stands in row {first} already.",
                hint="Expected each image once; remove one of the rows.",
            )
        return file

    def _polarity(self, row: ManifestRow, label: int) -> int:
        if self._corrected or (self._usual is not None and label == UNKNOWN):
            return UNKNOWN
        if self._usual is not None:
            return self._usual
        value = row.cells["polarity"]
        if value.lower() not in _POLARITY:
            raise DataError(
                f"{row.place('polarity')}: '{value}' is not q-down, q-up, 1 or 0.",
                hint="Expected q-down, q-up, 1 or 0.",
            )
        return _POLARITY[value.lower()]

    def _name(self, row: ManifestRow, column: str) -> str | None:
        value = row.cells.get(column, "")
        return (plain(value) if self._corrected else value) or None


def _is_corrected(columns: Collection[str]) -> bool:
    return {"fixed_type", "probability"} <= set(columns)


def _with_specimens(entries: Sequence[Entry]) -> list[Entry]:
    """Take specimens from cases that all are SPECIMEN/CASE, as those of nested folders are called."""
    if not all(entry.case and entry.case.count("/") == 1 for entry in entries):
        return list(entries)
    return [replace(entry, specimen=str(entry.case).partition("/")[0]) for entry in entries]


def _with_names(entries: Sequence[Entry], named: Sequence[bool]) -> list[Entry]:
    """Give chromosomes of a case whose files have one name, in several folders, their paths as names."""
    counts = Counter((entry.case, entry.name) for entry in entries)
    return [
        entry if own or counts[entry.case, entry.name] == 1 else replace(entry, name=str(entry.image))
        for entry, own in zip(entries, named, strict=True)
    ]


def _require_whole_split(path: Path, entries: Sequence[Entry]) -> None:
    """Every row or no row says where it stands."""
    without = next((number for number, entry in enumerate(entries, start=1) if entry.split is None), None)
    if without is not None and any(entry.split for entry in entries):
        raise DataError(
            f"{path.name}, column 'split', row {without}: the value is missing.",
            hint="Expected train, valid or test in each row, or no such column.",
        )


def _missing_hint(columns: Sequence[str]) -> str:
    hint = did_you_mean("path", columns)
    if hint.startswith("Did"):
        return f"{hint} Call it 'path'."
    return f"Found {', '.join(columns)}; expected {', '.join(_COLUMNS)}."

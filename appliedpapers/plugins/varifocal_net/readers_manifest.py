"""Manifests: one line a chromosome, as CSV, Parquet or JSON lines."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.tables import read_table
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN
from appliedpapers.plugins.varifocal_net.config import DataConfig
from appliedpapers.plugins.varifocal_net.corrections import plain
from appliedpapers.plugins.varifocal_net.listing import Entry, Listing
from appliedpapers.plugins.varifocal_net.type_names import is_numbered_sex, require_label

MANIFESTS = (".csv", ".tsv", ".parquet", ".jsonl")
NUMBERED_SEX = "types 23 and 24 were read as X and Y"

_COLUMNS = ("path", "image", "case", "type", "polarity", "specimen", "fixed_type", "chromosome", "split")
_POLARITY = {"q-down": 1, "q-up": 0, "1": 1, "0": 0, "": UNKNOWN}
_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_UNKNOWN_TYPES = ("", "?", "unknown", "na", "nan", "none")
_DELIMITERS = ",;\t"

Row = Mapping[str, str]


def list_manifest(path: Path, data: DataConfig) -> Listing:
    """List the lines of a manifest; paths are relative to its folder.

    A file of ours that a person corrected (it has ``probability`` and ``fixed_type``) is labelled where
    ``fixed_type`` is filled in and nowhere else: what a model said is nothing to learn from.

    Raises:
        DataError: A column, a path, a type, a polarity or a split is wrong; file, row and column are named.
    """
    columns, rows = _read(path)
    if "path" not in columns and "image" not in columns:
        raise DataError(f"{path.name}: there is no column 'path'.", hint=_missing_hint(columns))
    if not rows:
        raise DataError(f"{path.name}: no rows.", hint="Expected at least one row below the column names.")
    reader = _Reader(path, columns, data)
    entries = [reader.entry(number, row) for number, row in enumerate(rows, start=1)]
    if _is_corrected(columns) and "specimen" not in columns:
        entries = _with_specimens(entries)
    _require_whole_split(path, entries)
    named = [bool(row.get("chromosome")) for row in rows]
    return Listing(_with_names(entries, named), reader.notes(entries))


class _Reader:
    """Turns rows into entries.

    Args:
        path: The manifest.
        columns: Names of its columns.
        data: How labelled images stand that have no polarity of their own.
    """

    def __init__(self, path: Path, columns: Sequence[str], data: DataConfig) -> None:
        self._path = path
        self._image = "path" if "path" in columns else "image"
        self._corrected = _is_corrected(columns)
        self._usual = None if "polarity" in columns else (1 if data.polarity == "q-down" else 0)
        self._seen: dict[Path, int] = {}
        self._numbered_sex = False

    def entry(self, number: int, row: Row) -> Entry:
        """Return what one row says."""
        fixed = self._label(number, row, "fixed_type")
        label = fixed if self._corrected or fixed != UNKNOWN else self._label(number, row, "type")
        image = self._file(number, row)
        return Entry(
            image,
            self._name(row, "chromosome") or image.stem,
            f"{self._path.name}, row {number}: {row[self._image]}",
            case=self._name(row, "case"),
            specimen=self._name(row, "specimen"),
            label=label,
            polarity=self._polarity(number, row, label),
            fixed=fixed,
            split=self._split(number, row),
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

    def _label(self, number: int, row: Row, column: str) -> int:
        name = row.get(column, "")
        if name.lower() in _UNKNOWN_TYPES:
            return UNKNOWN
        self._numbered_sex |= is_numbered_sex(name)
        return require_label(name, self._place(number, column))

    def _file(self, number: int, row: Row) -> Path:
        given = row[self._image]
        if not given:
            hint = "Fill it in."
            if self._corrected:
                hint = "Images of an npz, COCO or a request have no path: save each as a file and name it."
            raise DataError(f"{self._place(number, self._image)}: the path is missing.", hint=hint)
        file = Path(os.path.normpath(self._path.parent / given))
        first = self._seen.setdefault(file, number)
        if first != number:
            raise DataError(
                f"{self._place(number, self._image)}: '{given}' stands in row {first} already.",
                hint="Expected each image once; remove one of the rows.",
            )
        return file

    def _polarity(self, number: int, row: Row, label: int) -> int:
        if self._corrected or (self._usual is not None and label == UNKNOWN):
            return UNKNOWN
        if self._usual is not None:
            return self._usual
        return _POLARITY[self._choice(number, row, "polarity", _POLARITY, "q-down, q-up, 1 or 0")]

    def _split(self, number: int, row: Row) -> str | None:
        name = self._choice(number, row, "split", _SPLITS, "train, valid or test")
        return _SPLITS[name] if name else None

    def _choice(self, number: int, row: Row, column: str, known: Collection[str], words: str) -> str:
        value = row.get(column, "").lower()
        if value and value not in known:
            raise DataError(
                f"{self._place(number, column)}: '{row[column]}' is not {words}.", hint=f"Expected {words}."
            )
        return value

    def _name(self, row: Row, column: str) -> str | None:
        value = row.get(column, "")
        return (plain(value) if self._corrected else value) or None

    def _place(self, number: int, column: str) -> str:
        return f"{self._path.name}, column '{column}', row {number}"


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


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the known columns, and the cells of all rows as texts."""
    lines: Iterable[Sequence[str]]
    if path.suffix.lower() in (".csv", ".tsv"):
        names, lines = _read_text(path)
    else:
        table = read_table(path)
        names = table.column_names
        lines = zip(*(map(_text, column.to_pylist()) for column in table.columns), strict=True)
    known = [name.strip().lower() for name in names]
    twice = [name for name in _COLUMNS if known.count(name) > 1]
    if twice:
        raise DataError(
            f"{path.name}: column '{twice[0]}' stands twice.", hint="Remove or rename one of them."
        )
    return known, [dict(zip(known, line, strict=False)) for line in lines]


def _read_text(path: Path) -> tuple[list[str], list[list[str]]]:
    # every cell stays the text that it is: a case 001 is not the number 1
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: it is not UTF-8.", hint="Save it as CSV in UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).", hint="Check the file.") from None
    header = text.partition("\n")[0]
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=max(_DELIMITERS, key=header.count)))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read ({error}).", hint="Is it complete, and a CSV?") from None
    if not lines:
        raise DataError(f"{path}: the file is empty.", hint="Expected column names and rows.")
    for number, line in enumerate(lines[1:], start=1):
        if line and len(line) != len(lines[0]):
            raise DataError(
                f"{path.name}, row {number}: {len(line)} cells, expected {len(lines[0])}.",
                hint="Each row needs a cell for each column; is a comma missing, or a quote?",
            )
    return lines[0], [[cell.strip() for cell in line] for line in lines[1:] if line]


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        # a column of whole numbers with gaps comes as fractions
        return str(int(value))
    return str(value).strip()


def _missing_hint(columns: Sequence[str]) -> str:
    hint = did_you_mean("path", columns)
    if hint.startswith("Did"):
        return f"{hint} Call it 'path'."
    return f"Found {', '.join(columns)}; expected {', '.join(_COLUMNS)}."

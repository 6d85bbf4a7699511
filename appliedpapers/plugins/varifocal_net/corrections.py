"""Tables that people open in a spreadsheet: corrections to fill in and feed back, and a summary of the cases.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@``, also behind spaces, a tab or a line
break, and rewrites a name that looks like a number or a date: cell ``106.10`` comes back as ``106.1``, which
is another cell, and marker chromosome ``mar1`` as the first of March. Such names are written with an
apostrophe in front; :func:`plain` takes it away again. Paths get ``./`` in front instead, which is the same
file to everyone.

Files are UTF-8 with a byte order mark, without which spreadsheets garble names such as ``Müller``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliedpapers.core.files import whole_file
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from appliedpapers.plugins.varifocal_net.karyogram import Cell

COLUMNS = ("case", "chromosome", "image", "type", "probability", "needs_review", "fixed_type")
CASE_COLUMNS = (
    *("case", "chromosomes", "karyotype", "sex", "flagged", "needs_review", "moved"),
    *(f"count_{name}" for name in TYPES),
    "warnings",
)
ENCODING = "utf-8-sig"

# The wide signs are taken for the narrow ones by spreadsheets in Japanese and Chinese. Where semicolons or
# tabs separate cells, what follows one in a name is a cell of its own.
_SPACE = r"[^\S\t\r\n]"
_RUN = rf"'*(?:{_SPACE}*[=+\-@＝＋－＠]|[\t\r\n])"
_PARTS = rf"(?:{_SPACE}|[\d.,:/%+-])*"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_NUMBER = rf"'*(?=\D*\d){_PARTS}(?:(?:e|{_MONTH}){_PARTS})?\Z"
_BARE = re.compile(rf"^(?={_RUN}|{_NUMBER})|[;\t\r\n](?={_RUN})", re.IGNORECASE)
_GUARDED = re.compile(rf"^'(?={_RUN}|{_NUMBER})|[;\t\r\n]'(?={_RUN})", re.IGNORECASE)


@dataclass(frozen=True)
class Correction:
    """One chromosome in a corrections file.

    Attributes:
        case: The cell; None where it is not known.
        chromosome: Its name.
        image: Path of its image as it was given, or from the list's own folder; None where there is none.
        type: The type that it was given.
        probability: Of that type.
        needs_review: Whether a person should look.
        fixed_type: What a person has settled; None leaves it open.
    """

    case: str | None
    chromosome: str
    image: str | None
    type: str
    probability: float
    needs_review: bool
    fixed_type: str | None = None

    def fields(self) -> tuple[str, ...]:
        """Return the cells of its line in the order of ``COLUMNS``, safe for a spreadsheet."""
        return (
            protected(self.case or ""),
            protected(self.chromosome),
            _safe_path(self.image or ""),
            self.type,
            f"{self.probability:.4f}",
            "true" if self.needs_review else "false",
            self.fixed_type or "",
        )


def protected(name: str) -> str:
    """Return a name that a spreadsheet neither runs nor rewrites; :func:`plain` is its inverse."""
    return _BARE.sub(r"\g<0>'", name)


def plain(cell: str) -> str:
    """Return the name that :func:`protected` was given; other names stay as they are."""
    return _GUARDED.sub(lambda found: found[0][:-1], cell)


def corrections(cell: Cell) -> list[Correction]:
    """Return the lines of one case; a type that a person has settled before is carried on."""
    return [
        Correction(
            cell.case,
            one.name,
            one.path,
            one.type,
            one.probability,
            one.needs_review,
            one.type if one.fixed else None,
        )
        for one in cell.chromosomes
    ]


def csv_line(cells: Sequence[str]) -> str:
    """Return cells as one line of CSV without its line end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def write_corrections(path: Path, rows: Iterable[Correction]) -> None:
    """Write a corrections file, whole: a person fills ``fixed_type`` and gives it back as input.

    Raises:
        RunError: The folder is not writable or the disk is full.
    """
    _write(path, COLUMNS, (row.fields() for row in rows))


def write_cases(path: Path, cells: Iterable[Cell]) -> None:
    """Write one line a case, whole: karyotype, counts of the 24 types, warnings, what is left to review.

    ``flagged`` says whether the counts of the case are abnormal; warnings are joined by ``"; "``.

    Raises:
        RunError: The folder is not writable or the disk is full.
    """
    _write(path, CASE_COLUMNS, (_case_fields(cell) for cell in cells))


def _case_fields(cell: Cell) -> Iterator[str]:
    counts = cell.counts()
    yield protected(cell.case or "")
    yield str(len(cell.chromosomes))
    yield cell.karyotype
    yield cell.sex or ""
    yield "true" if cell.flagged else "false"
    yield str(sum(one.needs_review for one in cell.chromosomes))
    yield str(sum(one.moved for one in cell.chromosomes))
    yield from (str(counts[name]) for name in TYPES)
    yield protected("; ".join(cell.warnings))


def _safe_path(path: str) -> str:
    named_by_root = path.startswith(("/", "./", "../"))
    return f"./{path}" if protected(path)[:1] != path[:1] and not named_by_root else path


def _write(path: Path, columns: Sequence[str], lines: Iterable[Iterable[str]]) -> None:
    with whole_file(path) as aside, aside.open("w", encoding=ENCODING, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)

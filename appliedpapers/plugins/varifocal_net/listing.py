"""What a source holds, before pixels are looked at, and what comes of it when they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.assignment import MOST
from appliedpapers.plugins.varifocal_net.chromosomes import UNKNOWN, Chromosomes
from appliedpapers.plugins.varifocal_net.images import Background, Grey, Pixels, read_chromosome, require_ink

_BAD_SHARE = 0.05
_NAMED = 5


@dataclass(frozen=True)
class Entry:
    """One chromosome as its source tells of it.

    Attributes:
        image: Path of its file, or its pixels on white.
        name: What people call it; unique within its case.
        place: Where it stands, for messages.
        case: Its cell, if that is known.
        specimen: Its patient or culture, if that is known.
        label: Its type, 0 to 23, or ``UNKNOWN``.
        polarity: 1 for q-down, 0 for q-up, or ``UNKNOWN``.
        fixed: The type that a person has settled, or ``UNKNOWN``.
        split: The part of the data that it shall stand in, if that is said.
    """

    image: Path | Pixels
    name: str
    place: str
    case: str | None = None
    specimen: str | None = None
    label: int = UNKNOWN
    polarity: int = UNKNOWN
    fixed: int = UNKNOWN
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """Everything that a source names.

    Attributes:
        entries: The chromosomes in the source's order.
        notes: Sentences on how it was understood.
        inverted: Images among those that were decoded already whose background was black.
    """

    entries: Sequence[Entry]
    notes: tuple[str, ...] = ()
    inverted: int = 0

    def __post_init__(self) -> None:
        _require_one_specimen(self.entries)
        _require_own_names(self.entries)


@dataclass(frozen=True)
class ReadChromosomes(Chromosomes):
    """Chromosomes of a source that may say itself how they are split.

    Attributes:
        split: ``train``, ``valid`` or ``test`` of each; empty where the source does not say so.
    """

    split: Sequence[str] = field(default=())


def decoded(listing: Listing, source: str, background: Background) -> ReadChromosomes:
    """Decode what is listed; a few bad images are left out and named in the notes.

    Raises:
        DataError: There is nothing, or 5 % of the images or more cannot be used.
    """
    images: list[NDArray[np.uint8]] = []
    kept: list[Entry] = []
    bad: list[DataError] = []
    inverted = listing.inverted
    for entry in listing.entries:
        try:
            grey = _grey(entry, background)
        except DataError as error:
            bad.append(error)
            continue
        inverted += grey.inverted
        images.append(grey.pixels)
        kept.append(entry)
    total = len(listing.entries)
    _require_enough(bad, total, source)
    notes = [*listing.notes, *_notes_on_images(bad, inverted, total), *notes_on_cases(kept)]
    split = [entry.split for entry in kept if entry.split is not None]
    return ReadChromosomes(
        images,
        [entry.name for entry in kept],
        [entry.case for entry in kept],
        [entry.specimen for entry in kept],
        np.array([entry.label for entry in kept], dtype=np.int16),
        np.array([entry.polarity for entry in kept], dtype=np.int8),
        np.array([entry.fixed for entry in kept], dtype=np.int16),
        tuple(notes),
        split if len(split) == len(kept) else (),
    )


def notes_on_cases(entries: Sequence[Entry]) -> list[str]:
    """Return what must be known of the cells: that they are not known, or hold too much for one cell."""
    sizes = Counter(entry.case for entry in entries)
    unknown = sizes.pop(None, 0)
    notes = []
    if unknown:
        which = (
            "the cell of no chromosome is" if unknown == len(entries) else f"{_count(unknown)} have no cell"
        )
        rest = " known" if unknown == len(entries) else ""
        notes.append(f"{which}{rest}: types are not made consistent within a cell there (dispatch is off)")
    large = [f"'{case}' ({size})" for case, size in sizes.items() if size > MOST]
    if large:
        notes.append(f"more than {MOST} chromosomes are not one cell (dispatch is off): {_some(large)}")
    return notes


def inverted_note(inverted: int, total: int) -> str:
    """Return the sentence about images with a black background."""
    return f"{inverted:,} of {total:,} images had a black background and were inverted"


def _grey(entry: Entry, background: Background) -> Grey:
    if isinstance(entry.image, Path):
        return read_chromosome(entry.image, entry.place, background)
    return require_ink(Grey(entry.image, inverted=False), entry.place)


def _require_enough(bad: Sequence[DataError], total: int, source: str) -> None:
    if not bad or (len(bad) < _BAD_SHARE * total and len(bad) < total):
        return
    first = bad[0]
    if total == 1:
        raise first
    others = "".join(f"\n  {error.message}" for error in bad[1:_NAMED])
    raise DataError(
        first.message,
        hint=f"{len(bad):,} of the {_count(total)} in {source} cannot be used; below "
        f"{100 * _BAD_SHARE:.0f} % they would be left out.{others}",
    )


def _notes_on_images(bad: Sequence[DataError], inverted: int, total: int) -> list[str]:
    notes = []
    if bad:
        named = _some([error.message.rstrip(".") for error in bad])
        notes.append(f"{len(bad):,} of {total:,} images could not be used and were left out: {named}")
    if inverted:
        notes.append(inverted_note(inverted, total))
    return notes


def _require_one_specimen(entries: Sequence[Entry]) -> None:
    seen: dict[str, Entry] = {}
    for entry in entries:
        if entry.case is None:
            continue
        first = seen.setdefault(entry.case, entry)
        if first.specimen != entry.specimen:
            raise DataError(
                f"{entry.place}: case '{entry.case}' is of specimen '{entry.specimen}' here and of "
                f"'{first.specimen}' at {first.place}.",
                hint="A cell comes from one specimen; give cells of two specimens two names.",
            )


def _require_own_names(entries: Sequence[Entry]) -> None:
    seen: defaultdict[str | None, dict[str, str]] = defaultdict(dict)
    for entry in entries:
        first = seen[entry.case].setdefault(entry.name, entry.place)
        if first != entry.place:
            where = "without a case" if entry.case is None else f"of case '{entry.case}'"
            raise DataError(
                f"{entry.place}: a chromosome {where} is called '{entry.name}', as at {first}.",
                hint="Expected names that are unique within a case (column 'chromosome').",
            )


def _count(number: int) -> str:
    return f"{number:,} chromosome{'s' * (number != 1)}"


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED:,} more" if len(texts) > _NAMED else ""
    return f"{'; '.join(texts[:_NAMED])}{more}"

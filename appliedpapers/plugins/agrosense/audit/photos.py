"""Which photos are copies of one another, on which side of the split, and under which labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.errors import DataError
from appliedpapers.core.images import content_of, read_rgb
from appliedpapers.plugins.agrosense.audit.near_duplicates import (
    Pair,
    Prints,
    fingerprint,
    groups_of,
    pairs_of,
)

if TYPE_CHECKING:
    from appliedpapers.plugins.agrosense.soil_image.photos import Photos

_SHOWN = 5
_WORDS = {"file": "the same file", "pixels": "the same pixels", "near": "near-duplicates"}


@dataclass(frozen=True)
class Copy:
    """Two photos that show the same.

    Attributes:
        first: Name of one.
        second: Name of the other.
        parts: Where each stands.
        labels: What each is called; None where it is not known.
        kind: ``file``, ``pixels`` or ``near``.
        correlation: How alike they are, to 1.
    """

    first: str
    second: str
    parts: tuple[str, str]
    labels: tuple[str | None, str | None]
    kind: str
    correlation: float

    @property
    def crosses(self) -> bool:
        """Whether they stand in different parts."""
        return self.parts[0] != self.parts[1]

    @property
    def conflicts(self) -> bool:
        """Whether they are called different soils."""
        return None not in self.labels and self.labels[0] != self.labels[1]


@dataclass(frozen=True)
class PhotoAudit:
    """All copies among the photos of a dataset.

    Attributes:
        photos: Name, part and label of each photo that could be read.
        copies: Pairs, those that cross parts first.
        crossing: Photos of the last part (or of each fold) that have a copy in another part.
        judged: Photos of the last part, or all where there are folds.
        groups: Number of groups.
        unreadable: What is wrong with photos that could not be read.
        sources: The files, by name.
    """

    photos: int
    copies: tuple[Copy, ...]
    crossing: int
    judged: int
    groups: int
    unreadable: tuple[str, ...]
    sources: dict[str, Path | str | bytes]

    def remarks(self) -> list[str]:
        """Return what was found, in sentences."""
        crossing = [one for one in self.copies if one.crosses]
        conflicts = [one for one in self.copies if one.conflicts]
        said = [
            f"{self.crossing}/{self.judged} judged photos have a copy in another part",
            f"{len(self.copies)} pairs of copies among {self.photos:,} photos, {self.groups:,} groups: "
            + ", ".join(
                f"{sum(one.kind == kind for one in self.copies)} {word}" for kind, word in _WORDS.items()
            ),
            f"{len(conflicts)} label conflict{'s' * (len(conflicts) != 1)} among copies",
        ]
        for one in conflicts[:_SHOWN]:
            said.append(f"{one.first} is called {one.labels[0]}, its copy {one.second} {one.labels[1]}")
        for one in crossing[:_SHOWN]:
            said.append(f"{one.first} ({one.parts[0]}) and {one.second} ({one.parts[1]}): {_WORDS[one.kind]}")
        said += [f"cannot be read: {reason}" for reason in self.unreadable[:_SHOWN]]
        if crossing:
            said.append("an accuracy of this split is refused, or stamped leaky with --allow-leakage")
        return said


def audit_photos(parts: Sequence[tuple[str, Photos]], *, near_duplicates: bool = True) -> PhotoAudit:
    """Look for copies within and across parts.

    Args:
        parts: Name and photos of each; the last is judged on, or each is where they are folds.
        near_duplicates: Whether turned, mirrored and shrunk copies are looked for, too.
    """
    names: list[str] = []
    places: list[str] = []
    labels: list[str | None] = []
    prints, unreadable = [], []
    sources: dict[str, Path | str | bytes] = {}
    for part, photos in parts:
        for source, name, label in zip(photos.sources, photos.names, photos.labels, strict=True):
            try:
                content = content_of(source, name)
                prints.append(fingerprint(content, read_rgb(content, name)))
            except DataError as error:
                unreadable.append(error.message)
                continue
            names.append(name)
            places.append(part)
            labels.append(photos.classes[label] if label >= 0 else None)
            sources[name] = source
    pairs = [one for one in pairs_of(Prints.joined(prints)) if near_duplicates or one.kind != "near"]
    groups = groups_of(len(names), pairs)
    crossing, judged = _crossing(groups, places, parts)
    copies = sorted(
        (_copy(one, names, places, labels) for one in pairs), key=lambda one: (not one.crosses, one.first)
    )
    return PhotoAudit(
        photos=len(names),
        copies=tuple(copies),
        crossing=crossing,
        judged=judged,
        groups=len(np.unique(groups)),
        unreadable=tuple(unreadable),
        sources=sources,
    )


def _crossing(
    groups: np.ndarray[tuple[int], np.dtype[np.int64]],
    places: Sequence[str],
    parts: Sequence[tuple[str, Photos]],
) -> tuple[int, int]:
    """Return how many judged photos have a copy elsewhere, and how many are judged."""
    folds = parts[-1][0].startswith("fold")
    judged = [row for row, place in enumerate(places) if folds or place == parts[-1][0]]
    home: dict[int, set[str]] = {}
    for group, place in zip(groups.tolist(), places, strict=True):
        home.setdefault(group, set()).add(place)
    return sum(len(home[int(groups[row])]) > 1 for row in judged), len(judged)


def _copy(pair: Pair, names: Sequence[str], places: Sequence[str], labels: Sequence[str | None]) -> Copy:
    one, other = pair.first, pair.second
    return Copy(
        names[one],
        names[other],
        (places[one], places[other]),
        (labels[one], labels[other]),
        pair.kind,
        pair.correlation,
    )

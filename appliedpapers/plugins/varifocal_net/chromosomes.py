"""Segmented chromosomes of some cells: what every reader gives and every part of the plugin takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

TYPES = (*(str(number) for number in range(1, 23)), "X", "Y")
"""Names of the 24 types in the order of their labels."""

X, Y = 22, 23
UNKNOWN = -1
WHITE = 255

INK = WHITE - 5
"""Darker than this is chromosome: a background that was scanned or compressed is not quite white."""


@dataclass(frozen=True)
class Chromosomes:
    """Grey images of single chromosomes with what is known of each; all sequences are equally long.

    Attributes:
        images: uint8 ``(h, w)`` each, dark chromosome on a background of 255, at least 1 x 1 pixel.
        names: What people call each one, such as its file name; unique within a case.
        cases: The cell (metaphase) of each; None where it is not known, and nothing is dispatched then.
        specimens: The patient or culture of each; None where it is not known.
        labels: int16 types 0 to 23, or ``UNKNOWN``.
        polarity: int8, 1 where the q-arm points down, 0 where it points up, or ``UNKNOWN``.
        fixed: int16 types that a person has settled, or ``UNKNOWN``; dispatch keeps to them.
        notes: Sentences on how the images were read: inverted backgrounds, files left out.
    """

    images: Sequence[NDArray[np.uint8]]
    names: Sequence[str]
    cases: Sequence[str | None]
    specimens: Sequence[str | None]
    labels: NDArray[np.int16]
    polarity: NDArray[np.int8]
    fixed: NDArray[np.int16]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each chromosome that are darker than its background."""
        return np.array([int((image < INK).sum()) for image in self.images], dtype=np.int64)

    def rows_by_case(self) -> dict[str, NDArray[np.int64]]:
        """Return the rows of each case in the order of first appearance; rows without a case are left out."""
        found: dict[str, list[int]] = {}
        for row, case in enumerate(self.cases):
            if case is not None:
                found.setdefault(case, []).append(row)
        return {case: np.array(rows, dtype=np.int64) for case, rows in found.items()}

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Chromosomes:
        """Return some rows, in that order, with the same notes."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Chromosomes(
            [self.images[row] for row in chosen],
            [self.names[row] for row in chosen],
            [self.cases[row] for row in chosen],
            [self.specimens[row] for row in chosen],
            self.labels[chosen],
            self.polarity[chosen],
            self.fixed[chosen],
            self.notes,
        )


def ink_box(image: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Return the tight box ``(x0, y0, x1, y1)`` of what is darker than the background; None if nothing is."""
    ys, xs = np.nonzero(image < INK)
    if not len(ys):
        return None
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1

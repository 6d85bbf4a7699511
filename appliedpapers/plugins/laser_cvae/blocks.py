"""Rows in blocks of one shape, so that a row's answer is the same to the bit whatever stands around it.

Sums and matrix products are rounded as their shapes say: a row that is computed among eight others and forty
readings differs in its last bits from the same row alone. So every row is padded to a width that follows from
its own number of readings, and computed in a block that always has the same number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.laser_cvae.devices import Floats, Indices, Prefixes

_STEP = 16

Counts = TypeVar("Counts", int, NDArray[np.int64])


def in_blocks(
    given: Prefixes, size: int, most: int | None = None, *, padded: bool = True
) -> Iterator[tuple[Indices, Prefixes]]:
    """Yield row numbers and the prefixes of these rows in their order, by rising width.

    Args:
        given: Prefixes of any lengths.
        size: Rows of a block; the last block of a width is filled with copies of its last row.
        most: Rows that are yielded at once, a multiple of ``size``; one block where not given.
        padded: Whether readings are padded to the width; otherwise there are as many columns as readings, and
            whoever sums over them must pad himself.
    """
    counts = given.counts
    width = width_of(np.maximum(counts, 1))
    at_once = size if most is None else most
    for wide in np.unique(width):
        rows = np.flatnonzero(width == wide)
        for start in range(0, len(rows), at_once):
            own = rows[start : start + at_once]
            lacking = -len(own) % size
            filled = given.take(np.concatenate([own, np.repeat(own[-1:], lacking)]))
            yield own, _of_width(filled, int(wide if padded else counts[own].max()))


def width_of(counts: Counts) -> Counts:
    """Return the width that rows of so many readings are padded to."""
    return _STEP * -(-counts // _STEP)


def gathered(parts: list[tuple[Indices, Floats]], rows: int) -> Floats:
    """Return the results ``(len, ...)`` of blocks in the order of their row numbers, ``(rows, ...)``."""
    found = np.empty((rows, *parts[0][1].shape[1:]))
    for own, values in parts:
        found[own] = values[: len(own)]
    return found


def _of_width(given: Prefixes, width: int) -> Prefixes:
    """Return prefixes with that many columns; those cut off hold nothing."""
    if width == given.hours.shape[1]:
        return given
    lacking = max(width - given.hours.shape[1], 0)

    def fit(values: Floats) -> Floats:
        padded = np.pad(values, ((0, 0), (0, lacking)), constant_values=np.nan) if lacking else values
        return np.ascontiguousarray(padded[:, :width])

    kept = np.pad(given.kept, ((0, 0), (0, lacking)))[:, :width]
    return Prefixes(
        given.device,
        fit(given.hours),
        fit(given.damage),
        np.ascontiguousarray(kept),
        given.end,
        given.horizon,
        given.conditions,
        given.scale,
    )

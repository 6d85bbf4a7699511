"""Whether whole numbers count something or merely name it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DENSE = 0.5
_NARROW = 0.2
_TOLERATED = 0.15
_ROUGH = 1.5
_COMPLETE, _EVEN, _MANY, _AGAIN = 0.95, 0.75, 300, 3


def is_quantity(numbers: NDArray[Any]) -> tuple[bool, str]:
    """Guess whether whole numbers are quantities, by how they lie along the line.

    The middle 90 % of the rows span a range. Where at least half of the whole numbers in it occur (*dense*),
    codes give themselves away by frequencies that jump from one number to the next: of the second
    differences of the counts, beyond what counting noise and a tolerance of 15 % explain, the median is
    looked at. Numbers that begin at 0 or 1, leave hardly one out and are used evenly are codes, too, where
    they come again. Where fewer occur (*sparse*), quantities crowd together and leave a long tail, so that
    the middle 90 % of the rows lie in less than a fifth of the whole range; codes are strewn over it.

    Args:
        numbers: Values without missing ones, ``(rows,)``, whole; more than a few different ones.

    Returns:
        The guess, and the reason in a few words.
    """
    values, counts = np.unique(numbers, return_counts=True)
    reached = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(reached, (0.05, 0.95))
    low_end, high_end = float(values[low]), float(values[high])
    span = high_end - low_end + 1
    shown = f"{len(values):,} values"
    if (high - low + 1) / span >= _DENSE:
        if _roughness(counts[low : high + 1]) > _ROUGH:
            return False, f"{shown} as unevenly used as codes"
        whole = float(values[-1]) - float(values[0]) + 1
        complete = values[0] in (0, 1) and len(values) > _COMPLETE * whole and span > _EVEN * whole
        if complete and len(values) > _MANY and counts.mean() > _AGAIN:
            return False, f"{shown} from {values[0]:.0f} on, evenly used, as codes are"
        return True, f"{shown} in a smooth range"
    if span / (float(values[-1]) - float(values[0]) + 1) < _NARROW:
        return True, f"{shown} with a long tail"
    return False, f"{shown} strewn over a wide range"


def _roughness(counts: NDArray[np.int64]) -> float:
    if len(counts) < 3:
        return 0.0
    middle, around = counts[1:-1].astype(float), (counts[:-2] + counts[2:]) / 2
    level = (middle + around) / 2
    noise = middle + around / 2 + (_TOLERATED * level) ** 2
    return float(np.median((middle - around) ** 2 / noise))

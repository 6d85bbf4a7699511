"""Run lengths of a binary mask, as COCO files hold them: plain counts, or a text of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class RleError(ValueError):
    """Run lengths that do not describe a mask of the given size."""


def mask_of_counts(counts: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask ``(height, width)`` of run lengths.

    Runs go down the columns from the upper left corner and begin with zeros.

    Args:
        counts: A list of whole numbers, or the text that :func:`counts_of_text` reads.
        height: Rows of the mask.
        width: Columns of the mask.

    Raises:
        RleError: The runs do not add up to the size.
    """
    runs = counts_of_text(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise RleError(f"run lengths of {sum(runs)} pixels, expected {height * width}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def counts_of_text(text: str) -> Sequence[int]:
    """Return the run lengths in a compressed text.

    A number is a row of characters of 48 and more: five bits each, the lowest first, 32 added where another
    follows; the highest bit of the last one is the sign. From the fourth number on it is the difference to
    the number two places before.

    Raises:
        RleError: A character is none of these, or the last number is not complete.
    """
    runs: list[int] = []
    value = shift = 0
    for mark in text:
        code = ord(mark) - 48
        if not 0 <= code < 64:
            raise RleError(f"'{mark}' in run lengths")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise RleError("run lengths that end within a number")
    return runs

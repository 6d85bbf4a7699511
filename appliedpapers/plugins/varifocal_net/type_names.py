"""Names that people give to the 24 types."""

from __future__ import annotations

import re

from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES

_FORM = re.compile(r"(?:(?:chromosome|chr)[ .-]?)?(?:0?([1-9])|(1\d|2[0-4])|([xy]))(?:\.0)?", re.IGNORECASE)


def label_of(name: str) -> int | None:
    """Return the label, 0 to 23, of a name such as ``1``, ``01``, ``chr1``, ``x`` or 23 (X); else None."""
    found = _FORM.fullmatch(name.strip())
    if found is None:
        return None
    number = found[1] or found[2]
    return int(number) - 1 if number else TYPES.index(found[3].upper())


def is_numbered_sex(name: str) -> bool:
    """Tell whether a name is the number 23 or 24, which not everyone uses for X and Y."""
    label = label_of(name)
    return label is not None and label >= 22 and any(mark.isdigit() for mark in name)


def require_label(name: str, place: str) -> int:
    """Return the label of a name.

    Args:
        name: What was found.
        place: File, row and column of it.

    Raises:
        DataError: It is not a type.
    """
    label = label_of(name)
    if label is None:
        known = "Expected 1 to 22, X or Y."
        # 25 is no slip for 5
        hint = known if name.strip().isdecimal() else did_you_mean(name.strip().upper(), TYPES)
        raise DataError(f"{place}: '{name}' is not a type.", hint=hint if hint.startswith("Did") else known)
    return label

"""Ragged NPZ files: all pixels in one array, with the place, size and cell of each chromosome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.archives import read_npz
from appliedpapers.core.data import part_named
from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN
from appliedpapers.plugins.varifocal_net.config import DataConfig
from appliedpapers.plugins.varifocal_net.images import on_white
from appliedpapers.plugins.varifocal_net.listing import Entry, Listing

_MAX_BYTES = 16 << 30
_KINDS = {"f": "fractions", "U": "text", "S": "text", "b": "true and false"}
_HINT = "Expected pixels, offsets, height and width, and if known label, case, case_ids, specimen and split."

Arrays = dict[str, NDArray[Any]]


def list_npz(path: Path, data: DataConfig) -> Listing:
    """List the images of a ragged NPZ.

    Keys: ``pixels`` uint8, all images row by row; ``offsets`` (n + 1), ``height`` and ``width`` (n); and each
    that is known of ``label`` (n, 0 to 23, any other number for unlabelled), ``polarity`` (n, 1 q-down, 0
    q-up), ``case`` (n, place in the arrays of cells), ``case_ids``, ``specimen`` and ``split`` (a cell each).

    Raises:
        DataError: A key is absent, or its values contradict one another; the key and the place are named.
    """
    arrays = _load(path)
    for key in ("pixels", "offsets", "height", "width"):
        if key not in arrays:
            raise DataError(f"{path.name}: there is no array '{key}'.", hint=_HINT)
    if arrays["pixels"].dtype != np.uint8:
        raise DataError(f"{path.name}, 'pixels': {arrays['pixels'].dtype}.", hint="Expected uint8.")
    count = len(arrays["height"])
    images = _Images(path, arrays, count)
    labels = _optional(path, arrays, "label", count)
    labels = np.where((labels >= 0) & (labels < len(TYPES)), labels, UNKNOWN)
    polarity = _polarity(path, arrays, labels, data)
    cases = _optional(path, arrays, "case", count)
    names, specimens, splits = _cells(path, arrays, cases)
    inverted = 0
    entries = []
    running: dict[int, int] = {}
    for row in range(count):
        grey = on_white(images.image(row), data.background)
        inverted += grey.inverted
        cell = int(cases[row])
        running[cell] = running.get(cell, 0) + 1
        known = cell != UNKNOWN
        entries.append(
            Entry(
                grey.pixels,
                f"{running[cell]:02d}",
                f"{path.name}, image {row}",
                case=names[cell] if known else None,
                specimen=specimens[cell] if known and specimens else None,
                label=int(labels[row]),
                polarity=int(polarity[row]),
                split=splits[cell] if known and splits else None,
            )
        )
    return Listing(entries, inverted=inverted)


class _Images:
    """The images of a file whose offsets, heights and widths were found to agree."""

    def __init__(self, path: Path, arrays: Arrays, count: int) -> None:
        self._pixels = arrays["pixels"]
        self._offsets = _whole(path, arrays, "offsets", count + 1)
        self._height, self._width = (_whole(path, arrays, key, count) for key in ("height", "width"))
        for key, values in (("height", self._height), ("width", self._width)):
            if count and int(values.min()) < 1:
                raise DataError(
                    f"{path.name}, '{key}', image {int(values.argmin())}: {int(values.min())} px.",
                    hint="Expected 1 or more.",
                )
        sizes = self._height * self._width
        wrong = np.flatnonzero(np.diff(self._offsets) != sizes)
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{path.name}, 'offsets', image {row}: {int(np.diff(self._offsets)[row]):,} pixels, and "
                f"height x width are {int(sizes[row]):,}.",
                hint="Expected offsets[i + 1] - offsets[i] = height[i] x width[i].",
            )
        if self._offsets[0] != 0 or self._offsets[-1] != self._pixels.size:
            raise DataError(
                f"{path.name}, 'offsets': from {self._offsets[0]} to {self._offsets[-1]}, and there are "
                f"{self._pixels.size:,} pixels.",
                hint="Expected offsets from 0 to the number of pixels; is the file complete?",
            )

    def image(self, row: int) -> NDArray[np.uint8]:
        """Return one image, uint8 ``(h, w)``."""
        pixels = self._pixels[self._offsets[row] : self._offsets[row + 1]]
        return np.asarray(pixels.reshape(int(self._height[row]), int(self._width[row])))


def _load(path: Path) -> Arrays:
    try:
        return read_npz(path, _MAX_BYTES)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", hint="Check the path.") from None
    # a damaged archive takes zip, its decompressors and the header's reader to exceptions of every kind
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: cannot be read ({reason}).", hint=f"Is it complete? {_HINT}") from None


def _whole(path: Path, arrays: Arrays, key: str, length: int) -> NDArray[np.int64]:
    values = arrays[key]
    if values.dtype.kind not in "iu":
        found = _KINDS.get(values.dtype.kind, str(values.dtype))
        raise DataError(f"{path.name}, '{key}': {found}.", hint="Expected whole numbers.")
    if values.shape != (length,):
        raise DataError(f"{path.name}, '{key}': shape {values.shape}.", hint=f"Expected ({length},).")
    return values.astype(np.int64)


def _optional(path: Path, arrays: Arrays, key: str, length: int) -> NDArray[np.int64]:
    return _whole(path, arrays, key, length) if key in arrays else np.full(length, UNKNOWN, dtype=np.int64)


def _polarity(path: Path, arrays: Arrays, labels: NDArray[np.int64], data: DataConfig) -> NDArray[np.int64]:
    if "polarity" in arrays:
        given = _whole(path, arrays, "polarity", len(labels))
        return np.where((given == 0) | (given == 1), given, UNKNOWN)
    return np.where(labels == UNKNOWN, UNKNOWN, 1 if data.polarity == "q-down" else 0)


def _cells(path: Path, arrays: Arrays, cases: NDArray[np.int64]) -> tuple[list[str], list[str], list[str]]:
    """Return names, specimens and splits of the cells; the last two are empty where they are not said."""
    most = int(cases.max()) + 1 if len(cases) else 0
    if len(cases) and int(cases.min()) < UNKNOWN:
        raise DataError(
            f"{path.name}, 'case': {int(cases.min())}.", hint="Expected 0 or more, -1 if unknown."
        )
    names = _per_cell(path, arrays, "case_ids", most) or [str(cell) for cell in range(most)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path.name}, 'case_ids': '{twice}' stands twice.", hint="Expected a name a cell.")
    splits = list[str]()
    for cell, name in enumerate(_per_cell(path, arrays, "split", most)):
        part = part_named(name)
        if part is None:
            raise DataError(
                f"{path.name}, 'split', cell {cell}: '{name}'.", hint="Expected train, valid or test."
            )
        splits.append(part)
    return names, _per_cell(path, arrays, "specimen", most), splits


def _per_cell(path: Path, arrays: Arrays, key: str, most: int) -> list[str]:
    if key not in arrays:
        return []
    values = arrays[key]
    if values.ndim != 1 or len(values) < most or values.dtype.kind not in "USiu":
        raise DataError(
            f"{path.name}, '{key}': {values.dtype} of shape {values.shape}.",
            hint=f"Expected a text for each of the {most} cells that 'case' counts.",
        )
    texts = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
    return [str(value) for value in texts]

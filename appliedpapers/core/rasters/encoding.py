"""Between physical values and what a file stores of them: scale, offset, missing values, limits of types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import RunError


@dataclass(frozen=True)
class BandEncoding:
    """How one band is stored: ``physical = stored * scale + offset``.

    Attributes:
        dtype: NumPy name of the stored type, an integer or a real number.
        scale: Physical size of one stored step, not 0.
        offset: Physical value of a stored 0.
        nodata: Stored value that means missing: any number, NaN, or None.
    """

    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    def decode(self, stored: NDArray[Any], seen: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return physical values as float32, NaN where missing or not finite.

        Args:
            stored: Stored values, any shape.
            seen: Which pixels a mask of the file calls valid, same shape; None if it has no mask.
        """
        missing = self._missing(stored)
        # float32 holds 16-bit integers exactly; only larger ones need the detour for the scaling
        plain = self.scale == 1 and self.offset == 0
        values = stored if plain else stored.astype(np.float64) * self.scale + self.offset
        physical: NDArray[np.float32] = values.astype(np.float32)
        if missing is not None:
            physical[missing] = np.nan
        if seen is not None:
            physical[~seen] = np.nan
        if np.dtype(self.dtype).kind == "f":
            physical[~np.isfinite(physical)] = np.nan
        return physical

    def _missing(self, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
        if self.nodata is None or np.isnan(self.nodata) or not fits(self.nodata, self.dtype):
            return None
        found: NDArray[np.bool_] = stored == stored.dtype.type(self.nodata)
        return found

    def encode(self, physical: NDArray[Any]) -> NDArray[Any]:
        """Return stored values: rounded and held within the limits of the type, never wrapped around.

        A valid pixel never becomes ``nodata``: it moves one step towards its own side of it.

        Args:
            physical: Values of any shape; NaN means missing.

        Raises:
            RunError: A pixel is missing, and an integer type has no value for that.
        """
        missing = np.isnan(physical)
        exact = (np.asarray(physical, dtype=np.float64) - self.offset) / self.scale
        kind = np.dtype(self.dtype)
        if kind.kind == "f":
            stored = exact.astype(kind)
            if self.nodata is not None and not np.isnan(self.nodata):
                void = kind.type(self.nodata)
                stored = np.where(stored == void, np.nextafter(void, kind.type(0 if void else 1)), stored)
            stored[missing] = np.nan if self.nodata is None else self.nodata
            return stored
        if missing.any() and self.nodata is None:
            raise RunError(
                f"missing pixels cannot be stored as {self.dtype} without a nodata value.",
                hint="Give the file a nodata value (gdal_edit.py -a_nodata), or write float32.",
            )
        low, high = _limits(kind)
        whole = np.clip(np.rint(np.where(missing, 0, exact)), low, high)
        if self.nodata is not None:
            void = float(self.nodata)
            up = ((exact >= void) & (void < high)) | (void <= low)
            whole = np.where(whole == void, np.where(up, void + 1, void - 1), whole)
            whole[missing] = void
        return whole.astype(kind)


def fits(value: float, dtype: str) -> bool:
    """Return whether a value can be stored in this type: ``nodata`` of a file may lie outside of its own."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return not np.isfinite(value) or bool(np.isfinite(kind.type(value)))
    limits = np.iinfo(kind)
    return bool(np.isfinite(value)) and float(value).is_integer() and limits.min <= value <= limits.max


def _limits(kind: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and largest number of an integer type that float64 holds without leaving the type."""
    limits = np.iinfo(kind)
    high = float(limits.max)
    return float(limits.min), high if int(high) <= limits.max else float(np.nextafter(high, 0))


def missing_value(dtype: str) -> float:
    """Return a nodata value for a type that has none yet: NaN, the least signed integer, or 0."""
    kind = np.dtype(dtype)
    return float("nan") if kind.kind == "f" else float(np.iinfo(kind).min)

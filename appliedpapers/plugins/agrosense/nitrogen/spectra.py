"""Spectra: which columns of a table are one, other grids and units, and what is done before learning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.plugins.agrosense.nitrogen.config import DataConfig, PreprocessingConfig

Floats = NDArray[np.float64]

LEAST_POINTS = 20

_NUMBER = re.compile(r"^[A-Za-z_]{0,4}\s*(\d+(?:\.\d+)?)\s*(?:nm|cm-1)?$")


def wavelength_columns(names: Sequence[str], axis: Literal["nm", "cm-1"]) -> dict[str, float]:
    """Return the columns that are points of a spectrum, with their wavelength in nm, rising.

    Args:
        names: Column names, such as ``A1100``, ``1100`` or ``X1100.5nm``.
        axis: What the numbers are: wavelengths in nm or wave numbers in 1/cm.
    """
    found = {}
    for name in names:
        match = _NUMBER.match(name.strip())
        if match is not None and float(match[1]) >= 100:
            number = float(match[1])
            found[name] = number if axis == "nm" else 1e7 / number
    if len(found) < LEAST_POINTS:
        return {}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def absorbance(values: Floats, config: DataConfig, source: str) -> Floats:
    """Return absorbance: as it is, or -log10 of a reflectance.

    Args:
        values: ``(rows, points)``.
        config: Says what they are.
        source: Name of the file, for messages.

    Raises:
        DataError: A reflectance is not in (0, 1], or in per cent; or an absorbance is none.
    """
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(
            f"{source}, row {row + 1}, point {column + 1} of the spectrum: not a number.",
            hint="Leave the row out, or fill the gap.",
        )
    if config.quantity == "reflectance":
        bad = np.argwhere((values <= 0) | (values > 1.5))
        if bad.size:
            row, column = bad[0]
            raise DataError(
                f"{source}, row {row + 1}, point {column + 1} of the spectrum: {values[row, column]:g} is no "
                "reflectance.",
                hint="Expected shares of 1, above 0; divide by 100 where they are in %.",
            )
        return -np.log10(values)
    bad = np.argwhere((values < -1) | (values > 6))
    if bad.size:
        row, column = bad[0]
        raise DataError(
            f"{source}, row {row + 1}, point {column + 1} of the spectrum: {values[row, column]:g} "
            "is no absorbance.",
            hint="Expected -1 to 6; for reflectance say --quantity reflectance.",
        )
    return values


def resampled(wavelengths: Floats, values: Floats, grid: Floats) -> Floats:
    """Return a spectrum at the wavelengths of another, between its own points.

    Args:
        wavelengths: In nm, rising, ``(points,)``.
        values: ``(points,)``.
        grid: In nm, rising, ``(wanted,)``.

    Raises:
        ValueError: The grid reaches beyond the spectrum, or the spectrum is too coarse for it.
    """
    step = float(np.median(np.diff(grid))) if len(grid) > 1 else 1.0
    if wavelengths[0] > grid[0] + step or wavelengths[-1] < grid[-1] - step:
        raise ValueError(
            f"the spectrum covers {wavelengths[0]:g} to {wavelengths[-1]:g} nm, {grid[0]:g} to "
            f"{grid[-1]:g} nm are "
            "needed"
        )
    widest = float(np.diff(wavelengths).max(initial=0.0))
    if widest > 10 * max(step, 1.0):
        raise ValueError(
            f"the spectrum has a gap of {widest:g} nm, at most {10 * max(step, 1.0):g} nm can be bridged"
        )
    return np.interp(grid, wavelengths, values)


def preprocess(values: Floats, options: PreprocessingConfig) -> Floats:
    """Return spectra ready for learning, ``(rows, points)``; each row by itself.

    Args:
        values: Absorbance, ``(rows, points)``.
        options: Which method.
    """
    if options.method == "snv":
        spread = values.std(axis=1, keepdims=True)
        return np.asarray((values - values.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0))
    if options.method == "derivative":
        from scipy.signal import savgol_filter

        window = min(options.window, values.shape[1] - (values.shape[1] + 1) % 2)
        window -= (window + 1) % 2
        order = min(options.order, window - 1)
        return np.asarray(savgol_filter(values, window, order, deriv=1, axis=1), dtype=np.float64)
    return values


def spectrum_table(ids: Any, wavelengths: Floats, values: Floats) -> dict[str, pa.Array]:
    """Return the columns ``id``, ``wavelength`` and ``absorbance`` of spectra on one grid."""
    import pyarrow as pa

    rows, points = values.shape
    ends = pa.array(np.arange(rows + 1) * points, pa.int32())
    grid = np.tile(wavelengths, rows)
    return {
        "id": ids,
        "wavelength": pa.ListArray.from_arrays(ends, pa.array(grid, pa.float64())),
        "absorbance": pa.ListArray.from_arrays(ends, pa.array(values.ravel(), pa.float64())),
    }

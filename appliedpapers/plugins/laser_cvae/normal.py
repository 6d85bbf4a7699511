"""Which devices age as their condition lets expect: what the autoencoder learns and is calibrated on.

A device that fails only because its condition is harsh is normal. Devices that did not fail are taken as
they are; one that failed is taken, with its readings before the failure, where rate and exponent of its path
are ordinary for its condition and its readings follow a power law.
"""

from __future__ import annotations

import numpy as np

from appliedpapers.plugins.laser_cvae.devices import Devices, Flags, Floats, Indices, prefixes

_APART = 2.0  # robust standard deviations
_OFF = 3.0  # times the usual distance from a power law
_FEWEST_OF_A_CELL = 8
_FLOOR = 2e-3


def normal_devices(devices: Devices) -> Flags:
    """Return which devices are normal for their condition, ``(N,)``."""
    failed = devices.failed
    if not failed.any():
        return ~failed
    level, power, off = power_laws(devices)
    known = np.isfinite(level)
    cells = np.array(devices.cells())
    ordinary = known.copy()
    for values in (level, power):
        ordinary &= np.abs(_standardised(values, cells, known)) < _APART
    usual = max(float(np.median(off[known & ~failed])) if (known & ~failed).any() else _FLOOR, _FLOOR)
    return np.asarray(~failed | (ordinary & (off < _OFF * usual)))


def reference_devices(devices: Devices) -> Flags:
    """Return which devices stand for healthy ones in the calibration, ``(N,)``.

    Those that did not fail; where a condition fails most of its normal devices, these too until they do.
    """
    normal, cells = normal_devices(devices), np.array(devices.cells())
    found = normal & ~devices.failed
    for name in np.unique(cells):
        own = cells == name
        if (found & own).sum() < 0.5 * (normal & own).sum():
            found |= normal & own
    return np.asarray(found)


def power_laws(devices: Devices) -> tuple[Floats, Floats, Floats]:
    """Fit a power law to the readings of each device before its failure, by least squares of logarithms.

    Returns:
        ln damage at the planned end of the test, exponent, and root mean squared error in damage, ``(N,)``
        each; NaN where there are too few readings.
    """
    rows: Indices = np.arange(len(devices))
    seen = prefixes(devices, rows, np.nextafter(devices.failure, 0))
    ok = seen.kept & (np.nan_to_num(seen.hours) > 0) & (np.nan_to_num(seen.damage) > 0)
    found = np.full((3, len(devices)), np.nan)
    for row in np.flatnonzero(ok.sum(axis=1) >= 3):
        hours, damage = seen.hours[row, ok[row]], seen.damage[row, ok[row]]
        end = float(seen.horizon[row])
        # the logarithm of a small damage is mostly noise
        slope, level = np.polyfit(np.log(hours / end), np.log(damage), 1, w=damage / (damage + _FLOOR * 5))
        off = damage - np.exp(level) * (hours / end) ** slope
        found[:, row] = level, slope, np.sqrt(np.mean(off**2))
    return found[0], found[1], found[2]


def _standardised(values: Floats, cells: np.ndarray[tuple[int], np.dtype[np.str_]], known: Flags) -> Floats:
    """Return values less the median of their cell, in robust standard deviations over all cells."""
    rest = np.where(known, values, np.nan) - np.nanmedian(values[known])
    for name in np.unique(cells):
        own = known & (cells == name)
        if own.sum() >= _FEWEST_OF_A_CELL:
            rest[own] -= np.median(rest[own])
    spread = 1.4826 * np.nanmedian(np.abs(rest))
    return np.asarray(np.nan_to_num(rest / max(float(spread), 1e-9), nan=np.inf))

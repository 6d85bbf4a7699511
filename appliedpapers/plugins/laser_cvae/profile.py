"""What networks see of a prefix, whatever its time grid: a profile over the elapsed time, slopes, level.

Everything is computed from the readings of the prefix alone, by shares of its own elapsed time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliedpapers.plugins.laser_cvae.devices import Floats, Prefixes

PROFILE = np.linspace(1 / 24, 1.0, 24)
"""Shares of the elapsed time at which the abnormality profile is read."""

RECENT = np.concatenate([np.linspace(0.04, 0.8, 10), [0.85, 0.9, 0.93, 0.96, 0.98, 1.0]])
"""Likewise of the forecast, which looks closer at the end."""

_WINDOWS = (0.08, 0.15, 0.3, 0.6, 1.0)
_FLOOR = 0.01


@dataclass(frozen=True)
class Conditioning:
    """How conditions are scaled for a network.

    Attributes:
        centre: Means over the training devices, ``(2,)``.
        spread: Standard deviations, ``(2,)``.
        reference: Hours that times are shares of.
    """

    centre: Floats
    spread: Floats
    reference: float

    def scaled(self, conditions: Floats) -> Floats:
        """Return ``(R, 4)``: conditions, 0 where not known, and whether they are."""
        known = np.isfinite(conditions)
        value = np.where(known, (np.nan_to_num(conditions) - self.centre) / self.spread, 0.0)
        return np.concatenate([value, known.astype(np.float64)], axis=1)


def cleaned(prefixes: Prefixes) -> Floats:
    """Return damage ``(R, L)`` with marked outliers replaced by the line between their neighbours."""
    damage = prefixes.damage.copy()
    rows, places = np.nonzero(np.isfinite(damage) & ~prefixes.kept)
    if not len(rows):
        return damage
    # the first and the last two readings are never marked, so that there are neighbours on both sides
    kept, index = prefixes.kept[rows], np.arange(damage.shape[1])
    left = np.where(kept & (index < places[:, None]), index, 0).max(axis=1)
    right = np.where(kept & (index > places[:, None]), index, len(index) - 1).min(axis=1)
    hours = prefixes.hours
    start, stop = hours[rows, left], hours[rows, right]
    step = (hours[rows, places] - start) / np.maximum(stop - start, 1e-9)
    damage[rows, places] = prefixes.damage[rows, left] * (1 - step) + prefixes.damage[rows, right] * step
    return damage


def read_at(prefixes: Prefixes, damage: Floats, shares: Floats) -> Floats:
    """Return damage ``(R, K)`` at shares of the elapsed time, by lines between readings."""
    hours = np.where(np.isfinite(prefixes.hours), prefixes.hours, np.inf)
    # rows that were read at the same hours lie between the same readings, which are looked for but once
    alike = len(hours) > 1 and bool((hours == hours[:1]).all())
    hours, end = (hours[:1], prefixes.end[:1]) if alike else (hours, prefixes.end)
    last = np.maximum(np.isfinite(hours).sum(axis=1) - 1, 1)[:, None]
    wanted = shares * end[:, None]
    right = np.empty(wanted.shape, dtype=np.intp)
    # one share after the other: all at once would take memory of the size rows x shares x readings
    for number in range(len(shares)):
        right[:, number] = np.count_nonzero(hours < wanted[:, number, None], axis=1)
    right = np.clip(right, 1, last)
    start, stop = (np.take_along_axis(hours, at, axis=1) for at in (right - 1, right))
    step = np.clip((wanted - start) / np.maximum(stop - start, 1e-9), 0, 1)
    low, high = (
        np.take(damage, at[0], axis=1) if alike else np.take_along_axis(damage, at, axis=1)
        for at in (right - 1, right)
    )
    return np.asarray(low * (1 - step) + high * step)


def slopes(prefixes: Prefixes) -> tuple[Floats, Floats]:
    """Fit lines to the end of each prefix.

    Returns:
        Level at the end and slope per hour, ``(R, windows)`` each, of the last 8 % to all of the time.
    """
    hours = np.nan_to_num(prefixes.hours, nan=np.inf)
    damage = np.nan_to_num(prefixes.damage)
    rows = np.arange(len(prefixes))
    third = hours[rows, np.maximum(prefixes.counts - 3, 0)]
    levels, rates = [], []
    for share in _WINDOWS:
        start = np.minimum(prefixes.end * (1 - share), third)
        # an outlier in the middle would tilt a short line
        weight = ((hours >= start[:, None]) & prefixes.kept).astype(np.float64)
        x = np.where(weight > 0, prefixes.hours - prefixes.end[:, None], 0.0)
        total = np.maximum(weight.sum(axis=1), 1e-9)
        mean_x, mean_y = (weight * x).sum(axis=1) / total, (weight * damage).sum(axis=1) / total
        spread = (weight * (x - mean_x[:, None]) ** 2).sum(axis=1)
        rate = (weight * (x - mean_x[:, None]) * damage).sum(axis=1) / np.maximum(spread, 1e-9)
        levels.append(mean_y - rate * mean_x)
        rates.append(rate)
    return np.stack(levels, axis=1), np.stack(rates, axis=1)


def level_now(prefixes: Prefixes, levels: Floats) -> Floats:
    """Return the damage at the end of each prefix with most of the noise gone, ``(R,)``."""
    rows, count = np.arange(len(prefixes)), prefixes.counts
    recent = [prefixes.damage[rows, np.maximum(count - 1 - back, 0)] for back in range(4)]
    return np.asarray(0.5 * (levels[:, 0] + np.median(np.stack(recent), axis=0)))


def abnormality_features(prefixes: Prefixes, how: Conditioning) -> tuple[Floats, Floats]:
    """Return what the autoencoder's encoder reads, ``(R, F)``, and the size of the damage, ``(R, 1)``."""
    profile = read_at(prefixes, cleaned(prefixes), PROFILE)
    size = np.sqrt((profile**2).mean(axis=1, keepdims=True) + _FLOOR**2)
    share = (prefixes.end / how.reference)[:, None]
    parts = [
        np.arcsinh(profile / 0.02),
        3 * profile / size,
        np.log(size),
        np.log(np.maximum(share, 1e-4)),
        share,
        how.scaled(prefixes.conditions),
    ]
    return np.concatenate(parts, axis=1), size


@dataclass(frozen=True)
class Seen:
    """What the forecast reads of prefixes.

    Attributes:
        features: ``(R, F)``.
        level: Damage now, ``(R,)``.
    """

    features: Floats
    level: Floats


def forecast_features(prefixes: Prefixes, how: Conditioning, ahead: Floats, doubt: Floats) -> Seen:
    """Return what the forecast's encoder reads.

    Args:
        prefixes: With at least four readings each.
        how: Scaling of the conditions.
        ahead: Damage now and at the planned end by the path prior, ``(R, 2)``.
        doubt: Its standard deviation in logarithms at the end, ``(R,)``.
    """
    limit = prefixes.scale.limit
    levels, rates = slopes(prefixes)
    level = level_now(prefixes, levels)
    left = np.maximum(prefixes.horizon - prefixes.end, 0)
    share = np.clip(prefixes.end / np.maximum(prefixes.horizon, 1e-9), 1e-3, 1)
    parts = [
        np.arcsinh(10 * read_at(prefixes, cleaned(prefixes), RECENT) / limit) / 2,
        np.arcsinh(3 * levels / limit),
        np.arcsinh(3 * rates * left[:, None] / limit),
        np.arcsinh(3 * ahead / limit),
        doubt[:, None],
        np.log(share)[:, None],
        1 - share[:, None],
        how.scaled(prefixes.conditions),
    ]
    return Seen(np.concatenate(parts, axis=1), level)

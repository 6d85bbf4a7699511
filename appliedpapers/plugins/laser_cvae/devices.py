"""Devices on test in one form: damage over hours, conditions, failures; and prefixes of them.

Damage is d = -ln(P / P0) at constant current and d = ln(I / I0) at constant power: it rises in both modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from appliedpapers.plugins.laser_cvae.config import DataConfig, Mode, ValueUnit

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

BOLTZMANN = 8.617e-5
"""eV/K."""

KELVIN = 273.15
FEWEST = 4
"""Readings that a judgement needs."""

_WINDOW, _MADS = 5, 4.0
_LARGEST = 20.0  # damage of a device that gives no light at all


@dataclass(frozen=True)
class Scale:
    """What a value means.

    Attributes:
        mode: ``CC`` (power falls) or ``CP`` (current rises).
        unit: Unit in which values are read and told.
        threshold: Failure criterion as a ratio.
    """

    mode: Mode = "CC"
    unit: ValueUnit = "ratio"
    threshold: float = 0.8

    @classmethod
    def of(cls, data: DataConfig) -> Scale:
        """Return the scale of a configuration."""
        return cls(data.mode, data.value_unit, data.threshold)

    @property
    def sign(self) -> float:
        """The sign of damage in the logarithm of the ratio."""
        return -1.0 if self.mode == "CC" else 1.0

    @property
    def limit(self) -> float:
        """The damage at the failure criterion, positive."""
        return float(self.sign * np.log(self.threshold))

    @property
    def words(self) -> str:
        """The unit of told values, for tables and axes."""
        return {"ratio": "", "absolute": "", "percent": "pct-pt", "dB": "dB"}[self.unit]

    def ratio(self, values: ArrayLike) -> Floats:
        """Return values as ratios to the start; absolute ones must be divided already."""
        given = np.asarray(values, dtype=np.float64)
        if self.unit == "percent":
            return np.asarray(1 + given / 100)
        return np.asarray(10 ** (given / 10)) if self.unit == "dB" else given

    def damage(self, ratio: ArrayLike) -> Floats:
        """Return the damage of positive ratios."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.sign * np.log(np.asarray(ratio, dtype=np.float64))
        return np.asarray(np.clip(found, -_LARGEST, _LARGEST))

    def told(self, damage: ArrayLike) -> Floats:
        """Return damage in the unit of the user's values (absolute ones as ratios)."""
        log_ratio = self.sign * np.asarray(damage, dtype=np.float64)
        if self.unit == "percent":
            return np.asarray(100 * np.expm1(log_ratio))
        return np.asarray(10 / np.log(10) * log_ratio if self.unit == "dB" else np.exp(log_ratio))


@dataclass(frozen=True)
class Devices:
    """Devices with their readings, padded to one length.

    Attributes:
        names: N names.
        hours: ``(N, L)``, rising, NaN after the last reading.
        damage: ``(N, L)``, NaN alike.
        conditions: ``(N, 2)``: 1 / (k T_j) in 1/eV and ln(I / I_ref); NaN where not known.
        horizon: ``(N,)``, planned end of the test in hours.
        failure: ``(N,)``, hours of the failure, infinite where there was none.
        scale: What values mean.
        modes: True failure mode of each (``""`` for none, ``"condition"``, ...), where a simulator knows it.
        truth: Noise-free damage ``(N, L)``, likewise.
        batches: Batch of each, or None.
    """

    names: tuple[str, ...]
    hours: Floats
    damage: Floats
    conditions: Floats
    horizon: Floats
    failure: Floats
    scale: Scale
    modes: tuple[str, ...] = ()
    truth: Floats | None = None
    batches: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Readings of each device, ``(N,)``."""
        return np.asarray(np.isfinite(self.hours).sum(axis=1), dtype=np.int64)

    @property
    def last(self) -> Floats:
        """Hour of the last reading of each device, ``(N,)``."""
        return np.asarray(np.nanmax(self.hours, axis=1))

    @property
    def failed(self) -> Flags:
        """Whether each device failed by the end of its test, ``(N,)``."""
        return np.asarray(self.failure <= np.maximum(self.horizon, self.last))

    @property
    def crossing(self) -> Floats:
        """Hours at which damage reached the criterion, ``(N,)``; infinite where there was no failure.

        A failure that is dated by the reading that shows it lies on the line from the reading before, without
        noise where a simulator knows it.
        """
        found, limit = self.failure.copy(), self.scale.limit
        damage = self.damage if self.truth is None else self.truth
        rows, place = np.nonzero(self.hours[:, 1:] == self.failure[:, None])
        before, after = damage[rows, place], damage[rows, place + 1]
        between = (before < limit) & (after >= limit)
        rows, place = rows[between], place[between]
        share = (limit - before[between]) / (after - before)[between]
        start = self.hours[rows, place]
        found[rows] = start + share * (self.failure[rows] - start)
        return found

    def take(self, chosen: ArrayLike | slice) -> Devices:
        """Return some of the devices, by indices, flags or a slice."""
        index = np.arange(len(self))[chosen if isinstance(chosen, slice) else np.asarray(chosen)]
        return replace(
            self,
            names=tuple(self.names[i] for i in index),
            hours=self.hours[index],
            damage=self.damage[index],
            conditions=self.conditions[index],
            horizon=self.horizon[index],
            failure=self.failure[index],
            modes=tuple(self.modes[i] for i in index) if self.modes else (),
            truth=None if self.truth is None else self.truth[index],
            batches=tuple(self.batches[i] for i in index) if self.batches else (),
        )

    def cells(self) -> list[str]:
        """Return the name of each device's condition cell."""
        return cell_names(self.conditions)

    def before(self, hours: ArrayLike) -> Prefixes:
        """Return what had been read of each device by some hour, one for all or ``(N,)``."""
        return prefixes(self, np.arange(len(self)), np.broadcast_to(np.asarray(hours, float), (len(self),)))


@dataclass(frozen=True)
class Prefixes:
    """Readings up to a cut; a row is a device at one cut.

    Attributes:
        device: ``(R,)``, number of the device.
        hours: ``(R, L)``; NaN after the cut.
        damage: ``(R, L)``; NaN alike.
        kept: ``(R, L)``, readings that are no marked outlier.
        end: ``(R,)``, hour of the last reading.
        horizon: ``(R,)``, planned end of the test.
        conditions: ``(R, 2)``.
        scale: What values mean.
    """

    device: Indices
    hours: Floats
    damage: Floats
    kept: Flags
    end: Floats
    horizon: Floats
    conditions: Floats
    scale: Scale

    def __len__(self) -> int:
        return len(self.device)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Readings of each row, ``(R,)``."""
        return np.asarray(np.isfinite(self.hours).sum(axis=1), dtype=np.int64)

    @property
    def usable(self) -> Flags:
        """Rows with enough readings, ``(R,)``."""
        return np.asarray(self.counts >= FEWEST)

    @property
    def crossed(self) -> Flags:
        """Rows whose readings show a failure: the last one, or two in a row, beyond the criterion."""
        beyond = np.nan_to_num(self.damage, nan=-np.inf) > self.scale.limit
        rows = np.arange(len(self))
        latest = beyond[rows, np.maximum(self.counts - 1, 0)]
        return np.asarray(latest | (beyond[:, 1:] & beyond[:, :-1]).any(axis=1))

    def take(self, chosen: ArrayLike | slice) -> Prefixes:
        """Return some of the rows, by indices, flags or a slice."""
        index = np.arange(len(self))[chosen if isinstance(chosen, slice) else np.asarray(chosen)]
        return Prefixes(
            self.device[index],
            self.hours[index],
            self.damage[index],
            self.kept[index],
            self.end[index],
            self.horizon[index],
            self.conditions[index],
            self.scale,
        )


def prefixes(devices: Devices, rows: Indices, cuts: Floats) -> Prefixes:
    """Return devices as they were known at cuts.

    Args:
        devices: Whole series.
        rows: ``(R,)``, numbers of devices, with repetition.
        cuts: ``(R,)``, hours; later readings are not looked at.
    """
    hours = devices.hours[rows]
    # a cut that is a rounded share of the test still holds the reading at it
    seen = np.nan_to_num(hours, nan=1e18) <= (np.minimum(cuts, 1e12) * (1 + 1e-12))[:, None]
    width = max(int(seen.sum(axis=1).max(initial=1)), 1)
    seen = seen[:, :width]
    hours = np.where(seen, hours[:, :width], np.nan)
    damage = np.where(seen, devices.damage[rows][:, :width], np.nan)
    end = np.where(seen.any(axis=1), np.nanmax(np.where(seen, hours, -1.0), axis=1), 0.0)
    return Prefixes(
        rows,
        hours,
        damage,
        seen & ~outliers(damage),
        end,
        devices.horizon[rows],
        devices.conditions[rows],
        devices.scale,
    )


def outliers(damage: Floats, floor: float = 2e-3) -> Flags:
    """Mark read-out outliers by a Hampel filter of five points and four MAD; values stay as they are.

    The first and the last two readings are never marked: of them a jump cannot be told from an outlier.

    Args:
        damage: ``(R, L)``, NaN after the end.
        floor: Smallest spread that is believed.
    """
    marked = np.zeros(damage.shape, dtype=bool)
    if damage.shape[1] < _WINDOW:
        return marked
    windows = np.lib.stride_tricks.sliding_window_view(damage, _WINDOW, axis=1)
    middle = np.median(windows, axis=-1)
    spread = 1.4826 * np.median(np.abs(windows - middle[..., None]), axis=-1)
    with np.errstate(invalid="ignore"):
        inside = np.abs(damage[:, 2:-2] - middle) > _MADS * np.maximum(spread, floor)
    marked[:, 2:-2] = inside
    return marked


def cell_names(conditions: Floats) -> list[str]:
    """Return the name of each condition, such as ``85 C, 1 x``, ``(N, 2)`` conditions given."""
    names = []
    for inverse, log_current in conditions:
        parts = []
        if np.isfinite(inverse):
            parts.append(f"{1 / (BOLTZMANN * inverse) - KELVIN:.4g} C")
        if np.isfinite(log_current):
            parts.append(f"{np.exp(log_current):.4g} x")
        names.append(", ".join(parts) or "not known")
    return names


def condition(celsius: ArrayLike, current: ArrayLike) -> Floats:
    """Return ``(N, 2)`` conditions of junction temperatures in degC and currents as ratios."""
    kelvin = np.asarray(celsius, dtype=np.float64) + KELVIN
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([1 / (BOLTZMANN * kelvin), np.log(np.asarray(current, dtype=np.float64))], axis=1)


def padded(rows: Sequence[Floats]) -> Floats:
    """Return series of any length as one array, NaN after their ends."""
    width = max((len(row) for row in rows), default=1)
    found = np.full((len(rows), max(width, 1)), np.nan)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found


def first_crossing(hours: Floats, damage: Floats, limit: float) -> Floats:
    """Return the hour of the first reading beyond the criterion that is no outlier, infinite without one."""
    beyond = (np.nan_to_num(damage, nan=-np.inf) > limit) & ~outliers(damage)
    first = beyond.argmax(axis=1)
    return np.where(beyond.any(axis=1), hours[np.arange(len(hours)), first], np.inf)

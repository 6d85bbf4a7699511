"""The physics generator: ageing of lasers under temperature and current, with four ways to fail.

P(t)/P0 = exp(-D(t)) (1 + b(t)) (1 + noise) at constant current, I(t)/I0 its inverse at constant power, with
D = D_ref u (AF t / t_ref)^m and AF = (I/I_ref)^n (P/P_ref)^q exp[(E_a/k)(1/T_ref - 1/T_j)]. Ranges are those
of the data card ``simulated-ageing``. Truth kept: mode, crossing hour of the noise-free curve, that curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliedpapers.plugins.laser_cvae.config import Mode, SimulatorConfig
from appliedpapers.plugins.laser_cvae.devices import (
    BOLTZMANN,
    KELVIN,
    Devices,
    Flags,
    Floats,
    Scale,
    condition,
)

T_REF_HOURS, T_REF_CELSIUS = 1000.0, 85.0
CONDITION_ONLY = "condition"
MODES = (CONDITION_ONLY, "gradual", "rapid", "sudden")
"""Every way to fail; the first is no mode of the device, but a harsh condition."""

_DEFECT_ENERGY = (0.4, 0.9)  # of the two populations, where they are wanted
_POWER_SPREAD = 0.1
_WEIBULL_SHAPE = 1.5


def simulate(
    wanted: SimulatorConfig, seed: int, devices: int, *, mode: Mode = "CC", limit: float | None = None
) -> Devices:
    """Simulate devices on test; the same seed gives the same devices.

    Args:
        wanted: Ranges, sizes and faults.
        seed: Of all that is drawn.
        devices: How many.
        mode: Constant current or constant power.
        limit: Failure criterion as a ratio; 0.8, or 1.2 at constant power.
    """
    rng = np.random.default_rng([seed, 2211, 2847])
    scale = Scale(mode, "ratio", limit or (0.8 if mode == "CC" else 1.2))
    hours = _grid(wanted, rng, devices)
    celsius = rng.choice(np.array(wanted.temperatures), devices)
    current = rng.choice(np.array(wanted.currents), devices)
    healthy = _wear(wanted, rng, hours, celsius, current)
    kind = np.where(rng.random(devices) < wanted.p_fail, rng.integers(0, len(wanted.modes), devices), -1)
    faults = _Faults(wanted, rng, hours, current)
    damage = healthy + faults.of(kind)
    if wanted.infant:
        damage = damage + faults.infant()
    read = np.exp(-damage) * (1 + _burn_in(wanted, rng, hours)) * (1 + _noise(wanted, rng, hours))
    failure = _crossing(hours, damage, scale.limit)
    named = [
        wanted.modes[k] if k >= 0 and np.isfinite(f) else (CONDITION_ONLY if np.isfinite(f) else "")
        for k, f in zip(kind, failure, strict=True)
    ]
    seen = _seen(wanted, rng, hours)
    # what is not read any more cannot be known to have failed
    failure = np.where(failure <= np.nanmax(np.where(seen, hours, 0), axis=1), failure, np.inf)
    ratio = np.maximum(read, 1e-3)
    observed = Scale("CC").damage(ratio)
    return Devices(
        names=tuple(f"d{seed % 10_000}-{number:05d}" for number in range(devices)),
        hours=_compact(hours, seen),
        damage=_compact(observed, seen),
        conditions=condition(celsius, current),
        horizon=np.full(devices, wanted.horizon),
        failure=failure,
        scale=scale,
        modes=tuple(name if np.isfinite(f) else "" for name, f in zip(named, failure, strict=True)),
        truth=_compact(damage, seen),
    )


def _grid(wanted: SimulatorConfig, rng: np.random.Generator, devices: int) -> Floats:
    regular = np.tile(np.linspace(0, wanted.horizon, wanted.readings), (devices, 1))
    if wanted.grid == "regular":
        return regular
    step = wanted.horizon / (wanted.readings - 1)
    moved = regular + step * rng.uniform(-0.45, 0.45, regular.shape)
    moved[:, 0], moved[:, -1] = 0, wanted.horizon
    return np.asarray(moved)


def _wear(
    wanted: SimulatorConfig, rng: np.random.Generator, hours: Floats, celsius: Floats, current: Floats
) -> Floats:
    """Return the damage without any failure mode, ``(N, L)``."""
    count = len(hours)
    exponent = np.clip(
        rng.normal(wanted.time_exponent, wanted.time_exponent_sd, count),
        wanted.time_exponent - 2.5 * wanted.time_exponent_sd,
        wanted.time_exponent + 3 * wanted.time_exponent_sd,
    )
    unit = np.exp(wanted.unit_sd * rng.normal(size=count))
    power = np.exp(_POWER_SPREAD * rng.normal(size=count))
    inverse = 1 / (T_REF_CELSIUS + KELVIN) - 1 / (celsius + KELVIN)

    def path(energy: float) -> Floats:
        factor = current**wanted.current_exponent * np.exp(energy / BOLTZMANN * inverse)
        factor = factor * power**wanted.power_exponent
        return np.asarray((factor[:, None] * hours / T_REF_HOURS) ** exponent[:, None])

    scaled = wanted.damage_ref * unit[:, None]
    if not wanted.defects:
        return np.asarray(scaled * path(wanted.activation_energy))
    # two populations of defects: the shape of the curve depends on the temperature
    slow, fast = (path(energy) for energy in _DEFECT_ENERGY)
    return np.asarray(scaled * (0.7 * slow + 0.3 * (1 - np.exp(-fast))))


@dataclass(frozen=True)
class _Faults:
    """Extra damage of each failure mode; everything is drawn for all devices, whatever their mode."""

    wanted: SimulatorConfig
    rng: np.random.Generator
    hours: Floats
    current: Floats

    def of(self, kind: Floats) -> Floats:
        """Return the extra damage ``(N, L)`` of the drawn modes, -1 for none."""
        made = {"gradual": self._gradual(), "rapid": self._rapid(), "sudden": self._sudden()}
        found = np.zeros(self.hours.shape)
        for number, name in enumerate(self.wanted.modes):
            found[kind == number] = made[name][kind == number]
        return found

    def _gradual(self) -> Floats:
        count, end = len(self.hours), self.wanted.horizon
        size, power = self.rng.uniform(0.25, 0.6, count), self.rng.uniform(0.8, 2, count)
        return np.asarray(size[:, None] * (self.hours / end) ** power[:, None])

    def _rapid(self) -> Floats:
        count = len(self.hours)
        start = self.rng.uniform(0.1, 0.7, count)[:, None] * self.wanted.horizon
        speed = self.rng.uniform(100, 500, count)[:, None]
        return np.asarray(0.01 * np.expm1(np.clip((self.hours - start) / speed, 0, 6)))

    def _sudden(self) -> Floats:
        count, end = len(self.hours), self.wanted.horizon
        start = self.rng.uniform(0.2, 0.95, count) * end
        if self.wanted.weibull:
            life = 0.8 * end * self.current ** (-self.wanted.current_exponent)
            start = np.clip(life * self.rng.weibull(_WEIBULL_SHAPE, count), 0.02 * end, 0.98 * end)
        step = -np.log1p(-self.rng.uniform(0.25, 0.95, count))
        warned = self.rng.random(count) < self.wanted.precursor
        rise, lead = self.rng.uniform(0.005, 0.02, count), self.rng.uniform(50, 200, count)
        ramp = np.clip((self.hours - (start - lead)[:, None]) / lead[:, None], 0, 1)
        after = self.hours >= start[:, None]
        return np.asarray(np.where(after, step[:, None], (warned * rise)[:, None] * ramp))

    def infant(self) -> Floats:
        """Return the step of early failures: 5.35 % before 20 h, 1 % to 40 h, .1 % to 80 h."""
        draw, count = self.rng.random(len(self.hours)), len(self.hours)
        start = np.full(count, np.inf)
        for low, high, first, last in (
            (0, 0.0535, 0, 20),
            (0.0535, 0.0635, 20, 40),
            (0.0635, 0.0645, 40, 80),
        ):
            chosen = (draw >= low) & (draw < high)
            start[chosen] = self.rng.uniform(first, last, int(chosen.sum()))
        return np.where(self.hours >= start[:, None], 1.0, 0.0)


def _burn_in(wanted: SimulatorConfig, rng: np.random.Generator, hours: Floats) -> Floats:
    size = wanted.burn_in * rng.normal(size=(len(hours), 1))
    return np.asarray(size * (1 - np.exp(-hours / 100)))


def _noise(wanted: SimulatorConfig, rng: np.random.Generator, hours: Floats) -> Floats:
    count, length = hours.shape
    white = rng.uniform(*wanted.noise, (count, 1)) * rng.normal(size=hours.shape)
    walk = wanted.random_walk / np.sqrt(length) * np.cumsum(rng.normal(size=hours.shape), axis=1)
    hit = np.asarray(rng.random((count, 1)) < wanted.outliers)
    place = np.arange(length)[None] == np.asarray(rng.integers(1, length, (count, 1)))
    return np.asarray(white + walk + 0.03 * rng.normal(size=hours.shape) * (hit & place))


def _crossing(hours: Floats, damage: Floats, limit: float) -> Floats:
    beyond = damage > limit
    first = beyond.argmax(axis=1)
    return np.where(beyond.any(axis=1), hours[np.arange(len(hours)), first], np.inf)


def _seen(wanted: SimulatorConfig, rng: np.random.Generator, hours: Floats) -> Flags:
    count, length = hours.shape
    seen = rng.random((count, length)) >= wanted.missing
    taken = rng.random(count) < wanted.censored
    until = np.where(taken, rng.uniform(0.4, 0.95, count) * wanted.horizon, np.inf)
    seen &= hours <= until[:, None]
    # the start is always read: values are relative to it
    seen[:, : min(4, length)] = True
    return np.asarray(seen)


def _compact(values: Floats, seen: Flags) -> Floats:
    """Move what was read to the front of each row, NaN behind it."""
    if seen.all():
        return values
    order = np.argsort(~seen, axis=1, kind="stable")
    return np.take_along_axis(np.where(seen, values, np.nan), order, axis=1)

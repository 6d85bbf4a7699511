"""From a table of readings to devices: units, order, conditions, and what is refused.

Sources of refusals: a row, a device, a rule. Readers turn them into errors that name a file; predictions into
groups that are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.plugins.laser_cvae.config import DataConfig
from appliedpapers.plugins.laser_cvae.devices import (
    FEWEST,
    KELVIN,
    Devices,
    Floats,
    Indices,
    Scale,
    cell_names,
    condition,
    first_crossing,
    padded,
)

if TYPE_CHECKING:
    import pyarrow as pa

HOURS = {"h": 1.0, "min": 1 / 60, "s": 1 / 3600, "d": 24.0}
_FIRST = 3
_CONSTANT = ("temperature", "current", "voltage", "power", "horizon", "failure_time")
_SAME = 1e-9
_MILLI = {"mA": 1e-3, "A": 1.0, "ratio": 1.0}


@dataclass(frozen=True)
class Fault:
    """A device that cannot be used.

    Attributes:
        device: Its name.
        row: The row that is to blame, from 0 within the table.
        column: The column that is to blame.
        rule: What is wrong and what was expected.
    """

    device: str
    row: int
    column: str
    rule: str


@dataclass(frozen=True)
class Read:
    """Devices of a table.

    Attributes:
        devices: Those that can be used, in the order of their first rows.
        rows: Rows of each device in the order of time.
        faults: What is wrong with the others, in the order of the table.
    """

    devices: Devices
    rows: tuple[Indices, ...]
    faults: tuple[Fault, ...]


def read_devices(table: pa.Table, data: DataConfig, horizons: Mapping[str, float] | None = None) -> Read:
    """Read devices of a long table with our column names.

    Args:
        table: Columns of :func:`answers.input_schema`, and ``failure_time`` where it is known.
        data: Units, mode, criterion, run-in.
        horizons: Planned end in hours by cell, and ``""`` for others; None takes the longest of the cell.
    """
    columns = _Columns.of(table)
    scale, hour = Scale.of(data), HOURS[data.time_unit]
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(columns.names):
        rows_of.setdefault(name, []).append(row)
    faults, kept, found = list[Fault](), list[Indices](), list[_One]()
    for name, listed in rows_of.items():
        order = np.array(listed)[np.argsort(columns.time[listed], kind="stable")]
        fault = _fault(name, order, columns, scale, data)
        if fault is not None:
            faults.append(fault)
            continue
        order = order[columns.time[order] >= data.skip]
        kept.append(order)
        found.append(_One.read(name, order, columns, scale, hour, data.skip))
    devices = _joined(found, data, scale, hour, horizons)
    return Read(devices, tuple(kept), tuple(sorted(faults, key=lambda fault: fault.row)))


@dataclass(frozen=True)
class _Columns:
    names: list[str]
    time: Floats
    value: Floats
    others: dict[str, Floats]
    batch: list[Any]

    @classmethod
    def of(cls, table: pa.Table) -> _Columns:
        def numbers(name: str) -> Floats:
            import pyarrow as pa

            if name not in table.column_names:
                return np.full(table.num_rows, np.nan)
            return np.asarray(table.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)

        batch = (
            table.column("batch").to_pylist() if "batch" in table.column_names else [None] * table.num_rows
        )
        return cls(
            [str(name) for name in table.column("device").to_pylist()],
            numbers("time"),
            numbers("value"),
            {name: numbers(name) for name in _CONSTANT},
            batch,
        )


@dataclass(frozen=True)
class _One:
    name: str
    hours: Floats
    damage: Floats
    constants: dict[str, float]
    batch: str | None

    @classmethod
    def read(
        cls, name: str, rows: Indices, columns: _Columns, scale: Scale, hour: float, skip: float
    ) -> _One:
        ratio = scale.ratio(columns.value[rows])
        if scale.unit == "absolute":
            ratio = ratio / ratio[:_FIRST].mean()
        constants = {key: _first_known(values[rows]) for key, values in columns.others.items()}
        batch = next((columns.batch[row] for row in rows if columns.batch[row] is not None), None)
        hours = (columns.time[rows] - skip) * hour
        return cls(name, hours, scale.damage(ratio), constants, batch)


def _fault(name: str, rows: Indices, columns: _Columns, scale: Scale, data: DataConfig) -> Fault | None:
    """Return what is wrong with a device, the first of its rows that is to blame."""
    time, value = columns.time[rows], columns.value[rows]
    for column, values in (("time", time), ("value", value)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            return Fault(
                name, int(rows[bad[0]]), column, f"device '{name}': {column} is missing or not finite"
            )
    ratio = scale.ratio(value)
    bad = np.flatnonzero(ratio <= 0)
    if len(bad):
        what = f"{value[bad[0]]:g} is no positive power or current"
        return Fault(name, int(rows[bad[0]]), "value", f"device '{name}': {what}")
    early = np.flatnonzero(time < 0)
    if len(early):
        return Fault(
            name, int(rows[early[0]]), "time", f"device '{name}': time {time[early[0]]:g} is negative"
        )
    again = np.flatnonzero(np.diff(time) <= 0)
    if len(again):
        row = int(max(rows[again[0]], rows[again[0] + 1]))
        said = f"device '{name}': time {time[again[0] + 1]:g} {data.time_unit} stands twice"
        return Fault(name, row, "time", said)
    for column, given in columns.others.items():
        known = given[rows][np.isfinite(given[rows])]
        if len(known) and np.ptp(known) > _SAME * max(1.0, float(np.abs(known).max())):
            changed = int(rows[np.flatnonzero(given[rows] != known[0])[0]])
            said = f"device '{name}': {column} changes from {known[0]:g}, expected one for all readings"
            return Fault(name, changed, column, said)
    if not (time >= data.skip).any():
        return Fault(
            name, int(rows[0]), "time", f"device '{name}': no reading after the run-in of {data.skip:g}"
        )
    return None


def _joined(
    found: Sequence[_One], data: DataConfig, scale: Scale, hour: float, horizons: Mapping[str, float] | None
) -> Devices:
    hours, damage = padded([one.hours for one in found]), padded([one.damage for one in found])
    constants = {key: np.array([one.constants[key] for one in found]) for key in _CONSTANT}
    conditions = _conditions(constants, data)
    observed = first_crossing(hours, damage, scale.limit) if found else np.empty(0)
    told = (constants["failure_time"] - data.skip) * hour
    failure = np.where(np.isfinite(told), told, observed)
    last = np.array([one.hours[-1] for one in found])
    return Devices(
        tuple(one.name for one in found),
        hours,
        damage,
        conditions,
        _planned(constants["horizon"] * hour, conditions, last, data, hour, horizons),
        failure,
        scale,
        batches=tuple(one.batch for one in found),
    )


def _conditions(constants: Mapping[str, Floats], data: DataConfig) -> Floats:
    """Return 1 / (k T_j) and ln(I / I_ref), with T_j = T + R_th (I V - P) where these are given."""
    celsius = constants["temperature"] - (KELVIN if data.temperature_unit == "K" else 0.0)
    current, volt, power = constants["current"], constants["voltage"], constants["power"]
    if data.thermal_resistance > 0:
        ampere = current * _MILLI[data.current_unit]
        heat = data.thermal_resistance * (ampere * volt - power)
        celsius = np.where(np.isfinite(heat), celsius + heat, celsius)
    return condition(celsius, current / data.reference_current)


def _planned(
    given: Floats,
    conditions: Floats,
    last: Floats,
    data: DataConfig,
    hour: float,
    horizons: Mapping[str, float] | None,
) -> Floats:
    """Return the planned end of each test in hours: given, configured, or the longest of the condition."""
    names = cell_names(conditions)
    if horizons is None:
        longest: dict[str, float] = {}
        for name, end in zip(names, last, strict=True):
            longest[name] = max(longest.get(name, 0.0), float(end))
        usual = np.array([longest[name] for name in names])
    else:
        usual = np.array([horizons.get(name, horizons[""]) for name in names])
    if data.horizon is not None:
        usual = np.full(len(last), data.horizon * hour)
    # a test that goes on beyond its plan is not over before its last reading
    return np.maximum(np.where(np.isfinite(given), given, usual), 0) if len(last) else np.empty(0)


def _first_known(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known[0]) if len(known) else float("nan")


def is_long_enough(devices: Devices) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which devices have readings enough to learn from, ``(N,)``."""
    return np.asarray(devices.counts >= FEWEST)

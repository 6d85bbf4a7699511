"""Files of users: long tables, and wide ones with a table of conditions beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliedpapers.core.errors import DataError, did_you_mean
from appliedpapers.core.features.rows import require_distinct
from appliedpapers.core.schema import Violation, violations_error
from appliedpapers.core.tables import FORMATS, notes_of, read_table, with_notes
from appliedpapers.plugins.laser_cvae.config import ColumnsConfig, DataConfig
from appliedpapers.plugins.laser_cvae.devices import Devices
from appliedpapers.plugins.laser_cvae.tables import is_long_enough, read_devices

if TYPE_CHECKING:
    import pyarrow as pa

_NEEDED = ("device", "time", "value")
_HINTS = {
    "value": "Expected positive power or current; --set data.value_unit=… and data.mode=… say what it means.",
    "time": "Expected rising times, each once, in the unit of --time-unit.",
}


def read_file(path: Path, data: DataConfig) -> pa.Table:
    """Read a file as a long table with our column names; numbers are not looked at yet.

    Raises:
        DataError: The file cannot be read, a column is missing, or a condition is.
    """
    table = read_table(path)
    notes = notes_of(table)
    columns = data.columns
    if data.layout == "wide" or (data.layout == "auto" and columns.device not in table.column_names):
        table = _long(table, path, data)
    names = {getattr(columns, key): key for key in type(columns).model_fields}
    for key in _NEEDED:
        wanted = getattr(columns, key)
        if wanted not in table.column_names:
            raise _absent(path, wanted, table.column_names, key)
    require_distinct([name for name in table.column_names if name in names], str(path))
    table = table.select([name for name in table.column_names if name in names])
    table = table.rename_columns([names[name] for name in table.column_names])
    table = with_notes(_numbers(table, path, columns), notes) if notes else _numbers(table, path, columns)
    return _with_conditions(table, path, data) if data.conditions is not None else table


def read_user(path: Path, data: DataConfig) -> tuple[Devices, tuple[str, ...]]:
    """Read a user's file for training.

    Returns:
        Devices with readings enough, and notes on what was left out.

    Raises:
        DataError: A device breaks the contract; file, row, column and rule are named.
    """
    if path.is_dir():
        raise DataError(f"{path}: a folder.", hint=f"Expected one file: {', '.join(FORMATS)}.")
    table = read_file(path, data)
    read = read_devices(table, data)
    if read.faults:
        raise _refused(read.faults, path.name, data.columns, table)
    enough = is_long_enough(read.devices)
    devices = read.devices.take(enough)
    notes = [*notes_of(table)]
    if not enough.all():
        short = [name for name, long in zip(read.devices.names, enough, strict=True) if not long]
        notes.append(f"{len(short)} devices with fewer than four readings left out ({', '.join(short[:5])})")
    missing = ~np.isfinite(devices.conditions)
    for column, name in enumerate(("temperature", "current")):
        if missing[:, column].any():
            notes.append(f"{name} is not known of {int(missing[:, column].sum()):,} devices")
    _require_some(devices, path)
    return devices, tuple(notes)


def _refused(
    faults: tuple[object, ...] | list[object], source: str, columns: ColumnsConfig, table: pa.Table
) -> DataError:
    found = [
        Violation(
            source,
            fault.row + 1,  # type: ignore[attr-defined]
            getattr(columns, fault.column),  # type: ignore[attr-defined]
            str(table.column(fault.column)[fault.row].as_py()),  # type: ignore[attr-defined]
            fault.rule,  # type: ignore[attr-defined]
        )
        for fault in faults
    ]
    error = violations_error(found)
    hint = _HINTS.get(faults[0].column)  # type: ignore[attr-defined]
    if len(found) == 1 and hint:
        error.hint = hint
    return error


def _require_some(devices: Devices, path: Path) -> None:
    if len(devices) < 6:
        raise DataError(
            f"{path.name}: {len(devices)} devices with at least four readings, 6 needed.",
            hint="Give more devices or more readings; a trained model judges single ones with apps predict.",
        )
    spread = np.nanmax(devices.damage, axis=1) - np.nanmin(devices.damage, axis=1)
    if not (spread > 0).any():
        raise DataError(
            f"{path.name}: every device is constant over its whole test.",
            hint="Expected values that change; is the right column named in --columns?",
        )


def _long(table: pa.Table, path: Path, data: DataConfig) -> pa.Table:
    """Turn a wide table, a column a device, into a long one."""
    import pyarrow as pa

    columns = data.columns
    if columns.time not in table.column_names:
        raise _absent(path, columns.time, table.column_names, "time")
    time = table.column(columns.time)
    names = [name for name in table.column_names if name != columns.time]
    parts = []
    for name in names:
        column = table.column(name)
        there = column.is_valid()
        try:
            value = column.cast(pa.float64())
        except pa.ArrowInvalid:
            raise DataError(
                f"{path.name}, column '{name}': not numbers.",
                hint="In a wide table every column but the time is a device; a long one has a column "
                f"'{columns.device}' (--columns names it).",
            ) from None
        part = pa.table({columns.time: time, columns.value: value}).filter(there)
        parts.append(part.append_column(columns.device, pa.array([name] * part.num_rows, pa.string())))
    if not parts:
        raise DataError(f"{path.name}: no column beside the time.", hint="Expected a column a device.")
    return pa.concat_tables(parts)


def _numbers(table: pa.Table, path: Path, columns: ColumnsConfig) -> pa.Table:
    """Return a table whose numeric columns are numbers and whose names are texts."""
    import pyarrow as pa

    for name in table.column_names:
        kind = pa.string() if name in ("device", "batch") else pa.float64()
        column = table.column(name)
        try:
            cast = column.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise _first_word(column, path, getattr(columns, name)) from None
        table = table.set_column(table.column_names.index(name), name, cast)
    empty = table.column("device").null_count
    if empty:
        row = table.column("device").to_pylist().index(None) + 1
        raise DataError(
            f"{path.name}, column '{columns.device}', row {row}: no device is named.",
            hint="Expected the name of a device in every row.",
        )
    return table


def _first_word(column: pa.ChunkedArray, path: Path, name: str) -> DataError:
    for row, value in enumerate(column.to_pylist()):
        try:
            float(value) if value is not None else None
        except (TypeError, ValueError):
            said = f"{path.name}, column '{name}', row {row + 1}: {value!r} is not a number."
            return DataError(said, hint="Expected a number with a decimal point.")
    return DataError(f"{path.name}, column '{name}': not numbers.", hint="Expected numbers.")


def _with_conditions(table: pa.Table, path: Path, data: DataConfig) -> pa.Table:
    """Add temperature and current of a table of devices, which lies beside the file."""
    import pyarrow as pa

    beside = Path(str(data.conditions)).expanduser()
    beside = beside if beside.is_absolute() else path.parent / beside
    listed, columns = read_table(beside), data.columns
    if columns.device not in listed.column_names:
        raise _absent(beside, columns.device, listed.column_names, "device")
    known = [str(name) for name in listed.column(columns.device).to_pylist()]
    place = {name: row for row, name in enumerate(known)}
    names = table.column("device").to_pylist()
    absent = next((name for name in names if name not in place), None)
    if absent is not None:
        raise DataError(
            f"{beside.name}: no condition of device '{absent}'.",
            hint=f"Expected a row for every device of {path.name}; {did_you_mean(absent, known)}",
        )
    rows = pa.array([place[name] for name in names])
    for key in ("temperature", "current", "voltage", "power", "horizon", "failure_time", "batch"):
        wanted = getattr(columns, key)
        if wanted in listed.column_names and key not in table.column_names:
            kind = pa.string() if key == "batch" else pa.float64()
            table = table.append_column(key, listed.column(wanted).cast(kind).take(rows))
    return table


def _absent(path: Path, wanted: str, names: list[str], key: str) -> DataError:
    hint = did_you_mean(wanted, names)
    return DataError(
        f"{path.name}: column '{wanted}' is missing.",
        hint=f'{hint} Name it with --set data.columns.{key}=…, or --columns "{{{key}: …}}".',
    )

"""Recordings from the files that users bring: several trials, any time unit, missing and repeated samples.

Rows are counted from 1 below the column names, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Violation, violations_table
from appliedpapers.plugins.imu_attitude.config import DataConfig, TimeUnit
from appliedpapers.plugins.imu_attitude.raw_trials import RawTrial
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.recording_files import FORMATS, RawFile, is_readable, read_file
from appliedpapers.plugins.imu_attitude.self_test import self_test

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_USUAL_RATE = 100.0  # Hz: of the units that a step may have, the one whose rate is closest to it
_EPOCH_S = 1e8  # later stamps count from 1970, and float64 seconds would round their steps
_GAP_S = 1.0
_LISTED = 1000
_TRUE = ("true", "t", "yes", "1", "1.0")
_FALSE = ("false", "f", "no", "0", "0.0")


def read_recordings(path: Path, data: DataConfig) -> list[Recording]:
    """Read a file, or a folder of files, into SI units and ENU, and test what the settings claim.

    Args:
        path: A file of one or more trials, or a folder with such files.
        data: Names, units, signs and frame.

    Returns:
        One recording a trial, in the order of the files and of their rows; ``notes`` say what was mended.

    Raises:
        DataError: A file breaks the contract, or contradicts a unit, sign or frame; the file, the row and
            what to do are named.
    """
    return [checked(trial.to_recording(data), data) for trial in read_trials(path, data)]


def checked(recording: Recording, data: DataConfig) -> Recording:
    """Return the recording with the notes of its self-test, unless ``data`` says that there is none.

    Raises:
        DataError: A setting of ``data`` is plainly wrong.
    """
    if not data.self_test:
        return recording
    return replace(recording, notes=(*recording.notes, *self_test(recording, data)))


def read_trials(path: Path, data: DataConfig, *, mend: bool = True) -> list[RawTrial]:
    """Read a file or folder into trials in the user's units; see :func:`read_recordings`.

    Args:
        path: As there.
        data: As there.
        mend: Whether bad and repeated samples are left out; otherwise every row is kept, with NaN in it.
    """
    trials = [
        trial
        for file in recording_files(path)
        for trial in trials_of(read_file(file, data.columns), file.stem, data, mend=mend)
    ]
    first: dict[str, int] = {}
    for number, trial in enumerate(trials):
        if first.setdefault(trial.trial, number) != number:
            raise DataError(
                f"{path}: two files have a trial '{trial.trial}'.",
                hint="A trial stands in one file; rename a file or the trial.",
            )
    return trials


def recording_files(path: Path) -> list[Path]:
    """Return the files that :func:`read_trials` reads of a file or folder.

    Raises:
        DataError: The folder holds none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(item for item in path.iterdir() if is_readable(item))
    if not files:
        raise DataError(f"{path}: no recording in it.", hint=f"Expected files of {', '.join(FORMATS)}.")
    return files


def trials_of(raw: RawFile, stem: str, data: DataConfig, *, mend: bool = True) -> list[RawTrial]:
    """Take a file apart into trials and mend what can be mended.

    Args:
        raw: The file.
        stem: Name of the trial where the file names none.
        data: What its columns mean and what is done with bad rows.
        mend: As in :func:`read_trials`.

    Raises:
        DataError: A row or a trial is unusable.
    """
    columns = _Columns(raw, data)
    take = columns.trial if mend else columns.every_row
    return [take(name, rows) for name, rows in _trial_rows(raw, stem)]


def _missing(stamps: NDArray[Any]) -> Bools:
    return np.asarray(np.isnat(stamps) if stamps.dtype.kind == "M" else ~np.isfinite(stamps))


def _trial_rows(raw: RawFile, stem: str) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each trial's name and its rows, in order of first appearance."""
    import pandas as pd

    everything = np.arange(len(raw))
    names = raw.columns.get("trial")
    if names is None or not pd.notna(names).any():
        yield stem, everything
        return
    codes, unique = pd.factorize(names)
    if (codes < 0).any():
        row = int(np.argmax(codes < 0)) + 1
        raise DataError(
            f"{raw.name}, column '{raw.given['trial']}', row {row}: it is missing.",
            hint="Expected the name of the trial in each row, or no such column.",
        )
    order = np.argsort(codes, kind="stable")
    for name, rows in zip(unique, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
        yield str(name), everything[rows]


class _Columns:
    """The columns of one file as numbers.

    Args:
        raw: The file.
        data: What its columns mean.
    """

    def __init__(self, raw: RawFile, data: DataConfig) -> None:
        self._raw, self._data = raw, data
        self._numbers = {
            name: _numbers(values)
            for name, values in raw.columns.items()
            if name not in ("trial", "time", "movement")
        }
        self._stamps = _stamps(raw.columns.get("time"))
        self._bad = self._find_bad()

    def trial(self, name: str, rows: NDArray[np.intp]) -> RawTrial:
        """Return the rows of one trial, mended."""
        notes: list[str] = []
        kept = rows[~self._bad[rows]]
        if len(kept) < len(rows):
            notes.append(f"{len(rows) - len(kept):,} samples with missing or infinite readings were left out")
        self._require_samples(name, kept)
        time, more = self._time(name, kept)
        fresh = np.diff(time, prepend=-np.inf) > 0
        if not fresh.all():
            notes.append(f"{(~fresh).sum():,} samples with a repeated time stamp were left out")
            kept, time = kept[fresh], time[fresh]
            self._require_samples(name, kept)
        gaps = np.diff(time) > _GAP_S
        if gaps.any():
            notes.append(f"{gaps.sum():,} gaps of more than {_GAP_S:g} s in time")
        acc = self._group("acc", kept)
        assert acc is not None
        if not acc.any():
            raise DataError(
                f"{self._raw.name}, trial '{name}': the accelerometer is zero throughout.",
                hint="Expected gravity, about 9.81 m/s2 or 1 g at rest; name the right columns.",
            )
        gyr = self._group("gyr", kept)
        assert gyr is not None
        return RawTrial(
            name,
            time,
            acc,
            gyr,
            mag=self._group("mag", kept),
            quat=self._group("quat", kept),
            movement=self._movement(kept),
            notes=(*notes, *more),
        )

    def every_row(self, name: str, rows: NDArray[np.intp]) -> RawTrial:
        """Return all rows of one trial as they stand, NaN where a time or reading is missing."""
        stamped = rows if self._stamps is None else rows[~_missing(self._stamps[rows])]
        self._require_samples(name, stamped)
        time = np.full(len(rows), np.nan)
        time[np.isin(rows, stamped)] = self._time(name, stamped)[0]
        acc, gyr = self._group("acc", rows), self._group("gyr", rows)
        assert acc is not None
        assert gyr is not None
        return RawTrial(name, time, acc, gyr, mag=self._group("mag", rows))

    def _group(self, name: str, rows: NDArray[np.intp]) -> Floats | None:
        columns = self._raw.group(name)
        return np.stack([self._numbers[column][rows] for column in columns], axis=1) if columns else None

    def _movement(self, rows: NDArray[np.intp]) -> Bools | None:
        values = self._raw.columns.get("movement")
        if values is None:
            return None
        if values.dtype.kind in "bif" and not np.isnan(values.astype(np.float64)).any():
            return np.asarray(values[rows] != 0)
        text = np.char.lower(np.asarray(values, dtype=str))
        moving = np.isin(text, _TRUE)
        wrong = np.flatnonzero(~moving & ~np.isin(text, _FALSE))
        if len(wrong):
            raise DataError(
                f"{self._place('movement')}, row {wrong[0] + 1}: '{values[wrong[0]]}' is not true or false.",
                hint="Expected true or false, 1 or 0 in each row.",
            )
        return np.asarray(moving[rows])

    def _find_bad(self) -> Bools:
        bad = np.zeros(len(self._raw), dtype=bool)
        needed = {name: self._numbers[name] for group in ("acc", "gyr") for name in self._raw.group(group)}
        if self._stamps is not None:
            needed["time"] = np.where(_missing(self._stamps), np.nan, 0.0)
        wrong = {name: np.flatnonzero(~np.isfinite(values)) for name, values in needed.items()}
        for rows in wrong.values():
            bad[rows] = True
        if bad.any() and self._data.on_bad == "error":
            raise self._bad_rows(wrong, int(bad.sum()))
        return bad

    def _bad_rows(self, wrong: Mapping[str, NDArray[np.intp]], count: int) -> DataError:
        found = [
            Violation(
                self._raw.name,
                int(row) + 1,
                self._raw.given[name],
                str(self._raw.columns[name][row]),
                "is not a finite number",
            )
            for name, rows in wrong.items()
            for row in rows[:_LISTED]
        ]
        found.sort(key=lambda item: item.row or 0)
        first = found[0]
        rows = "1 row is bad" if count == 1 else f"{count:,} rows are bad"
        return DataError(
            f"{first.file}, column '{first.column}', row {first.row}: '{first.value}' {first.rule}.",
            hint=f"{rows}. Mend the file, or leave such samples out with --set data.on_bad=skip.",
            violations=violations_table(found),
        )

    def _time(self, name: str, rows: NDArray[np.intp]) -> tuple[Floats, tuple[str, ...]]:
        if self._stamps is None:
            rate = self._data.fs or self._raw.fs
            if rate is None:
                raise DataError(
                    f"{self._raw.name}: there is neither a time nor a sampling rate.",
                    hint=f"Expected a column '{self._data.columns.time}' (name yours with --set "
                    "data.columns.time=NAME), or give the rate in Hz with --fs.",
                )
            # a sample that was left out leaves its place empty
            return (rows - rows[0]) / rate, ()
        stamps = self._stamps[rows]
        unit: TimeUnit = "ns" if stamps.dtype.kind == "M" else self._data.time_unit
        whole = stamps.astype("M8[ns]").astype(np.int64) if stamps.dtype.kind == "M" else stamps
        self._require_forward(name, whole, rows)
        notes: tuple[str, ...] = ()
        if unit == "auto":
            unit = _unit_of(whole)
            notes = (f"time was read as {unit}",) if unit != "s" else ()
        # differences first: epoch stamps in nanoseconds do not fit into a float64
        time = (whole - whole[0]).astype(np.float64) * _SECONDS[unit]
        start = float(whole[0]) * _SECONDS[unit]
        if abs(start) < _EPOCH_S:
            return time + start, notes
        return time, (*notes, "time counts from the trial's first sample")

    def _require_forward(self, name: str, stamps: NDArray[Any], rows: NDArray[np.intp]) -> None:
        steps = np.diff(stamps)
        if (steps < 0).any():
            at = int(np.argmax(steps < 0)) + 1
            raise DataError(
                f"{self._place('time')}, row {rows[at] + 1}: time goes back from {stamps[at - 1]} to "
                f"{stamps[at]}.",
                hint="Sort the rows by time; where recordings share a file, name the column that tells them "
                "apart with --set data.columns.trial=NAME.",
            )
        if not steps.any():
            raise DataError(
                f"{self._place('time')}, row {rows[0] + 1}: time does not advance in trial '{name}'.",
                hint="Expected stamps that increase; without them name no time column and give --fs.",
            )

    def _require_samples(self, name: str, rows: NDArray[np.intp]) -> None:
        if len(rows) < 2:
            raise DataError(
                f"{self._raw.name}, trial '{name}': {len(rows)} usable sample{'s' * (len(rows) != 1)}.",
                hint="Expected at least two samples with finite time, accelerometer and gyroscope.",
            )

    def _place(self, name: str) -> str:
        return f"{self._raw.name}, column '{self._raw.given[name]}'"


def _unit_of(stamps: NDArray[Any]) -> TimeUnit:
    steps = np.diff(stamps).astype(np.float64)
    step = float(np.median(steps[steps > 0]))
    units: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
    return min(units, key=lambda unit: abs(np.log(step * _SECONDS[unit] * _USUAL_RATE)))


def _numbers(values: NDArray[Any]) -> Floats:
    """Return cells as float64, NaN where a cell is not a number."""
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    import pandas as pd

    return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=np.float64)


def _stamps(values: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return time stamps as int64, float64 or datetime64, or None where there are none at all."""
    if values is None or values.dtype.kind in "fiM":
        return None if values is None or (values.dtype.kind == "f" and np.isnan(values).all()) else values
    import pandas as pd

    cells = pd.Series(values)
    if not cells.notna().any():
        return None
    numbers = _numbers(values)
    if np.isfinite(numbers).any():
        return numbers
    dates = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
    return dates.dt.tz_localize(None).to_numpy("M8[ns]")

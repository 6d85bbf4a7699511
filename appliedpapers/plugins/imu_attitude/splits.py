"""Parts of a dataset that are whole recordings, and how recordings are dealt to train, valid and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.errors import DataError
from appliedpapers.plugins.imu_attitude.config import DataConfig
from appliedpapers.plugins.imu_attitude.raw_trials import RawTrial, raw_table
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.units import acc_from_si, gyr_from_si

if TYPE_CHECKING:
    import pyarrow as pa

TIME_GAP_S = 10.0
"""Seconds that ``by-time`` leaves out between parts: longer than a window and the filter's memory."""

_SHORTEST_PART_S = 10.0
_EXAMPLE_S, _EXAMPLE_ROWS, _EXAMPLE_REST_S = 5.0, 1000, 1.0


class AttitudeSplit(Split):
    """Whole recordings in SI units and ENU; a key is one second of one trial.

    Args:
        recordings: The trials; none of them stands in another split.
        data: The units, sign and frame that ``predict`` is sent.
    """

    def __init__(self, recordings: Sequence[Recording], data: DataConfig) -> None:
        self.recordings = tuple(recordings)
        self._data = data

    @property
    def trials(self) -> tuple[str, ...]:
        """Names of the recordings."""
        return tuple(recording.trial for recording in self.recordings)

    @property
    def num_rows(self) -> int:
        """Number of samples that errors are counted at; without any reference, of all samples."""
        judged = sum(int(recording.judged.sum()) for recording in self.recordings)
        return judged or sum(len(recording) for recording in self.recordings)

    def keys(self) -> pa.Table:
        """Return ``trial`` and ``second`` (whole seconds of its time) of every second that holds a sample."""
        import pyarrow as pa

        seconds = [_seconds(recording)[0] for recording in self.recordings]
        names = np.repeat(np.arange(len(seconds), dtype=np.int32), [len(part) for part in seconds])
        trial = pa.DictionaryArray.from_arrays(names, pa.array(self.trials, pa.string())).cast(pa.string())
        second = np.concatenate([*seconds, np.empty(0, np.int64)])
        return pa.table({"trial": trial, "second": pa.array(second, pa.int64())})

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield samples with reference and movement, in SI units and ENU; NaN and null where unknown."""
        import pyarrow as pa

        for recording in self.recordings:
            for start in range(0, len(recording), max_rows):
                yield pa.RecordBatch.from_pydict(_columns(recording, slice(start, start + max_rows)))

    def example(self, limit: int = 1) -> pa.Table:
        """Return a few seconds of up to ``limit`` trials, where they begin to move, in the user's units."""
        trials = [self._excerpt(recording) for recording in self.recordings[:limit]]
        return raw_table(trials)

    def signatures(self) -> pa.Array:
        """Return the hash of what both sensors read in each second; null where they do not change."""
        import pyarrow as pa

        hashes: list[bytes | None] = []
        for recording in self.recordings:
            readings = np.concatenate([recording.acc, recording.gyr], axis=1)
            for part in np.split(readings, _seconds(recording)[1][1:]):
                still = bool((part == part[0]).all())
                hashes.append(None if still else hashlib.blake2b(part.tobytes(), digest_size=16).digest())
        return pa.array(hashes, pa.binary())

    def fingerprint(self) -> str:
        """Return the sha256 of names, samples and references."""
        digest = hashlib.sha256()
        for recording in self.recordings:
            digest.update(f"{len(recording.trial)} {recording.trial} {len(recording)} ".encode())
            arrays: tuple[NDArray[Any] | None, ...] = (
                *(recording.time, recording.acc, recording.gyr),
                *(recording.reference, recording.movement),
            )
            for values in arrays:
                digest.update(b"-" if values is None else np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def _excerpt(self, recording: Recording) -> RawTrial:
        moving = recording.movement
        first = int(np.argmax(moving)) if moving is not None and moving.any() else 0
        since = recording.time[first] - _EXAMPLE_REST_S
        start, end = np.searchsorted(recording.time, [since, since + _EXAMPLE_S])
        part = slice(int(start), int(min(max(end, start + 2), start + _EXAMPLE_ROWS)))
        return RawTrial(
            recording.trial,
            recording.time[part],
            acc_from_si(recording.acc[part], self._data),
            gyr_from_si(recording.gyr[part], self._data),
        )


def recordings_of(split: Split) -> tuple[Recording, ...]:
    """Return the recordings of a split of this plugin."""
    return cast("AttitudeSplit", split).recordings


@dataclass(frozen=True)
class Parts:
    """Recordings of each split, and how they were chosen."""

    train: Sequence[Recording]
    valid: Sequence[Recording]
    test: Sequence[Recording]
    protocol: str
    split_note: str
    notes: tuple[str, ...] = ()


def deal_by_trial(recordings: Sequence[Recording], data: DataConfig, source: str) -> Parts:
    """Deal whole trials by ``valid_share`` and ``test_share``, each split at least one.

    Which trial goes where depends on the names alone: neither on their order nor on the seed.

    Raises:
        DataError: There are fewer than three trials.
    """
    count = len(recordings)
    if count < 3:
        raise DataError(
            f"{source}: {count} trial{'s' * (count != 1)}; train, valid and test need one each.",
            hint="Bring three or more (a folder of files, or a column 'trial'), cut each in time with "
            "--set data.split=by-time, or predict with a model that was trained on other data.",
        )
    names = sorted((one.trial for one in recordings), key=lambda name: hashlib.sha256(name.encode()).digest())
    tested = min(max(round(data.test_share * count), 1), count - 2)
    validated = min(max(round(data.valid_share * count), 1), count - tested - 1)
    test, valid = set(names[:tested]), set(names[tested : tested + validated])
    parts = (
        [one for one in recordings if one.trial not in test | valid],
        [one for one in recordings if one.trial in valid],
        [one for one in recordings if one.trial in test],
    )
    note = f"whole trials, {len(parts[0])} : {validated} : {tested}"
    return Parts(*parts, protocol="by-trial", split_note=note)


def deal_by_time(recordings: Sequence[Recording], data: DataConfig, source: str) -> Parts:
    """Cut each trial in three by time, with a gap between parts.

    Raises:
        DataError: A trial is too short, or the shares leave nothing to train on.
    """
    shares = np.cumsum([1 - data.valid_share - data.test_share, data.valid_share, data.test_share])
    smallest = min(data.valid_share, data.test_share, float(shares[0]))
    if smallest <= 0:
        raise DataError(
            "data.valid_share and data.test_share leave nothing to train on.", hint="Choose smaller shares."
        )
    needed = 2 * TIME_GAP_S + _SHORTEST_PART_S / smallest
    pieces: list[list[Recording]] = [[], [], []]
    for recording in recordings:
        seconds = float(recording.time[-1] - recording.time[0])
        if seconds < needed:
            raise DataError(
                f"{source}, trial '{recording.trial}': {seconds:.0f} s are too short to be cut in time.",
                hint=f"Expected {needed:.0f} s or more: {_SHORTEST_PART_S:.0f} s a part and "
                f"{TIME_GAP_S:.0f} s between parts.",
            )
        ends = recording.time[0] + shares * (seconds - 2 * TIME_GAP_S) + TIME_GAP_S * np.arange(3)
        begins = np.concatenate([recording.time[:1], ends[:-1] + TIME_GAP_S])
        for piece, begin, end in zip(pieces, begins, [*ends[:-1], np.inf], strict=True):
            first, last = np.searchsorted(recording.time, [begin, end])
            piece.append(cut(recording, slice(int(first), int(last))))
    note = f"each trial cut in time, {TIME_GAP_S:.0f} s left out between parts"
    warning = (
        "BY-TIME: train and test are parts of the same recordings; errors on a new recording, another sensor "
        "or another way of moving may be larger"
    )
    train, valid, test = pieces
    return Parts(train, valid, test, "by-time", note, (warning,))


def cut(recording: Recording, part: slice | NDArray[np.intp]) -> Recording:
    """Return some samples of a recording under the same name."""
    return replace(
        recording,
        time=recording.time[part],
        acc=recording.acc[part],
        gyr=recording.gyr[part],
        mag=None if recording.mag is None else recording.mag[part],
        reference=None if recording.reference is None else recording.reference[part],
        movement=None if recording.movement is None else recording.movement[part],
    )


def _seconds(recording: Recording) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the whole seconds that hold samples, and the first sample of each."""
    whole = np.floor(recording.time).astype(np.int64)
    first = np.flatnonzero(np.diff(whole, prepend=whole[0] - 1))
    return whole[first], first


def _columns(recording: Recording, part: slice) -> dict[str, Any]:
    import pyarrow as pa

    rows = len(recording.time[part])
    unknown = np.full((rows, 4), np.nan)
    quaternion = unknown if recording.reference is None else recording.reference[part]
    groups = (("acc", "xyz", recording.acc[part]), ("gyr", "xyz", recording.gyr[part]))
    columns: dict[str, Any] = {
        "trial": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [recording.trial]).cast(
            pa.string()
        ),
        "time": recording.time[part],
    }
    for name, axes, values in (*groups, ("quat", "wxyz", quaternion)):
        columns |= {f"{name}_{axis}": values[:, number] for number, axis in enumerate(axes)}
    moving = recording.movement
    columns["movement"] = pa.nulls(rows, pa.bool_()) if moving is None else pa.array(moving[part])
    return columns

"""Parts of a dataset that are whole devices, and how devices are dealt to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.laser_cvae.config import DataConfig
from appliedpapers.plugins.laser_cvae.devices import BOLTZMANN, KELVIN, Devices, Floats
from appliedpapers.plugins.laser_cvae.tables import HOURS

if TYPE_CHECKING:
    import pyarrow as pa


class DeviceSplit(Split):
    """Devices on test; a row is a device.

    Args:
        devices: Their readings, conditions and failures.
        data: Units in which examples are given.
        cuts: Hours at which devices are judged, ``(cuts, N)``.
        labels: Name of each cut.
        main: Number of the cut that speaks for the whole.
        judge: ``early-warning`` or ``forecast``.
    """

    def __init__(
        self,
        devices: Devices,
        data: DataConfig,
        *,
        cuts: Floats,
        labels: tuple[str, ...],
        main: int,
        judge: str,
    ) -> None:
        self.devices, self.data = devices, data
        self.cuts, self.labels, self.main, self.judge = cuts, labels, main, judge

    @property
    def num_rows(self) -> int:
        """Number of devices."""
        return len(self.devices)

    def keys(self) -> pa.Table:
        """Return the names of the devices."""
        import pyarrow as pa

        return pa.table({"device": pa.array(self.devices.names, pa.string())})

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield devices with lists of hours and damage, conditions, planned end and failure."""
        import pyarrow as pa

        own = self.devices
        for start in range(0, max(len(own), 1), max_rows):
            rows = range(start, min(start + max_rows, len(own)))
            counts = own.counts
            yield pa.RecordBatch.from_pydict(
                {
                    "device": pa.array([own.names[row] for row in rows], pa.string()),
                    "hours": pa.array(
                        [own.hours[row, : counts[row]] for row in rows], pa.list_(pa.float64())
                    ),
                    "damage": pa.array(
                        [own.damage[row, : counts[row]] for row in rows], pa.list_(pa.float64())
                    ),
                    "inverse_temperature": pa.array(own.conditions[list(rows), 0]),
                    "log_current": pa.array(own.conditions[list(rows), 1]),
                    "horizon": pa.array(own.horizon[list(rows)]),
                    "failure": pa.array(own.failure[list(rows)]),
                }
            )

    def example(self, limit: int = 1) -> pa.Table:
        """Return the readings of up to ``limit`` devices as ``predict`` takes them."""
        return readings(self.devices.take(slice(0, limit)), self.data)

    def signatures(self) -> pa.Array:
        """Return the hash of each device's readings and condition."""
        import pyarrow as pa

        own, found = self.devices, []
        for row, count in enumerate(own.counts):
            digest = hashlib.sha256(own.hours[row, :count].astype("<f8").tobytes())
            digest.update(own.damage[row, :count].astype("<f8").tobytes())
            digest.update(own.conditions[row].astype("<f8").tobytes())
            found.append(digest.digest())
        return pa.array(found, pa.binary())


def readings(devices: Devices, data: DataConfig) -> pa.Table:
    """Return devices as a long table in the units of ``data``."""
    import pyarrow as pa

    counts, hour = devices.counts, HOURS[data.time_unit]
    there = np.isfinite(devices.hours)
    number = np.repeat(np.arange(len(devices)), counts)
    celsius = 1 / (BOLTZMANN * devices.conditions[:, 0]) - KELVIN
    temperature = celsius + (KELVIN if data.temperature_unit == "K" else 0.0)
    current = np.exp(devices.conditions[:, 1]) * data.reference_current

    def spread(values: NDArray[Any]) -> pa.Array:
        given = values[number]
        return pa.array(given, pa.float64(), mask=~np.isfinite(given))

    return pa.table(
        {
            "device": pa.array([devices.names[row] for row in number], pa.string()),
            "time": devices.hours[there] / hour + data.skip,
            "value": devices.scale.told(devices.damage[there]),
            "temperature": spread(np.round(temperature, 9)),
            "current": spread(np.round(current, 12)),
            "horizon": spread(devices.horizon / hour),
        }
    )


def deal(devices: Devices, shares: tuple[float, ...], seed: int) -> NDArray[np.int64]:
    """Deal devices to parts, stratified by condition cell and failure.

    Args:
        devices: Whole devices.
        shares: Of the parts; they sum to 1.
        seed: Of the order within a stratum.

    Returns:
        The part of each device, ``(N,)``.
    """
    rng = np.random.default_rng(seed)
    strata = [f"{cell} {bad}" for cell, bad in zip(devices.cells(), devices.failed, strict=True)]
    order = rng.permutation(len(devices))
    # one after the other through all strata, so that shares hold over the whole, too
    order = order[np.argsort(np.array(strata)[order], kind="stable")]
    ends = np.cumsum(shares)
    place = (np.arange(len(devices)) + rng.uniform()) / len(devices)
    # a low-discrepancy walk: neighbours in a stratum go to different parts
    walk = (np.arange(len(devices)) * 0.6180339887498949 + place[0]) % 1.0
    parts = np.minimum(np.searchsorted(ends, walk, side="right"), len(shares) - 1)
    found = np.empty(len(devices), dtype=np.int64)
    found[order] = parts
    return found


def folds_of(devices: Devices, folds: int, repeat: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each device, stratified by cell and failure; another repeat deals anew."""
    rng = np.random.default_rng(derive_seed(seed, "folds", repeat))
    strata = np.array([f"{cell} {bad}" for cell, bad in zip(devices.cells(), devices.failed, strict=True)])
    order = rng.permutation(len(devices))
    order = order[np.argsort(strata[order], kind="stable")]
    found = np.empty(len(devices), dtype=np.int64)
    found[order] = (np.arange(len(devices)) + int(rng.integers(folds))) % folds
    return found

"""Datasets of tiny-stream."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa

from appliedpapers.core.data import Dataset
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.sources import DatasetCatalog
from tinyplugins.stream.config import StreamConfig
from tinyplugins.tables import SIMULATED, group_splits, read_csv, user_provenance

INPUT = TableSchema(
    (
        Column("device", "string", "name of the device"),
        Column("time", "timestamp", "time of the sample"),
        Column("value", "float64", "what the sensor read", unit="m/s2", nullable=True),
    ),
    group_by=("device",),
    order_by="time",
)
TARGET = Column("clean", "float64", "the signal without noise", unit="m/s2")


class StreamDatasets(DatasetCatalog[StreamConfig]):
    """Simulated devices, or the user's CSV."""

    formats = "CSV with device, time, value, clean"

    def simulated(self, config: StreamConfig) -> Dataset:
        rng = np.random.default_rng(config.seed)
        devices, samples = config.data.devices, config.data.samples
        clean = np.sin(np.arange(samples) / 8 + rng.uniform(0, 6, (devices, 1)))
        noisy = clean + rng.normal(0, 0.3, clean.shape)
        start = dt.datetime(2024, 1, 1)
        times = [start + dt.timedelta(seconds=second) for second in range(samples)]
        table = pa.table(
            {
                "device": np.repeat([f"d{number}" for number in range(devices)], samples),
                "time": pa.array(times * devices, pa.timestamp("us")),
                "value": pa.array(noisy.ravel(), mask=rng.random(clean.size) < 0.05),
                "clean": clean.ravel(),
            }
        )
        return _dataset("simulated", table, SIMULATED)

    def from_user(self, path: Path, config: StreamConfig) -> Dataset:
        return _dataset(path.name, read_csv(path, INPUT, (TARGET,)), user_provenance(path))


def _dataset(name, table, provenance):
    table = table.sort_by([("device", "ascending"), ("time", "ascending")])
    splits = group_splits(table, "device", key=("device", "time"), targets=("clean",))
    return Dataset(name, "devices-60-20-20", provenance, *splits, disjoint=("device",))


DATASETS = StreamDatasets()

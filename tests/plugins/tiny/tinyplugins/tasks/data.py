"""Datasets of tiny-tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv

from appliedpapers.core.data import Dataset
from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.sources import DatasetCatalog
from appliedpapers.core.validation import check
from tinyplugins.tables import SIMULATED, group_splits, row_splits, user_provenance

BANDS, HORIZON = 6, 3
SPECTRUM = TableSchema(
    (
        Column("sample", "string", "name of the sample"),
        Column("bands", "float32", "reflectance in six bands", minimum=0, shape=(BANDS,)),
        Column("trace", "float64", "points of any number", shape=(None, 2), nullable=True),
    )
)
CONCENTRATION = Column("concentration", "float64", "true concentration", unit="g/kg")
AHEAD = TableSchema(
    (
        Column("series", "int64", "number of the series"),
        Column("step", "int32", "step from 0", minimum=0),
        Column("value", "float64", "the observed value"),
    ),
    group_by=("series",),
    order_by="step",
)
FUTURE = Column("future", "float64", "the next three values", shape=(HORIZON,))


class Spectra(DatasetCatalog):
    """Simulated spectra, or the user's CSV."""

    formats = "CSV with sample, bands, trace (JSON lists) and concentration"

    def simulated(self, config) -> Dataset:
        rng = np.random.default_rng(config.seed)
        count = config.data.items
        bands = rng.uniform(0, 1, (count, BANDS)).astype(np.float32)
        truth = bands @ np.arange(1, BANDS + 1) + rng.normal(0, 0.05, count)
        traces = [
            None if number % 5 == 4 else rng.random((number % 4 + 1, 2)).tolist() for number in range(count)
        ]
        raw = pa.table(
            {
                "sample": [f"x{number}" for number in range(count)],
                "bands": bands.tolist(),
                "trace": pa.array(traces),
                "concentration": truth,
            }
        )
        return _spectra("simulated", raw, SIMULATED)

    def from_user(self, path: Path, config) -> Dataset:
        return _spectra(path.name, _read(path, ("bands", "trace")), user_provenance(path))


class Series(DatasetCatalog):
    """Simulated series, or the user's CSV."""

    formats = "CSV with series, step, value and future (a JSON list of three)"

    def simulated(self, config) -> Dataset:
        rng = np.random.default_rng(config.seed)
        columns = {"series": [], "step": [], "value": [], "future": []}
        for number in range(config.data.items):
            slope, start, length = rng.normal(0, 1), rng.normal(0, 5), int(rng.integers(4, 9))
            line = start + slope * np.arange(length + HORIZON) + rng.normal(0, 0.1, length + HORIZON)
            columns["series"] += [number] * length
            columns["step"] += range(length)
            columns["value"] += line[:length].tolist()
            columns["future"] += [line[length:].tolist()] * length
        return _series("simulated", pa.table(columns), SIMULATED)

    def from_user(self, path: Path, config) -> Dataset:
        return _series(path.name, _read(path, ("future",)), user_provenance(path))


def _read(path, lists):
    try:
        table = pc_csv.read_csv(path)
        for name in lists:
            cells = [json.loads(cell) if cell else None for cell in table.column(name).to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(cells))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name}: cannot be read ({error}).", hint="Expected CSV with lists.") from None
    return table


def _spectra(name, raw, provenance):
    schema = TableSchema((*SPECTRUM.columns, CONCENTRATION))
    table = check(raw, schema, source=name).require_clean()
    splits = row_splits(table, key=("sample",), targets=("concentration",))
    return Dataset(name, "spectra-60-20-20", provenance, *splits)


def _series(name, raw, provenance):
    schema = TableSchema((*AHEAD.columns, FUTURE), group_by=AHEAD.group_by)
    table = check(raw, schema, source=name).require_clean()
    splits = group_splits(table, "series", key=("series", "step"), targets=("future",))
    return Dataset(name, "series-60-20-20", provenance, *splits, disjoint=("series",))


SPECTRA = Spectra()
SERIES = Series()

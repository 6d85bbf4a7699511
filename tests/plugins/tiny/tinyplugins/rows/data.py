"""Datasets of tiny-rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from appliedpapers.core.data import Dataset
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.sources import DatasetCatalog
from tinyplugins.rows.config import RowsConfig
from tinyplugins.tables import SIMULATED, read_csv, row_splits, user_provenance

SOILS = ("clay", "loam", "sand")
INPUT = TableSchema(
    (
        Column("plot", "string", "name of the plot"),
        Column("heat", "float64", "mean temperature", unit="degC", minimum=-30, maximum=50),
        Column("moisture", "float64", "soil moisture", unit="%", minimum=0, maximum=100, nullable=True),
        Column("soil", "string", "kind of soil", categories=SOILS),
        Column("visits", "int64", "visits in the season", minimum=0),
    )
)
TARGET = Column("harvest", "float64", "what is predicted", unit="t/ha")


class RowsDatasets(DatasetCatalog[RowsConfig]):
    """Simulated plots, or the user's CSV."""

    formats = "CSV with plot, heat, moisture, soil, visits, harvest"

    def simulated(self, config: RowsConfig) -> Dataset:
        rng = np.random.default_rng(config.seed)
        rows = config.data.rows
        heat, moisture = rng.uniform(0, 40, rows), rng.uniform(5, 90, rows)
        soil, visits = rng.integers(0, 3, rows), rng.integers(0, 20, rows)
        harvest = 0.2 * heat + 0.05 * moisture + soil + 0.1 * visits + rng.normal(0, 0.3, rows)
        missing = rng.random(rows) < 0.1
        table = pa.table(
            {
                "plot": [f"p{number:05d}" for number in range(rows)],
                "heat": heat,
                "moisture": pa.array(moisture, mask=missing),
                "soil": [SOILS[kind] for kind in soil],
                "visits": visits,
                "harvest": harvest,
            }
        )
        return _dataset("simulated", table, SIMULATED)

    def from_user(self, path: Path, config: RowsConfig) -> Dataset:
        return _dataset(path.name, read_csv(path, INPUT, (TARGET,)), user_provenance(path))


def _dataset(name, table, provenance):
    train, valid, test = row_splits(table, key=("plot",), targets=("harvest",))
    return Dataset(name, "rows-60-20-20", provenance, train, valid, test, f"{table.num_rows} plots")


DATASETS = RowsDatasets()

"""Columns, the user's files and the splits of Harvest ridge."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from appliedpapers.core.data import Dataset, Provenance, TableSplit
from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.sources import DatasetCatalog
from appliedpapers.core.tables import read_table
from appliedpapers.core.validation import check
from harvest_ridge.config import Config
from harvest_ridge.simulator import SOILS, simulate

INPUTS = (
    Column("plot", "string", "name of the plot, different in each row", example="north-7"),
    Column("temperature", "float64", "mean of the season", unit="°C", minimum=-50, maximum=60, example=14.2),
    Column("rain", "float64", "sum of the season", unit="mm", minimum=0, nullable=True, example=310.0),
    Column("soil", "string", "kind of soil", categories=SOILS, example="loam"),
)
HARVEST = Column("harvest", "float64", "the harvest", unit="t/ha")
INPUT_SCHEMA = TableSchema(INPUTS)
TRAINING_SCHEMA = TableSchema((*INPUTS, HARVEST))


class Datasets(DatasetCatalog[Config]):
    """Simulated plots, or the user's table."""

    formats = "CSV, Parquet, JSON lines or Arrow with the columns plot, temperature, rain, soil, harvest"

    def simulated(self, config: Config) -> Dataset:
        """Make plots whose true law is known."""
        table = simulate(config.simulator.plots, config.simulator.noise, config.seed)
        provenance = Provenance.of_simulator("harvest_ridge.simulator")
        return _dataset("simulated", table, provenance)

    def from_user(self, path: Path, config: Config) -> Dataset:
        """Read the user's table.

        Raises:
            DataError: It cannot be read, or a value breaks the contract.
        """
        table = check(read_table(path), TRAINING_SCHEMA, source=path.name).require_clean()
        return _dataset(path.name, table, Provenance.of_user(path))


def _dataset(name: str, table: pa.Table, provenance: Provenance) -> Dataset:
    rows = table.num_rows
    if rows < 5:
        raise DataError(f"{name}: {rows} rows.", hint="Expected at least 5, to cut three splits from them.")
    first, second = int(0.6 * rows), int(0.8 * rows)
    train, valid, test = (
        TableSplit(part, key=("plot",), targets=("harvest",))
        for part in (table.slice(0, first), table.slice(first, second - first), table.slice(second))
    )
    return Dataset(
        name,
        protocol="rows-60-20-20",
        provenance=provenance,
        train=train,
        valid=valid,
        test=test,
        summary=f"{rows} plots",
        split_note="60 : 20 : 20 in the order of the rows",
    )


DATASETS = Datasets()

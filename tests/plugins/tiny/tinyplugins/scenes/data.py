"""Datasets of tiny-scenes; a raster is a JSON list of rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from appliedpapers.core.data import Dataset
from appliedpapers.core.errors import DataError
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.core.sources import DatasetCatalog
from tinyplugins.scenes.config import ScenesConfig
from tinyplugins.tables import SIMULATED, group_splits, read_csv, user_provenance

INPUT = TableSchema(
    (
        Column("scene", "string", "name of the scene"),
        Column("tile", "int64", "number of the tile", minimum=0),
        Column("raster", "string", "the tile's grid of numbers", file="raster"),
    ),
    group_by=("scene",),
    order_by="tile",
)
TARGET = Column("level", "float64", "the scene's true level")


class ScenesDatasets(DatasetCatalog[ScenesConfig]):
    """Simulated scenes, or the user's CSV beside JSON grids."""

    formats = "CSV with scene, tile, raster (path of a JSON grid), level"

    def simulated(self, config: ScenesConfig) -> Dataset:
        rng = np.random.default_rng(config.seed)
        size, columns = config.data.size, {"scene": [], "tile": [], "raster": [], "level": []}
        for number in range(config.data.scenes):
            level = rng.uniform(0, 10)
            for tile in range(int(rng.integers(1, 4))):
                grid = 2.0 * level + rng.normal(0, 1, (size, size))
                row = (f"s{number:03d}", tile, json.dumps(grid.round(6).tolist()).encode(), level)
                for values, value in zip(columns.values(), row, strict=True):
                    values.append(value)
        return _dataset("simulated", pa.table(columns), SIMULATED)

    def from_user(self, path: Path, config: ScenesConfig) -> Dataset:
        table = _beside(path, read_csv(path, INPUT, (TARGET,)))
        return _dataset(path.name, table, user_provenance(path))

    def sample(self, folder: Path, config: ScenesConfig) -> pa.Table:
        table = self.simulated(config).train.example()
        paths = [f"scene-{number}.json" for number in range(table.num_rows)]
        for name, content in zip(paths, table.column("raster").to_pylist(), strict=True):
            (folder / name).write_bytes(content)
        return table.set_column(table.column_names.index("raster"), "raster", pa.array(paths))

    def inputs(self, path: Path, config: ScenesConfig) -> pa.Table:
        return _beside(path, super().inputs(path, config))


def read_grid(cell: str | bytes) -> np.ndarray:
    """Return the grid behind a cell of the raster column.

    Raises:
        DataError: The file is absent, or is not a grid of numbers.
    """
    name = cell if isinstance(cell, str) else "the raster"
    try:
        content = Path(cell).read_bytes() if isinstance(cell, str) else cell
        grid = np.asarray(json.loads(content), dtype=float)
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read ({error}).", hint="Expected a JSON grid.") from None
    if grid.ndim != 2:
        raise DataError(f"{name}: {grid.ndim} axes.", hint="Expected a JSON list of rows.")
    return grid


def _beside(path, table):
    cells = table.column("raster").to_pylist()
    paths = [str(path.parent / cell) if isinstance(cell, str) else cell for cell in cells]
    return table.set_column(table.column_names.index("raster"), "raster", pa.array(paths))


def _dataset(name, table, provenance):
    splits = group_splits(table, "scene", key=("scene", "tile"), targets=("level",))
    return Dataset(name, "scenes-60-20-20", provenance, *splits, disjoint=("scene",))


DATASETS = ScenesDatasets()

"""The model of tiny-scenes."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import DataError, UnusableGroups
from appliedpapers.core.files import sha256_file, write_json
from appliedpapers.core.model import GroupProblem, Model
from appliedpapers.core.schema import Column, OutputSchema
from tinyplugins.scenes.data import INPUT, read_grid
from tinyplugins.tables import apply, ridge

OUTPUT = OutputSchema(
    (
        Column("scene", "string", "name of the scene"),
        Column("level", "float64", "estimated level"),
        Column("map", "string", "path of the smoothed map", nullable=True, file="raster"),
        Column("map_sha256", "string", "checksum of the map", nullable=True),
    ),
    rows="per_group",
    keys=("scene",),
)


class ScenesModel(Model):
    """Level by ridge regression on a scene's mean and spread; without ``files`` no map is written."""

    cost = "job"
    input_schema = INPUT
    output_schema = OUTPUT

    def fit(self, train, valid, run, *, init=None):
        names, grids = _scenes(train.table)
        levels = dict(
            zip(*(train.table.column(name).to_pylist() for name in ("scene", "level")), strict=True)
        )
        target = np.array([levels[name] for name in names])
        self.weights_ = ridge(_features(grids), target, self.config.model.alpha)
        return self

    def predict(self, table, *, files=None):
        if problems := _problems(table):
            raise UnusableGroups(problems, hint="Send every raster of the scene.")
        names, grids = _scenes(table)
        levels = apply(_features(grids), self.weights_)
        written = [self._map(name, tiles[0], files) for name, tiles in zip(names, grids, strict=True)]
        return pa.table(
            {
                "scene": pa.array(names, pa.string()),
                "level": levels,
                "map": pa.array([path for path, _ in written], pa.string()),
                "map_sha256": pa.array([digest for _, digest in written], pa.string()),
            }
        )

    def write_parts(self, folder):
        write_json(folder / "weights.json", self.weights_.tolist())
        return {}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = cls(config)
        model.weights_ = np.array(json.loads((folder / "weights.json").read_text()))
        return model

    def _map(self, name, grid, files):
        if files is None:
            return None, None
        # named by content: a scene whose raster changed must not meet the scratch of the old one
        stem = hashlib.sha256(name.encode() + grid.tobytes()).hexdigest()[:16]
        done = files / f"{stem}.map.json"
        with self.progress.task(name, self.config.model.steps) as bar:
            for step in range(self.config.model.steps):
                scratch = files / ".scratch" / f"{stem}-{step}.json"
                if not scratch.exists():
                    write_json(scratch, _smooth(grid).tolist())
                grid = np.array(json.loads(scratch.read_text()))
                bar.advance()
        if not done.exists():
            write_json(done, grid.tolist())
        return done.name, sha256_file(done)


def _problems(table):
    problems = []
    for key in dict.fromkeys(table.column("scene").to_pylist()):
        cells = table.filter(pa.array([name == key for name in table.column("scene").to_pylist()]))
        try:
            for cell in cells.column("raster").to_pylist():
                read_grid(cell)
        except DataError as error:
            problems.append(GroupProblem((key,), error.message))
    return problems


def _scenes(table):
    columns = [table.column(name).to_pylist() for name in ("scene", "tile", "raster")]
    scenes = {}
    for name, tile, cell in zip(*columns, strict=True):
        scenes.setdefault(name, []).append((tile, read_grid(cell)))
    ordered = [[grid for _, grid in sorted(tiles, key=lambda item: item[0])] for tiles in scenes.values()]
    return list(scenes), ordered


def _features(grids):
    values = [np.concatenate([grid.ravel() for grid in tiles]) for tiles in grids]
    return np.array([[pixels.mean(), pixels.std()] for pixels in values])


def _smooth(grid):
    padded = np.pad(grid, 1, mode="edge")
    across = (padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
    down = (padded[:-2, 1:-1] + padded[2:, 1:-1]) / 4
    return (across + down + grid) / 2

"""The model of tiny-rows."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load_file, save_file

from appliedpapers.core.model import Model
from appliedpapers.core.schema import Column, OutputSchema
from tinyplugins.rows.data import INPUT, SOILS
from tinyplugins.tables import apply, ridge

OUTPUT = OutputSchema(
    (
        Column("plot", "string", "name of the plot"),
        Column("harvest", "float64", "predicted harvest", unit="t/ha"),
    ),
    rows="per_row",
    keys=("plot",),
)


def _die_where_asked(table):
    """End the process: where a file lies that is then gone, or with a certain plot; tests ask for it."""
    bomb, plot = os.environ.get("TINY_ROWS_BOMB"), os.environ.get("TINY_ROWS_DIES_AT")
    dies = bool(plot) and plot in table.column("plot").to_pylist()
    if bomb and Path(bomb).exists():
        Path(bomb).unlink(missing_ok=True)
        dies = True
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)


class RowsModel(Model):
    """Ridge regression; a missing moisture becomes the training mean."""

    input_schema = INPUT
    output_schema = OUTPUT

    def fit(self, train, valid, run, *, init=None):
        table = train.table
        self.fill_ = float(np.nanmean(table.column("moisture").to_numpy()))
        target = table.column("harvest").to_numpy()
        start = init.weights_ if init is not None else None
        with run.progress.task("fit", 1) as bar:
            self.weights_ = ridge(self._features(table), target, self.config.model.alpha, start)
            bar.advance(note="solved")
        errors = apply(self._features(valid.table), self.weights_) - valid.table.column("harvest").to_numpy()
        run.log_metrics({"valid_mse": float(np.mean(errors**2))}, 0)
        return self

    def predict(self, table, *, files=None):
        _die_where_asked(table)
        # no matrix of features: benchmarks/scoring.py scores millions of rows
        *slopes, base = self.weights_
        soils = pc.index_in(table.column("soil"), pa.array(SOILS)).to_numpy()
        harvest = np.array(slopes[-len(SOILS) :])[soils] + base
        for slope, column in zip(slopes, self._numbers(table), strict=False):
            harvest += slope * column
        return pa.table({"plot": table.column("plot"), "harvest": harvest})

    def write_parts(self, folder):
        save_file({"weights": self.weights_}, folder / "weights.safetensors")
        return {"fill": self.fill_}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = cls(config)
        model.fill_ = state["fill"]
        model.weights_ = load_file(folder / "weights.safetensors")["weights"]
        return model

    def describe(self):
        return [("parameters", str(self.weights_.size))]

    def _features(self, table):
        soils = [pc.equal(table.column("soil"), soil).to_numpy() for soil in SOILS]
        return np.column_stack([*self._numbers(table), *soils]).astype(float)

    def _numbers(self, table):
        moisture = table.column("moisture").fill_null(self.fill_)
        return [column.to_numpy() for column in (table.column("heat"), moisture, table.column("visits"))]

"""The model of tiny-rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
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
        harvest = apply(self._features(table), self.weights_)
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
        moisture = table.column("moisture").to_numpy()
        kinds = np.array(table.column("soil").to_pylist())
        return np.column_stack(
            [
                table.column("heat").to_numpy(),
                np.where(np.isnan(moisture), self.fill_, moisture),
                table.column("visits").to_numpy(),
                *(kinds == soil for soil in SOILS),
            ]
        ).astype(float)

"""The model of Harvest ridge: features around ridge regression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Split, TableSplit
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.schema import Column, OutputSchema, TableSchema
from harvest_ridge.config import Config
from harvest_ridge.data import HARVEST, INPUT_SCHEMA
from harvest_ridge.estimators import Floats, apply_ridge, fit_ridge
from harvest_ridge.simulator import SOILS

_WEIGHTS = "weights.safetensors"


class HarvestModel(Model):
    """Ridge regression whose penalty is chosen on the validation rows."""

    config: Config
    weights_: Floats
    rain_: float
    penalty_: float

    @property
    def input_schema(self) -> TableSchema:
        """What ``predict`` takes."""
        return INPUT_SCHEMA

    @property
    def output_schema(self) -> OutputSchema:
        """What ``predict`` returns."""
        plot = Column("plot", "string", "name of the plot")
        return OutputSchema((plot, HARVEST), rows="per_row", keys=("plot",))

    def fit(self, train: Split, valid: Split, run: FitContext, *, init: Model | None = None) -> Self:
        """Fit one regression a penalty and keep the best on ``valid``; weights are drawn to ``init``'s."""
        rows, check = cast(TableSplit, train).table, cast(TableSplit, valid).table
        self.rain_ = float(np.nanmean(rows["rain"].to_numpy()))
        prior = init.weights_ if isinstance(init, HarvestModel) else None
        features, truth = self._features(rows), rows["harvest"].to_numpy()
        best = np.inf
        penalties = self.config.model.penalties
        with run.progress.task("fit", len(penalties)) as bar:
            for step, penalty in enumerate(penalties):
                weights = fit_ridge(features, truth, penalty, prior)
                errors = apply_ridge(self._features(check), weights) - check["harvest"].to_numpy()
                rmse = float(np.sqrt(np.mean(errors**2)))
                if rmse < best:
                    best, self.weights_, self.penalty_ = rmse, weights, penalty
                run.log_metrics({"valid_rmse": rmse}, step)
                bar.advance(note=f"valid rmse {rmse:.3f}")
        return self

    def predict(self, table: pa.Table, *, files: Path | None = None) -> pa.Table:
        """Predict the harvest of each row."""
        harvest = apply_ridge(self._features(table), self.weights_)
        return pa.table({"plot": table["plot"], "harvest": harvest})

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write the weights; the rest is small enough for the manifest."""
        save_file({"weights": self.weights_}, folder / _WEIGHTS)
        return {"rain": self.rain_, "penalty": self.penalty_}

    @classmethod
    def read_parts(cls, config: TaskConfig, state: Mapping[str, Any], folder: Path, device: str) -> Self:
        """Rebuild the model."""
        model = cls(config)
        model.weights_ = load_file(folder / _WEIGHTS)["weights"]
        model.rain_, model.penalty_ = state["rain"], state["penalty"]
        return model

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield facts for the report."""
        return (("weights", str(self.weights_.size)), ("penalty", f"{self.penalty_:g}"))

    def _features(self, table: pa.Table) -> Floats:
        rain = table["rain"].to_numpy()
        soil = np.array(table["soil"].to_pylist())
        columns = [
            table["temperature"].to_numpy(),
            np.where(np.isnan(rain), self.rain_, rain),
            *(soil == kind for kind in SOILS[1:]),
            np.ones(table.num_rows),
        ]
        return np.column_stack(columns).astype(np.float64)

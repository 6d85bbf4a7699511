"""The model of tiny-stream."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core.errors import RunError
from appliedpapers.core.model import Model, Stream
from appliedpapers.core.schema import Column, OutputSchema
from tinyplugins.stream.data import INPUT

OUTPUT = OutputSchema(
    (
        Column("device", "string", "name of the device"),
        Column("time", "timestamp", "time of the sample"),
        Column("filtered", "float64", "the signal without noise", unit="m/s2", nullable=True),
    ),
    group_by=("device",),
    order_by="time",
    rows="per_row",
    keys=("device", "time"),
)


class StreamModel(Model):
    """``level += weight * (value - level)``; a missing value leaves the level as it is."""

    input_schema = INPUT
    output_schema = OUTPUT

    def fit(self, train, valid, run, *, init=None):
        errors = []
        truth = valid.table.column("clean").to_numpy()
        with run.progress.task("fit", len(self.config.model.weights)) as bar:
            for number, weight in enumerate(self.config.model.weights):
                self.weight_ = weight
                filtered = self.predict(valid.inputs()).column("filtered").to_numpy()
                errors.append(float(np.nanmean((filtered - truth) ** 2)))
                run.log_metrics({"valid_mse": errors[-1]}, number)
                bar.advance()
        if not np.isfinite(errors).any():
            raise RunError("no weight gives a finite error.", hint="Check the column 'clean'.")
        self.weight_ = self.config.model.weights[int(np.nanargmin(errors))]
        return self

    def predict(self, table, *, files=None):
        streams, rows = {}, [None] * table.num_rows
        records = table.select(["device", "time", "value"]).to_pylist()
        for row in pc.sort_indices(table, [("time", "ascending")]).to_pylist():
            stream = streams.setdefault(records[row]["device"], _Filter(self.weight_, None))
            (rows[row],) = stream.step(records[row])
        return pa.Table.from_pylist(rows, OUTPUT.arrow_schema())

    def stream(self, state=None):
        return _Filter(self.weight_, json.loads(state) if state is not None else None)

    def write_parts(self, folder):
        return {"weight": self.weight_}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = cls(config)
        model.weight_ = state["weight"]
        return model


class _Filter(Stream):
    def __init__(self, weight, level):
        self._weight, self._level = weight, level

    def step(self, record):
        value = record["value"]
        if value is not None and not math.isnan(value):
            start = value if self._level is None else self._level
            self._level = start + self._weight * (value - start)
        return [{"device": record["device"], "time": record["time"], "filtered": self._level}]

    def state(self):
        return json.dumps(self._level).encode()

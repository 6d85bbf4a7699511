"""Task `spectrum`: arrays in cells, in and out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from appliedpapers.core.model import Model
from appliedpapers.core.schema import Column, OutputSchema
from tinyplugins.tables import apply, ridge
from tinyplugins.tasks.data import SPECTRUM

OUTPUT = OutputSchema(
    (
        Column("sample", "string", "name of the sample"),
        Column("concentration", "float64", "predicted concentration", unit="g/kg"),
        Column("kind", "string", "poor or rich", categories=("poor", "rich")),
        Column("shares", "float64", "probability of poor and of rich", minimum=0, maximum=1, shape=(2,)),
    ),
    rows="per_row",
    keys=("sample",),
)


class SpectrumModel(Model):
    """Ridge regression on the bands and the length of the trace."""

    input_schema = SPECTRUM
    output_schema = OUTPUT

    def fit(self, train, valid, run, *, init=None):
        target = train.table.column("concentration").to_numpy()
        self.weights_ = ridge(_features(train.table), target, self.config.model.alpha)
        self.centre_ = float(np.median(target))
        return self

    def predict(self, table, *, files=None):
        values = apply(_features(table), self.weights_)
        rich = 1 / (1 + np.exp(self.centre_ - values))
        shares = np.ascontiguousarray(np.column_stack([1 - rich, rich]))
        return pa.table(
            {
                "sample": table.column("sample"),
                "concentration": values,
                "kind": pa.array(np.where(rich > 0.5, "rich", "poor"), pa.string()),
                "shares": pa.FixedShapeTensorArray.from_numpy_ndarray(shares),
            }
        )

    def write_parts(self, folder):
        save_file({"weights": self.weights_}, folder / "weights.safetensors")
        return {"centre": self.centre_}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = cls(config)
        model.centre_ = state["centre"]
        model.weights_ = load_file(folder / "weights.safetensors")["weights"]
        return model


def _features(table):
    bands = table.column("bands").combine_chunks()
    if isinstance(bands, pa.ChunkedArray):
        bands = bands.chunk(0)
    lengths = [len(trace or ()) for trace in table.column("trace").to_pylist()]
    return np.column_stack([bands.to_numpy_ndarray().astype(float), lengths])

"""Defective models."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import time

import numpy as np
import pyarrow as pa
from tinyplugins.rows.model import OUTPUT, RowsModel
from tinyplugins.scenes.model import ScenesModel
from tinyplugins.stream.model import StreamModel
from tinyplugins.tasks.ahead import AheadModel

from appliedpapers.core.conformance.subject import groups
from appliedpapers.core.schema import Column, OutputSchema


def _with_harvest(table, change):
    harvest = table.column("harvest").to_numpy()
    return table.set_column(1, "harvest", pa.array(change(harvest)))


class BatchMean(RowsModel):
    """Centres on the batch at hand."""

    def predict(self, table, *, files=None):
        return _with_harvest(super().predict(table), lambda values: values - values.mean())


class FirstRow(RowsModel):
    """The first row of a batch gets something extra."""

    def predict(self, table, *, files=None):
        return _with_harvest(super().predict(table), lambda values: values + (np.arange(values.size) == 0))


class UnseededFit(RowsModel):
    """Fitted weights come from the global generator."""

    def fit(self, train, valid, run, *, init=None):
        super().fit(train, valid, run)
        self.weights_ += np.random.normal(0, 1e-3, self.weights_.shape)
        return self


class Sorted(RowsModel):
    """Returns the rows in an order of its own."""

    def predict(self, table, *, files=None):
        return super().predict(table).sort_by([("plot", "descending")])


class KeyDropped(RowsModel):
    """Does not carry the key over."""

    output_schema = OutputSchema(OUTPUT.columns[1:], rows="per_row", keys=("plot",))

    def predict(self, table, *, files=None):
        return super().predict(table).drop_columns(["plot"])


class RowLost(AheadModel):
    """Says per_row and returns many."""

    output_schema = OutputSchema(AheadModel.output_schema.columns, rows="per_row", keys=("series",))


class GroupTwice(ScenesModel):
    """Says per_group and returns two rows for each."""

    def predict(self, table, *, files=None):
        once = super().predict(table, files=files)
        return pa.concat_tables([once, once])


class GroupsMixed(StreamModel):
    """Puts the rows of a group together: the order is lost where groups alternate."""

    def predict(self, table, *, files=None):
        return super().predict(pa.concat_tables(groups(table, self.input_schema)))


class WrongType(RowsModel):
    """Returns text where a number is declared."""

    def predict(self, table, *, files=None):
        return _with_harvest(super().predict(table), lambda values: [f"{value:.3f}" for value in values])


class OutOfRange(RowsModel):
    """Returns values below the declared minimum."""

    output_schema = OutputSchema(
        (OUTPUT.columns[0], Column("harvest", "float64", minimum=1000)), rows="per_row", keys=("plot",)
    )


class Careless(RowsModel):
    """Cannot cope when bad rows were left out before it sees the table."""

    def predict(self, table, *, files=None):
        if table.num_rows < 4:
            raise ValueError("cannot reshape")
        return super().predict(table)


class SharedScratch(RowsModel):
    """Keeps the table of the call on itself: threads see each other's."""

    _lock = threading.Lock()

    def predict(self, table, *, files=None):
        self._table = table
        time.sleep(0.01)
        return super().predict(self._table)


class DriftingStream(StreamModel):
    """The stream rounds, ``predict`` does not."""

    def stream(self, state=None):
        stream = super().stream(state)
        step = stream.step

        def rounded(record):
            return [row | {"filtered": row["filtered"] and round(row["filtered"], 2)} for row in step(record)]

        stream.step = rounded
        return stream


class ForgetfulStream(StreamModel):
    """Starts anew whatever state it is given."""

    def stream(self, state=None):
        return super().stream(None)


class PickledState(StreamModel):
    """The state of a stream is a pickle."""

    def stream(self, state=None):
        stream = super().stream(None if state is None else json.dumps(pickle.loads(state)).encode())
        stream.state = lambda: pickle.dumps(stream._level)
        return stream


class StartsOver(ScenesModel):
    """A job that throws its scratch away."""

    def predict(self, table, *, files=None):
        shutil.rmtree(files / ".scratch", ignore_errors=True)
        for path in files.glob("*.map.json"):
            path.unlink()
        return super().predict(table, files=files)


class RoundedWeights(RowsModel):
    """Loses digits when it is saved."""

    def write_parts(self, folder):
        self_weights, self.weights_ = self.weights_, self.weights_.astype(np.float32).astype(float)
        state = super().write_parts(folder)
        self.weights_ = self_weights
        return state


class Pickled(RowsModel):
    """Writes a pickle under an innocent name."""

    def write_parts(self, folder):
        (folder / "weights.bin").write_bytes(pickle.dumps(self.weights_))
        return {"fill": self.fill_}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = cls(config)
        model.fill_ = state["fill"]
        model.weights_ = pickle.loads((folder / "weights.bin").read_bytes())
        return model


class HiddenPickle(RowsModel):
    """Writes an old pickle as text among the state."""

    def write_parts(self, folder):
        return super().write_parts(folder) | {"hidden": pickle.dumps(self.fill_, protocol=0).decode()}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        pickle.loads(state["hidden"].encode())
        return super().read_parts(config, state, folder, device)

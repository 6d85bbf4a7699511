"""Defective models."""

from __future__ import annotations

import itertools
import pickle
import threading
import time

import numpy as np
import pyarrow as pa
from tinyplugins.rows.model import OUTPUT, RowsModel
from tinyplugins.scenes.model import ScenesModel
from tinyplugins.tasks.ahead import AheadModel

from appliedpapers.core.errors import ConfigError
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


class FallingKeys(RowsModel):
    """A row gets something extra when the key before it is larger."""

    def predict(self, table, *, files=None):
        plots = table.column("plot").to_pylist()
        falls = np.array([False, *(one > other for one, other in itertools.pairwise(plots))])
        return _with_harvest(super().predict(table), lambda values: values + falls)


class InPairs(RowsModel):
    """Takes another way with two rows."""

    def predict(self, table, *, files=None):
        return _with_harvest(super().predict(table), lambda values: values + (values.size == 2))


class Noisy(RowsModel):
    """Draws while it predicts, as dropout that was left on."""

    def predict(self, table, *, files=None):
        return _with_harvest(super().predict(table), lambda values: values + np.random.random(values.size))


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


class KeyInvented(RowsModel):
    """Names a key that nobody sent."""

    output_schema = OutputSchema(OUTPUT.columns, rows="per_row", keys=("harvest",))


class GroupInvented(AheadModel):
    """Answers for a group that nobody sent."""

    def predict(self, table, *, files=None):
        output = super().predict(table)
        strange = pa.array([99] * output.num_rows)
        return pa.concat_tables([output, output.set_column(0, output.schema.field(0), strange)])


class GroupsTurned(AheadModel):
    """Answers for the last group first."""

    def predict(self, table, *, files=None):
        return super().predict(table).sort_by([("series", "descending"), ("ahead", "ascending")])


class RowLost(AheadModel):
    """Says per_row and returns many."""

    output_schema = OutputSchema(AheadModel.output_schema.columns, rows="per_row", keys=("series",))


class GroupTwice(ScenesModel):
    """Says per_group and returns two rows for each."""

    def predict(self, table, *, files=None):
        once = super().predict(table, files=files)
        return pa.concat_tables([once, once])


class ColumnLost(RowsModel):
    """Leaves a declared column out."""

    def predict(self, table, *, files=None):
        return super().predict(table).drop_columns(["harvest"])


class ColumnTold(RowsModel):
    """Returns a column that was not declared."""

    def predict(self, table, *, files=None):
        output = super().predict(table)
        return output.append_column("harvest_true", output.column("harvest"))


class Unknown(RowsModel):
    """Returns NaN where no missing value is declared."""

    def predict(self, table, *, files=None):
        return _with_harvest(super().predict(table), lambda values: values * np.nan)


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


class RoundedWeights(RowsModel):
    """Loses digits when it is saved."""

    def write_parts(self, folder):
        self_weights, self.weights_ = self.weights_, self.weights_.astype(np.float32).astype(float)
        state = super().write_parts(folder)
        self.weights_ = self_weights
        return state


class ForgetsConfig(RowsModel):
    """Comes back with the defaults."""

    @classmethod
    def read_parts(cls, config, state, folder, device):
        return super().read_parts(type(config)(), state, folder, device)


class LosesUnit(RowsModel):
    """Comes back with another schema."""

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = super().read_parts(config, state, folder, device)
        model.output_schema = OutputSchema((OUTPUT.columns[0], Column("harvest", "float64")), keys=("plot",))
        return model


class SavedOnce(RowsModel):
    """Saves what fit alone sets."""

    def fit(self, train, valid, run, *, init=None):
        self._rows = train.num_rows
        return super().fit(train, valid, run)

    def write_parts(self, folder):
        return super().write_parts(folder) | {"rows": self._rows}


class OtherTheSecondTime(RowsModel):
    """Adds to its weights each time it is saved."""

    def write_parts(self, folder):
        state = super().write_parts(folder)
        return state | {"saved": getattr(self, "_saved", 0) + 1}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = super().read_parts(config, state, folder, device)
        model._saved = state["saved"]
        model.weights_ = model.weights_ + 0.1 * (model._saved - 1)
        return model


class StartsAnewToRead(RowsModel):
    """Forgets what was fitted when it is told how to read."""

    def read_as(self, config):
        self.fill_ = 0.0


class NeedsHistory(RowsModel):
    """Starts from what a loaded model does not have."""

    def fit(self, train, valid, run, *, init=None):
        self._history = [] if init is None else init._history
        return super().fit(train, valid, run, init=init)


class SpoilsItsStart(RowsModel):
    """Trains the weights of the model that it starts from."""

    def fit(self, train, valid, run, *, init=None):
        if init is not None:
            init.weights_ = init.weights_ + 0.1
        return super().fit(train, valid, run, init=init)


class ReturnsItsStart(RowsModel):
    """Fits the model that it was given to start from."""

    def fit(self, train, valid, run, *, init=None):
        return super(ReturnsItsStart, init or self).fit(train, valid, run)


class RefusesToStart(RowsModel):
    """Starts from no model, and does not say what to do."""

    def fit(self, train, valid, run, *, init=None):
        if init is not None:
            raise ConfigError("no.")
        return super().fit(train, valid, run)


class DescribesNumbers(RowsModel):
    """Gives the report a number where it prints text."""

    def describe(self):
        return [("parameters", self.weights_.size)]


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

"""Task `ahead`: many output rows for a group."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from appliedpapers.core.errors import UnusableGroups
from appliedpapers.core.files import write_json
from appliedpapers.core.model import GroupProblem, Model
from appliedpapers.core.schema import Column, OutputSchema
from tinyplugins.tables import apply, ridge
from tinyplugins.tasks.data import AHEAD, HORIZON

LOOKBACK = 4
OUTPUT = OutputSchema(
    (
        Column("series", "int64", "number of the series"),
        Column("ahead", "int32", "steps ahead, from 1", minimum=1, maximum=HORIZON),
        Column("forecast", "float64", "the forecast value"),
    ),
    group_by=("series",),
    order_by="ahead",
    rows="many",
    keys=("series",),
)


class AheadModel(Model):
    """One ridge regression per horizon on the last four values, relative to the last one."""

    input_schema = AHEAD
    output_schema = OUTPUT

    def fit(self, train, valid, run, *, init=None):
        groups = _groups(train.table)
        windows = np.array([values[-LOOKBACK:] for values in groups.values()])
        names = train.table.column("series").to_pylist()
        futures = dict(zip(names, np.array(train.table.column("future").to_pylist()), strict=True))
        target = np.array([futures[name] for name in groups]) - windows[:, -1:]
        features = windows - windows[:, -1:]
        alpha = self.config.model.alpha
        self.weights_ = np.array([ridge(features, target[:, step], alpha) for step in range(HORIZON)])
        return self

    def predict(self, table, *, files=None):
        groups = _groups(table)
        problems = [
            GroupProblem((name,), f"{len(values)} values, at least {LOOKBACK} are needed")
            for name, values in groups.items()
            if len(values) < LOOKBACK
        ]
        if problems:
            raise UnusableGroups(problems, hint="Send a longer past.")
        rows = {"series": [], "ahead": [], "forecast": []}
        for name, values in groups.items():
            window = values[None, -LOOKBACK:]
            for step in range(HORIZON):
                rows["series"].append(name)
                rows["ahead"].append(step + 1)
                rows["forecast"].append(
                    float(apply(window - window[:, -1:], self.weights_[step])[0] + values[-1])
                )
        return pa.table(rows, OUTPUT.arrow_schema())

    def write_parts(self, folder):
        write_json(folder / "weights.json", self.weights_.tolist())
        return {}

    @classmethod
    def read_parts(cls, config, state, folder, device):
        model = cls(config)
        model.weights_ = np.array(json.loads((folder / "weights.json").read_text()))
        return model


def _groups(table):
    groups = {}
    for row in table.select(["series", "step", "value"]).sort_by("step").to_pylist():
        groups.setdefault(row["series"], []).append(row["value"])
    order = dict.fromkeys(table.column("series").to_pylist())
    return {name: np.array(groups[name]) for name in order}

"""Evaluations of tiny-tasks."""

import numpy as np

from tinyplugins.scoring import RegressionEvaluation, column

SPECTRUM = RegressionEvaluation(
    column("concentration"),
    lambda model, split: model.predict(split.inputs()).column("concentration").to_numpy(),
)


def _futures(split):
    names = split.table.column("series").to_pylist()
    cells = split.table.column("future").to_pylist()
    return np.array(list(dict(zip(names, cells, strict=True)).values()))


def _forecast(model, split):
    flat = model.predict(split.inputs()).column("forecast").to_numpy()
    return flat.reshape(-1, _futures(split).shape[1])


AHEAD = RegressionEvaluation(_futures, _forecast)

"""Evaluation of tiny-scenes."""

import numpy as np

from tinyplugins.scoring import RegressionEvaluation


def _truth(split):
    names, levels = (split.table.column(name).to_pylist() for name in ("scene", "level"))
    return np.array(list(dict(zip(names, levels, strict=True)).values()))


EVALUATION = RegressionEvaluation(
    _truth, lambda model, split: model.predict(split.inputs()).column("level").to_numpy()
)

"""Evaluation of tiny-rows."""

from tinyplugins.scoring import RegressionEvaluation, column

EVALUATION = RegressionEvaluation(
    column("harvest"), lambda model, split: model.predict(split.inputs()).column("harvest").to_numpy()
)

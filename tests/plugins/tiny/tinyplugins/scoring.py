"""Evaluation of the tiny regressions: squared and absolute errors against the mean of the training part."""

from __future__ import annotations

import numpy as np

from appliedpapers.core.evaluation import Baseline, Evaluation, MetricScores, Scored


class MeanBaseline(Baseline):
    """Predicts the mean of the training targets."""

    name = "mean"
    kind = "baseline"

    def __init__(self, truth):
        self._truth = truth

    def fit(self, train, valid, run):
        self.mean_ = float(np.mean(self._truth(train)))
        return self

    def predict(self, split):
        return np.full(self._truth(split).shape, self.mean_)


class RegressionEvaluation(Evaluation):
    """Scores arrays against ``truth(split)``; ``forecast(model, split)`` gives an array of its shape."""

    primary = "mse"

    def __init__(self, truth, forecast, clusters=None):
        self._truth, self._forecast, self._clusters = truth, forecast, clusters

    def baselines(self, config, dataset):
        return [MeanBaseline(self._truth)]

    def predict(self, model, split):
        return self._forecast(model, split)

    def score(self, prediction, split, dataset):
        errors = np.asarray(prediction, dtype=float) - self._truth(split)
        losses = errors.reshape(len(errors), -1)
        metrics = {
            "mse": MetricScores.mean((losses**2).mean(axis=1)),
            "mae": MetricScores.mean(np.abs(losses).mean(axis=1)),
        }
        return Scored(metrics, clusters=self._clusters(split) if self._clusters else None)


def column(name):
    """Return the reader of one target column."""
    return lambda split: split.table.column(name).to_numpy().astype(float)

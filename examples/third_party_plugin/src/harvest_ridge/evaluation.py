"""How Harvest ridge is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

import numpy as np

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split, TableSplit
from appliedpapers.core.evaluation import Baseline, Evaluation, MetricScores, Scored
from appliedpapers.core.model import FitContext, Model
from harvest_ridge.estimators import Floats


class MeanHarvest(Baseline):
    """Predicts the mean harvest of the training rows: what a child could compute."""

    name = "mean"
    kind = "baseline"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Take the mean."""
        self.mean_ = float(_truth(train).mean())
        return self

    def predict(self, split: Split) -> Floats:
        """Return the mean for each row."""
        return np.full(split.num_rows, self.mean_)


class HarvestEvaluation(Evaluation):
    """Errors of the harvest in t/ha; rows are independent."""

    primary = "rmse"

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the mean."""
        return (MeanHarvest(),)

    def predict(self, model: Model, split: Split) -> Floats:
        """Return predicted harvests, ``(rows,)``."""
        return np.asarray(model.predict(cast(TableSplit, split).inputs())["harvest"].to_numpy())

    def score(self, prediction: Floats, split: Split, dataset: Dataset) -> Scored:
        """Score harvests, ``(rows,)``."""
        errors = prediction - _truth(split)
        return Scored(
            {"rmse": MetricScores.root_mean(errors**2), "mae": MetricScores.mean(np.abs(errors))},
            units={"rmse": "t/ha", "mae": "t/ha"},
        )


def _truth(split: Split) -> Floats:
    return np.asarray(cast(TableSplit, split).table["harvest"].to_numpy())


EVALUATION = HarvestEvaluation()

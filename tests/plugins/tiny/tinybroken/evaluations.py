"""Defective evaluations."""

from __future__ import annotations

import numpy as np
from tinyplugins.rows.evaluation import EVALUATION
from tinyplugins.scoring import RegressionEvaluation

from appliedpapers.core.evaluation import MetricScores, PublishedFigure, Scored
from appliedpapers.core.figures import Figure


class UnknownMetric(RegressionEvaluation):
    """The primary metric is not scored."""

    primary = "rmse"


class NoBaseline(RegressionEvaluation):
    """Nothing is held against the model."""

    def baselines(self, config, dataset):
        return []


class Rescored(RegressionEvaluation):
    """Changes the scores of the tiny evaluation."""

    def score(self, prediction, split, dataset):
        losses = super().score(prediction, split, dataset).metrics["mse"].losses
        return Scored({name: MetricScores.mean(values) for name, values in self.change(losses, prediction)})

    def change(self, losses, prediction):
        return [("mse", losses)]


class StrangeMetric(Rescored):
    """A metric that the registry does not know."""

    def change(self, losses, prediction):
        return [("mse", losses), ("harvestiness", losses)]


class NotFinite(Rescored):
    """The primary metric is no number."""

    def change(self, losses, prediction):
        return [("mse", np.full_like(losses, np.nan))]


class OtherUnits(Rescored):
    """The baseline, whose prediction is constant, is spared a row."""

    def change(self, losses, prediction):
        return [("mse", losses[int(np.ptp(prediction) == 0) :])]


class FiguresFail(RegressionEvaluation):
    """Reads a history under a name that it does not have."""

    def figures(self, material):
        return [material.histories["ours"]]


class FiguresAlike(RegressionEvaluation):
    """Gives two figures one name."""

    def figures(self, material):
        return [Figure("errors", "Errors", "", "They are small.", b"", "image/png")] * 2


class FailuresFail(RegressionEvaluation):
    """Looks for slices that were not scored."""

    def failures(self, material):
        return [material.scored[material.model_name].slices[0]]


class FailuresNoText(RegressionEvaluation):
    """Gives numbers where sentences are printed."""

    def failures(self, material):
        return [("p00001", 1.0)]


class PublishedUnknown(RegressionEvaluation):
    """A printed figure of a metric that the registry does not know."""

    def published(self, config, dataset):
        setting = {"dataset": dataset.name, "protocol": dataset.protocol, "setting": {}}
        return [PublishedFigure("Ridge", "harvestiness", 1.0, **setting, source="p. 7", verified=False)]


class VariantsNoConfig(RegressionEvaluation):
    """Gives overrides where configurations are fitted."""

    def variants(self, config):
        return {"strong": {"model": {"alpha": 9.0}}}


class FigureUntold(RegressionEvaluation):
    """Says the name of the file where the finding belongs."""

    def figures(self, material):
        return [Figure("errors", "Errors", "", "errors.png", b"", "image/png")]


class FigureClear(RegressionEvaluation):
    """Draws on nothing, which a dark report would show through."""

    def figures(self, material):
        lines = b"<svg><path d='M0 0'/></svg>"
        return [Figure("errors", "Errors", "", "errors are small everywhere", lines, "image/svg+xml")]


class BaselineHidden(RegressionEvaluation):
    """Lists another baseline than it fits."""

    baseline_names = ("median",)


def _rows(kind):
    return kind(EVALUATION._truth, EVALUATION._forecast)


UNKNOWN_METRIC, NO_BASELINE, STRANGE_METRIC = _rows(UnknownMetric), _rows(NoBaseline), _rows(StrangeMetric)
NOT_FINITE, OTHER_UNITS = _rows(NotFinite), _rows(OtherUnits)
FIGURE_UNTOLD, FIGURE_CLEAR = _rows(FigureUntold), _rows(FigureClear)
FIGURES_FAIL, FIGURES_ALIKE = _rows(FiguresFail), _rows(FiguresAlike)
FAILURES_FAIL, FAILURES_NO_TEXT = _rows(FailuresFail), _rows(FailuresNoText)
PUBLISHED_UNKNOWN, VARIANTS_NO_CONFIG = _rows(PublishedUnknown), _rows(VariantsNoConfig)
BASELINE_HIDDEN = _rows(BaselineHidden)

"""How nitrogen is judged, and against whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from appliedpapers.core.evaluation import Baseline, Evaluation, Material, PublishedFigure
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.agrosense.nitrogen.scoring import PRIMARY, Estimate, score

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.model import Model
    from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig
    from appliedpapers.plugins.agrosense.nitrogen.data import NitrogenSplit
    from appliedpapers.plugins.agrosense.nitrogen.model import NitrogenModel


class NitrogenEvaluation(Evaluation):
    """Root mean squared error with R2, and intervals by coverage and width."""

    primary = PRIMARY
    baseline_names = (
        *("mean", "date-mean", "pls", "svr", "gpr", "mlp", "ridge", "random-forest"),
        *("paper-mlp-default", "paper-svm-default"),
    )
    answer = "nitrogen"

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return means and regressions, and on bands the paper's models."""
        from appliedpapers.plugins.agrosense.nitrogen.baselines import usual_baselines

        return usual_baselines(cast("NitrogenConfig", config), cast("NitrogenSplit", dataset.train))

    def predict(self, model: Model, split: Split) -> Estimate:
        """Return values and intervals."""
        return cast("NitrogenModel", model).estimate(cast("NitrogenSplit", split).table)

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score rows; those of a group are resampled together where there are groups."""
        rows = cast("NitrogenSplit", split)
        groups = rows.groups if "group" in dataset.disjoint else None
        return score(cast("Estimate", prediction), rows, groups)

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return the paper's figures; they stand beside ours on its own split alone."""
        from appliedpapers.plugins.agrosense.nitrogen.published import published_figures

        return published_figures(dataset.name)

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw estimates with their intervals, and how wide those are."""
        from appliedpapers.plugins.agrosense.nitrogen.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the samples that came out worst."""
        from appliedpapers.plugins.agrosense.nitrogen.figures import failures

        return failures(material)


EVALUATION = NitrogenEvaluation()

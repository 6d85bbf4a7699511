"""How crop recommendations are judged, and against whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from appliedpapers.core.evaluation import Baseline, Evaluation, Material, PublishedFigure
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.agrosense.crop.scoring import PRIMARY, Told, score

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.model import Model
    from appliedpapers.plugins.agrosense.crop.config import CropConfig
    from appliedpapers.plugins.agrosense.crop.data import CropSplit
    from appliedpapers.plugins.agrosense.crop.model import CropRecommender


class CropEvaluation(Evaluation):
    """Accuracy with probabilities, abstention and novelty beside it; McNemar's exact test."""

    primary = PRIMARY
    paired_test = "mcnemar"
    baseline_names = (
        *("commonest-crop", "gaussian-nb", "logistic", "random-forest", "lightgbm", "xgboost", "mlp"),
    )
    answer = "crop_1"

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the commonest crop, the families, and the arms of an ablation."""
        from appliedpapers.plugins.agrosense.crop.baselines import usual_baselines

        return usual_baselines(cast("CropConfig", config), cast("CropSplit", dataset.train))

    def predict(self, model: Model, split: Split) -> Told:
        """Return probabilities, which rows are answered, and which are novel."""
        import numpy as np

        recommender = cast("CropRecommender", model)
        answers = recommender.answers(cast("CropSplit", split).table, attributions=False)
        warned = np.array([bool(sentences) for sentences in answers.warnings])
        return Told(answers.probabilities, answers.advised, answers.set_from, warned, answers.looked)

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score rows; those of a group are resampled together where groups stand on one side of a split."""
        rows = cast("CropSplit", split)
        groups = rows.groups if "group" in dataset.disjoint else None
        return score(cast("Told", prediction), rows.labels, groups)

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return the paper's figures, which are of another protocol."""
        from appliedpapers.plugins.agrosense.crop.published import published_figures

        return published_figures(dataset.name)

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw reliability, abstention, attributions and, where there is one, the ablation."""
        from appliedpapers.plugins.agrosense.crop.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the crops that came out worst."""
        from appliedpapers.plugins.agrosense.crop.figures import failures

        return failures(material)


EVALUATION = CropEvaluation()

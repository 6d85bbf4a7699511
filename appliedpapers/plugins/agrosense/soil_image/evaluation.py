"""How the soil classifier is judged, and against whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from appliedpapers.core.evaluation import Baseline, Evaluation, Material, PublishedFigure
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.agrosense.soil_image.scoring import PRIMARY, Seen, score

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.model import Model
    from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
    from appliedpapers.plugins.agrosense.soil_image.model import SoilClassifier
    from appliedpapers.plugins.agrosense.soil_image.splits import PhotoSplit


class SoilEvaluation(Evaluation):
    """Accuracy by photo, McNemar's exact test; calibration, fields and rejection beside it."""

    primary = PRIMARY
    paired_test = "mcnemar"
    baseline_names = (
        "efficientnet-lite0 + colour",
        "colour + boosting",
        "colour + logistic",
        "commonest soil",
    )
    answer = "soil"

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return colour with trees and with a line, the plain network's features, and the commonest soil."""
        from appliedpapers.plugins.agrosense.soil_image.baselines import baselines

        return baselines(cast("SoilImageConfig", config))

    def predict(self, model: Model, split: Split) -> Seen:
        """Return probabilities, and which photos get no class."""
        reading = cast("SoilClassifier", model).read(cast("PhotoSplit", split).photos)
        return Seen(reading.chances, np.array([reason is not None for reason in reading.reasons], dtype=bool))

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score photos."""
        return score(cast("Seen", prediction), cast("PhotoSplit", split).photos)

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return the paper's figures, which are of splits that leak."""
        from appliedpapers.plugins.agrosense.soil_image.published import published_figures

        return published_figures(dataset.name)

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw confusions, reliability, and photos with what speaks for their class."""
        from appliedpapers.plugins.agrosense.soil_image.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the soils that are most often taken for others, and the test against colour."""
        from appliedpapers.plugins.agrosense.soil_image.figures import failures

        return failures(material)


EVALUATION = SoilEvaluation()

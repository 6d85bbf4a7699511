"""How virtual inking is judged: tiles, regions of the contour, and the line itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline, Evaluation, Material, PublishedFigure
from appliedpapers.core.model import Model
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.scoring import PRIMARY, score

if TYPE_CHECKING:
    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.virtual_inking.answers import SlideAnswer
    from appliedpapers.plugins.virtual_inking.model import VirtualInker
    from appliedpapers.plugins.virtual_inking.splits import SlideSplit


class InkingEvaluation(Evaluation):
    """AUROC of tiles first; regions, distances and breaks of the line beside it; blocks are resampled."""

    primary = PRIMARY
    baseline_names = ("paper head", "logistic", "colour-texture", "mean-lab", "depth", "nothing-cut")

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return logistic heads on features, on colour and on depth, and nothing at all."""
        from appliedpapers.plugins.virtual_inking.baselines import baselines

        return baselines(cast("InkingConfig", config))

    def predict(self, model: Model, split: Split) -> list[SlideAnswer]:
        """Return what the model says of each slide."""
        return cast("VirtualInker", model).answers(cast("SlideSplit", split))

    def parts(self, model: Model, dataset: Dataset) -> Mapping[str, Any]:
        """Return the same tiles under the other decisions, and the cascade's experts alone."""
        return cast("VirtualInker", model).parts(cast("SlideSplit", dataset.test))

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score answers; a unit is a slide, and the slides of a block are resampled together."""
        answers = cast("list[SlideAnswer]", prediction)
        return score(answers, dataset.fold)

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return the paper's figure; its data are private, and it is set apart."""
        from appliedpapers.plugins.virtual_inking.published import published_figures

        return published_figures(dataset.name)

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw slides with both lines, the profile along a contour, and ranking curves."""
        from appliedpapers.plugins.virtual_inking.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the slides that came out worst, and whether the second layer helps."""
        from appliedpapers.plugins.virtual_inking.figures import failures

        return failures(material)


EVALUATION = InkingEvaluation()

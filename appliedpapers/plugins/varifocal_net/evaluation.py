"""How Varifocal-Net is judged: types and polarity by chromosome, karyotypes by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from appliedpapers.core.evaluation import Baseline, Evaluation, Material, PublishedFigure
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.varifocal_net.scoring import PRIMARY, Answers, answers_of, judged, score

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.model import Model
    from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
    from appliedpapers.plugins.varifocal_net.model import ChromosomeClassifier
    from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit


class KaryotypeEvaluation(Evaluation):
    """Type accuracy, with whole specimens resampled; polarity, dispatch and abnormal cells beside it."""

    primary = PRIMARY
    baseline_names = ("profile-lightgbm", "profile-logistic", "length")

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return classifiers of lengths and of hand-made band profiles."""
        from appliedpapers.plugins.varifocal_net.baselines import baselines

        return baselines(cast("KaryotypeConfig", config))

    def predict(self, model: Model, split: Split) -> Answers:
        """Read the judged chromosomes, and make their cells consistent in both ways."""
        classifier = cast("ChromosomeClassifier", model)
        chromosomes = judged(cast("ChromosomeSplit", split))
        reading = classifier.read(chromosomes)
        return answers_of(reading.types, reading.q_down, chromosomes, classifier.config.review)

    def parts(self, model: Model, dataset: Dataset) -> Mapping[str, Answers]:
        """Return what G-Net and L-Net say alone, and both with the crop that was not chosen."""
        classifier = cast("ChromosomeClassifier", model)
        chromosomes = judged(cast("ChromosomeSplit", dataset.test))
        known = cast("ChromosomeSplit", dataset.valid).chromosomes
        review = classifier.config.review
        return {
            name: answers_of(types, q_down, chromosomes, review)
            for name, (types, q_down) in classifier.parts(chromosomes, known).items()
        }

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score answers; a unit is a cell, and the cells of a specimen are resampled together."""
        return score(cast("Answers", prediction), judged(cast("ChromosomeSplit", split)))

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return the paper's figures; they are of private data, and set apart."""
        from appliedpapers.plugins.varifocal_net.published import published_figures

        return published_figures(dataset.name)

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw confusions, what review costs, reliability, cells, and one karyogram."""
        from appliedpapers.plugins.varifocal_net.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the types and the cells that came out worst."""
        from appliedpapers.plugins.varifocal_net.figures import failures

        return failures(material)


EVALUATION = KaryotypeEvaluation()

"""How ageing is judged: early warning on simulated and own devices, forecasts on published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from appliedpapers.core.evaluation import Baseline, Evaluation, Material, PublishedFigure
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.laser_cvae.config import BASELINES
from appliedpapers.plugins.laser_cvae.scoring import EARLY, FORECAST, Answers, score

if TYPE_CHECKING:
    from appliedpapers.core.config import TaskConfig
    from appliedpapers.core.data import Dataset, Split
    from appliedpapers.core.figures import Figure
    from appliedpapers.core.model import Model
    from appliedpapers.plugins.laser_cvae.config import LaserConfig
    from appliedpapers.plugins.laser_cvae.model import LaserCvae
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit


class AgeingEvaluation(Evaluation):
    """AUC of devices not yet failed, or error of the forecast at the end of the test."""

    primary = EARLY
    baseline_names = BASELINES
    answer = "p_cross"

    def primary_for(self, dataset: Dataset) -> str:
        """Return the metric of the way in which the dataset's devices are judged."""
        return EARLY if cast("DeviceSplit", dataset.test).judge == "early-warning" else FORECAST

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return detectors and simple forecasts."""
        from appliedpapers.plugins.laser_cvae.baselines import baselines

        return baselines(cast("LaserConfig", config), cast("DeviceSplit", dataset.test).judge)

    def predict(self, model: Model, split: Split) -> Answers:
        """Forecast the devices of a part at each cut."""
        from appliedpapers.plugins.laser_cvae.assessment import by_forecast

        return by_forecast(cast("LaserCvae", model), cast("DeviceSplit", split))

    def parts(self, model: Model, dataset: Dataset) -> Mapping[str, Any]:
        """Return the abnormality head alone, where early warning is judged."""
        from appliedpapers.plugins.laser_cvae.assessment import by_abnormality

        test = cast("DeviceSplit", dataset.test)
        if test.judge != "early-warning":
            return {}
        return {"abnormality": by_abnormality(cast("LaserCvae", model), test)}

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score answers; a unit is a device."""
        return score(cast("Answers", prediction), cast("DeviceSplit", split))

    def published(self, config: TaskConfig, dataset: Dataset) -> Sequence[PublishedFigure]:
        """Return printed figures; those of other data or protocols are set apart."""
        from appliedpapers.plugins.laser_cvae.published import published_figures

        return published_figures(dataset.name)

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw fans of paths, early-prediction curves, reliability, and the Arrhenius plot."""
        from appliedpapers.plugins.laser_cvae.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the failures that were missed and the worst forecasts."""
        from appliedpapers.plugins.laser_cvae.figures import failures

        return failures(material)


EVALUATION = AgeingEvaluation()

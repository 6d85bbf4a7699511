"""How volatility is judged: by QLIKE, beside what unmasks an RMSPE; and whether images help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline, Evaluation, Material
from appliedpapers.core.model import Model
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.volatility_images.config import BASELINES, VolatilityConfig
from appliedpapers.plugins.volatility_images.published import PUBLISHED_FIGURES
from appliedpapers.plugins.volatility_images.scoring import Forecast, overlap, score_forecast, zero_share
from appliedpapers.plugins.volatility_images.verdict import images_sentence

if TYPE_CHECKING:
    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.volatility_images.model import VolatilityForecaster
    from appliedpapers.plugins.volatility_images.splits import VolatilitySplit

_WORST_SHOWN = 3


class VolatilityEvaluation(Evaluation):
    """QLIKE with block-bootstrap intervals and Diebold-Mariano tests; RMSPE only beside its rules."""

    primary = "qlike"
    paired_test = "diebold-mariano"
    published_figures = PUBLISHED_FIGURES
    baseline_names = BASELINES
    answer = "volatility"

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the baselines that the configuration names; the rules are always among them."""
        from appliedpapers.plugins.volatility_images.baselines import baselines

        return baselines(cast("VolatilityConfig", config), dataset)

    def predict(self, model: Model, split: Split) -> Forecast:
        """Forecast every anchor by the mean of the networks, with the interval."""
        forecaster, part = cast("VolatilityForecaster", model), cast("VolatilitySplit", split)
        members = forecaster.forecasts(part)
        values = np.mean(members, axis=0)
        low, high = forecaster.bounds(values)
        return Forecast(values, low, high, forecaster.config.model.level, tuple(members))

    def parts(self, model: Model, dataset: Dataset) -> Mapping[str, Any]:
        """Return the forecast of each network alone, and of the linear part without any image."""
        from appliedpapers.plugins.volatility_images.learner import answers

        forecaster, part = cast("VolatilityForecaster", model), cast("VolatilitySplit", dataset.test)
        members = forecaster.forecasts(part)
        found = {f"network {number}": Forecast(told) for number, told in enumerate(members, 1)}
        if len(members) == 1:
            found = {}
        if forecaster.config.model.skip == "linear":
            linear, _ = answers(forecaster.networks[0], forecaster.inputs, part)
            found["linear part alone"] = Forecast(
                forecaster.median * forecaster.smears[0] * np.exp(np.minimum(linear, 50.0))
            )
        forecaster.inputs.forget()
        return found

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score forecasts; a unit is an anchor."""
        return score_forecast(cast("Forecast", prediction), cast("VolatilitySplit", split))

    def lag(self, config: TaskConfig, dataset: Dataset) -> int:
        """Return twice the number of anchors that share target seconds: Bartlett weights need it."""
        return 2 * overlap(cast("VolatilitySplit", dataset.resamples()[0].test))

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw images, forecast against truth, errors by volatility, and what the network looks at."""
        from appliedpapers.plugins.volatility_images.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Say whether images help, how many windows do not move, and which were forecast worst."""
        sample = material.dataset.resamples()[0]
        split = cast("VolatilitySplit", sample.test)
        forecast = material.predictions[material.model_name]
        told = cast("Forecast", forecast[0] if isinstance(forecast, list) else forecast)
        said = [images_sentence(material.results, material.config)]
        if material.config.model_dump()["model"]["loss"] == "rmspe":
            said.append("This model minimises RMSPE: it forecasts far too little, because that scores well.")
        share = zero_share(split)
        if share > 0:
            said.append(f"In {100 * share:.1f} % of the test windows nothing moves; RMSPE leaves them out.")
        losses = material.scored[material.model_name].metrics["qlike"].losses
        if losses is None or len(losses) < split.num_rows:
            return said
        worst = np.argsort(losses[: split.num_rows])[::-1][:_WORST_SHOWN]
        times = split.time_us.astype("datetime64[us]").astype("datetime64[s]")
        return said + [
            f"{split.session_names[row]}, the {split.config.data.window} s after {times[row]}: "
            f"{1e4 * told.values[row]:.2f} bp forecast, {1e4 * split.targets[row]:.2f} bp came, "
            f"QLIKE {losses[row]:.2f}"
            for row in worst.tolist()
        ]


EVALUATION = VolatilityEvaluation()

"""How forecasts are judged: on rolling windows, beside rules and classical models, with honest intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline, Evaluation, Material
from appliedpapers.core.model import Model
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.frets.config import BASELINES, FretsConfig
from appliedpapers.plugins.frets.published import PUBLISHED_FIGURES
from appliedpapers.plugins.frets.scoring import Forecast, complete_forecast, overlap, score_forecast
from appliedpapers.plugins.frets.timestamps import moment

if TYPE_CHECKING:
    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.frets.model import FretsForecaster
    from appliedpapers.plugins.frets.splits import ForecastSplit

_PRIMARY = {"authors-minmax": "mae", "rolling": "mase"}
_WORST_SHOWN = 3


class FretsEvaluation(Evaluation):
    """Scaled errors under the benchmark protocols, MASE and original units for the user's own data."""

    primary = "mse"
    paired_test = "diebold-mariano"
    published_figures = PUBLISHED_FIGURES
    baseline_names = BASELINES
    answer = "y_hat"

    def primary_for(self, dataset: Dataset) -> str:
        """Return ``mse`` under the z-score protocol, ``mae`` under min-max, ``mase`` under rolling."""
        return _PRIMARY.get(dataset.protocol.partition("+")[0], self.primary)

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the baselines that the configuration names, and the oracle of simulated data."""
        from appliedpapers.plugins.frets.baselines import baselines

        return baselines(cast("FretsConfig", config), dataset)

    def predict(self, model: Model, split: Split) -> Forecast:
        """Forecast every window, with intervals that are adapted along the backtest where configured."""
        forecaster, part = cast("FretsForecaster", model), cast("ForecastSplit", split)
        windows = part.at_lookback(forecaster.config.model.lookback)
        point = complete_forecast(forecaster.forecast_windows(windows), part.windows)
        values = point.values
        options, intervals = forecaster.config.intervals, forecaster.intervals
        bounds = {}
        for level in intervals.levels:
            if options.adaptive and intervals.calibration is not None:
                known = windows.targets - values
                low, high = intervals.adapt(known, level, step=part.step, gamma=options.gamma)
            else:
                low, high = intervals.low[level][None], intervals.high[level][None]
            bounds[level] = (values + low, values + high)
        return replace(point, bounds=bounds)

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score forecasts; a unit is a window."""
        part, train = cast("ForecastSplit", split), cast("ForecastSplit", dataset.train)
        return score_forecast(prediction, part, dataset.protocol, train)

    def lag(self, config: TaskConfig, dataset: Dataset) -> int:
        """Return twice the number of windows that share target rows.

        With the usual lag of ``horizon - 1`` the test calls one difference in nine significant at 5 % where
        there is none (simulated with 2,785 overlapping windows); this lag halves the excess.
        """
        return 2 * overlap(cast("ForecastSplit", dataset.test))

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw forecast fans, the error by horizon, coverage, and the learned spectrum."""
        from appliedpapers.plugins.frets.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the windows that were forecast worst, and say how many could not be forecast at all."""
        split = cast("ForecastSplit", material.dataset.test)
        filled = cast("Forecast", material.predictions[material.model_name]).filled
        gaps = f"{filled:,} forecasts are the last value: the inputs that the model needs have gaps"
        scored = material.scored[material.model_name].metrics[self.primary_for(material.dataset)]
        if scored.losses is None:
            return ()
        unable = [gaps] if filled else []
        worst = scored.losses.argsort()[::-1][:_WORST_SHOWN]
        cutoffs = split.windows.cutoffs
        name = self.primary_for(material.dataset).upper()
        return unable + [
            f"the {split.horizon} steps from {moment(split.panel.ds[cutoffs[window]])}: {name} "
            f"{scored.losses[window]:.3g}, {scored.losses[window] / scored.value:.1f} times the mean"
            for window in worst
        ]


EVALUATION = FretsEvaluation()

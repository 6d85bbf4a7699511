"""What ours is held against: classical rules, linear networks, boosted trees, and the simulator's oracle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.core.sources import SIMULATED
from appliedpapers.plugins.frets.scoring import Forecast, complete_forecast
from appliedpapers.plugins.frets.splits import ForecastSplit
from appliedpapers.plugins.frets.window_models import LastValue, RidgeNLinear, SeasonalNaive, WindowModel

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.frets.config import FretsConfig

_LINEAR_LR = 5e-3


def baselines(config: FretsConfig, dataset: Dataset) -> list[Baseline]:
    """Return the unfitted baselines that ``config.baselines`` names, and the oracle of simulated data."""
    made: list[Baseline] = [_named(name, config) for name in config.baselines]
    if dataset.name == SIMULATED:
        made.append(Oracle(config))
    return made


def _named(name: str, config: FretsConfig) -> Baseline:
    if name in ("nlinear", "dlinear"):
        return LinearNetwork(name, config)
    lookback = config.model.lookback
    if name == "ridge-nlinear":
        return WindowBaseline(RidgeNLinear(lookbacks=sorted({lookback, *_RIDGE_LOOKBACKS})))
    if name == "seasonal-naive":
        return WindowBaseline(SeasonalNaive(config.data.season))
    if name == "last-value":
        return WindowBaseline(LastValue())
    import torch

    from appliedpapers.plugins.frets.lags import LagsLightGBM

    # as many as --threads or OMP_NUM_THREADS allow: on a busy machine more were measured three times slower
    return WindowBaseline(LagsLightGBM(threads=torch.get_num_threads()))


_RIDGE_LOOKBACKS = (96, 336, 512, 720)


class WindowBaseline(Baseline):
    """A classical model over windows, in scaled space.

    Where such a model needs more of the past than a window of ours and finds a gap there, the last value
    stands in, so that every model is scored on the same windows.
    """

    def __init__(self, inner: WindowModel) -> None:
        self.name = inner.name
        self.inner = inner
        self._filled = 0

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on the train windows, choose on the valid ones."""
        learn, judge = cast("ForecastSplit", train), cast("ForecastSplit", valid)
        self.inner.fit(learn.windows, judge.windows, run.seed)
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every window of the split."""
        windows = cast("ForecastSplit", split).windows
        forecast = complete_forecast(self.inner.forecast(windows), windows)
        self._filled = forecast.filled
        return forecast

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was chosen."""
        for name in ("period_", "lookback_", "penalty_", "rounds_"):
            value = getattr(self.inner, name, None)
            if value:
                yield name.rstrip("_"), f"{value:g}" if isinstance(value, float) else str(value)
        if self._filled:
            yield "last value in place of a gap", f"{self._filled} forecasts"


class LinearNetwork(Baseline):
    """NLinear or DLinear, trained by gradient on the windows and with the epochs of ours."""

    def __init__(self, name: str, config: FretsConfig) -> None:
        self.name = name
        self.config = config

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Train with Adam at 5e-3, halved every epoch, best epoch on the valid windows."""
        from appliedpapers.core.training import fit
        from appliedpapers.core.weights import drawn_by
        from appliedpapers.plugins.frets.learner import WindowTask
        from appliedpapers.plugins.frets.network import DLinear, NLinear

        options = self.config.model
        make = NLinear if self.name == "nlinear" else DLinear
        with drawn_by(run.seed):
            self.network = make(options.lookback, options.horizon).to(run.device)
        settings = self.config.training.model_copy(
            update={"lr": _LINEAR_LR, "lr_decay": 0.5, "batch_size": 32}
        )
        learn, judge = cast("ForecastSplit", train).windows, cast("ForecastSplit", valid).windows
        fit(WindowTask(self.network, learn, judge, settings), run, name=self.name)
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every window of the split."""
        from appliedpapers.plugins.frets.learner import forecast_windows

        windows = cast("ForecastSplit", split).windows
        return Forecast(forecast_windows(self.network, windows, mixes_series=False))


class Oracle(Baseline):
    """The best forecast of one who knows the simulator's formula and state: the noise floor."""

    name = "oracle"
    attainable = False

    def __init__(self, config: FretsConfig) -> None:
        self.config = config

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Simulate again, with the truth this time."""
        from appliedpapers.plugins.frets.simulator import simulate

        self.truth = simulate(self.config.data.simulator, self.config.seed)
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every window of the split."""
        part = cast("ForecastSplit", split)
        columns = self._columns(part.panel.unique_ids)
        # the history begins with its first value, which may not be the first simulated hour
        skipped = int(np.searchsorted(self.truth.panel.ds, part.panel.ds[0]))
        forecast: NDArray[np.float64] = self.truth.oracles(part.windows.cutoffs + skipped, part.horizon)
        return Forecast(part.scaler.transform(forecast[:, :, columns]))

    def _columns(self, names: Sequence[str]) -> list[int]:
        known = list(self.truth.panel.unique_ids)
        return [known.index(name) for name in names]

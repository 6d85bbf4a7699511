"""Who a nitrogen model is held against: means, the date's mean, each regression alone, the paper's models."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from appliedpapers.core.evaluation import Baseline, Kind
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.nitrogen.config import NitrogenConfig
from appliedpapers.plugins.agrosense.nitrogen.model import NitrogenModel, joined
from appliedpapers.plugins.agrosense.nitrogen.scoring import Estimate

if TYPE_CHECKING:
    from appliedpapers.core.data import Split
    from appliedpapers.plugins.agrosense.nitrogen.data import NitrogenSplit

PAPER_SEED = 123

_FOLDS = 5
"""Of a regression's own interval, which stands beside ours for comparison only."""


def rows_of(train: Split, valid: Split) -> NitrogenSplit:
    """Return all rows that may be learned from."""
    return joined(cast("NitrogenSplit", train), cast("NitrogenSplit", valid))


class Mean(Baseline):
    """The mean of the rows that were learned from."""

    name = "mean"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Average."""
        self._value = float(rows_of(train, valid).nitrogen.mean())
        return self

    def predict(self, split: Split) -> Estimate:
        """Return the same for every row."""
        return Estimate(np.full(split.num_rows, self._value))


class DateMean(Baseline):
    """The mean of the rows of the same date: what no look at the soil is needed for."""

    name = "date-mean"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Average by date."""
        rows = rows_of(train, valid)
        dates, values = rows.dates, rows.nitrogen
        assert dates is not None
        self._by_date = {date: float(values[dates == date].mean()) for date in np.unique(dates)}
        self._value = float(values.mean())
        return self

    def predict(self, split: Split) -> Estimate:
        """Return the mean of the date, or of all where the date is new."""
        dates = cast("NitrogenSplit", split).dates
        assert dates is not None
        return Estimate(np.array([self._by_date.get(date, self._value) for date in dates], dtype=np.float64))


class LearnerAlone(Baseline):
    """One regression with the preprocessing of ours.

    Args:
        learner: Its name.
        config: Of the run.
    """

    def __init__(self, learner: str, config: NitrogenConfig) -> None:
        self.name = learner
        few = min(config.interval.folds, _FOLDS)
        self._model = NitrogenModel(
            config.replace(model={"learners": (learner,)}, interval={"folds": few}),
        )

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on both parts."""
        self._model.fit(train, valid, run)
        return self

    def predict(self, split: Split) -> Estimate:
        """Return values and intervals."""
        return self._model.estimate(cast("NitrogenSplit", split).table)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the regression."""
        return list(self._model.describe())[:1]


class Forest(Baseline):
    """A random forest of 300 trees on the bands as they are."""

    name = "random-forest"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Grow the trees."""
        from sklearn.ensemble import RandomForestRegressor

        rows = rows_of(train, valid)
        self._model: Any = RandomForestRegressor(300, random_state=run.seed, n_jobs=1)
        self._model.fit(band_matrix(rows), rows.nitrogen)
        return self

    def predict(self, split: Split) -> Estimate:
        """Return the mean of the trees."""
        return Estimate(self._model.predict(band_matrix(cast("NitrogenSplit", split))))


class PaperModel(Baseline):
    """A model of the paper with the defaults that it names, on unscaled columns in its order.

    Args:
        kind_of: ``mlp`` or ``svm``.
    """

    kind: Kind = "paper"

    def __init__(self, kind_of: str) -> None:
        self.name, self._kind = f"paper-{kind_of}-default", kind_of

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit as the public code does."""
        rows = rows_of(train, valid)
        with warnings.catch_warnings():
            # 200 iterations are what the paper stops at
            warnings.simplefilter("ignore")
            self._model = paper_regressor(self._kind).fit(band_matrix(rows), rows.nitrogen)
        return self

    def predict(self, split: Split) -> Estimate:
        """Return the regressor's values."""
        return Estimate(self._model.predict(band_matrix(cast("NitrogenSplit", split))))


def paper_regressor(kind: str, seed: int = PAPER_SEED, **options: Any) -> Any:
    """Return scikit-learn's regressor as the paper uses it: its defaults, unless options say otherwise.

    Args:
        kind: ``mlp`` or ``svm``.
        seed: Of the network's first weights.
        **options: Of the regressor.
    """
    if kind == "mlp":
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(**{"hidden_layer_sizes": (100,), "random_state": seed, **options})
    from sklearn.svm import SVR

    return SVR(**{"gamma": "scale", **options})


def band_matrix(rows: NitrogenSplit) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the bands as they are, ``(rows, bands)``, missing ones at the mean of their column."""
    columns = [np.array(rows.table.column(one.name).to_pylist(), dtype=np.float64) for one in rows.features]
    values = np.stack(columns, axis=1)
    return np.where(np.isnan(values), np.nanmean(values, axis=0), values)


def usual_baselines(config: NitrogenConfig, split: NitrogenSplit) -> Sequence[Baseline]:
    """Return the baselines of a table of bands or of spectra."""
    found: list[Baseline] = [Mean()]
    if split.dates is not None:
        found.append(DateMean())
    if split.kind == "spectra":
        return [*found, *(LearnerAlone(name, config) for name in ("pls", "svr", "mlp", "gpr"))]
    found += [LearnerAlone(name, config) for name in ("ridge", "svr", "mlp")]
    return [*found, Forest(), PaperModel("mlp"), PaperModel("svm")]

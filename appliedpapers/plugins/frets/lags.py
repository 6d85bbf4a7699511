"""Gradient-boosted trees on lags: one model for all series and steps."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.lightgbm_trees import grow
from appliedpapers.plugins.frets.windows import Floats, Ints, WindowArrays

LAGS = (*range(1, 25), 48, 72, 168)
"""Rows before the cutoff, counted from 1 for the last observed one."""

ROLLING = (24, 168)
"""Rows over which mean and standard deviation are taken."""

_DEEPEST = max(LAGS)
_PREDICTED_ROWS = 400_000
_PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
}


class LagsLightGBM:
    """LightGBM that forecasts the difference to the last value, with the step ahead as a feature.

    Features: lags 1 to 24, 48, 72 and 168, mean and standard deviation over the last 24 and 168 rows, the
    step, the series as a category and, where the windows have timestamps, hour, weekday and month of the
    target. Lags (other than the first) and means are taken relative to the last value, as the target is.
    What lies before the first row is missing, which the trees handle themselves.

    Args:
        train_rows: At most this many of the (window, series, step) triples are trained on, drawn at random.
        valid_rows: Likewise for early stopping.
        max_trees: Upper bound of the number of trees.
        patience: Trees without improvement on the valid part before it stops.
        threads: Threads of LightGBM; the result does not depend on them.

    Attributes:
        booster_: The trained ``lightgbm.Booster``.
        rounds_: Number of trees that early stopping chose.
    """

    name = "lightgbm"

    def __init__(
        self,
        train_rows: int = 400_000,
        valid_rows: int = 50_000,
        max_trees: int = 600,
        patience: int = 30,
        threads: int = 1,
    ) -> None:
        self.train_rows, self.valid_rows = train_rows, valid_rows
        self.max_trees, self.patience, self.threads = max_trees, patience, threads
        self.booster_: Any = None
        self.rounds_ = 0

    def fit(self, train: WindowArrays, valid: WindowArrays, seed: int) -> Self:
        """Train on a sample of ``train``, stop early on one of ``valid``.

        Raises:
            ValueError: One of the parts has no window without missing values.
        """
        import lightgbm

        rng = np.random.default_rng(seed)
        categorical = {"categorical_feature": [_series_column()], "free_raw_data": True}
        features, target = _sample(train, self.train_rows, rng)
        fitted = lightgbm.Dataset(features, target, **categorical)
        features, target = _sample(valid, self.valid_rows, rng)
        checked = lightgbm.Dataset(features, target, reference=fitted, **categorical)
        self.booster_ = grow(
            _PARAMETERS,
            fitted,
            checked,
            rounds=self.max_trees,
            patience=self.patience,
            seed=seed,
            threads=self.threads,
        )
        self.rounds_ = int(self.booster_.current_iteration())
        return self

    def forecast(self, windows: WindowArrays) -> Floats:
        """Forecast ``(W, horizon, N)``; NaN where the last value is missing.

        Raises:
            ValueError: The model was not fitted.
        """
        if self.booster_ is None:
            raise ValueError("lightgbm: fit before forecast")
        shape = (windows.n_series, windows.horizon)
        history = _History(windows)
        out = np.empty((len(windows), windows.horizon, windows.n_series))
        size = max(1, _PREDICTED_ROWS // (shape[0] * shape[1]))
        for begin in range(0, len(windows), size):
            cutoffs = windows.cutoffs[begin : begin + size]
            grid = np.meshgrid(cutoffs, *(np.arange(n) for n in shape), indexing="ij")
            features = history.features(*(axis.ravel() for axis in grid))
            change = self.booster_.predict(features, num_iteration=self.rounds_, num_threads=self.threads)
            change = np.asarray(change).reshape(len(cutoffs), *shape).transpose(0, 2, 1)
            out[begin : begin + size] = windows.values[cutoffs - 1][:, None, :] + change
        return out


def _series_column() -> int:
    return len(LAGS) + 2 * len(ROLLING)


def _sample(windows: WindowArrays, rows: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Floats]:
    """Draw up to ``rows`` triples of window, series and step without replacement."""
    window, series = np.nonzero(windows.valid)
    if not len(window):
        raise ValueError("lightgbm: a part has no window without missing values")
    total = len(window) * windows.horizon
    chosen = np.sort(rng.choice(total, size=min(rows, total), replace=False, shuffle=False))
    pair, step = np.divmod(chosen, windows.horizon)
    cutoff, series = windows.cutoffs[window[pair]], series[pair]
    target = windows.values[cutoff + step, series] - windows.values[cutoff - 1, series]
    return _History(windows).features(cutoff, series, step), target


class _History:
    """Values padded before the first row, with running sums for the rolling features."""

    def __init__(self, windows: WindowArrays) -> None:
        padding = np.full((_DEEPEST, windows.n_series), np.nan)
        self.values = np.concatenate([padding, windows.values])
        known = ~np.isnan(self.values)
        filled = np.where(known, self.values, 0.0)
        self.sums = [_running(array) for array in (known.astype(np.float64), filled, filled**2)]
        self.calendar = None if windows.ds is None else _calendar(windows.ds)

    def features(self, cutoff: Ints, series: Ints, step: Ints) -> NDArray[np.float32]:
        """Return the feature matrix of the given targets, ``(R, F)``."""
        row = cutoff + _DEEPEST
        last = self.values[row - 1, series]
        columns = [last]
        columns += [self.values[row - lag, series] - last for lag in LAGS[1:]]
        for width in ROLLING:
            count, total, squares = (s[row, series] - s[row - width, series] for s in self.sums)
            mean = total / np.maximum(count, 1.0)
            columns += [mean - last, np.sqrt(np.maximum(squares / np.maximum(count, 1.0) - mean**2, 0.0))]
        columns += [series, step]
        if self.calendar is not None:
            columns += [part[cutoff + step] for part in self.calendar]
        out = np.empty((len(cutoff), len(columns)), dtype=np.float32)
        for index, column in enumerate(columns):
            out[:, index] = column
        return out


def _running(values: Floats) -> Floats:
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums


def _calendar(ds: NDArray[np.datetime64]) -> tuple[Ints, Ints, Ints]:
    """Return hour, weekday and month of each timestamp."""
    hours = ds.astype("datetime64[h]").astype(np.int64)
    months = ds.astype("datetime64[M]").astype(np.int64)
    return hours % 24, (hours // 24 + 3) % 7, months % 12

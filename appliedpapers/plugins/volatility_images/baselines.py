"""What ours is held against: rules, HAR in its forms, EWMA, GARCH, boosted trees, networks without images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.plugins.volatility_images.features import FLOW, NAMES, PAST, Standard
from appliedpapers.plugins.volatility_images.linear import (
    LinearForecast,
    least_squares,
    qlike_losses,
    with_constant,
)
from appliedpapers.plugins.volatility_images.market import Floats
from appliedpapers.plugins.volatility_images.scoring import Forecast
from appliedpapers.plugins.volatility_images.splits import VolatilitySplit
from appliedpapers.plugins.volatility_images.windows import LEAST_FORECAST, floor_of, trailing

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.volatility_images.config import BaselineName, VolatilityConfig

_DECAYS = tuple(1 - 1 / seconds for seconds in (5, 10, 20, 40, 60, 90, 150, 300, 600, 1200, 2400))
_TREES, _PATIENCE = 600, 40
_GARCH_STEPS = (1, 5)


def baselines(config: VolatilityConfig, dataset: Dataset) -> list[Baseline]:
    """Return the unfitted baselines that the configuration names, and the oracle of simulated data."""
    made: list[Baseline] = [_named(name, config) for name in config.baselines]
    if dataset.provenance.synthetic and config.data.simulator.futures:
        made.append(Oracle(config))
    return made


def _named(name: BaselineName, config: VolatilityConfig) -> Baseline:
    if name in _RULES:
        return Rule(name, _RULES[name])
    if name.startswith(("har", "log-har", "qlike-har")):
        return Har(name)
    makers: dict[str, Callable[[], Baseline]] = {
        "ewma": Ewma,
        "garch": GarchBaseline,
        "lightgbm": Trees,
        "mlp": lambda: FeatureNetwork(config),
    }
    return makers[name]()


def _cast(split: Split) -> VolatilitySplit:
    return cast("VolatilitySplit", split)


def _least(split: VolatilitySplit) -> float:
    return floor_of(split.config.data.window)


class Rule(Baseline):
    """A forecast that a child could compute; nothing is chosen, so all of the train period is looked at."""

    def __init__(self, name: str, rule: Callable[[Floats, VolatilitySplit], Floats]) -> None:
        self.name = name
        self._rule = rule
        self._seen: Floats = np.ones(1)

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Remember the train period's targets."""
        period = _cast(train).period
        self._seen = np.maximum(period.targets, _least(period))[period.learned]
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor."""
        return Forecast(self._rule(self._seen, _cast(split)))


def _constant(value: Callable[[Floats], float]) -> Callable[[Floats, VolatilitySplit], Floats]:
    return lambda seen, split: np.full(split.num_rows, value(seen))


_RULES: dict[str, Callable[[Floats, VolatilitySplit], Floats]] = {
    "zero": _constant(lambda seen: 0.0),
    # the constant that minimises RMSPE on the train period
    "best-constant": _constant(lambda seen: float((1 / seen).sum() / (1 / seen**2).sum())),
    "train-mean": _constant(lambda seen: float(seen.mean())),
    "naive": lambda seen, split: split.naive,
}


class Har(Baseline):
    """HAR (Corsi 2009) on three past windows, by itself or with the flow of orders.

    ``har`` is least squares, ``har-weighted`` weighs by ``1 / y^2`` (it minimises RMSPE), ``log-har`` works
    on logarithms and is turned into a forecast of the mean by smearing (Duan 1983), ``qlike-har`` minimises
    QLIKE, its ridge chosen on valid. The others choose nothing and learn from all of the train period.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._kind, _, flow = name.partition("+")
        self._columns = [NAMES.index(one) for one in (*PAST, *(FLOW if flow else ()))]
        self._smear = 1.0

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit the coefficients."""
        period = _cast(train).period
        rows, least = np.flatnonzero(period.learned), _least(period)
        truth = np.maximum(period.targets, least)[rows]
        inputs = self._inputs(period)[rows]
        if self._kind == "qlike-har":
            self._fit_by_qlike(_cast(train), _cast(valid))
        elif self._kind == "log-har":
            self._weights = least_squares(inputs, np.log(truth))
            self._smear = float(np.exp(np.log(truth) - with_constant(inputs) @ self._weights).mean())
        else:
            self._weights = least_squares(
                inputs, truth, 1 / truth**2 if self._kind == "har-weighted" else None
            )
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor; held at the floor from below."""
        part = _cast(split)
        if self._kind == "qlike-har":
            told = np.exp(self._linear(self._standard(self._inputs(part))))
        else:
            told = with_constant(self._inputs(part)) @ self._weights
            told = self._smear * np.exp(told) if self._kind == "log-har" else told
        return Forecast(np.maximum(told, _least(part)))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was chosen."""
        if self._kind == "log-har":
            yield "smearing factor", f"{self._smear:.3f}"
        if self._kind == "qlike-har":
            yield "ridge", f"{self._linear.penalty:g}"

    def _inputs(self, split: VolatilitySplit) -> Floats:
        chosen = split.features[:, self._columns]
        if self._kind in ("log-har", "qlike-har"):
            return chosen
        # least squares on the volatilities themselves, where nothing is held at the floor
        return np.concatenate([_past(split), chosen[:, 3:]], axis=1)

    def _fit_by_qlike(self, train: VolatilitySplit, valid: VolatilitySplit) -> None:
        self._standard = Standard.fit(self._inputs(train)[train.learned])
        parts = []
        for split in (train, valid):
            rows = np.flatnonzero(split.learned)
            rows = rows if len(rows) else np.arange(split.num_rows)
            logs = np.log(np.maximum(split.targets, _least(split)))[rows]
            parts.append((self._standard(self._inputs(split)[rows]), logs))
        self._linear = LinearForecast.choose(parts[0], parts[1])


def _past(split: VolatilitySplit) -> Floats:
    data = split.config.data
    return np.stack(
        [
            np.concatenate([trailing(one.session, one.anchors, data.window, length) for one in split.windows])
            for length in data.windows
        ],
        axis=1,
    )


class Ewma(Baseline):
    """Exponentially weighted squared returns, carried on over the window; the decay is chosen on valid."""

    name = "ewma"

    def __init__(self) -> None:
        self._decay = _DECAYS[4]

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Choose the decay by QLIKE on valid."""
        part = _cast(valid)
        rows = np.flatnonzero(part.learned)
        rows = rows if len(rows) else np.arange(part.num_rows)
        truth = np.maximum(part.targets, _least(part))[rows]
        losses = [float(qlike_losses(truth, self._told(part, decay)[rows]).mean()) for decay in _DECAYS]
        self._decay = _DECAYS[int(np.argmin(losses))]
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor."""
        return Forecast(self._told(_cast(split), self._decay))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the decay."""
        yield "seconds that its memory lasts", f"{1 / (1 - self._decay):.0f}"

    @staticmethod
    def _told(split: VolatilitySplit, decay: float) -> Floats:
        from scipy.signal import lfilter

        parts = []
        for one in split.windows:
            squares = one.session.returns**2
            started = lfilter([1 - decay], [1, -decay], squares)
            weight = 1 - decay ** np.arange(1, len(squares) + 1)
            parts.append((started / weight)[one.anchors - 1])
        variance = split.config.data.window * np.concatenate(parts)
        return np.asarray(np.maximum(np.sqrt(variance), _least(split)))


class GarchBaseline(Baseline):
    """GARCH(1,1), fitted to the train sessions and filtered forward; the step is chosen on valid."""

    name = "garch"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on returns of one and of five seconds, keep what is better on valid."""
        from appliedpapers.plugins.volatility_images.garch import Garch

        period, part = _cast(train).period, _cast(valid)
        sessions = [one.session.part(0, int(one.anchors[-1])) for one in period.windows]
        rows = np.flatnonzero(part.learned)
        rows = rows if len(rows) else np.arange(part.num_rows)
        truth = np.maximum(part.targets, _least(part))[rows]
        found = []
        for step in _GARCH_STEPS:
            self._garch = Garch.fit(sessions, step)
            loss = float(qlike_losses(truth, self._told(part)[rows]).mean())
            found.append((not self._garch.converged, loss, step, self._garch))
        self._garch = min(found, key=lambda item: item[:3])[3]
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor."""
        return Forecast(self._told(_cast(split)))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the parameters, and whether the optimiser converged."""
        one = self._garch
        yield "returns", f"of {one.step} s, in units of 1e-4"
        yield "omega, alpha, beta", f"{one.omega:.3g}, {one.alpha:.3g}, {one.beta:.3g}"
        yield "converged", "yes" if one.converged else "NO: the optimiser did not converge"

    def _told(self, split: VolatilitySplit) -> Floats:
        width = split.config.data.window
        told = [self._garch.forecast(one.session, one.anchors, width) for one in split.windows]
        return np.maximum(np.concatenate(told), _least(split))


class Trees(Baseline):
    """LightGBM on all features, the logarithm as target, smeared into a forecast of the mean."""

    name = "lightgbm"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Grow trees until valid is predicted no better."""
        import lightgbm
        import torch

        from appliedpapers.core.lightgbm_trees import grow

        learn, judge = _cast(train), _cast(valid)
        parts = []
        for split in (learn, judge):
            rows = np.flatnonzero(split.learned)
            rows = rows if len(rows) else np.arange(split.num_rows)
            parts.append((split.features[rows], np.log(np.maximum(split.targets, _least(split)))[rows]))
        data = lightgbm.Dataset(parts[0][0], parts[0][1], free_raw_data=False)
        self._booster = grow(
            {"objective": "regression", "learning_rate": 0.03, "num_leaves": 7, "min_data_in_leaf": 40},
            data,
            lightgbm.Dataset(*parts[1], reference=data),
            rounds=_TREES,
            patience=_PATIENCE,
            seed=run.seed,
            threads=torch.get_num_threads(),
        )
        residual = parts[1][1] - self._booster.predict(parts[1][0])
        self._smear = float(np.exp(residual).mean())
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor."""
        part = _cast(split)
        told = self._smear * np.exp(self._booster.predict(part.features))
        return Forecast(np.maximum(told, LEAST_FORECAST))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield how many trees there are."""
        yield "trees", str(self._booster.num_trees())


class FeatureNetwork(Baseline):
    """A network on the features alone, trained as ours is: what images are worth is seen against it."""

    name = "mlp"
    kind = "paper"

    def __init__(self, config: VolatilityConfig) -> None:
        changed = {"network": "mlp", "features": True, "onnx": False, "seeds": 1}
        self._config = config.replace(model=changed, candidates={})

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Train it."""
        from appliedpapers.plugins.volatility_images.model import VolatilityForecaster

        self._model = VolatilityForecaster(self._config).fit(train, valid, run)
        return self

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor."""
        return Forecast(np.mean(self._model.forecasts(_cast(split)), axis=0))


class Oracle(Baseline):
    """One who knows the whole state of the simulated market, and simulates its futures: a bound for all."""

    name = "oracle"
    attainable = False

    def __init__(self, config: VolatilityConfig) -> None:
        self._config = config

    def predict(self, split: Split) -> Forecast:
        """Forecast every anchor."""
        from appliedpapers.plugins.volatility_images.simulator import expected_volatility, simulate

        wanted, part = self._config.data.simulator, _cast(split)
        numbers = {one.session.name: one.number for one in simulate(wanted, self._config.seed)}
        told = [
            expected_volatility(
                *(wanted, self._config.seed, numbers[one.session.name], one.anchors),
                *(self._config.data.window, wanted.futures),
            )
            for one in part.windows
        ]
        values = np.concatenate(told)
        # a future whose price ran away says nothing
        known = np.isfinite(values)
        return Forecast(np.maximum(np.where(known, values, values[known].mean()), LEAST_FORECAST))

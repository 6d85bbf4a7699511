"""What ours is held against: sizes alone, and linear and boosted classifiers of straightened band profiles.

They learn from the same cells as the networks, each chromosome both as it is given and upside down, and are
calibrated on valid by the rule of ours. A class is a type in one polarity: the profile of a chromosome that
stands on its head is another profile, not a noisier one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.core.temperature import fit_temperature, softmax
from appliedpapers.plugins.varifocal_net.band_profile import SIZES, Floats, band_features, upside_down
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, Chromosomes
from appliedpapers.plugins.varifocal_net.scoring import Answers, answers_of, judged

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig, ReviewConfig
    from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

Labels = NDArray[np.int64]

NAMES = ("length", "profile-logistic", "profile-lightgbm")

_LEAST = 1e-12
_PENALTIES = (0.1, 0.3, 1.0, 3.0)  # scikit-learn's C
_ITERATIONS = 1000
_NARROWEST = 0.01  # standard deviation of a logarithm of sizes: 1 %
_MOST_ROUNDS, _PATIENCE = 400, 10
_TREES: tuple[Mapping[str, float], ...] = (
    MappingProxyType({"learning_rate": 0.1, "num_leaves": 15, "feature_fraction": 0.3, "lambda_l2": 1.0}),
    MappingProxyType({"learning_rate": 0.1, "num_leaves": 7, "feature_fraction": 0.2, "lambda_l2": 1.0}),
)


def baselines(config: KaryotypeConfig) -> list[Baseline]:
    """Return the unfitted baselines, the simplest first."""
    return [Length(config.review), ProfileLogistic(config.review), ProfileLightGbm(config.review)]


class _Examples(NamedTuple):
    """Features ``(N, F)`` with labels and polarity ``(N,)`` of chromosomes, each of them both ways up."""

    features: Floats
    labels: Labels
    polarity: Labels

    @property
    def classes(self) -> Labels:
        """Twice the type, and one more for q-down."""
        found: Labels = 2 * self.labels + (self.polarity == 1)
        return found


class ChromosomeBaseline(Baseline):
    """A calibrated classifier of hand-made features.

    Chromosomes of unknown polarity are not learned from, unless it is unknown of all: then it is not
    answered, either.

    Args:
        review: What becomes of probabilities.
    """

    tells_polarity = True

    def __init__(self, review: ReviewConfig) -> None:
        self._review = review
        self._temperatures = (1.0, 1.0)

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on ``train``, choose and calibrate on ``valid``."""
        learned, chosen = _examples(train), _examples(valid)
        self.tells_polarity &= bool((learned.polarity != UNKNOWN).any())
        if self.tells_polarity:
            learned = _Examples(*(part[learned.polarity != UNKNOWN] for part in learned))
        self._learn(learned, chosen, run)
        types, polarity = _logarithms(self._chances(chosen.features))
        self._temperatures = (
            fit_temperature(types, chosen.labels),
            fit_temperature(polarity, chosen.polarity),
        )
        return self

    def predict(self, split: Split) -> Answers:
        """Answer for the judged chromosomes of a part."""
        chromosomes = judged(cast("ChromosomeSplit", split))
        types, polarity = _logarithms(self._chances(band_features(chromosomes)))
        q_down = np.full(len(types), np.nan)
        if self.tells_polarity:
            q_down = softmax(polarity, self._temperatures[1])[:, 1]
        return answers_of(softmax(types, self._temperatures[0]), q_down, chromosomes, self._review)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was chosen on valid."""
        yield from self._chosen()
        yield "temperature of types", f"{self._temperatures[0]:.3f}"
        if self.tells_polarity:
            yield "temperature of polarity", f"{self._temperatures[1]:.3f}"

    @abstractmethod
    def _learn(self, train: _Examples, valid: _Examples, run: FitContext) -> None: ...

    @abstractmethod
    def _chances(self, features: Floats) -> Floats:
        """Return uncalibrated probabilities of type and polarity, ``(N, 24, 2)``."""

    def _chosen(self) -> Iterable[tuple[str, str]]:
        return ()


class Length(ChromosomeBaseline):
    """Length and area relative to the cell's medians, as independent Gaussians of each type (naive Bayes)."""

    name = "length"
    tells_polarity = False

    def _learn(self, train: _Examples, valid: _Examples, run: FitContext) -> None:
        sizes = self._sizes(train.features)
        spread = np.maximum(sizes.std(axis=0), _NARROWEST)
        self._means, self._widths = (
            np.tile(sizes.mean(axis=0), (len(TYPES), 1)),
            np.tile(spread, (len(TYPES), 1)),
        )
        for kind in np.unique(train.labels):
            members = sizes[train.labels == kind]
            self._means[kind] = members.mean(axis=0)
            if len(members) > 2:
                self._widths[kind] = np.maximum(members.std(axis=0), _NARROWEST)
        counts = np.bincount(train.labels, minlength=len(TYPES))
        self._shares = (counts + 0.5) / (counts + 0.5).sum()

    def _chances(self, features: Floats) -> Floats:
        off = (self._sizes(features)[:, None] - self._means) / self._widths
        logits = np.log(self._shares) - np.log(self._widths).sum(axis=1) - (off**2).sum(axis=2) / 2
        return np.repeat(softmax(logits)[..., None] / 2, 2, axis=2)

    @staticmethod
    def _sizes(features: Floats) -> Floats:
        return features[:, [SIZES.index("length"), SIZES.index("area")]]


class ProfileLogistic(ChromosomeBaseline):
    """Multinomial logistic regression on standardised features, the penalty chosen on valid."""

    name = "profile-logistic"

    def _learn(self, train: _Examples, valid: _Examples, run: FitContext) -> None:
        from sklearn.linear_model import LogisticRegression

        self._mean, self._spread = train.features.mean(axis=0), train.features.std(axis=0)
        self._spread[self._spread == 0] = 1
        scaled, best = self._scaled(train.features), np.inf
        for penalty in _PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=_ITERATIONS).fit(scaled, train.classes)
            chances = self._of(model, valid.features)
            if (loss := _loss(chances, valid.labels)) < best:
                best, self._model, self._penalty = loss, model, penalty

    def _chances(self, features: Floats) -> Floats:
        return self._of(self._model, features)

    def _of(self, model: Any, features: Floats) -> Floats:
        found = np.zeros((len(features), 2 * len(TYPES)))
        found[:, model.classes_] = model.predict_proba(self._scaled(features))
        return found.reshape(-1, len(TYPES), 2)

    def _scaled(self, features: Floats) -> Floats:
        scaled: Floats = (features - self._mean) / self._spread
        return scaled

    def _chosen(self) -> Iterable[tuple[str, str]]:
        yield "penalty C", f"{self._penalty:g} of {', '.join(f'{one:g}' for one in _PENALTIES)}"


class ProfileLightGbm(ChromosomeBaseline):
    """LightGBM (Ke et al. 2017), the better of two settings on valid, stopped where valid gains no more."""

    name = "profile-lightgbm"

    def _learn(self, train: _Examples, valid: _Examples, run: FitContext) -> None:
        best = np.inf
        for setting in _TREES:
            booster = _boost(train, valid, setting, run.seed)
            loss = _loss(_chances_of(booster, valid.features), valid.labels)
            if loss < best:
                best, self._booster, self._setting = loss, booster, setting

    def _chances(self, features: Floats) -> Floats:
        return _chances_of(self._booster, features)

    def _chosen(self) -> Iterable[tuple[str, str]]:
        yield "rounds", f"{self._booster.best_iteration} of at most {_MOST_ROUNDS}"
        yield from ((name.replace("_", " "), f"{value:g}") for name, value in self._setting.items())


def _boost(train: _Examples, valid: _Examples, setting: Mapping[str, float], seed: int) -> Any:
    import lightgbm
    import torch

    parameters = {
        "objective": "multiclass",
        "metric": "none",
        "num_class": 2 * len(TYPES),
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
        "seed": seed,
        "num_threads": torch.get_num_threads(),  # torch follows --threads and OMP_NUM_THREADS
        **setting,
    }

    def loss_of_types(chances: Floats, _: Any) -> tuple[str, float, bool]:
        return "logloss", _loss(chances.reshape(-1, len(TYPES), 2), valid.labels), False

    fitted = lightgbm.Dataset(train.features, train.classes, params=dict(parameters))
    checked = lightgbm.Dataset(valid.features, valid.classes, reference=fitted)
    return lightgbm.train(
        parameters,
        fitted,
        _MOST_ROUNDS,
        valid_sets=[checked],
        feval=loss_of_types,
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )


def _chances_of(booster: Any, features: Floats) -> Floats:
    found = np.asarray(booster.predict(features, num_iteration=booster.best_iteration))
    return found.reshape(-1, len(TYPES), 2)


def _examples(split: Split) -> _Examples:
    """Return the chromosomes of known type as they are given, then upside down."""
    own: Chromosomes = cast("ChromosomeSplit", split).chromosomes
    known = np.flatnonzero(own.labels != UNKNOWN)
    features, labels = band_features(own)[known], own.labels[known].astype(np.int64)
    polarity = own.polarity[known].astype(np.int64)
    turned = np.where(polarity == UNKNOWN, UNKNOWN, 1 - polarity)
    return _Examples(
        np.concatenate([features, upside_down(features)]),
        np.concatenate([labels, labels]),
        np.concatenate([polarity, turned]),
    )


def _logarithms(chances: Floats) -> tuple[Floats, Floats]:
    """Return logarithms of the probabilities of types ``(N, 24)`` and of q-up and q-down ``(N, 2)``."""
    return np.log(chances.sum(axis=2) + _LEAST), np.log(chances.sum(axis=1) + _LEAST)


def _loss(chances: Floats, labels: Labels) -> float:
    types = _logarithms(chances)[0]
    return float(-types[np.arange(len(labels)), labels].mean())

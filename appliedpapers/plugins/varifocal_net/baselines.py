"""What ours is held against: sizes alone, and linear and boosted classifiers of straightened band profiles.

They learn from the same cells as the networks, each chromosome both as it is given and upside down, and are
calibrated on valid by the rule of ours. A class is a type in one polarity: the profile of a chromosome that
stands on its head is another profile, not a noisier one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from appliedpapers.core.data import Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.core.temperature import fit_temperature, softmax
from appliedpapers.plugins.varifocal_net.band_profile import SIZES, Floats, band_features, usual_sizes
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN
from appliedpapers.plugins.varifocal_net.profile_trees import (
    Profiles,
    ProfileTrees,
    log_marginals,
    type_loss,
)
from appliedpapers.plugins.varifocal_net.scoring import Answers, answers_of, judged

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig, ReviewConfig
    from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit

_PENALTIES = (0.1, 0.3, 1.0, 3.0)  # scikit-learn's C
_ITERATIONS = 1000
_NARROWEST = 0.01  # standard deviation of a logarithm of sizes: 1 %


def baselines(config: KaryotypeConfig) -> list[Baseline]:
    """Return the unfitted baselines, the simplest first."""
    return [Length(config.review), ProfileLogistic(config.review), ProfileLightGbm(config.review)]


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
        own = cast("ChromosomeSplit", train).chromosomes
        self._usual = usual_sizes(own)
        learned = Profiles.of(own, self._usual).of_known_polarity()
        chosen = Profiles.of(cast("ChromosomeSplit", valid).chromosomes, self._usual)
        self.tells_polarity &= bool((learned.polarity != UNKNOWN).any())
        self._learn(learned, chosen, run)
        types, polarity = log_marginals(self._chances(chosen.features))
        self._temperatures = (
            fit_temperature(types, chosen.labels),
            fit_temperature(polarity, chosen.polarity),
        )
        return self

    def predict(self, split: Split) -> Answers:
        """Answer for the judged chromosomes of a part."""
        chromosomes = judged(cast("ChromosomeSplit", split))
        types, polarity = log_marginals(self._chances(band_features(chromosomes, self._usual)))
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
    def _learn(self, train: Profiles, valid: Profiles, run: FitContext) -> None: ...

    @abstractmethod
    def _chances(self, features: Floats) -> Floats:
        """Return uncalibrated probabilities of type and polarity, ``(N, 24, 2)``."""

    def _chosen(self) -> Iterable[tuple[str, str]]:
        return ()


class Length(ChromosomeBaseline):
    """Length and area relative to the cell's medians, as independent Gaussians of each type (naive Bayes)."""

    name = "length"
    tells_polarity = False

    def _learn(self, train: Profiles, valid: Profiles, run: FitContext) -> None:
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

    def _learn(self, train: Profiles, valid: Profiles, run: FitContext) -> None:
        from sklearn.linear_model import LogisticRegression

        self._mean, self._spread = train.features.mean(axis=0), train.features.std(axis=0)
        self._spread[self._spread == 0] = 1
        scaled, best = self._scaled(train.features), np.inf
        for penalty in _PENALTIES:
            model = LogisticRegression(C=penalty, max_iter=_ITERATIONS).fit(scaled, train.classes)
            chances = self._of(model, valid.features)
            if (loss := type_loss(chances, valid.labels)) < best:
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

    def _learn(self, train: Profiles, valid: Profiles, run: FitContext) -> None:
        self._trees = ProfileTrees.fit(train, valid, self._usual, run)

    def _chances(self, features: Floats) -> Floats:
        return self._trees.chances(features)

    def _chosen(self) -> Iterable[tuple[str, str]]:
        return self._trees.describe()

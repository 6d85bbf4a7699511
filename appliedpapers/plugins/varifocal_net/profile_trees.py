"""Boosted trees that tell type and polarity from a straightened band profile, both ways up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.lightgbm_trees import grow, read_booster
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.varifocal_net.band_profile import Floats, band_features, upside_down
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, Chromosomes

Labels = NDArray[np.int64]

_LEAST = 1e-12
_MOST_ROUNDS, _PATIENCE = 400, 10
_SETTINGS: tuple[Mapping[str, float], ...] = (
    MappingProxyType({"learning_rate": 0.1, "num_leaves": 15, "feature_fraction": 0.3, "lambda_l2": 1.0}),
    MappingProxyType({"learning_rate": 0.1, "num_leaves": 7, "feature_fraction": 0.2, "lambda_l2": 1.0}),
)


class Profiles(NamedTuple):
    """Features ``(N, F)`` with types and polarity ``(N,)`` of chromosomes, each of them both ways up."""

    features: Floats
    labels: Labels
    polarity: Labels

    @classmethod
    def of(cls, chromosomes: Chromosomes, usual: Floats) -> Self:
        """Return the chromosomes of known type as they are given, then upside down."""
        known = np.flatnonzero(chromosomes.labels != UNKNOWN)
        features = band_features(chromosomes, usual)[known]
        labels = chromosomes.labels[known].astype(np.int64)
        polarity = chromosomes.polarity[known].astype(np.int64)
        turned = np.where(polarity == UNKNOWN, UNKNOWN, 1 - polarity)
        return cls(
            np.concatenate([features, upside_down(features)]),
            np.concatenate([labels, labels]),
            np.concatenate([polarity, turned]),
        )

    @property
    def classes(self) -> Labels:
        """Twice the type, and one more for q-down: upside down a profile is another, not a noisier one."""
        found: Labels = 2 * self.labels + (self.polarity == 1)
        return found

    def of_known_polarity(self) -> Profiles:
        """Leave out chromosomes of unknown polarity, unless it is unknown of all."""
        known = self.polarity != UNKNOWN
        return Profiles(*(part[known] for part in self)) if known.any() else self


class ProfileTrees:
    """LightGBM (Ke et al. 2017) on band profiles.

    Args:
        booster: A ``lightgbm.Booster`` of 48 classes.
        usual: Sizes that stand in where a chromosome's cell is not known, ``(3,)``.
        facts: What was chosen while it was fitted.
    """

    def __init__(self, booster: Any, usual: Floats, facts: Mapping[str, str]) -> None:
        self._booster, self.usual, self.facts = booster, usual, dict(facts)

    @classmethod
    def fit(cls, train: Profiles, valid: Profiles, usual: Floats, run: FitContext) -> Self:
        """Fit the better of two settings, stopped where the types of ``valid`` gain no more."""
        learned = train.of_known_polarity()
        tried = [
            (_boost(learned, valid, setting, run, f"trees-{number}"), setting)
            for number, setting in enumerate(_SETTINGS, start=1)
        ]
        booster, setting = min(
            tried, key=lambda one: type_loss(_chances(one[0], valid.features), valid.labels)
        )
        facts = {"rounds": f"{booster.current_iteration()} of at most {_MOST_ROUNDS}"}
        facts |= {name.replace("_", " "): f"{value:g}" for name, value in setting.items()}
        return cls(booster, usual, facts)

    def chances(self, features: Floats) -> Floats:
        """Return probabilities of type and polarity, ``(N, 24, 2)``, of band features ``(N, F)``."""
        return _chances(self._booster, features)

    def logarithms(self, chromosomes: Chromosomes) -> tuple[Floats, Floats]:
        """Return log-probabilities of types ``(N, 24)`` and of q-up and q-down ``(N, 2)``, not calibrated.

        Each chromosome is looked at both ways up.
        """
        features = band_features(chromosomes, self.usual)
        ways = [self.chances(features), self.chances(upside_down(features))[:, :, ::-1]]
        return log_marginals(np.mean(ways, axis=0))

    def write(self, path: Path) -> None:
        """Write LightGBM's own text format."""
        self._booster.save_model(str(path))

    @classmethod
    def read(cls, path: Path, usual: Sequence[float], facts: Mapping[str, str]) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            BundleError: The file is absent or broken.
        """
        return cls(read_booster(path), np.asarray(usual, dtype=np.float64), facts)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was chosen."""
        return self.facts.items()


def log_marginals(chances: Floats) -> tuple[Floats, Floats]:
    """Return logarithms over types ``(N, 24)`` and over polarity ``(N, 2)`` of joint ones ``(N, 24, 2)``."""
    return np.log(chances.sum(axis=2) + _LEAST), np.log(chances.sum(axis=1) + _LEAST)


def _boost(
    train: Profiles, valid: Profiles, setting: Mapping[str, float], run: FitContext, title: str
) -> Any:
    import lightgbm
    import torch

    parameters = {
        "objective": "multiclass",
        "metric": "none",
        "num_class": 2 * len(TYPES),
        "max_bin": 63,
        **setting,
    }

    def loss_of_types(chances: Floats, _: Any) -> tuple[str, float, bool]:
        return "logloss", type_loss(chances.reshape(-1, len(TYPES), 2), valid.labels), False

    fitted = lightgbm.Dataset(train.features, train.classes)
    # a round is 48 trees, and hundreds of them take minutes on a busy machine
    with run.progress.task(title, _MOST_ROUNDS) as task:
        return grow(
            parameters,
            fitted,
            lightgbm.Dataset(valid.features, valid.classes, reference=fitted),
            rounds=_MOST_ROUNDS,
            patience=_PATIENCE,
            seed=run.seed,
            threads=torch.get_num_threads(),  # torch follows --threads and OMP_NUM_THREADS
            judge=loss_of_types,
            told=[lambda _: task.advance()],
        )


def _chances(booster: Any, features: Floats) -> Floats:
    found = np.asarray(booster.predict(features))
    return found.reshape(-1, len(TYPES), 2)


def type_loss(chances: Floats, labels: Labels) -> float:
    """Return the logloss of types ``(N,)`` under joint probabilities ``(N, 24, 2)``."""
    types = log_marginals(chances)[0]
    return float(-types[np.arange(len(labels)), labels].mean())

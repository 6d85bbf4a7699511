"""What ours is held against: a logistic head, colour alone, colour and texture, depth, and nothing cut."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.core.metrics import logloss
from appliedpapers.plugins.virtual_inking.answers import SlideAnswer, answer
from appliedpapers.plugins.virtual_inking.cases import Case, cases_of, encoder_of, features_of, inputs_of
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.encoders import COLOUR_TEXTURE

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.core.progress import Progress
    from appliedpapers.plugins.virtual_inking.splits import SlideSplit

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C on standardised features
_LAB = 3


def baselines(config: InkingConfig) -> list[Baseline]:
    """Return the unfitted baselines, and the paper's head where ours sees more than that does."""
    found: list[Baseline] = [
        Natural(config),
        Depth(config),
        MeanLab(config),
        ColourTextureHead(config),
        Logistic(config),
    ]
    plain = config.head.reference == "none" and not config.head.colour
    return found if plain else [*found, PaperHead(config)]


class TileBaseline(Baseline):
    """Logistic regression of tiles; its penalty is chosen on valid.

    Args:
        config: Of the run: the same tiles, the same way from tiles to a line.
    """

    def __init__(self, config: InkingConfig) -> None:
        self._config = config
        self._facts: dict[str, str] = {}

    @abstractmethod
    def features(self, cases: list[Case], progress: Progress) -> list[Features]:
        """Return what it looks at, ``(N, dim)`` a slide."""

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on the labelled tiles of ``train``, choose the penalty on those of ``valid``."""
        from sklearn.linear_model import LogisticRegression

        learned, told = self._tiles(train, run.progress)
        chosen, truth = self._tiles(valid, run.progress)
        self._mean = learned.mean(axis=0)
        self._std = np.maximum(learned.std(axis=0), 1e-6)
        best = float("inf")
        for penalty in _PENALTIES:
            fitted = LogisticRegression(C=penalty, class_weight="balanced", max_iter=500)
            fitted.fit((learned - self._mean) / self._std, told)
            loss = logloss(truth, fitted.predict_proba((chosen - self._mean) / self._std)[:, 1])
            if loss < best:
                best, self._fitted = loss, fitted
                self._facts = {"penalty (C)": f"{penalty:g}"}
        return self

    def predict(self, split: Split) -> list[SlideAnswer]:
        """Return what it says of each slide."""
        from appliedpapers.core.progress import SilentProgress

        cases = cases_of(cast("SlideSplit", split), self._config)
        rows = self.features(cases, SilentProgress())
        return [
            answer(case, self._logits(own), self._config.margin, encoded=self.encoded)
            for case, own in zip(cases, rows, strict=True)
        ]

    encoded = 0.0

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was chosen."""
        yield from self._facts.items()

    def _logits(self, features: Features) -> Floats:
        if not len(features):
            return np.empty(0)
        return np.asarray(
            self._fitted.decision_function((features - self._mean) / self._std), dtype=np.float64
        )

    def _tiles(self, split: Split, progress: Progress) -> tuple[Features, Any]:
        cases = cases_of(cast("SlideSplit", split), self._config)
        labels = np.concatenate([case.labels for case in cases])
        features = np.concatenate(self.features(cases, progress))
        return features[labels >= 0], labels[labels >= 0]


class Logistic(TileBaseline):
    """One layer instead of two; it sees what ours sees."""

    name = "logistic"
    encoded = 1.0

    def features(self, cases: list[Case], progress: Progress) -> list[Features]:
        """Return what our head sees."""
        encoder = encoder_of(self._config)
        return [inputs_of(case, self._config, encoder, progress=progress) for case in cases]


class ColourTextureHead(TileBaseline):
    """Colour, stain and texture, without any network."""

    name = "colour-texture"

    def features(self, cases: list[Case], progress: Progress) -> list[Features]:
        """Return all statistics."""
        encoder = encoder_of(self._config, name=COLOUR_TEXTURE)
        return [features_of(case, self._config, encoder) for case in cases]


class MeanLab(ColourTextureHead):
    """The mean colour of a tile alone."""

    name = "mean-lab"

    def features(self, cases: list[Case], progress: Progress) -> list[Features]:
        """Return the mean in Lab."""
        return [rows[:, :_LAB] for rows in super().features(cases, progress)]


class Depth(TileBaseline):
    """How near a tile is to the outline: that tiles of the rim are cut, whatever they look like."""

    name = "depth"

    def features(self, cases: list[Case], progress: Progress) -> list[Features]:
        """Return the distance of each tile's centre from the outline."""
        return [np.stack([case.found.depth, case.found.tissue], axis=1).astype(np.float32) for case in cases]


class PaperHead(Baseline):
    """The two-layer head on the encoder's features as they are (arXiv 2511.22131, abstract)."""

    name = "paper head"
    kind = "paper"

    def __init__(self, config: InkingConfig) -> None:
        self._config = config.replace(head={"reference": "none", "colour": False, "head": "mlp"})

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Train and calibrate it as ours."""
        from appliedpapers.plugins.virtual_inking.heads import Head
        from appliedpapers.plugins.virtual_inking.learner import Tiles

        def tiles(split: Split, part: str) -> Tiles:
            cases = cases_of(cast("SlideSplit", split), self._config)
            return Tiles.of(self._features(cases), [case.labels for case in cases], part)

        self._head = Head.fit(
            tiles(train, "train"), tiles(valid, "valid"), self._config.head, run, "paper-head"
        )
        return self

    def predict(self, split: Split) -> list[SlideAnswer]:
        """Return what it says of each slide."""
        cases = cases_of(cast("SlideSplit", split), self._config)
        slope = self._head.calibration.slope
        return [
            answer(case, self._head.logits(rows), self._config.margin, slope=slope)
            for case, rows in zip(cases, self._features(cases), strict=True)
        ]

    def _features(self, cases: list[Case]) -> list[Features]:
        encoder = encoder_of(self._config)
        return [features_of(case, self._config, encoder) for case in cases]


class Natural(Baseline):
    """Nothing was cut: what a person would say who has not looked."""

    name = "nothing-cut"

    def __init__(self, config: InkingConfig) -> None:
        self._config = config

    def predict(self, split: Split) -> list[SlideAnswer]:
        """Return equal logits below every threshold."""
        cases = cases_of(cast("SlideSplit", split), self._config)
        return [
            answer(case, np.full(len(case.labels), -5.0), self._config.margin, encoded=0.0) for case in cases
        ]

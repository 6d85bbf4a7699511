"""Rivals on the same photos: the commonest soil, colour with a line or trees, the plain network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, cast

import numpy as np

from appliedpapers.core.data import Split
from appliedpapers.core.evaluation import Baseline
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.eyes import COLOUR, open_eye
from appliedpapers.plugins.agrosense.soil_image.photos import MEMORY, Photos
from appliedpapers.plugins.agrosense.soil_image.reader import SoilReader, eye_named, fit_reader
from appliedpapers.plugins.agrosense.soil_image.scoring import Seen
from appliedpapers.plugins.agrosense.soil_image.splits import PhotoSplit

_COLOUR_PENALTIES = (0.01, 0.05, 0.25)


class CommonestSoil(Baseline):
    """Answers with the shares of the soils that were learned from, whatever is asked."""

    name = "commonest soil"

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Count soils in both parts."""
        photos = _both(train, valid)
        counts = np.bincount(photos.labels, minlength=len(photos.classes)) + 1.0
        self._shares = counts / counts.sum()
        return self

    def predict(self, split: Split) -> Seen:
        """Return the shares for every photo."""
        return Seen(np.tile(self._shares, (split.num_rows, 1)))


class ReaderBaseline(Baseline):
    """A reader of photos with other eyes: fitted, chosen and calibrated as ours.

    Args:
        name: As it stands in the table.
        eye: What it looks at.
        trees: Trees rather than logistic regression.
        penalties: What C is chosen from.
    """

    def __init__(self, name: str, eye: str, *, trees: bool, penalties: Sequence[float]) -> None:
        self.name, self._eye, self._trees, self._penalties = name, eye, trees, penalties
        self._reader: SoilReader | None = None

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit on both parts, after choosing on groups that were left out in turn."""
        eye = open_eye(self._eye, device=run.device)
        self._reader = fit_reader(
            _both(train, valid), eye, seed=run.seed, trees=self._trees, penalties=self._penalties
        )
        return self

    def predict(self, split: Split) -> Seen:
        """Return calibrated probabilities; nothing is rejected."""
        assert self._reader is not None
        features = MEMORY.features(cast("PhotoSplit", split).photos, self._reader.eye)
        return Seen(self._reader.chances(features))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield what was chosen."""
        if self._reader is not None:
            yield "temperature", f"{self._reader.temperature:.3f}"
            if self._reader.penalty is not None:
                yield "C", f"{self._reader.penalty:g}"


def baselines(config: SoilImageConfig) -> list[Baseline]:
    """Return the rivals: colour always, and the plain network's features if they are there."""
    found: list[Baseline] = [
        ReaderBaseline("colour + boosting", COLOUR, trees=True, penalties=()),
        ReaderBaseline("colour + logistic", COLOUR, trees=False, penalties=_COLOUR_PENALTIES),
        CommonestSoil(),
    ]
    options: Any = config.model
    if options.method == "features" and eye_named(options.features) != COLOUR:
        plain = "efficientnet-lite0"
        penalties = options.penalties
        found.insert(0, ReaderBaseline(f"{plain} + colour", plain, trees=False, penalties=penalties))
    return found


def _both(train: Split, valid: Split) -> Photos:
    learned, chosen = (cast("PhotoSplit", part).photos.soil() for part in (train, valid))
    return learned.joined(chosen)

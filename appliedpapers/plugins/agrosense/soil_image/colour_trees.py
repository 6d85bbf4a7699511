"""Boosted trees on the colour descriptor: what is answered where no network's weights are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from appliedpapers.core.lightgbm_trees import read_booster
from appliedpapers.plugins.agrosense.soil_image.descriptor import SIZE
from appliedpapers.plugins.agrosense.soil_image.linear import Floats, Labels

_TREES = 120
_PARAMETERS = {
    "objective": "multiclass",
    "learning_rate": 0.08,
    "num_leaves": 15,
    "min_data_in_leaf": 8,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class ColourTrees:
    """LightGBM (Ke et al. 2017) on 145 numbers of colour, classes weighted to count alike.

    Args:
        booster: A ``lightgbm.Booster``.
    """

    def __init__(self, booster: Any) -> None:
        self._booster = booster

    @classmethod
    def fit(cls, features: Floats, labels: Labels, classes: int, seed: int) -> Self:
        """Grow 120 rounds of trees on features ``(n, 145 + ...)`` and labels in 0 to ``classes - 1``."""
        import lightgbm

        counts = np.bincount(labels, minlength=classes)
        weights = len(labels) / (np.count_nonzero(counts) * counts[labels])
        data = lightgbm.Dataset(features[:, :SIZE], labels, weight=weights)
        settings = {**_PARAMETERS, "num_class": classes, "seed": seed, "num_threads": 1}
        return cls(lightgbm.train(settings, data, _TREES))

    def logits(self, features: Floats) -> Floats:
        """Return raw scores ``(n, classes)`` of features of which the first 145 count."""
        if not len(features):
            return np.empty((0, self._booster.num_model_per_iteration()))
        return np.asarray(
            self._booster.predict(features[:, :SIZE], raw_score=True, num_threads=1), dtype=np.float64
        )

    def write(self, path: Path) -> None:
        """Write LightGBM's own text format."""
        self._booster.save_model(str(path))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            BundleError: The file is absent or broken.
        """
        return cls(read_booster(path))

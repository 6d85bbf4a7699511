"""Boosted trees on several classes: LightGBM and XGBoost, with exact attributions of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import BundleError
from appliedpapers.core.lightgbm_trees import read_booster
from appliedpapers.plugins.agrosense.crop.family import Family, Lesson

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.agrosense.crop.config import CropConfig

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# tables of soil tests are small: more threads wait for one another longer than they work
_THREADS = 1


class LightGbmFamily(Family):
    """LightGBM, which takes missing values as they are."""

    name = "lightgbm"
    is_tree = True
    _FILE = "lightgbm.txt"

    def __init__(self, booster: Any, classes: int) -> None:
        self._booster, self._classes = booster, classes

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Grow as many trees as asked for."""
        import lightgbm

        options = config.model
        parameters = {
            **{"objective": "multiclass", "num_class": lesson.classes, "seed": run.seed},
            **{"learning_rate": options.tree_rate, "num_leaves": options.leaves, "min_data_in_leaf": 20},
            **{"num_threads": _THREADS, "verbosity": -1, "deterministic": True, "force_row_wise": True},
        }
        data = lightgbm.Dataset(lesson.matrix, lesson.labels, params={"verbosity": -1})
        return cls(lightgbm.train(parameters, data, options.trees), lesson.classes)

    def logits(self, matrix: Floats) -> Floats:
        """Return raw scores."""
        raw = self._booster.predict(matrix, raw_score=True, num_threads=_THREADS)
        return np.asarray(raw, dtype=np.float64).reshape(len(matrix), self._classes)

    def contributions(self, matrix: Floats, chosen: Integers) -> Floats:
        """Return the Shapley values that LightGBM computes of its trees."""
        found = self._booster.predict(matrix, pred_contrib=True, num_threads=_THREADS)
        found = np.asarray(found, dtype=np.float64).reshape(len(matrix), self._classes, -1)
        return found[np.arange(len(matrix)), chosen]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write LightGBM's own text."""
        self._booster.save_model(str(folder / self._FILE))
        return {"classes": self._classes}

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Read LightGBM's own text."""
        return cls(read_booster(folder / cls._FILE), int(state["classes"]))


class XGBoostFamily(Family):
    """XGBoost with its defaults, which takes missing values as they are."""

    name = "xgboost"
    is_tree = True
    _FILE = "xgboost.json"

    def __init__(self, booster: Any, classes: int) -> None:
        self._booster, self._classes = booster, classes

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Grow as many trees as asked for, with the rate and depth that XGBoost has by default."""
        import xgboost

        parameters = {
            **{"objective": "multi:softprob", "num_class": lesson.classes, "seed": run.seed},
            **{"nthread": _THREADS, "verbosity": 0, "tree_method": "hist"},
        }
        data = xgboost.DMatrix(lesson.matrix, lesson.labels, nthread=_THREADS)
        return cls(xgboost.train(parameters, data, config.model.trees), lesson.classes)

    def logits(self, matrix: Floats) -> Floats:
        """Return margins."""
        raw = self._booster.predict(self._data(matrix), output_margin=True)
        return np.asarray(raw, dtype=np.float64).reshape(len(matrix), self._classes)

    def contributions(self, matrix: Floats, chosen: Integers) -> Floats:
        """Return the Shapley values that XGBoost computes of its trees."""
        found = np.asarray(self._booster.predict(self._data(matrix), pred_contribs=True), dtype=np.float64)
        return found.reshape(len(matrix), self._classes, -1)[np.arange(len(matrix)), chosen]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write XGBoost's own JSON."""
        self._booster.save_model(str(folder / self._FILE))
        return {"classes": self._classes}

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Read XGBoost's own JSON.

        Raises:
            BundleError: The file is absent or broken.
        """
        import xgboost

        booster = xgboost.Booster({"nthread": _THREADS})
        try:
            booster.load_model(str(folder / cls._FILE))
        except xgboost.core.XGBoostError as error:
            raise BundleError(
                f"{cls._FILE}: cannot be read by xgboost.", hint="Restore the bundle."
            ) from error
        return cls(booster, int(state["classes"]))

    def _data(self, matrix: Floats) -> Any:
        import xgboost

        return xgboost.DMatrix(matrix, nthread=_THREADS)

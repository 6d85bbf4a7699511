"""Gaussian naive Bayes, logistic regression and a random forest, kept as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.crop.family import Family, Lesson, with_unseen
from appliedpapers.plugins.agrosense.crop.matrix import Scaler

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.agrosense.crop.config import CropConfig

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

_SMOOTHING = 1e-9
_FOREST_FLOOR = 1e-3


class _Stored(Family):
    """A classical model: a scaler, and arrays in one safetensors file."""

    def __init__(self, scaler: Scaler, arrays: Arrays) -> None:
        self._scaler, self._arrays = scaler, arrays

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the arrays as safetensors."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(values) for name, values in self._arrays.items()}
        save_file(arrays, folder / f"{self.name}.safetensors")
        return {"scaler": self._scaler.to_json()}

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Read the arrays."""
        from safetensors.numpy import load_file

        return cls(Scaler.from_json(state["scaler"]), load_file(folder / f"{cls.name}.safetensors"))


class GaussianNb(_Stored):
    """Normal densities by class and column, chances for columns of 0 and 1; missing values say nothing."""

    name = "gaussian-nb"

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Take means, variances and shares of the classes; a missing number says nothing."""
        scaler = Scaler.fit(lesson.matrix)
        scaled = scaler(lesson.matrix)[:, : lesson.matrix.shape[1]]
        scaled = np.where(np.isnan(lesson.matrix), np.nan, scaled)
        width = scaled.shape[1]
        means, variances = np.zeros((lesson.classes, width)), np.ones((lesson.classes, width))
        counts = np.bincount(lesson.labels, minlength=lesson.classes)
        for number in np.flatnonzero(counts):
            rows = scaled[lesson.labels == number]
            known = np.maximum((~np.isnan(rows)).sum(axis=0), 1)
            means[number] = np.nansum(rows, axis=0) / known
            variances[number] = np.nansum((rows - means[number]) ** 2, axis=0) / known
        # as scikit-learn does: a part of the largest variance keeps constant columns from dividing by zero
        variances += _SMOOTHING * max(1.0, float(np.nanvar(scaled, axis=0).max(initial=1.0)))
        prior = np.log(np.maximum(counts, 1) / counts.sum())
        binary = np.array([np.isin(own[~np.isnan(own)], (0.0, 1.0)).all() for own in lesson.matrix.T])
        ones = np.zeros((lesson.classes, width))
        for number in np.flatnonzero(counts):
            own = lesson.matrix[lesson.labels == number]
            ones[number] = (np.nansum(own, axis=0) + 1) / ((~np.isnan(own)).sum(axis=0) + 2)
        ones = np.clip(ones, 1e-6, 1 - 1e-6)
        arrays = {"means": means, "variances": variances, "prior": prior, "counts": counts}
        return cls(scaler, {**arrays, "binary": binary.astype(np.int64), "ones": ones})

    def logits(self, matrix: Floats) -> Floats:
        """Return log densities plus log shares."""
        means, variances = self._arrays["means"], self._arrays["variances"]
        scaled = self._scaler(matrix)[:, : matrix.shape[1]]
        known, binary, ones = ~np.isnan(matrix), self._arrays["binary"] > 0, self._arrays["ones"]
        found = np.tile(self._arrays["prior"], (len(matrix), 1))
        for number in range(len(means)):
            terms = np.log(2 * np.pi * variances[number]) + (scaled - means[number]) ** 2 / variances[number]
            yes_or_no = np.where(matrix > 0, np.log(ones[number]), np.log1p(-ones[number]))
            logs = np.where(binary, yes_or_no, -0.5 * terms)
            found[:, number] += np.where(known, logs, 0.0).sum(axis=1)
        return with_unseen(found, self._arrays["counts"])


class Logistic(_Stored):
    """Multinomial logistic regression on standardised columns, with the usual penalty (C = 1)."""

    name = "logistic"

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Maximise the penalised likelihood."""
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        scaler = Scaler.fit(lesson.matrix)
        # products this small wait longer for a second thread than they take
        with threadpool_limits(1, user_api="blas"):
            model = LogisticRegression(max_iter=2000).fit(scaler(lesson.matrix), lesson.labels)
        weights, bias = model.coef_, model.intercept_
        if len(model.classes_) == 2:
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        coefficients = np.zeros((lesson.classes, weights.shape[1]))
        intercepts = np.zeros(lesson.classes)
        coefficients[model.classes_], intercepts[model.classes_] = weights, bias
        counts = np.bincount(lesson.labels, minlength=lesson.classes)
        return cls(scaler, {"coefficients": coefficients, "intercepts": intercepts, "counts": counts})

    def logits(self, matrix: Floats) -> Floats:
        """Return the linear scores."""
        # einsum: a row's sum does not depend on how many rows stand beside it
        scores = np.einsum("nd,kd->nk", self._scaler(matrix), self._arrays["coefficients"])
        return with_unseen(scores + self._arrays["intercepts"], self._arrays["counts"])


class Forest(_Stored):
    """A random forest; its trees are kept as arrays and walked by ours."""

    name = "random-forest"

    @classmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Grow the trees with scikit-learn's defaults."""
        from sklearn.ensemble import RandomForestClassifier

        scaler = Scaler.fit(lesson.matrix)
        model = RandomForestClassifier(config.model.trees, random_state=run.seed, n_jobs=1)
        model.fit(scaler(lesson.matrix).astype(np.float32), lesson.labels)
        starts, parts = [0], []
        for tree in (one.tree_ for one in model.estimators_):
            share = np.zeros((tree.node_count, lesson.classes))
            values = tree.value[:, 0, :]
            share[:, model.classes_] = values / values.sum(axis=1, keepdims=True)
            parts.append((tree.feature, tree.threshold, tree.children_left, tree.children_right, share))
            starts.append(starts[-1] + tree.node_count)
        names = ("feature", "threshold", "left", "right", "share")
        arrays = {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}
        return cls(scaler, {**arrays, "starts": np.array(starts)})

    def logits(self, matrix: Floats) -> Floats:
        """Return the logarithms of the trees' mean shares, which are kept off 0."""
        scaled = self._scaler(matrix).astype(np.float32)
        arrays, starts = self._arrays, self._arrays["starts"]
        total, rows = np.zeros((len(matrix), arrays["share"].shape[1])), np.arange(len(matrix))
        for start in starts[:-1]:
            node = np.zeros(len(matrix), dtype=np.int64)
            while True:
                here = node + start
                feature = arrays["feature"][here]
                inside = feature >= 0
                if not inside.any():
                    break
                low = scaled[rows, np.maximum(feature, 0)] <= arrays["threshold"][here]
                step = np.where(low, arrays["left"][here], arrays["right"][here])
                node = np.where(inside, step, node)
            total += arrays["share"][node + start]
        share = total / (len(starts) - 1)
        return np.asarray(np.log((share + _FOREST_FLOOR / share.shape[1]) / (1 + _FOREST_FLOOR)))

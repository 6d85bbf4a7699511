"""Multinomial logistic regression on standardised features: fitted by scikit-learn, kept as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_STEPS = 2000
_FLAT = 1e-9
_NEVER = -1e3  # logit of a class that was not learned from


@dataclass(frozen=True)
class Linear:
    """A linear classifier.

    Attributes:
        mean: Of each feature, ``(features,)``.
        scale: Its standard deviation; 1 where it does not vary.
        weights: ``(classes, features)``.
        bias: ``(classes,)``.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats

    @classmethod
    def fits(cls, features: Floats, labels: Labels, classes: int, penalties: Sequence[float]) -> list[Self]:
        """Fit with classes weighted to count alike, once for each penalty.

        Args:
            features: ``(n, features)``.
            labels: In 0 to ``classes - 1``; a class that is absent is never answered.
            classes: How many there are.
            penalties: C of other libraries, rising: small is strong. Each fit starts from the one before.
        """
        from sklearn.linear_model import LogisticRegression

        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > _FLAT, scale, 1.0)
        # the penalty does not feel a rotation: in the span of the rows there are fewer features
        rows, turn = in_their_span((features - mean) / scale)
        learner = LogisticRegression(class_weight="balanced", max_iter=_STEPS, warm_start=True)
        found = []
        for penalty in penalties:
            fitted = learner.set_params(C=penalty).fit(rows, labels)
            lines, ends = fitted.coef_ @ turn, fitted.intercept_
            if len(fitted.classes_) == 2:
                # of two classes one line is kept: half of it to either side is the same
                lines, ends = np.concatenate([-lines, lines]) / 2, np.concatenate([-ends, ends]) / 2
            weights, bias = np.zeros((classes, features.shape[1])), np.full(classes, _NEVER)
            weights[fitted.classes_], bias[fitted.classes_] = lines, ends
            found.append(cls(mean, scale, weights, bias))
        return found

    def logits(self, features: Floats) -> Floats:
        """Return ``(n, classes)`` of features ``(n, features)``; a row's is the same alone and in company."""
        # a matrix product would be rounded by the number of its rows
        found: Floats = np.einsum("nf,cf->nc", (features - self.mean) / self.scale, self.weights) + self.bias
        return found

    def write(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        from safetensors.numpy import load_file

        return cls(**load_file(path))


def in_their_span(rows: Floats) -> tuple[Floats, Floats]:
    """Return rows on orthonormal axes, and the axes; as given where there are more rows than features."""
    if len(rows) >= rows.shape[1]:
        return rows, np.eye(rows.shape[1])
    # by the small matrix of inner products: several times faster than decomposing the rows
    squares, left = np.linalg.eigh(rows @ rows.T)
    kept = squares > _FLAT * max(float(squares[-1]), _FLAT)
    sizes = np.sqrt(squares[kept])
    return left[:, kept] * sizes, (left[:, kept] / sizes).T @ rows


def grouped_parts(groups: Sequence[int] | Labels, labels: Labels, parts: int, seed: int) -> Labels:
    """Deal rows to parts by whole groups, each class about evenly.

    Returns:
        The part of each row, int64 ``(n,)``.
    """
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    kinds = {int(group): int(label) for group, label in zip(groups, labels, strict=True)}
    sizes = {
        int(group): int(count) for group, count in zip(*np.unique(groups, return_counts=True), strict=True)
    }
    load = np.zeros((int(labels.max(initial=0)) + 2, parts))
    part_of: dict[int, int] = {}
    # large groups first, so that small ones can even them out
    for group in sorted(map(int, order), key=lambda one: -sizes[one]):
        own = load[kinds[group]]
        part = int(np.lexsort((load.sum(axis=0), own))[0])
        own[part] += sizes[group]
        part_of[group] = part
    return np.array([part_of[int(group)] for group in groups], dtype=np.int64)

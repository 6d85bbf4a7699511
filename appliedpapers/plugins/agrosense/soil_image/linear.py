"""Multinomial logistic regression on standardised features, solved on axes of even curvature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_STEPS = 2000
_SLOPE = 1e-5  # of the mean loss along any eased axis where the search ends
_CURVATURE = 0.02  # mean p (1 - p) of a class, roughly
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
        from threadpoolctl import threadpool_limits

        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > _FLAT, scale, 1.0)
        # the penalty does not feel a rotation: in the span of the rows there are fewer features
        rows, turn = in_their_span((features - mean) / scale)
        kinds, place = np.unique(labels, return_inverse=True)
        start, found = np.zeros((rows.shape[1] + 1, len(kinds))), []
        # products this small wait longer for a second thread than they take: on two cores, 2.3 times
        with threadpool_limits(1, user_api="blas"):
            for penalty in penalties:
                start = _fitted(rows, place, penalty, start)
                weights, bias = np.zeros((classes, features.shape[1])), np.full(classes, _NEVER)
                weights[kinds], bias[kinds] = turn(start[:-1].T), start[-1]
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


def in_their_span(rows: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Return rows on their principal axes, and what turns lines ``(k, axes)`` back, ``(k, features)``."""
    # by the smaller of the two matrices of inner products: several times faster than decomposing the rows
    if len(rows) >= rows.shape[1]:
        axes = np.linalg.eigh(rows.T @ rows)[1]
        return rows @ axes, lambda lines: lines @ axes.T
    squares, left = np.linalg.eigh(rows @ rows.T)
    kept = squares > _FLAT * max(float(squares[-1]), _FLAT)
    sizes = np.sqrt(squares[kept])
    back = (left[:, kept] / sizes).T
    return left[:, kept] * sizes, lambda lines: (lines @ back) @ rows


def _fitted(rows: Floats, place: Labels, penalty: float, start: Floats) -> Floats:
    """Return weights and, last, biases of least loss, ``(features + 1, classes)``.

    The loss is the cross-entropy, summed with weights under which classes count alike, and the squared
    weights over ``2 C`` (over ``C`` where there are two classes, as if one line parted them). Along the
    principal axes the curvature is nearly that of the squares and the penalty; divided by its root all axes
    are alike to the solver, and a few dozen steps do.

    Args:
        rows: On principal axes, ``(n, features)``.
        place: Class of each row, ``(n,)``.
        penalty: C.
        start: Where the search begins, ``(features + 1, classes)``.
    """
    from scipy.optimize import minimize

    count = len(rows)
    counts = np.bincount(place)
    shares = (count / (len(counts) * counts))[place][:, None]
    truth = np.eye(len(counts))[place]
    inputs = np.column_stack([rows, np.ones(count)])
    ridge = np.append(np.full(rows.shape[1], (2 if len(counts) == 2 else 1) / penalty), 0.0)
    ease = 1 / np.sqrt(_CURVATURE * (shares * inputs**2).sum(axis=0) + ridge)[:, None]
    eased = inputs * ease.T

    def loss(flat: Floats) -> tuple[float, Floats]:
        free = flat.reshape(start.shape)
        logits = eased @ free
        logits -= logits.max(axis=1, keepdims=True)
        raised = np.exp(logits)
        total = raised.sum(axis=1, keepdims=True)
        lines = free * ease
        value = (shares * (np.log(total) - (truth * logits).sum(axis=1, keepdims=True))).sum()
        value += (ridge[:, None] * lines**2).sum() / 2
        slope = eased.T @ (shares * (raised / total - truth)) + ridge[:, None] * lines * ease
        return float(value) / count, slope.ravel() / count

    options = {"maxiter": _STEPS, "gtol": _SLOPE, "ftol": 0.0, "maxcor": 20}
    best = minimize(loss, (start / ease).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(best.x.reshape(start.shape) * ease, dtype=np.float64)


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

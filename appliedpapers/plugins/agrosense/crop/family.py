"""What learns crops from a matrix: one contract for networks, trees and classical models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.simulator import stream

if TYPE_CHECKING:
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.agrosense.crop.config import CropConfig

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Lesson:
    """Rows to learn from.

    Attributes:
        matrix: ``(rows, width)`` float64, NaN where a number is missing.
        labels: Class of each row, ``(rows,)`` in 0 to classes - 1.
        classes: How many classes there are; some may not be among the rows.
        name: Of the fit, for its folder and its metrics.
    """

    matrix: Floats
    labels: Integers
    classes: int
    name: str

    def take(self, rows: NDArray[Any], name: str) -> Lesson:
        """Return some of the rows under another name."""
        return Lesson(self.matrix[rows], self.labels[rows], self.classes, name)

    def with_gaps(self, share: float, seed: int) -> Lesson:
        """Return the rows and a copy of them that lost more of the columns that miss values already.

        Tables that are whole are returned as they are.

        Args:
            share: Of the numbers in such columns that the copy loses.
            seed: Of the gaps.
        """
        gappy = np.isnan(self.matrix).any(axis=0)
        if not share or not gappy.any():
            return self
        lost = (stream(seed, "gaps").random(self.matrix.shape) < share) & gappy
        matrix = np.concatenate([self.matrix, np.where(lost, np.nan, self.matrix)])
        return Lesson(matrix, np.tile(self.labels, 2), self.classes, self.name)


class Family(ABC):
    """A learner of classes; fitted once, then it answers without change and in any thread.

    Class attributes:
        name: On the command line.
        is_tree: Whether :meth:`contributions` gives exact attributions of trees.
    """

    name: ClassVar[str]
    is_tree: ClassVar[bool] = False

    @property
    def parameters(self) -> int:
        """Numbers of a network that were learned; 0 of what has no network."""
        return 0

    @classmethod
    @abstractmethod
    def fit(cls, lesson: Lesson, config: CropConfig, run: FitContext) -> Self:
        """Learn; whatever scales or fills looks at the rows of ``lesson`` alone."""

    @abstractmethod
    def logits(self, matrix: Floats) -> Floats:
        """Return a score a class, ``(rows, classes)`` float64; softmax makes them probabilities."""

    def contributions(self, matrix: Floats, chosen: Integers) -> Floats:
        """Return what each column adds to the logit of a class, and the base, ``(rows, width + 1)``.

        Args:
            matrix: ``(rows, width)``.
            chosen: The class that is spoken of, ``(rows,)``.
        """
        raise NotImplementedError(self.name)

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """Write parts whose file names begin with :attr:`name`, and return the state beside them."""

    @classmethod
    @abstractmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Rebuild what :meth:`write` wrote."""


def with_unseen(logits: Floats, counts: Integers) -> Floats:
    """Return logits in which a class without a row has the chance of one row more: 1 in (rows + 1).

    Args:
        logits: ``(rows, classes)``; what stands for such classes does not matter.
        counts: Rows of each class that was learned from, ``(classes,)``.
    """
    seen = counts > 0
    if seen.all():
        return logits
    known = logits[:, seen]
    top = known.max(axis=1)
    total = top + np.log(np.exp(known - top[:, None]).sum(axis=1))
    return np.where(seen, logits, total[:, None] - np.log(counts.sum() + 1))


def family_class(name: str) -> type[Family]:
    """Return the class of a family by its name on the command line; imports what it needs."""
    if name in ("lightgbm", "xgboost"):
        from appliedpapers.plugins.agrosense.crop import trees

        return {"lightgbm": trees.LightGbmFamily, "xgboost": trees.XGBoostFamily}[name]
    if name in ("mlp", "tabnet"):
        from appliedpapers.plugins.agrosense.crop import networks

        return {"mlp": networks.MlpFamily, "tabnet": networks.TabNetFamily}[name]
    from appliedpapers.plugins.agrosense.crop import classical

    return {
        "gaussian-nb": classical.GaussianNb,
        "logistic": classical.Logistic,
        "random-forest": classical.Forest,
    }[name]

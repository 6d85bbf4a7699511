"""The statistical heart of the crop model: members, their pooling, calibration, thresholds, attributions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.model import FitContext
from appliedpapers.plugins.agrosense.crop.config import CropConfig
from appliedpapers.plugins.agrosense.crop.family import Family, Lesson, family_class
from appliedpapers.plugins.agrosense.crop.shapley import balanced_background, shapley
from appliedpapers.plugins.agrosense.crop.trust import (
    Calibration,
    pool_weights,
    set_threshold,
    threshold_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Folds = Sequence[tuple[Integers, Integers]]

BLEND = ("lightgbm", "mlp", "gaussian-nb", "logistic")

_NEGLIGIBLE = 1e-3


def _ignored(metrics: Mapping[str, float], step: int, /) -> None:
    """Drop the metrics of fits that only judge."""


@dataclass(frozen=True)
class Recommender:
    """Fitted members and everything that makes their answer one that may be trusted.

    Attributes:
        members: What answers together.
        weights: Of their logits, ``(members,)``.
        calibration: From logits to probabilities.
        threshold: Confidence below which there is no advice.
        set_from: Probability from which a crop belongs to the conformal set.
        background: Rows that stand for "not known" in attributions, ``(rows, columns)``.
        unseen_loss: Mean negative log-likelihood of rows not learned from, calibrated.
    """

    members: tuple[Family, ...]
    weights: Floats
    calibration: Calibration
    threshold: float
    set_from: float
    background: Floats
    unseen_loss: float

    @classmethod
    def fit(cls, lesson: Lesson, folds: Folds, config: CropConfig, run: FitContext) -> Self:
        """Return the recommender of :meth:`fit_judged`."""
        return cls.fit_judged(lesson, folds, config, run)[0]

    @classmethod
    def fit_judged(
        cls, lesson: Lesson, folds: Folds, config: CropConfig, run: FitContext
    ) -> tuple[Self, Floats]:
        """Judge each member on the folds, pool and calibrate, and fit again on all rows.

        Args:
            lesson: The rows.
            folds: Learned and judged rows, each row judged once.
            config: What learns.
            run: Where and how.

        Returns:
            The recommender, and calibrated probabilities of each row by fits that did not see it,
            ``(rows, classes)``.
        """
        name = config.model.family
        classes = [family_class(one) for one in (BLEND if name == "blend" else (name,))]
        quiet = replace(run, log_metrics=_ignored)
        unseen = [out_of_fold(one, lesson, folds, config, quiet) for one in classes]
        weights = pool_weights(unseen, lesson.labels) if len(classes) > 1 else np.ones(1)
        kept = [place for place, weight in enumerate(weights) if weight > _NEGLIGIBLE * weights.max()]
        weights = weights[kept]
        logits = np.tensordot(weights, np.stack([unseen[place] for place in kept]), axes=1)
        method = config.model.calibration
        if method == "auto" and not all(classes[place].is_tree for place in kept):
            method = "temperature"
        calibration = Calibration.fit(method, logits, lesson.labels, seed=run.seed)
        chances = calibration(logits)
        whole = lesson.with_gaps(config.model.masked, run.seed)
        picked = chances[np.arange(len(lesson.labels)), lesson.labels]
        made = cls(
            members=tuple(
                classes[place].fit(replace(whole, name=classes[place].name), config, run) for place in kept
            ),
            weights=weights,
            calibration=calibration,
            threshold=threshold_for(chances, lesson.labels, config.answer.risk),
            set_from=set_threshold(chances, lesson.labels, config.answer.alpha),
            background=balanced_background(lesson.matrix, lesson.labels, run.seed),
            unseen_loss=float(-np.log(np.maximum(picked, 1e-12)).mean()),
        )
        return made, chances

    def logits(self, matrix: Floats) -> Floats:
        """Return the pooled logits, ``(rows, classes)``."""
        found = self.weights[0] * self.members[0].logits(matrix)
        for weight, member in zip(self.weights[1:], self.members[1:], strict=True):
            found = found + weight * member.logits(matrix)
        return np.asarray(found)

    def probabilities(self, matrix: Floats) -> Floats:
        """Return calibrated probabilities, ``(rows, classes)``."""
        return self.calibration(self.logits(matrix))

    def attributions(self, matrix: Floats, chosen: Integers, players: Sequence[Sequence[int]]) -> Floats:
        """Return what each input adds to the pooled logit of a class, and the base.

        Trees say it exactly of themselves, networks and classical models are asked about every combination
        of known and unknown inputs; all of it adds up to the logit.

        Args:
            matrix: ``(rows, columns)``.
            chosen: Class of each row, ``(rows,)``.
            players: Columns of each input.

        Returns:
            ``(rows, inputs + 1)``, the base last.
        """
        found = np.zeros((len(matrix), len(players) + 1))
        for weight, member in zip(self.weights, self.members, strict=True):
            if member.is_tree:
                by_column = member.contributions(matrix, chosen)
                own = [by_column[:, list(columns)].sum(axis=1) for columns in players]
                found += weight * np.stack([*own, by_column[:, -1]], axis=1)
                continue
            for row, place in enumerate(chosen):
                values = shapley(
                    lambda rows, one=member, at=place: one.logits(rows)[:, at],  # type: ignore[misc]
                    matrix[row],
                    self.background,
                    players,
                )
                found[row] += weight * values
        return found

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the facts of the report."""
        pooled = zip(self.members, self.weights, strict=True)
        yield "members and weights", ", ".join(f"{one.name} {weight:.2f}" for one, weight in pooled)
        if learned := sum(one.parameters for one in self.members):
            yield "parameters", f"{learned:,}"
        method = self.calibration.method
        shown = f" {self.calibration.temperature:.3f}" if method == "temperature" else ""
        yield "calibration", f"{method}{shown}, on rows not learned from"
        yield "logloss on rows not learned from", f"{self.unseen_loss:.4f}"
        confident = math.isfinite(self.threshold)
        yield "advice from confidence", f"{self.threshold:.3f}" if confident else "none is high enough"
        yield "conformal set from probability", f"{self.set_from:.4f}"

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the members, and return the state beside them."""
        return {
            "members": [[one.name, one.write(folder)] for one in self.members],
            "weights": self.weights.tolist(),
            "calibration": self.calibration.to_json(),
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "set_from": self.set_from,
            "background": [[None if np.isnan(cell) else cell for cell in row] for row in self.background],
            "unseen_loss": self.unseen_loss,
        }

    @classmethod
    def read(cls, state: Mapping[str, Any], folder: Path, config: CropConfig) -> Self:
        """Rebuild what :meth:`write` wrote."""
        members = tuple(family_class(name).read(own, folder, config) for name, own in state["members"])
        threshold = state["threshold"]
        return cls(
            members,
            np.array(state["weights"], dtype=np.float64),
            Calibration.from_json(state["calibration"]),
            math.inf if threshold is None else float(threshold),
            float(state["set_from"]),
            np.array(state["background"], dtype=np.float64),
            float(state["unseen_loss"]),
        )


def out_of_fold(
    family: type[Family], lesson: Lesson, folds: Folds, config: CropConfig, run: FitContext
) -> Floats:
    """Return logits of each row by a fit that did not see it, ``(rows, classes)``."""
    found = np.empty((len(lesson.labels), lesson.classes))
    for number, (learned, judged) in enumerate(folds, start=1):
        part = lesson.take(learned, f"{family.name}-inner-{number}")
        part = part.with_gaps(config.model.masked, run.seed)
        found[judged] = family.fit(part, config, run).logits(lesson.matrix[judged])
    return found

"""How attitude is judged: by inclination where there is a reference, by what comes after where there is none.

Heading is not seen by six axes: it is shown as drift and never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.evaluation import Baseline, Evaluation, Material
from appliedpapers.core.model import Model
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.imu_attitude.config import BASELINES, AttitudeConfig
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.phases import PHASES, phases
from appliedpapers.plugins.imu_attitude.published import PUBLISHED_FIGURES
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.scoring import (
    BLOCK_S,
    PRIMARY,
    PRIMARY_ALONE,
    Answers,
    has_reference,
    inclination_deg,
    score_answers,
)
from appliedpapers.plugins.imu_attitude.splits import recordings_of

if TYPE_CHECKING:
    from typing import Protocol

    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.imu_attitude.uncertainty import Calibration

    class Attitude(Protocol):
        """A model that estimates attitude; ``calibration`` knows what its ``sd`` promises."""

        calibration: Calibration

        def estimate(self, recording: Recording) -> Estimate:
            """Return its estimate, ``sd`` being the expected error."""


_WORST_SHOWN = 3
_HELD_TOO_SELDOM = 0.85


class AttitudeEvaluation(Evaluation):
    """Inclination RMSE over moving samples and trials; without a reference, residuals of gravity ahead."""

    primary = PRIMARY
    published_figures = PUBLISHED_FIGURES
    baseline_names = BASELINES

    def primary_for(self, dataset: Dataset) -> str:
        """Return ``inclination_rmse``, or ``gravity_residual`` for test trials without any reference."""
        return PRIMARY if has_reference(recordings_of(dataset.test)) else PRIMARY_ALONE

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the baselines of the configuration, the missing ones included.

        The filter alone is none where ours is the filter alone.
        """
        from appliedpapers.plugins.imu_attitude.baselines import baselines

        return baselines(cast("AttitudeConfig", config))

    def predict(self, model: Model, split: Split) -> Answers:
        """Estimate every recording, with the bounds that the model's expected errors promise."""
        attitude = cast("Attitude", model)
        found = [attitude.estimate(recording) for recording in recordings_of(split)]
        return Answers.bounded(found, attitude.calibration)

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score estimates; a unit is a block of five seconds, a cluster a trial where there are five."""
        return score_answers(cast("Answers", prediction), recordings_of(split))

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw the worst trial, errors by rate and acceleration, roll and pitch, and coverage."""
        from appliedpapers.plugins.imu_attitude.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the seconds that came out worst, and the trials whose bound held too seldom."""
        recordings = recordings_of(material.dataset.test)
        if not has_reference(recordings):
            return ()
        answers = cast("Answers", material.predictions[material.model_name])
        return [*_worst_blocks(answers, recordings), *_broken_promises(answers, recordings)]


def _worst_blocks(answers: Answers, recordings: Sequence[Recording]) -> list[str]:
    """Say where the error was largest, a trial once."""
    found = []
    for estimate, recording in zip(answers.estimates, recordings, strict=True):
        judged = recording.judged
        if estimate is None or not judged.any():
            continue
        squares = inclination_deg(estimate, recording)[judged] ** 2
        place = ((recording.time - recording.time[0]) // BLOCK_S).astype(np.intp)[judged]
        samples = np.bincount(place)
        errors = np.sqrt(np.bincount(place, squares) / np.maximum(samples, 1))
        # a handful of samples at an edge of the motion is no block
        errors[samples < samples.max() / 2] = 0.0
        worst = int(errors.argmax())
        begin = float(recording.time[0]) + BLOCK_S * worst
        doing = np.bincount(phases(recording)[judged][place == worst], minlength=len(PHASES)).argmax()
        found.append(
            (
                float(errors[worst]),
                f"{recording.trial}, {begin:.0f} to {begin + BLOCK_S:.0f} s ({PHASES[int(doing)]}): "
                f"{errors[worst]:.2f}°, {errors[worst] / np.sqrt(squares.mean()):.1f} times the whole trial",
            )
        )
    return [text for _, text in sorted(found, reverse=True)[:_WORST_SHOWN]]


def _broken_promises(answers: Answers, recordings: Sequence[Recording]) -> list[str]:
    found = []
    for estimate, bound, recording in zip(answers.estimates, answers.bounds, recordings, strict=True):
        judged = recording.judged
        if estimate is None or bound is None or not judged.any():
            continue
        held = float(np.mean(inclination_deg(estimate, recording)[judged] <= np.rad2deg(bound[judged])))
        if held < _HELD_TOO_SELDOM:
            found.append(f"{recording.trial}: only {100 * held:.0f} % of errors stay below their 95 % bound")
    return found


EVALUATION = AttitudeEvaluation()

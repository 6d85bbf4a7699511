"""How attitude is judged: by inclination where there is a reference, by what comes after where there is none.

Heading is not seen by six axes: it is shown as drift and never compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from appliedpapers.core.config import TaskConfig
from appliedpapers.core.data import Dataset, Split
from appliedpapers.core.errors import PluginError
from appliedpapers.core.evaluation import Baseline, Evaluation, Material
from appliedpapers.core.model import FitContext, Model
from appliedpapers.core.scores import Scored
from appliedpapers.plugins.imu_attitude.baselines import Estimator, estimators, tune, unavailable
from appliedpapers.plugins.imu_attitude.config import BASELINES, AttitudeConfig, FilterConfig
from appliedpapers.plugins.imu_attitude.delay import carry_on, fit_delay
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.phases import PHASES, phases
from appliedpapers.plugins.imu_attitude.published import PUBLISHED_FIGURES
from appliedpapers.plugins.imu_attitude.recording import Recording, with_reference
from appliedpapers.plugins.imu_attitude.scoring import (
    BLOCK_S,
    PRIMARY,
    PRIMARY_ALONE,
    Answers,
    has_reference,
    inclination_deg,
    score_answers,
)
from appliedpapers.plugins.imu_attitude.timing import SAMPLINGS, choose_timing, of_means
from appliedpapers.plugins.imu_attitude.tuning import fit_filter
from appliedpapers.plugins.imu_attitude.uncertainty import Calibration

if TYPE_CHECKING:
    from typing import Protocol

    from appliedpapers.core.figures import Figure
    from appliedpapers.plugins.imu_attitude.splits import AttitudeSplit

    class Attitude(Protocol):
        """A model that estimates attitude; ``calibration`` knows what its ``sd`` promises."""

        calibration: Calibration

        def estimate(self, recording: Recording) -> Estimate:
            """Return its estimate, ``sd`` being the expected error."""


_WORST_SHOWN = 3
_HELD_TOO_SELDOM = 0.85


class PackageBaseline(Baseline):
    """A baseline with the settings that are published for it; it learns nothing.

    Args:
        estimator: What estimates.
    """

    def __init__(self, estimator: Estimator) -> None:
        self.name = estimator.name
        self._estimator = estimator
        self._failures: dict[str, None] = {}

    def predict(self, split: Split) -> Answers:
        """Estimate every recording; where its package fails there is none, and its score is missing."""
        return Answers.plain([self._try(recording) for recording in _recordings(split)])

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield its settings, its package, and on what it failed."""
        yield from self._estimator.describe()
        for failure in self._failures:
            yield "failed", failure

    def _try(self, recording: Recording) -> Estimate | None:
        try:
            return self._answer(recording)
        except PluginError as error:
            self._failures[error.message] = None
            return None

    def _answer(self, recording: Recording) -> Estimate:
        return self._estimator(recording)


class DelayedVqf(PackageBaseline):
    """VQF with what ours is given: sampling, delay and a time constant fitted to the training trials."""

    def __init__(self) -> None:
        super().__init__(estimators(["vqf"])["vqf"])
        self.name = "vqf-delay"
        self._sampling, self._delay = SAMPLINGS[0], 0.0

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Choose sampling, time constant and delay on all trials but those of the test.

        Without references, or where the package fails, it stays as it is published.
        """
        known = with_reference((*_recordings(train), *_recordings(valid)))
        if not known:
            return self
        try:
            self._fit(known)
        except PluginError as error:
            self._failures[error.message] = None
        return self

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield its settings and its delay."""
        yield from super().describe()
        yield "delay", f"{1000 * self._delay:.2f} ms"
        yield "sampling", self._sampling

    def _answer(self, recording: Recording) -> Estimate:
        # the answer is carried on at the rate of the newest reading
        read = _read(recording, self._sampling)
        return carry_on(self._estimator(read), recording, self._delay)

    def _fit(self, known: Sequence[Recording]) -> None:
        plain = self._estimator
        sampling, delay = choose_timing({"mean": plain, "instant": lambda one: plain(of_means(one))}, known)
        read = [_read(recording, sampling) for recording in known]
        # a time constant that is chosen while the delay is in the errors is another one
        early = [_undelayed(plain(one), late, delay) for one, late in zip(read, known, strict=True)]
        tuned = tune("vqf", [_read(recording, sampling) for recording in early])
        self._delay = fit_delay([tuned(recording) for recording in read], known)
        self._sampling, self._estimator = sampling, tuned


class FilterBaseline(Baseline):
    """Our gravity filter without the network, its delay and its expected error fitted as ours are.

    Args:
        options: Those of the run.
    """

    name = "filter"

    def __init__(self, options: FilterConfig) -> None:
        self._options = options
        self._delay = 0.0 if options.delay == "auto" else options.delay
        self._calibration = Calibration()

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Fit what ours fits, and the expected error."""
        known = with_reference((*_recordings(train), *_recordings(valid)))
        if known:
            self._options, self._delay = fit_filter(self._options, known, run.progress)
        plain = [self._plain(recording) for recording in known]
        carried = [carry_on(*pair, self._delay) for pair in zip(plain, known, strict=True)]
        self._calibration = Calibration.fit(carried, known)
        return self

    def predict(self, split: Split) -> Answers:
        """Estimate every recording."""
        found = [
            self._calibration.apply(carry_on(self._plain(recording), recording, self._delay))
            for recording in _recordings(split)
        ]
        return _bounded(found, self._calibration)

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield delay, sampling and what the expected error is made of."""
        yield "delay", f"{1000 * self._delay:.2f} ms"
        yield "sampling", self._options.sampling
        yield from self._calibration.describe()

    def _plain(self, recording: Recording) -> Estimate:
        return GravityFilter(self._options, delay=0.0).batch(recording)


class MissingBaseline(Baseline):
    """A baseline that cannot be had here: it stands in the table without a value, so that nobody wonders.

    Args:
        name: Its name.
        reason: Why, and what to type.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    def fit(self, train: Split, valid: Split, run: FitContext) -> Self:
        """Say why it is missing."""
        run.progress.say(f" {self._reason}")
        return self

    def predict(self, split: Split) -> Answers:
        """Return no estimate."""
        return Answers.plain([None] * len(_recordings(split)))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the reason."""
        yield "state", self._reason


class AttitudeEvaluation(Evaluation):
    """Inclination RMSE over moving samples and trials; without a reference, residuals of gravity ahead."""

    primary = PRIMARY
    published_figures = PUBLISHED_FIGURES
    baseline_names = BASELINES

    def primary_for(self, dataset: Dataset) -> str:
        """Return ``inclination_rmse``, or ``gravity_residual`` for test trials without any reference."""
        return PRIMARY if has_reference(_recordings(dataset.test)) else PRIMARY_ALONE

    def baselines(self, config: TaskConfig, dataset: Dataset) -> Sequence[Baseline]:
        """Return the baselines of the configuration, the missing ones included.

        The filter alone is none where ours is the filter alone.
        """
        options = cast("AttitudeConfig", config)
        names = [name for name in options.baselines if (name, options.model.kind) != ("filter", "filter")]
        packaged = dict.fromkeys("vqf" if name == "vqf-delay" else name for name in names if name != "filter")
        made, missing = estimators(packaged), unavailable(packaged)
        found: list[Baseline] = []
        for name in names:
            package = "vqf" if name == "vqf-delay" else name
            if name == "filter":
                found.append(FilterBaseline(options.filter))
            elif package in missing:
                found.append(MissingBaseline(name, missing[package]))
            else:
                found.append(DelayedVqf() if name == "vqf-delay" else PackageBaseline(made[package]))
        return found

    def predict(self, model: Model, split: Split) -> Answers:
        """Estimate every recording, with the bounds that the model's expected errors promise."""
        attitude = cast("Attitude", model)
        found = [attitude.estimate(recording) for recording in _recordings(split)]
        return _bounded(found, attitude.calibration)

    def score(self, prediction: Any, split: Split, dataset: Dataset) -> Scored:
        """Score estimates; a unit is a block of five seconds, a cluster a trial where there are five."""
        return score_answers(cast("Answers", prediction), _recordings(split))

    def figures(self, material: Material) -> Sequence[Figure]:
        """Draw the worst trial, errors by rate and acceleration, roll and pitch, and coverage."""
        from appliedpapers.plugins.imu_attitude.figures import draw

        return draw(material)

    def failures(self, material: Material) -> Sequence[str]:
        """Name the seconds that came out worst, and the trials whose bound held too seldom."""
        recordings = _recordings(material.dataset.test)
        if not has_reference(recordings):
            return ()
        answers = cast("Answers", material.predictions[material.model_name])
        return [*_worst_blocks(answers, recordings), *_broken_promises(answers, recordings)]


def _read(recording: Recording, sampling: str) -> Recording:
    """Return the recording as an estimator takes it that knows means alone."""
    return recording if sampling == "mean" else of_means(recording)


def _undelayed(estimate: Estimate, recording: Recording, delay: float) -> Recording:
    """Return the recording with its reference turned back to what the readings show."""
    assert recording.reference is not None
    early = carry_on(replace(estimate, quaternion=recording.reference), recording, -delay)
    return replace(recording, reference=early.quaternion)


def _recordings(split: Split) -> tuple[Recording, ...]:
    return cast("AttitudeSplit", split).recordings


def _bounded(estimates: Sequence[Estimate], calibration: Calibration) -> Answers:
    bounds = tuple(None if one.sd is None else calibration.bound95(one.sd) for one in estimates)
    return Answers(tuple(estimates), bounds)


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

"""What ours is held against: packages as published, VQF with what ours is given, and our filter alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Self

from appliedpapers.core.data import Split
from appliedpapers.core.errors import PluginError
from appliedpapers.core.evaluation import Baseline
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, FilterConfig
from appliedpapers.plugins.imu_attitude.delay import carry_on, fit_delay
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.estimators import Estimator, estimators, tune, unavailable
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording, with_reference
from appliedpapers.plugins.imu_attitude.scoring import Answers
from appliedpapers.plugins.imu_attitude.splits import recordings_of
from appliedpapers.plugins.imu_attitude.timing import SAMPLINGS, choose_timing, of_means
from appliedpapers.plugins.imu_attitude.tuning import fit_filter
from appliedpapers.plugins.imu_attitude.uncertainty import Calibration


def baselines(config: AttitudeConfig) -> list[Baseline]:
    """Return the unfitted baselines of the configuration, the missing ones included.

    The filter alone is none where ours is the filter alone.
    """
    names = [name for name in config.baselines if (name, config.model.kind) != ("filter", "filter")]
    packaged = dict.fromkeys("vqf" if name == "vqf-delay" else name for name in names if name != "filter")
    made, missing = estimators(packaged), unavailable(packaged)
    found: list[Baseline] = []
    for name in names:
        package = "vqf" if name == "vqf-delay" else name
        if name == "filter":
            found.append(FilterBaseline(config.filter))
        elif package in missing:
            found.append(MissingBaseline(name, missing[package]))
        else:
            found.append(DelayedVqf() if name == "vqf-delay" else PackageBaseline(made[package]))
    return found


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
        return Answers.plain([self._try(recording) for recording in recordings_of(split)])

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
        known = with_reference((*recordings_of(train), *recordings_of(valid)))
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
        known = with_reference((*recordings_of(train), *recordings_of(valid)))
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
            for recording in recordings_of(split)
        ]
        return Answers.bounded(found, self._calibration)

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
        return Answers.plain([None] * len(recordings_of(split)))

    def describe(self) -> Iterable[tuple[str, str]]:
        """Yield the reason."""
        yield "state", self._reason


def _read(recording: Recording, sampling: str) -> Recording:
    """Return the recording as an estimator takes it that knows means alone."""
    return recording if sampling == "mean" else of_means(recording)


def _undelayed(estimate: Estimate, recording: Recording, delay: float) -> Recording:
    """Return the recording with its reference turned back to what the readings show."""
    assert recording.reference is not None
    early = carry_on(replace(estimate, quaternion=recording.reference), recording, -delay)
    return replace(recording, reference=early.quaternion)

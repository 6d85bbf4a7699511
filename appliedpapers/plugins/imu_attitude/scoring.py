"""Errors of attitudes as sums over blocks of motion, from which values, intervals and slices follow.

An error is a root mean square over the judged samples of a trial, then a mean over trials (BROAD, Data
6(7):72). A unit is a block of five seconds. From five trials on whole trials are resampled: intervals and
tests then speak of other trials, and what varies within one is part of what varies between them. Fewer say
nothing of others: there runs of blocks are resampled, and intervals speak of more of the same motion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.counted import divided, sums_of_draws
from appliedpapers.core.metrics import register_metric
from appliedpapers.core.scores import Counted, Counts, MetricScores, Scored, Slices
from appliedpapers.plugins.imu_attitude import no_reference
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.paper_metric import attitude, paper_angle_deg
from appliedpapers.plugins.imu_attitude.phases import PHASES, acceleration_band, band_names, phases
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import (
    Floats,
    angle_between,
    error_quaternion,
    heading_error,
    multiply,
    total_error,
    up_vector,
)

if TYPE_CHECKING:
    from appliedpapers.plugins.imu_attitude.uncertainty import Calibration

BLOCK_S = 5.0
PRIMARY, PRIMARY_ALONE = "inclination_rmse", "gravity_residual"

_SEVERAL_TRIALS = 5
_FEWEST_TRIALS = 3  # of those, that a slice must appear in to have an interval
_RUN = 2  # blocks that are drawn together: ten seconds outlast most errors of a filter

_DRIFT = "which 6 axes cannot see: drift since the first judged sample"
for _name, _unit, _about in (
    ("paper_angle", "°", "mean Quat_error_angle of arXiv 2302.06037: all samples, without heading"),
    ("heading_drift", "°", f"root mean squared error of the heading, {_DRIFT}"),
    ("total_drift", "°", f"root mean squared error of the orientation with its heading, {_DRIFT}"),
    ("latency_s", "s", "how far the answer stands behind the newest sample that was used; 0 is causal"),
    (
        PRIMARY_ALONE,
        "°",
        "root mean squared angle to the mean specific force of the next 5 s, without reference; it ranks "
        "estimators and overstates errors",
    ),
    (
        "rest_consistency",
        "°",
        "root mean squared angle half a second before a rest to the specific force of that rest, without "
        "reference",
    ),
):
    register_metric(_name, unit=_unit, higher_is_better=False, description=_about)


@dataclass(frozen=True)
class Answers:
    """What one estimator says about a split.

    Attributes:
        estimates: By recording; None where it failed.
        bounds: What 95 % of the errors are said to stay below, in radians; None without such a promise.
    """

    estimates: tuple[Estimate | None, ...]
    bounds: tuple[Floats | None, ...]

    @classmethod
    def plain(cls, estimates: Sequence[Estimate | None]) -> Answers:
        """Return answers that promise no bound."""
        return cls(tuple(estimates), (None,) * len(estimates))

    @classmethod
    def bounded(cls, estimates: Sequence[Estimate], calibration: Calibration) -> Answers:
        """Return answers with the bounds that their expected errors promise."""
        bounds = tuple(None if one.sd is None else calibration.bound95(one.sd) for one in estimates)
        return cls(tuple(estimates), bounds)


class TrialMean(Counted):
    """The mean over trials of the (root) mean over the samples of each, by how often blocks are drawn.

    Args:
        sums: Sum over the judged samples of each block, ``(units,)``; NaN makes the value NaN.
        samples: How many these are, ``(units,)``.
        trial: Number of each block's trial, ``(units,)``.
        root: Whether the values of trials are roots.
        whole: Whether trials are drawn as a whole, and count as often as they are drawn. Otherwise each
            counts once: which blocks of it are drawn must not say how much it counts, and there is no value
            when none of one is.
    """

    def __init__(
        self, sums: Floats, samples: Floats, trial: NDArray[np.intp], *, root: bool, whole: bool
    ) -> None:
        self.sums, self.samples, self.trial = sums, samples, trial
        self.root, self.whole = root, whole
        self._trials = int(trial.max()) + 1
        self._first = np.searchsorted(trial, np.arange(self._trials))
        self._least = 1 if whole else np.count_nonzero(np.bincount(trial, samples))

    def of_draws(self, counts: Counts) -> Floats:
        """Return the value when each block counts so often."""
        samples = sums_of_draws(self.trial, counts * self.samples, self._trials)
        values = divided(sums_of_draws(self.trial, counts * self.sums, self._trials), samples)
        values = np.sqrt(values) if self.root else values
        used, amount = samples > 0, counts.take(self._first, axis=1)
        found = np.full(len(counts), math.nan)
        for row in np.flatnonzero(used.sum(axis=1) >= max(self._least, 1)):
            means = values[row, used[row]]
            often = amount[row, used[row]]
            found[row] = means @ often / often.sum() if self.whole else means.mean()
        return found

    def restrict(self, chosen: NDArray[np.bool_]) -> TrialMean:
        """Return the same over some of the blocks."""
        sums = np.where(chosen, self.sums, 0.0)
        return TrialMean(sums, self.samples * chosen, self.trial, root=self.root, whole=self.whole)


@dataclass(frozen=True)
class Blocks:
    """Blocks of one trial.

    Attributes:
        number: Block of each sample, ``(N,)``.
        count: How many.
    """

    number: NDArray[np.intp]
    count: int

    @classmethod
    def of(cls, recording: Recording) -> Blocks:
        """Cut a recording into blocks of five seconds by its time stamps."""
        number = ((recording.time - recording.time[0]) // BLOCK_S).astype(np.intp)
        return cls(number, int(number[-1]) + 1)

    def sums(self, values: Floats | float, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return sums over the chosen samples of each block, and how many they are."""
        weighed = np.where(chosen, values, 0.0)
        return (
            np.bincount(self.number, weighed, self.count).astype(np.float64),
            np.bincount(self.number, chosen, self.count).astype(np.float64),
        )


Sums = tuple[Floats, Floats]


def has_reference(recordings: Sequence[Recording]) -> bool:
    """Return whether errors can be counted at all."""
    return any(recording.judged.any() for recording in recordings)


def score_answers(answers: Answers, recordings: Sequence[Recording]) -> Scored:
    """Score an estimator on whole recordings; one that failed on any has no value.

    With a reference: ``inclination_rmse``, the paper's angle, drift of heading and orientation, latency and,
    where bounds are promised, ``coverage`` and the mean bound (``interval_width``). Without any:
    ``gravity_residual``, ``rest_consistency`` and latency.
    """
    blocks = [Blocks.of(recording) for recording in recordings]
    trial = np.repeat(np.arange(len(blocks)), [one.count for one in blocks])
    whole = len(recordings) >= _SEVERAL_TRIALS
    known = has_reference(recordings)
    primary = PRIMARY if known else PRIMARY_ALONE
    clusters, run = (trial, 1) if whole else (None, _RUN)
    complete = [estimate for estimate in answers.estimates if estimate is not None]
    if len(complete) < len(recordings):
        undefined = TrialMean(np.full(len(trial), np.nan), np.ones(len(trial)), trial, root=True, whole=whole)
        return Scored({primary: MetricScores.counted(undefined, len(trial))}, clusters, run)
    work = list(zip(complete, answers.bounds, recordings, blocks, strict=True))
    measure = _with_reference if known else _alone
    trials = [dict(measure(*one)) for one in work]
    metrics = {
        name: _metric([part[name] for part in trials], trial, root=name in _ROOTS, whole=whole)
        for name in trials[0]
        if all(name in part for part in trials)
    }
    # what the recordings never show, such as a rest, is no metric of theirs
    metrics = {name: scores for name, scores in metrics.items() if name == primary or scores.count}
    slices = _by_trial(metrics[primary], primary, recordings)
    if known:
        parts = [_sliced(estimate, recording, cut) for estimate, _, recording, cut in work]
        slices = (*_by_label(parts, trial, whole), *slices)
    return Scored(metrics, clusters, run, slices, {"interval_width": "°"})


_ROOTS = (PRIMARY, PRIMARY_ALONE, "rest_consistency", "heading_drift", "total_drift")


def inclination_deg(estimate: Estimate, recording: Recording) -> Floats:
    """Return the inclination error at each sample in degrees, ``(N,)``; NaN without a reference."""
    if recording.reference is None:
        return np.full(len(recording), np.nan)
    return np.rad2deg(angle_between(estimate.up, up_vector(recording.reference)))


def _with_reference(
    estimate: Estimate, bound: Floats | None, recording: Recording, blocks: Blocks
) -> Iterator[tuple[str, Sums]]:
    judged, error = recording.judged, inclination_deg(estimate, recording)
    yield PRIMARY, blocks.sums(error**2, judged)
    yield "paper_angle", _paper_sums(estimate, recording, blocks)
    heading, total = _drift(estimate, recording)
    yield "heading_drift", blocks.sums(heading**2, judged)
    yield "total_drift", blocks.sums(total**2, judged)
    if bound is not None:
        limit = np.rad2deg(bound)
        yield "coverage", blocks.sums((error <= limit).astype(np.float64), judged)
        yield "interval_width", blocks.sums(limit, judged)
    yield "latency_s", blocks.sums(estimate.latency, np.ones(len(recording), dtype=bool))


def _alone(
    estimate: Estimate, _bound: Floats | None, recording: Recording, blocks: Blocks
) -> Iterator[tuple[str, Sums]]:
    ahead, known = no_reference.gravity_ahead(recording, no_reference.AHEAD_S)
    residual = np.rad2deg(angle_between(estimate.up, ahead))
    yield PRIMARY_ALONE, blocks.sums(residual**2, known & no_reference.moving(recording))
    samples, up = no_reference.before_rests(recording)
    residual, chosen = np.zeros(len(recording)), np.zeros(len(recording), dtype=bool)
    residual[samples], chosen[samples] = np.rad2deg(angle_between(estimate.up[samples], up)), True
    yield "rest_consistency", blocks.sums(residual**2, chosen)
    yield "latency_s", blocks.sums(estimate.latency, np.ones(len(recording), dtype=bool))


def _paper_sums(estimate: Estimate, recording: Recording, blocks: Blocks) -> Sums:
    if recording.reference is None:
        return np.zeros(blocks.count), np.zeros(blocks.count)
    known = np.asarray(np.isfinite(recording.reference).all(axis=1))
    angle = paper_angle_deg(attitude(estimate.quaternion), attitude(recording.reference))
    return blocks.sums(angle, known)


def _drift(estimate: Estimate, recording: Recording) -> tuple[Floats, Floats]:
    """Return heading and total error in degrees once both headings agree at the first judged sample."""
    judged = recording.judged
    if recording.reference is None or not judged.any():
        return np.zeros(len(recording)), np.zeros(len(recording))
    error = error_quaternion(estimate.quaternion, recording.reference)
    first = error[np.argmax(judged)]
    turn = np.array([first[0], 0.0, 0.0, -first[3]])
    length = np.linalg.norm(turn)
    aligned = multiply(turn / length, error) if length > 0 else error
    return np.rad2deg(heading_error(aligned)), np.rad2deg(total_error(aligned))


def _metric(parts: Sequence[Sums], trial: NDArray[np.intp], *, root: bool, whole: bool) -> MetricScores:
    sums, samples = (np.concatenate(column) for column in zip(*parts, strict=True))
    scores = MetricScores.counted(TrialMean(sums, samples, trial, root=root, whole=whole), len(trial))
    return replace(scores, weights=samples > 0)


def _sliced(estimate: Estimate, recording: Recording, blocks: Blocks) -> dict[tuple[str, str], Sums]:
    """Return squared inclination errors by phase and by how far ``|acc|`` is off gravity.

    Rest counts wherever the reference is known: the benchmark's motion leaves it out.
    """
    squares, judged = inclination_deg(estimate, recording) ** 2, recording.judged
    phase, band = phases(recording), acceleration_band(recording)
    found: dict[tuple[str, str], Sums] = {}
    for code, doing in enumerate(PHASES):
        counted = np.isfinite(squares) if doing == "rest" else judged
        found["phase", doing] = blocks.sums(squares, counted & (phase == code))
    for code, name in enumerate(band_names()):
        found["||acc| - g|", name] = blocks.sums(squares, judged & (band == code))
    return found


def _by_label(
    parts: Sequence[Mapping[tuple[str, str], Sums]], trial: NDArray[np.intp], whole: bool
) -> Iterator[tuple[Mapping[str, str], Mapping[str, MetricScores]]]:
    for dimension, name in parts[0]:
        sums = [part[dimension, name] for part in parts]
        numbers = trial
        if whole and sum(bool(samples.any()) for _, samples in sums) < _FEWEST_TRIALS:
            # with other units than the whole there is no interval, which so few trials could not give
            sums = [one for one in sums if one[1].any()]
            numbers = np.repeat(np.arange(len(sums)), [len(samples) for _, samples in sums])
        if sums:
            found = _metric(sums, numbers, root=True, whole=whole)
            if found.count:
                yield {dimension: name}, {PRIMARY: found}


def _by_trial(scores: MetricScores, name: str, recordings: Sequence[Recording]) -> Slices:
    """Return each trial by itself; one trial is no sample of trials, so it gets no interval."""
    if len(recordings) == 1:
        return ()
    assert isinstance(scores.by_counts, TrialMean)
    whole = scores.by_counts
    found = []
    for number, recording in enumerate(recordings):
        rows = whole.trial == number
        zeros = np.zeros(int(rows.sum()), dtype=np.intp)
        part = _metric([(whole.sums[rows], whole.samples[rows])], zeros, root=whole.root, whole=False)
        if part.count:
            found.append(({"trial": recording.trial}, {name: part}))
    return tuple(found)

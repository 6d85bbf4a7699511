"""Our attitude beside VQF on the eleven trials of BROAD: trial by trial, at lower rates, uneven and turned.

    python -m benchmarks.imu_attitude_trials
    python -m benchmarks.imu_attitude_trials --json
    python -m benchmarks.imu_attitude_trials --keep

Inclination RMSE in degrees over moving samples. What is fitted (delays and what a gyroscope reads, the
product's default) is fitted to the six trials that are not tested, so that its figures there are in-sample;
``left_out`` fits to ten trials and judges the eleventh. At lower rates samples are means of blocks, which
stand at their last sample.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.config import resolve
from appliedpapers.core.data import Dataset
from appliedpapers.core.model import FitContext
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.data import DATASETS
from appliedpapers.plugins.imu_attitude.delay import carry_on, fit_delay
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.estimators import estimators
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.model import AttitudeEstimator
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.residual import ResidualFilter
from appliedpapers.plugins.imu_attitude.rotations import (
    conjugate,
    multiply,
    normalise,
    rotate,
)
from appliedpapers.plugins.imu_attitude.scoring import inclination_deg
from appliedpapers.plugins.imu_attitude.splits import AttitudeSplit, cut
from appliedpapers.plugins.imu_attitude.timing import SAMPLINGS, choose_timing, of_means
from benchmarks.acceptance import keep

Floats = NDArray[np.float64]
Estimator = Callable[[Recording], Estimate]

BLOCKS = (2, 3, 5)  # 143, 95 and 57 Hz
JITTER, DROPS = 0.05, 0.01
_SEEDS = 3
_TURNS = 4
_DRAWS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Our attitude beside VQF on the eleven trials of BROAD.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write docs/results/imu_attitude_trials.json")
    options = parser.parse_args(arguments)
    found = measure()
    if options.keep:
        keep("imu_attitude_trials", found)
    if options.json:
        print(json.dumps(found))
        return 0
    print("delays, ms   " + ", ".join(f"{name} {value:.2f}" for name, value in found["delay_ms"].items()))
    print("readings     " + ", ".join(f"{name} {value}" for name, value in found["samplings"].items()))
    print(f"share of the network's correction that is kept: {found['share']:g}")
    for name, errors in found["errors"].items():
        means = found["means"][name]
        print(f"{name:<24}" + "".join(f"{error:6.2f}" for error in errors.values()), end="")
        print(f"   test {means['test']:.3f}   other six {means['train']:.3f}")
    for part in ("rates", "irregular", "turned", "steps", "paired", "left_out"):
        print(f"{part}: {json.dumps(found[part], indent=1)}")
    return 0


def broad() -> Dataset:
    """Return BROAD as the product deals it."""
    return load_dataset(DATASETS, "imu-attitude", resolve(AttitudeConfig), dataset="broad")


def recordings(dataset: Dataset, *names: str) -> list[Recording]:
    """Return the trials of some splits."""
    return [one for name in names for one in cast("AttitudeSplit", getattr(dataset, name)).recordings]


def gravity(
    recording: Recording, delay: float = 0.0, *, sampling: str = "mean", scale_errors: bool = True
) -> Estimate:
    """Return our filter's answer, carried on by ``delay`` seconds, with scale errors or without."""
    options = resolve(AttitudeConfig).filter.model_copy(update={"sampling": sampling})
    if not scale_errors:
        options = options.model_copy(update={"scale_error": 0.0})
    return GravityFilter(options, delay=delay).batch(recording)


def rmse_deg(estimate: Estimate, recording: Recording) -> float:
    """Return the root mean square inclination error of a trial in degrees."""
    return float(np.sqrt(np.mean(inclination_deg(estimate, recording)[recording.judged] ** 2)))


def errors_of(estimator: Estimator, trials: Sequence[Recording]) -> Floats:
    """Return the error of each trial in degrees."""
    return np.array([rmse_deg(estimator(one), one) for one in trials])


def delay_of(estimator: Estimator, trials: Sequence[Recording]) -> float:
    """Return the delay in seconds that suits an estimator on some trials."""
    return fit_delay([estimator(one) for one in trials], trials)


def delayed(estimator: Estimator, delay: float) -> Estimator:
    """Return the estimator with its answers carried on."""
    return lambda recording: carry_on(estimator(recording), recording, delay)


def measure() -> dict[str, Any]:
    """Return all figures; see the head of this file."""
    dataset = broad()
    known, unseen = recordings(dataset, "train", "valid"), recordings(dataset, "test")
    trials = sorted([*known, *unseen], key=lambda one: one.trial)
    tested = np.isin([one.trial for one in trials], [one.trial for one in unseen])
    vqf = estimators(["vqf"])["vqf"]
    model = fitted(dataset)
    whole = copy.copy(model)
    whole.share = 1.0
    alone = partial(GravityFilter, model.filter, delay=model.delay)
    readings: dict[str, dict[str, Estimator]] = {
        "filter": {name: partial(gravity, sampling=name) for name in SAMPLINGS},
        "vqf": {"mean": vqf, "instant": lambda one: vqf(of_means(one))},
    }
    timing = {name: choose_timing(read, known) for name, read in readings.items()}
    samplings = {name: sampling for name, (sampling, _) in timing.items()}
    delays = {name: delay for name, (_, delay) in timing.items()}
    ours = partial(gravity, sampling=samplings["filter"], delay=delays["filter"])
    late = delayed(vqf, delay_of(vqf, known))
    methods: dict[str, Estimator] = {
        "filter": gravity,
        "filter-delay": ours,
        "filter-trusting": partial(gravity, scale_errors=False),
        "filter-trusting-delay": partial(ours, scale_errors=False),
        "default": model.estimate,
        "whole-correction": whole.estimate,
        "vqf": vqf,
        "vqf-delay-alone": late,
        "vqf-delay": delayed(readings["vqf"][samplings["vqf"]], delays["vqf"]),
        "corrected-mean-10s": estimators(["corrected-mean-10s"])["corrected-mean-10s"],
    }
    errors = {name: errors_of(method, trials) for name, method in methods.items()}
    # means of blocks are means, whatever the gyroscope reads
    fast: dict[str, Estimator] = {
        "filter": gravity,
        "filter-delay": partial(gravity, delay=delay_of(gravity, known)),
        "vqf": vqf,
        "vqf-delay": late,
    }
    return {
        "delay_ms": {name: 1000 * value for name, value in {**delays, "default": model.delay}.items()},
        "samplings": samplings,
        "share": model.share,
        "facts": dict(model.describe()),
        "errors": {name: _by_trial(values, trials) for name, values in errors.items()},
        "means": {
            name: {
                "test": float(values[tested].mean()),
                "train": float(values[~tested].mean()),
                "all": float(values.mean()),
            }
            for name, values in errors.items()
        },
        "rates": rates(fast, unseen),
        "irregular": irregular(ours, unseen),
        "turned": {"filter": turned(ours, trials), "network": turned(whole.estimate, unseen)},
        "steps": {
            "filter": steps(alone, lambda one: alone().batch(one), unseen[-1]),
            "network": steps(whole.machine, whole.estimate, unseen[-1]),
        },
        "paired": {
            f"{a} less {b}": {
                "all": paired(errors[a], errors[b]),
                "test": paired(errors[a][tested], errors[b][tested]),
            }
            for a in ("filter", "filter-delay", "default")
            for b in ("vqf", "vqf-delay")
        },
        "left_out": left_out(readings, vqf, trials),
    }


def fitted(dataset: Dataset) -> AttitudeEstimator:
    """Return the product's default, fitted to all trials but those of the test."""
    with tempfile.TemporaryDirectory(prefix="attitude-") as scratch:
        run = FitContext(Path(scratch), seed=resolve(AttitudeConfig).seed)
        return AttitudeEstimator(resolve(AttitudeConfig)).fit(dataset.train, dataset.valid, run)


def thinned(recording: Recording, block: int) -> Recording:
    """Return means of so many samples; each stands at the last of them, and so does its reference."""
    count = len(recording) // block
    last = cut(recording, block * np.arange(1, count + 1) - 1)

    def mean(values: Floats) -> Floats:
        return np.asarray(values[: count * block].reshape(count, block, 3).mean(axis=1))

    return replace(last, acc=mean(recording.acc), gyr=mean(recording.gyr))


def rates(methods: Mapping[str, Estimator], trials: Sequence[Recording]) -> dict[str, dict[str, float]]:
    """Return the mean error of each method by sampling rate in Hz, everybody at the same rate."""
    found = {}
    for block in BLOCKS:
        slower = [thinned(one, block) for one in trials]
        means = {name: float(errors_of(method, slower).mean()) for name, method in methods.items()}
        found[f"{1 / slower[0].step:.0f}"] = means
    return found


def shaken(recording: Recording, random: np.random.Generator) -> Recording:
    """Return the recording at instants that are up to 5 % of a step off, with the true stamps."""
    step = recording.step
    time = recording.time + random.uniform(-JITTER, JITTER, len(recording)) * step
    reference = recording.reference
    assert reference is not None
    # neighbours of one sign, so that they can be averaged
    signs = np.cumprod(np.where(np.sum(reference[1:] * reference[:-1], axis=1) < 0, -1.0, 1.0))
    smooth = reference * np.concatenate([[1.0], signs])[:, None]

    def at(values: Floats) -> Floats:
        return np.stack([np.interp(time, recording.time, axis) for axis in values.T], axis=1)

    return replace(
        recording,
        time=time,
        acc=at(recording.acc),
        gyr=at(recording.gyr),
        reference=normalise(at(smooth)),
    )


def dropped(recording: Recording, random: np.random.Generator) -> Recording:
    """Return the recording without one sample in a hundred."""
    return cut(recording, np.flatnonzero(random.random(len(recording)) >= DROPS))


def irregular(method: Estimator, trials: Sequence[Recording]) -> dict[str, float]:
    """Return by what share the mean error grows, averaged over random faults."""
    even = errors_of(method, trials).mean()
    found = {}
    for name, harm in (("jitter", shaken), ("drops", dropped)):
        means = [
            errors_of(method, [harm(one, np.random.default_rng(seed)) for one in trials]).mean()
            for seed in range(_SEEDS)
        ]
        found[name] = float(np.mean(means) / even - 1)
    return found


def turned(method: Estimator, trials: Sequence[Recording]) -> float:
    """Return the largest change of a trial's error, in degrees, when the sensor is mounted otherwise."""
    random = np.random.default_rng(0)
    plain, most = errors_of(method, trials), 0.0
    for _ in range(_TURNS):
        mount = normalise(random.normal(size=4))
        other = [_mounted(one, mount) for one in trials]
        most = max(most, float(np.abs(errors_of(method, other) - plain).max()))
    return most


def steps(
    start: Callable[[], GravityFilter | ResidualFilter], estimator: Estimator, recording: Recording
) -> float:
    """Return the largest angle in radians between answers one by one, moved on half way, and a batch's."""
    machine, half = start(), len(recording) // 2
    rows = zip(recording.acc.tolist(), recording.gyr.tolist(), recording.time.tolist(), strict=True)
    answers = []
    for number, row in enumerate(rows):
        if number == half:
            machine = start().restore(machine.state())
        answers.append(machine.step(*row).quaternion)
    error = multiply(conjugate(np.array(answers)), estimator(recording).quaternion)
    return float(2 * np.abs(np.arctan2(np.linalg.norm(error[:, 1:], axis=1), np.abs(error[:, 0]))).max())


def paired(ours: Floats, theirs: Floats) -> dict[str, float]:
    """Return the mean paired difference in degrees, its 95 % interval over trials, and a sign test."""
    from scipy.stats import binomtest

    difference = ours - theirs
    drawn = np.random.default_rng(0).integers(len(difference), size=(_DRAWS, len(difference)))
    low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
    wins = int((difference < 0).sum())
    return {
        "mean": float(difference.mean()),
        "low": float(low),
        "high": float(high),
        "wins": wins,
        "trials": len(difference),
        "sign_p": float(binomtest(wins, len(difference)).pvalue),
    }


def left_out(
    readings: Mapping[str, Mapping[str, Estimator]], vqf: Estimator, trials: Sequence[Recording]
) -> dict[str, Any]:
    """Return the error of each trial with a sampling and a delay that were fitted to all others."""
    errors: dict[str, Floats] = {}
    for name, estimators_of in readings.items():
        known = {sampling: _remembered(read, trials) for sampling, read in estimators_of.items()}
        found = []
        for one in trials:
            sampling, delay = choose_timing(known, [other for other in trials if other is not one])
            found.append(rmse_deg(carry_on(known[sampling](one), one, delay), one))
        errors[name] = np.array(found)
    plain = errors_of(vqf, trials)
    return {
        "errors": {name: _by_trial(values, trials) for name, values in errors.items()},
        "filter less vqf without delay": paired(errors["filter"], plain),
        "filter less vqf": paired(errors["filter"], errors["vqf"]),
    }


def _remembered(estimator: Estimator, trials: Sequence[Recording]) -> Estimator:
    answers = {one.trial: estimator(one) for one in trials}
    return lambda one: answers[one.trial]


def _mounted(recording: Recording, mount: Floats) -> Recording:
    reference = recording.reference
    assert reference is not None
    return replace(
        recording,
        acc=rotate(mount, recording.acc),
        gyr=rotate(mount, recording.gyr),
        reference=multiply(reference, conjugate(mount)),
    )


def _by_trial(values: Floats, trials: Sequence[Recording]) -> dict[str, float]:
    return {one.trial[:2]: float(value) for one, value in zip(trials, values, strict=True)}


if __name__ == "__main__":
    sys.exit(main())

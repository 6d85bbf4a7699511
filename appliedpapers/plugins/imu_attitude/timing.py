"""When a reading is about: the filter's sampling and delay, fitted to trials with a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from appliedpapers.plugins.imu_attitude.config import FilterConfig
from appliedpapers.plugins.imu_attitude.delay import carry_on, fit_delay
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import angle_between, up_vector

SAMPLINGS = ("mean", "instant")

# chips average, so that is believed where the trials hardly tell
_WORTH = 0.01


def fit_timing(options: FilterConfig, recordings: Sequence[Recording]) -> tuple[FilterConfig, float]:
    """Return options whose sampling is settled, and the delay in seconds that goes with it.

    Args:
        options: Of the filter; what they state is kept, and ``auto`` is fitted.
        recordings: Trials with a reference that is judged somewhere, one or more.
    """
    samplings = SAMPLINGS if options.sampling == "auto" else (options.sampling,)
    settled = {sampling: options.model_copy(update={"sampling": sampling}) for sampling in samplings}
    sampling, delay = choose_timing(
        {name: _filtering(one) for name, one in settled.items()},
        recordings,
        None if options.delay == "auto" else options.delay,
    )
    return settled[sampling], delay


def _filtering(options: FilterConfig) -> Callable[[Recording], Estimate]:
    return lambda recording: GravityFilter(options, delay=0.0).batch(recording)


def choose_timing(
    estimators: Mapping[str, Callable[[Recording], Estimate]],
    recordings: Sequence[Recording],
    delay: float | None = None,
) -> tuple[str, float]:
    """Return the sampling whose estimator errs least, each trial counting alike, and its delay.

    Args:
        estimators: By what they take a reading for, the usual first; they answer without any delay.
        recordings: Trials with a reference that is judged somewhere, one or more.
        delay: In seconds; None fits it.
    """
    chosen, least = (next(iter(estimators)), 0.0), np.inf
    for sampling, estimator in estimators.items():
        plain = [estimator(recording) for recording in recordings]
        own = fit_delay(plain, recordings) if delay is None else delay
        pairs = zip(plain, recordings, strict=True)
        error = float(np.mean([_rmse(carry_on(*pair, own), pair[1]) for pair in pairs]))
        if error < (1 - _WORTH) * least:
            chosen, least = (sampling, own), error
    return chosen


def of_means(recording: Recording) -> Recording:
    """Return a recording whose rates are means over the steps before, for one whose rates are of moments."""
    gyr = recording.gyr.copy()
    gyr[1:] += recording.gyr[:-1]
    gyr[1:] /= 2
    return replace(recording, gyr=gyr)


def _rmse(estimate: Estimate, recording: Recording) -> float:
    assert recording.reference is not None
    judged = recording.judged
    angles = angle_between(estimate.up[judged], up_vector(recording.reference[judged]))
    return float(np.sqrt(np.mean(angles**2)))

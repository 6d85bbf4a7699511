"""When a reading is about: the filter's sampling and delay, fitted to trials with a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliedpapers.plugins.imu_attitude.config import FilterConfig
from appliedpapers.plugins.imu_attitude.delay import carry_on, fit_delay
from appliedpapers.plugins.imu_attitude.estimate import Estimate
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import angle_between, up_vector

# chips average, so that is believed where the trials hardly tell
_WORTH = 0.01


def fit_timing(options: FilterConfig, recordings: Sequence[Recording]) -> tuple[FilterConfig, float]:
    """Return options whose sampling is settled, and the delay in seconds that goes with it.

    What the options state is kept; ``auto`` is fitted, each trial counting alike.

    Args:
        options: Of the filter.
        recordings: Trials with a reference that is judged somewhere, one or more.
    """
    settled, delay, least = options, 0.0, np.inf
    for sampling in ("mean", "instant") if options.sampling == "auto" else (options.sampling,):
        tried = options.model_copy(update={"sampling": sampling})
        plain = [GravityFilter(tried, delay=0.0).batch(recording) for recording in recordings]
        own = fit_delay(plain, recordings) if options.delay == "auto" else options.delay
        pairs = zip(plain, recordings, strict=True)
        error = float(np.mean([_rmse(carry_on(*pair, own), pair[1]) for pair in pairs]))
        if error < (1 - _WORTH) * least:
            settled, delay, least = tried, own, error
    return settled, delay


def _rmse(estimate: Estimate, recording: Recording) -> float:
    assert recording.reference is not None
    judged = recording.judged
    angles = angle_between(estimate.up[judged], up_vector(recording.reference[judged]))
    return float(np.sqrt(np.mean(angles**2)))

"""Fitting the filter's noises to trials with a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliedpapers.core.progress import Progress
from appliedpapers.plugins.imu_attitude.config import FilterConfig
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.rotations import angle_between, up_vector
from appliedpapers.plugins.imu_attitude.timing import fit_timing

_TUNED = ("noise_least", "gyr_noise", "gyr_share", "scale_error", "bias_walk", "motion_hz")
_FACTORS = (0.5, 2.0)
_ROUNDS = 2
# a gain that small is as likely the few trials' own
_WORTH = 0.003


def fit_filter(
    options: FilterConfig, recordings: Sequence[Recording], progress: Progress
) -> tuple[FilterConfig, float]:
    """Return the filter's options and its delay in seconds as some trials have them.

    Sampling and delay are fitted where they are ``auto``, noises where ``tune`` asks for it.

    Args:
        options: Of the filter.
        recordings: Trials with a reference, one or more.
        progress: Where tuning is shown.
    """
    settled, delay = fit_timing(options, recordings)
    return (tune_filter(settled, recordings, delay, progress) if options.tune else settled), delay


def tune_filter(
    options: FilterConfig, recordings: Sequence[Recording], delay: float, progress: Progress
) -> FilterConfig:
    """Return options with noises that err least on some trials, found one after the other.

    Args:
        options: Where the search starts.
        recordings: Trials with a reference; each counts alike.
        delay: Seconds that answers are carried on by.
        progress: Where it is shown.
    """
    best, least = options, _error(options, recordings, delay)
    with progress.task("filter", _ROUNDS * len(_TUNED)) as bar:
        for _ in range(_ROUNDS):
            for name in _TUNED:
                for factor in _FACTORS:
                    tried = best.model_copy(update={name: getattr(best, name) * factor})
                    error = _error(tried, recordings, delay)
                    if error < (1 - _WORTH) * least:
                        best, least = tried, error
                        break
                bar.advance(1, note=f"{name}  inclination {least:.3f} deg")
    return best


def _error(options: FilterConfig, recordings: Sequence[Recording], delay: float) -> float:
    found = []
    for recording in recordings:
        assert recording.reference is not None
        up = GravityFilter(options, delay=delay).batch(recording).up[recording.judged]
        angles = angle_between(up, up_vector(recording.reference[recording.judged]))
        found.append(np.degrees(np.sqrt(np.mean(angles**2))))
    return float(np.mean(found))

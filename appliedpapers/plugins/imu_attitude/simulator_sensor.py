"""What a cheap sensor makes of the truth, and its clock of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.simulator_motion import Moment

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_GYR_RANGES = np.deg2rad([250.0, 500.0, 1000.0, 2000.0])
_ACC_RANGES = 9.81 * np.array([2.0, 4.0, 8.0, 16.0])
_CLIPPED_SHARE = 0.001  # who records this motion chose a range that holds the rest of the readings
_COUNTS = 32_768  # int16 per range
_GYR_SCALE, _ACC_SCALE = 0.003, 0.005
_GYR_BIAS, _ACC_BIAS = np.deg2rad(0.3), 0.05
_WALK = np.deg2rad([1e-4, 5e-3])  # rad/s per sqrt(s)
_GYR_NOISE, _ACC_NOISE = np.deg2rad([0.003, 0.02]), np.array([5e-4, 5e-3])  # per sqrt(Hz)
_CLOCK_PPM = 50.0
_TAPPED_SHARE, _TAPS_PER_S = 0.25, 1.0
_TAP_S, _TAP_ACC = (0.002, 0.008), (20.0, 150.0)


def draw_clock(
    rng: np.random.Generator, seconds: float, fs: float, jitter: float, drops: float, noise: float
) -> tuple[Floats, Floats]:
    """Draw when samples are taken and what the sensor's clock says then.

    Args:
        rng: Where the numbers come from.
        seconds: Length of the recording.
        fs: Nominal rate in Hz.
        jitter: Largest displacement of a sample, as a share of a step; how much of it is drawn, too.
        drops: Largest share of samples that are lost; likewise.
        noise: Factor on the clock's error of up to 50 ppm.

    Returns:
        Seconds of the truth and the stamps, each ``(N,)`` with N >= 2 and increasing.
    """
    count = max(2, int(seconds * fs))
    shift = rng.uniform(-1, 1, count) * rng.uniform(0, 1) * jitter
    lost = rng.random(count) < rng.uniform(0, 1) * drops
    lost[[0, -1]] = False
    time = ((np.arange(count) + 0.5 + shift) / fs)[~lost]
    return time, time * (1 + 1e-6 * _CLOCK_PPM * noise * rng.uniform(-1, 1))


def measure(
    rng: np.random.Generator, truth: Moment, time: Floats, fs: float, noise: float
) -> tuple[Floats, Floats]:
    """Return gyroscope and accelerometer readings, ``(N, 3)`` in rad/s and m/s^2.

    Args:
        rng: Where the numbers come from.
        truth: What happened, without hits.
        time: ``(N,)`` seconds.
        fs: Nominal rate in Hz: noise of a given density grows with it.
        noise: Factor on every error; 0 is a perfect sensor, before anything is digitised.
    """
    steps = np.diff(time, prepend=time[0])
    walk = np.cumsum(rng.normal(size=(len(time), 3)) * np.sqrt(steps)[:, None], axis=0) * rng.uniform(*_WALK)
    gyr = _distort(rng, truth.rate, _GYR_SCALE, _GYR_BIAS, rng.uniform(*_GYR_NOISE) * np.sqrt(fs))
    acc = _distort(rng, truth.force, _ACC_SCALE, _ACC_BIAS, rng.uniform(*_ACC_NOISE) * np.sqrt(fs))
    return truth.rate + noise * (gyr + walk), truth.force + noise * acc


def _distort(rng: np.random.Generator, values: Floats, scale: float, bias: float, sd: float) -> Floats:
    """Return the error by scale and cross-axis, constant bias and white noise."""
    error = values @ rng.normal(0, scale, (3, 3)).T + rng.normal(0, bias, 3)
    return np.asarray(error + rng.normal(0, sd, values.shape))


def hits(rng: np.random.Generator, time: Floats, moving: Bools) -> Floats:
    """Return the accelerations of taps on some of the sensors, ``(N, 3)`` in m/s^2; none on one at rest.

    Args:
        rng: Where the numbers come from.
        time: ``(N,)`` seconds.
        moving: ``(N,)``.
    """
    force = np.zeros((len(time), 3))
    rate = rng.uniform(0, _TAPS_PER_S) * (rng.random() < _TAPPED_SHARE)
    for begin in rng.uniform(time[0], time[-1], rng.poisson(rate * (time[-1] - time[0]))):
        length, direction = rng.uniform(*_TAP_S), rng.normal(size=3)
        height = rng.uniform(*_TAP_ACC) * direction / np.linalg.norm(direction)
        part = slice(*np.searchsorted(time, (begin, begin + length)))
        force[part] += np.sin(np.pi * (time[part] - begin) / length)[:, None] * height
    force[~moving] = 0
    return force


def digitise_gyr(rng: np.random.Generator, readings: Floats) -> Floats:
    """Return angular rates clipped and rounded to int16 counts of a range up to 2000 deg/s."""
    return _digitise(rng, readings, readings, _GYR_RANGES)


def digitise_acc(rng: np.random.Generator, readings: Floats, gentle: Floats) -> Floats:
    """Return accelerations clipped and rounded to int16 counts of a range up to 16 g.

    Args:
        rng: Draws the range among those that hold nearly all of ``gentle``.
        readings: ``(N, 3)`` m/s^2.
        gentle: ``(N, 3)`` the same without hits, which nobody planned for.
    """
    return _digitise(rng, readings, gentle, _ACC_RANGES)


def _digitise(rng: np.random.Generator, readings: Floats, planned: Floats, ranges: Floats) -> Floats:
    needed = np.quantile(np.abs(planned).max(axis=1), 1 - _CLIPPED_SHARE)
    wide = ranges[ranges >= needed]
    count = rng.choice(wide if len(wide) else ranges[-1:]) / _COUNTS
    return np.asarray(np.clip(np.round(readings / count), -_COUNTS, _COUNTS - 1) * count)

"""Simulated recordings with exact truth: smooth random motion, seen by a sensor with every usual fault."""

from __future__ import annotations

import numpy as np

from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.imu_attitude.config import SimulatorConfig
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.simulator_motion import Motion, draw_motion
from appliedpapers.plugins.imu_attitude.simulator_sensor import (
    digitise_acc,
    digitise_gyr,
    draw_clock,
    hits,
    measure,
)


def simulate(options: SimulatorConfig, seed: int) -> list[Recording]:
    """Simulate recordings; each depends on the seed and its own number, not on how many there are.

    Args:
        options: How many, how long and how faulty. Without noise nothing is clipped or rounded either; hits,
            jitter and drops stay.
        seed: The same seed gives the same bytes.

    Returns:
        Trials ``simulated-0001`` and on. The reference is the truth at the instant of each sample, known
        everywhere; time is what the sensor's clock says, from about 0.
    """
    return [_record(options, seed, number) for number in range(options.sequences)]


def true_motion(seconds: float, seed: int, number: int) -> Motion:
    """Return the motion behind recording ``number``, counted from 0: all nine kinds take turns."""
    # a Latin order, so that any few neighbours are of different kinds
    rotation, translation = number % 3, (number + number // 3) % 3
    return draw_motion(_stream(seed, number, "motion"), seconds, rotation, translation)


def _record(options: SimulatorConfig, seed: int, number: int) -> Recording:
    motion = true_motion(options.seconds, seed, number)
    clock, sensor, taps = (_stream(seed, number, what) for what in ("clock", "sensor", "taps"))
    fs = float(clock.choice(options.fs))
    time, stamps = draw_clock(clock, options.seconds, fs, options.jitter, options.drops, options.noise)
    truth = motion.at(time)
    gyr, gentle = measure(sensor, truth, time, fs, options.noise)
    acc = gentle + hits(taps, time, truth.moving) if options.taps else gentle
    if options.noise:
        gyr, acc = digitise_gyr(sensor, gyr), digitise_acc(sensor, acc, gentle)
    return Recording(
        trial=f"simulated-{number + 1:04d}",
        time=stamps,
        acc=acc,
        gyr=gyr,
        reference=truth.quaternion,
        movement=truth.moving,
    )


def _stream(seed: int, number: int, what: str) -> np.random.Generator:
    # one for each purpose, so that a fault switched off leaves everything else as it was
    return np.random.default_rng(derive_seed(seed, "imu-attitude", "simulator", number, what))

"""How fast attitude is estimated, beside VQF and Madgwick, on one thread and in one run.

    python -m benchmarks.imu_attitude_speed
    python -m benchmarks.imu_attitude_speed --json

Batches are of one simulated recording of three minutes at 286 Hz; all take turns, and the median of CPU times
counts. Madgwick is pure Python: it gets the first seconds of the recording. Steps are taken one by one from
Python, as a robot would: their mean is CPU time, their 99th percentile is by the clock. A network is made to
answer whatever it is worth, five times a second: the 99th percentile is then a step in which it does.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from appliedpapers.core.config import resolve
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig, SimulatorConfig
from appliedpapers.plugins.imu_attitude.embedded import single_corrector
from appliedpapers.plugins.imu_attitude.estimators import estimators
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.residual import ResidualFilter, network_pace
from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork
from appliedpapers.plugins.imu_attitude.simulator import simulate
from appliedpapers.plugins.imu_attitude.splits import cut

ROUNDS = 7
_SECONDS, _FS = 180.0, 286.0
_SLOW_SAMPLES = 12_000
_WARM = 2_000


@dataclass(frozen=True)
class _Batch:
    """What estimates a recording at once, and the recording."""

    run: Callable[[Recording], Any]
    recording: Recording


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Samples a second of attitude filters, and time of a step.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = measure()
    if options.json:
        print(json.dumps(found))
        return 0
    for name, speed in found["batch"].items():
        print(f"batch  {name:<18}{speed / 1000:>10,.0f} ksamples/s")
    for name, one in found["step"].items():
        print(f"step   {name:<18}{one['mean_us']:>10.2f} us   p99 {one['p99_us']:.2f} us")
    return 0


def measure() -> dict[str, Any]:
    """Return samples a second of batches, and microseconds of single steps."""
    wanted = SimulatorConfig(sequences=3, seconds=_SECONDS, fs=(_FS,), jitter=0.0, drops=0.0)
    recording = simulate(wanted, seed=1)[2]
    options = resolve(AttitudeConfig).filter
    others = estimators(["vqf", "madgwick"])
    short = cut(recording, slice(0, _SLOW_SAMPLES))
    batches = {
        "filter": _Batch(lambda one: GravityFilter(options).batch(one), recording),
        "vqf": _Batch(others["vqf"], recording),
        "madgwick": _Batch(others["madgwick"], short),
    }
    steps = {
        "filter": GravityFilter(options).step,
        "filter, numpy": GravityFilter(options, compiled=False).step,
        "network": _with_network(compiled=True).step,
        "network, numpy": _with_network(compiled=False).step,
        "vqf": _vqf_step(recording),
    }
    return {"batch": _batch_speeds(batches), "step": {name: _step(run, short) for name, run in steps.items()}}


def _with_network(*, compiled: bool) -> ResidualFilter:
    """Return the filter with a network that answers; what it would have learned does not matter here."""
    config = resolve(AttitudeConfig)
    network = ResidualNetwork(config.model.head, math.radians(config.model.limit_deg), config.seed)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    gravity = GravityFilter(config.filter, compiled=compiled)
    length, every = network_pace(config)
    return ResidualFilter(gravity, single_corrector(weights, config), share=1.0, length=length, every=every)


def _batch_speeds(batches: dict[str, _Batch]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    for number in range(ROUNDS + 1):
        for name, batch in batches.items():
            started = time.process_time()
            batch.run(batch.recording)
            if number:  # the first one compiles
                seconds[name].append(time.process_time() - started)
    return {name: len(batch.recording) / statistics.median(seconds[name]) for name, batch in batches.items()}


def _step(run: Callable[..., Any], recording: Recording) -> dict[str, float]:
    rows = list(zip(recording.acc.tolist(), recording.gyr.tolist(), recording.time.tolist(), strict=True))
    for row in rows[:_WARM]:
        run(*row)
    times = []
    busy = time.process_time()
    for row in rows[_WARM:]:
        started = time.perf_counter()
        run(*row)
        times.append(time.perf_counter() - started)
    busy = time.process_time() - busy
    return {"mean_us": 1e6 * busy / len(times), "p99_us": 1e6 * float(np.quantile(times, 0.99))}


def _vqf_step(recording: Recording) -> Callable[..., Any]:
    from vqf import VQF

    filtered = VQF(recording.step)

    def step(acc: list[float], gyr: list[float], _: float) -> Any:
        filtered.update(np.array(gyr), np.array(acc))
        return filtered.getQuat6D()

    return step


if __name__ == "__main__":
    sys.exit(main())

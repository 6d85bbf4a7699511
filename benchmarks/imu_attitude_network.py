"""What the residual network is worth where the filter does not help it: beside the mean of its own window.

    python -m benchmarks.imu_attitude_network
    python -m benchmarks.imu_attitude_network --json

The network corrects the mean specific force of its own 4.4 s, held still by the gyroscope
(``model.base=window-mean``). It learns from the six trials of BROAD that are not tested; the share of its
correction that is kept is the one that those choose, held out in turn. Errors are inclination RMSE in degrees
where the network answers (five times a second), over moving samples.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.imu_attitude.config import AttitudeConfig
from appliedpapers.plugins.imu_attitude.filter import GravityFilter
from appliedpapers.plugins.imu_attitude.learner_residual import ResidualTask, examples, rms_deg
from appliedpapers.plugins.imu_attitude.recording import Recording
from appliedpapers.plugins.imu_attitude.residual import network_pace
from appliedpapers.plugins.imu_attitude.residual_choice import Filtered, train_residual
from appliedpapers.plugins.imu_attitude.residual_network import ResidualNetwork
from benchmarks.imu_attitude_trials import broad, delay_of, gravity, recordings

_SHARES = (0.0, 0.25, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The residual network beside the mean of its own window.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure()
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"share chosen by held-out trials: {found['share']:g}; held-out errors {found['held_out']}")
    for share, errors in found["errors"].items():
        print(f"share {share:<6}{' '.join(f'{error:6.2f}' for error in errors.values())}", end="")
        print(f"   mean {np.mean(list(errors.values())):.3f}")
    print(f"better than its window mean by {100 * found['gain']:.1f} %")
    return 0


def measure() -> dict[str, Any]:
    """Return errors of the test trials by share, the chosen share, and its gain over the window's mean."""
    dataset = broad()
    known, unseen = recordings(dataset, "train", "valid"), recordings(dataset, "test")
    config = resolve(AttitudeConfig, assignments=["model.base=window-mean"])
    delay = delay_of(gravity, known)
    length, every = network_pace(config)
    with tempfile.TemporaryDirectory(prefix="attitude-") as scratch:
        run = FitContext(Path(scratch), seed=config.seed)
        filtered = [_filtered(one, config, delay) for one in known]
        network, share, held_out = train_residual(filtered, length, every, config, run)
    # where nothing is kept there is none: an untrained one answers with no rotation, too
    network = network or ResidualNetwork(config.model.head, math.radians(config.model.limit_deg), config.seed)
    errors: dict[float, dict[str, float]] = {one: {} for one in _SHARES}
    for trial in unseen:
        part = examples([_filtered(trial, config, delay)], length, every, config.model.base)
        left = ResidualTask(network, part, part, config.training).remaining(part, _SHARES)
        for one, angles in zip(_SHARES, left, strict=True):
            errors[one][trial.trial[:2]] = rms_deg(angles)
    means = {one: float(np.mean(list(found.values()))) for one, found in errors.items()}
    return {
        "share": share,
        "held_out": {str(one): error for one, error in held_out.items()},
        "errors": {str(one): found for one, found in errors.items()},
        "window_mean": means[0.0],
        "ours": means[share],
        "gain": 1 - means[share] / means[0.0],
    }


def _filtered(recording: Recording, config: AttitudeConfig, delay: float) -> Filtered:
    estimate, blocks = GravityFilter(config.filter, delay=delay).batch_with_blocks(recording)
    return recording, estimate.quaternion, blocks


if __name__ == "__main__":
    sys.exit(main())

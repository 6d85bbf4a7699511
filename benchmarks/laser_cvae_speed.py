"""Laser CVAE: devices judged a second beside OCSVM, one update of a stream, and the quick preset.

python -m benchmarks.laser_cvae_speed
OMP_NUM_THREADS=1 python -m benchmarks.laser_cvae_speed --json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

_DEVICES, _REPEATS, _UPDATES = 2000, 25, 60


def fastest(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several tries."""
    found = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def rates() -> dict[str, float]:
    """Return devices a second of our score and of OCSVM's, and the milliseconds of an update."""
    import torch
    from sklearn.svm import OneClassSVM

    from appliedpapers.core.config import resolve
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.laser_cvae.baselines import GRID, series
    from appliedpapers.plugins.laser_cvae.config import LaserConfig
    from appliedpapers.plugins.laser_cvae.data import DATASETS
    from appliedpapers.plugins.laser_cvae.model import LaserCvae
    from appliedpapers.plugins.laser_cvae.profile import cleaned, read_at
    from appliedpapers.plugins.laser_cvae.splits import DeviceSplit

    torch.set_num_threads(1)
    config = resolve(LaserConfig, preset="quick", assignments=(f"data.simulator.test_devices={_DEVICES}",))
    dataset = DATASETS.simulated(config)
    train, test = dataset.train, dataset.test
    assert isinstance(train, DeviceSplit)
    assert isinstance(test, DeviceSplit)
    with tempfile.TemporaryDirectory() as folder:
        model = LaserCvae(config).fit(train, dataset.valid, FitContext(Path(folder), seed=1))
    head = model.ageing
    assert head is not None
    seen = test.devices.before(np.inf)
    ours = fastest(lambda: head.scores(seen))
    healthy = ~train.devices.failed
    # the baseline of the tables: outliers replaced, and read on a common grid, from the prefixes that we take
    svm = OneClassSVM(nu=0.02, gamma="scale").fit(series(train.devices, np.array(np.inf))[1][healthy])
    theirs = fastest(lambda: svm.decision_function(read_at(seen, cleaned(seen), GRID)))
    # its decision alone, of a table of readings that has no gaps and is on a common grid already
    bare = OneClassSVM(nu=0.02, gamma="scale").fit(train.devices.damage[healthy])
    alone = fastest(lambda: bare.decision_function(test.devices.damage))
    records, stream, spent = test.example(1).to_pylist(), model.stream(), list[float]()
    for record in records[:_UPDATES]:
        start = time.perf_counter()
        stream.step({**record, "voltage": None, "power": None, "batch": None})
        spent.append(1000 * (time.perf_counter() - start))
    return {
        "devices a second": _DEVICES / ours,
        "ocsvm devices a second": _DEVICES / theirs,
        "share of ocsvm's rate": theirs / ours,
        "share of ocsvm's decision alone": alone / ours,
        "median update, ms": float(np.median(spent[4:])),
    }


def quick() -> dict[str, float]:
    """Return the seconds of the quick preset end to end, with all baselines, as a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        words = ["run", "laser-cvae", "--preset", "quick", "--no-register", "--quiet"]
        subprocess.run(
            [sys.executable, "-m", "appliedpapers", *words], cwd=folder, check=True, capture_output=True
        )
        return {"quick preset, s": time.perf_counter() - start}


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    found = rates() | quick()
    if options.json:
        print(json.dumps(found))
        return 0
    print("python -m benchmarks.laser_cvae_speed")
    for name, value in found.items():
        print(f"{name:<30} {value:10.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

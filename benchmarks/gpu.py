"""The same training on the CPU and on a CUDA device: do the forecasts agree, and what does it cost?

Run: python -m benchmarks.gpu

Trains the preset ``quick`` of ``frets`` on both devices, then takes steps of the full-size network of
arXiv 2311.06184 on both. Writes ``docs/results/gpu-frets.json``. Without a CUDA device it says so and ends.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from appliedpapers.core.config import resolve
from appliedpapers.core.device import describe_device, seed_everything
from appliedpapers.core.files import write_json
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.frets.config import FretsConfig
from appliedpapers.plugins.frets.data import DATASETS
from appliedpapers.plugins.frets.model import FretsForecaster
from appliedpapers.plugins.frets.network import FreTS
from benchmarks.acceptance import RESULTS, commit, versions
from benchmarks.frets_step import BATCH, HORIZON, LOOKBACK, SERIES, train_step

# dropout draws other numbers on another device, so it is off here; what is left is the order of summation
TOLERANCE = 2e-3
STEPS = 30


def main() -> int:
    """Compare, print, write; return the exit code."""
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing to compare")
        return 0
    config = resolve(FretsConfig, preset="quick", assignments=["model.dropout=0"])
    dataset = DATASETS.simulated(config)
    forecasts, fit_seconds = {}, {}
    for device in ("cpu", "cuda"):
        with tempfile.TemporaryDirectory() as scratch:
            seed_everything(config.seed)
            started = time.perf_counter()
            context = FitContext(Path(scratch), seed=config.seed, device=device)
            model = FretsForecaster(config).fit(dataset.train, dataset.valid, context)
            fit_seconds[device] = time.perf_counter() - started
            forecasts[device] = model.forecast_windows(dataset.test.windows)
    truth = dataset.test.windows.targets
    error = {device: float(((values - truth) ** 2).mean()) for device, values in forecasts.items()}
    difference = float(np.sqrt(((forecasts["cpu"] - forecasts["cuda"]) ** 2).mean()))
    steps = {device: step_milliseconds(device) for device in ("cpu", "cuda")}
    document: dict[str, Any] = {
        "command": "python -m benchmarks.gpu",
        "commit": commit(),
        "versions": versions(),
        "device": describe_device("cuda"),
        "fit_seconds": fit_seconds,
        "test_mse": error,
        "forecast_difference_rms_scaled": difference,
        "tolerance": TOLERANCE,
        "agree": difference <= TOLERANCE,
        "full_size_step_milliseconds": steps,
    }
    write_json(RESULTS / "gpu-frets.json", document)
    print(f"{document['device']}: forecasts differ by {difference:.2g} (rms, scaled), allowed {TOLERANCE:g}")
    for device in ("cpu", "cuda"):
        print(
            f"  {device:<6} fit {fit_seconds[device]:7.2f} s   test mse {error[device]:.5f}"
            f"   full-size step {steps[device]:8.2f} ms"
        )
    return 0 if document["agree"] else 1


def step_milliseconds(device: str) -> float:
    """Return the median wall time of a training step of the full-size network."""
    torch.manual_seed(2021)
    network = FreTS(LOOKBACK, HORIZON, SERIES).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    x = torch.randn(BATCH, LOOKBACK, SERIES, device=device)
    y = torch.randn(BATCH, HORIZON, SERIES, device=device)
    times = []
    for _ in range(STEPS + 3):
        started = time.perf_counter()
        train_step(network, optimizer, x, y)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])  # the first steps allocate and plan


if __name__ == "__main__":
    sys.exit(main())

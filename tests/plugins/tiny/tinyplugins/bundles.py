"""Fitted bundles of the tiny plugins, and tables to score with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import save_bundle
from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from tinyplugins.rows.data import SOILS


def make_bundle(folder: Path, plugin: str, task: str | None = None) -> Path:
    """Fit on the simulator and save below ``folder``."""
    spec = plugins.find(plugin).task(task)
    config = resolve(spec.load("config"), preset="quick")
    dataset = spec.load("datasets").simulated(config)
    model = spec.load("model")(config).fit(dataset.train, dataset.valid, FitContext(folder / "scratch"))
    save_bundle(model, folder / plugin, plugin=plugin, task=spec.name)
    return folder / plugin


def plots(rows: int, seed: int = 0, first: int = 0) -> pa.Table:
    """Return inputs of tiny-rows."""
    rng = np.random.default_rng(seed)
    numbers = pa.array(np.arange(first, first + rows)).cast(pa.string())
    return pa.table(
        {
            "plot": pc.binary_join_element_wise("p", pc.utf8_lpad(numbers, 7, "0"), ""),
            "heat": rng.uniform(0, 40, rows),
            "moisture": pa.array(rng.uniform(5, 90, rows), mask=rng.random(rows) < 0.1),
            "soil": pa.array(SOILS).take(rng.integers(0, 3, rows)),
            "visits": rng.integers(0, 20, rows),
        }
    )


def series(lengths: list[int], seed: int = 0) -> pa.Table:
    """Return inputs of tiny-tasks ahead: one group for each length."""
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "series": np.repeat(np.arange(len(lengths)), lengths),
            "step": np.concatenate([np.arange(length) for length in lengths]),
            "value": rng.normal(size=sum(lengths)),
        }
    )

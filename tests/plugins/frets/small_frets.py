"""Small panels and small fitted forecasters for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from appliedpapers.core.config import resolve
from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.frets.config import FretsConfig
from appliedpapers.plugins.frets.data import build_dataset
from appliedpapers.plugins.frets.model import FretsForecaster
from appliedpapers.plugins.frets.panel import SeriesPanel

LOOKBACK, HORIZON = 24, 8
_SMALL = {
    "model.lookback": LOOKBACK,
    "model.horizon": HORIZON,
    "model.embed_dim": 4,
    "model.hidden": 8,
    "training.epochs": 1,
}
PLAIN = ("model.instance_norm=false", "model.skip=none", "model.dropout=0")


def configured(*assignments: str, preset: str = "quick") -> FretsConfig:
    small = [f"{name}={value}" for name, value in _SMALL.items()]
    return resolve(FretsConfig, preset=preset, assignments=[*small, *assignments])


def waves(steps: int = 400, series: int = 3, seed: int = 0) -> np.ndarray:
    """Return ``(steps, series)`` noisy daily cycles on different levels."""
    rng = np.random.default_rng(seed)
    hours = np.arange(steps)[:, None]
    cycle = np.sin(2 * np.pi * (hours + 3 * np.arange(series)) / 24)
    return 10.0 * (1 + np.arange(series)) + 2 * cycle + rng.normal(0, 0.3, (steps, series))


def panel_of(values: np.ndarray, freq: str = "h", start: str = "2024-01-01") -> SeriesPanel:
    ds = pd.date_range(start, periods=len(values), freq=freq, unit="us").to_numpy()
    names = tuple("abcdefgh"[: values.shape[1]])
    return SeriesPanel(names, ds, values, freq)


def dataset_of(panel: SeriesPanel, config: FretsConfig, *, own: bool = False) -> Dataset:
    provenance = Provenance("test", "none", synthetic=True)
    return build_dataset(panel, config, name="small", provenance=provenance, own=own)


def fitted(
    config: FretsConfig, dataset: Dataset, folder: Path, *, init: FretsForecaster | None = None
) -> FretsForecaster:
    run = FitContext(folder, seed=config.seed)
    return FretsForecaster(config).fit(dataset.train, dataset.valid, run, init=init)


def past_of(panel: SeriesPanel, rows: int = LOOKBACK, **columns: list) -> pa.Table:
    """Return the last rows of every series as a long table; further columns hold one value a series."""
    count = len(panel.unique_ids)
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(panel.unique_ids, rows),
            "ds": np.tile(panel.ds[-rows:], count),
            "y": panel.values[-rows:].T.ravel(),
            **{name: np.repeat(np.array(values, object), rows) for name, values in columns.items()},
        }
    )
    return table_of(frame)


def table_of(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def forecasts(table: pa.Table, name: str = "y_hat") -> np.ndarray:
    """Return one column of an answer with one horizon as ``(series, steps)``, series in their order."""
    ids = table.column("unique_id").to_pylist()
    return np.array(table.column(name).to_pylist(), float).reshape(len(dict.fromkeys(ids)), -1)

"""Small slides for tests: pink tissue with a dark cut edge, and a model that was fitted on simulated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.data import DATASETS
from appliedpapers.plugins.virtual_inking.model import VirtualInker


def disc(size: int = 420, radius: float = 180, *, cut: bool = True) -> np.ndarray:
    """Return a pink disc on glass, of which the right half of the rim is dark."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    apart = np.hypot(rows, columns)
    rgb = np.full((size, size, 3), 243.0)
    rgb[apart < radius] = (205, 130, 185)
    if cut:
        rgb[(apart < radius) & (apart > radius - 70) & (columns > 0)] = (90, 25, 85)
    return np.clip(rgb + rng.normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)


def check_config(**sections) -> InkingConfig:
    """Return the configuration of the conformance suite, with overrides."""
    return resolve(InkingConfig, preset="check").replace(**sections)


def fitted(folder: Path, config: InkingConfig) -> VirtualInker:
    """Return a model fitted on the small simulated dataset."""
    dataset = DATASETS.simulated(config)
    return VirtualInker(config).fit(dataset.train, dataset.valid, FitContext(folder, seed=config.seed))

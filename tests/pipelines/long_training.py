"""A small training that lasts long enough to be interrupted, with many checkpoints."""

from __future__ import annotations

LONG = {
    "data.simulator.series": 2,
    "data.simulator.steps": 1500,
    "model.lookback": 48,
    "model.horizon": 12,
    "model.embed_dim": 8,
    "model.hidden": 16,
    "training.epochs": 12,
    "training.patience": 0,
    "training.checkpoint_every_steps": 5,
    "baselines": "[last-value]",
}

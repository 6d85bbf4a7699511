"""Fits that kill their process: in a module of its own, which a new process can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from small_clicks import clicks, configured, dataset_of

from appliedpapers.core import training_loop
from appliedpapers.core.model import FitContext
from appliedpapers.plugins.finalmlp.model import FinalMlpModel

_OPTIONS = ("training.epochs=5", "training.patience=0", "model.oov_dropout=0.05", "training.batch_size=256")
_WAYS = {
    "in-memory": (),
    "streamed": ("data.streaming=on", "data.shuffle_buffer=1000"),
    "ensemble": ("model.ensemble=2", "training.epochs=2"),
    "weak-network": ("cascade.weak=mlp", "cascade.strong_share=0.5", "training.epochs=2"),
}


def fit_until_killed(folder: Path, way: str, resume: bool, die_after: int | None = None) -> FinalMlpModel:
    """Fit, and kill this process once so many epochs were reported, those of all networks counted."""
    torch.set_num_threads(1)
    training_loop._WRITING_SHARE = float("inf")
    config = configured(*_OPTIONS, *_WAYS[way])
    epochs = 0

    def count(metrics: object, step: int) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    dataset = dataset_of(clicks(1500, seed=6), config)
    run = FitContext(folder, seed=3, resume=resume, log_metrics=count)
    return FinalMlpModel(config).fit(dataset.train, dataset.valid, run)

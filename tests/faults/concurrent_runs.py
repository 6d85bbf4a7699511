"""Processes that open one store at the same moment and log a run each.

They are forked after the imports, so that they meet at the store and not at reading MLflow from disk.
Usage: concurrent_runs.py FOLDER PROCESSES EPOCHS
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
from tinyplugins.rows.config import RowsConfig
from tinyplugins.rows.data import DATASETS

from appliedpapers.pipelines import registry
from appliedpapers.pipelines.tracking import start_run
from appliedpapers.pipelines.tracking_store import open_store


def main(folder: Path, processes: int, epochs: int) -> int:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    children = [context.Process(target=work, args=(folder, n, epochs, barrier)) for n in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    return sum(child.exitcode != 0 for child in children)


def work(folder: Path, number: int, epochs: int, barrier) -> None:
    config = RowsConfig(seed=number)
    dataset = DATASETS.simulated(config.replace(data={"rows": 10}))
    barrier.wait()
    store = open_store(folder)
    started = start_run(
        store, plugin="tiny-rows", task="regression", config=config, preset="quick", dataset=dataset
    )
    with started as run:
        for epoch in range(epochs):
            run.log_metrics({"loss": float(number)}, epoch)
            run.flush()
        source = (folder / "anywhere").absolute().as_uri()
        registry.register(store, name="apps.tiny-rows", model_uri=source, run_id=run.run_id, tags={})


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))

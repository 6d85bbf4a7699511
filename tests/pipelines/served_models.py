"""Fitted tiny models behind the server; run as a program it serves one: ``PLUGIN[:TASK] STATE_FOLDER``."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import BundleInfo
from appliedpapers.core.config import resolve
from appliedpapers.core.model import FitContext
from appliedpapers.pipelines.serve import ServedModel, ServeSettings, create_app, run_server


def fitted(plugin: str, task: str | None = None) -> ServedModel:
    spec = plugins.find(plugin)
    chosen = spec.task(task)
    config = resolve(chosen.load("config"), preset="quick")
    dataset = chosen.load("datasets").simulated(config)
    with tempfile.TemporaryDirectory() as folder:
        model = chosen.load("model")(config).fit(dataset.train, dataset.valid, FitContext(Path(folder)))
    facts = {"name": dataset.name, "protocol": dataset.protocol, "synthetic": True}
    info = BundleInfo(
        plugin,
        chosen.name,
        config.model_dump(mode="json"),
        {},
        model.input_schema,
        model.output_schema,
        facts,
    )
    example = dataset.test.example(1 if model.input_schema.group_by else 3)
    return ServedModel(spec.registered_name(chosen), "1", model, info, spec.summary, example)


def slowed(served: ServedModel, seconds: float) -> ServedModel:
    """Return the model with a predict that takes time; the class is extended, so that contracts hold."""
    import time

    class Slow(type(served.model)):
        def predict(self, table, *, files=None):
            time.sleep(seconds)
            return super().predict(table, files=files)

    served.model.__class__ = Slow
    return replace(served, example=None)


if __name__ == "__main__":
    name, _, chosen_task = sys.argv[1].partition(":")
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    model = fitted(name, chosen_task or None)
    settings = ServeSettings(port=0, state_folder=Path(sys.argv[2]), shutdown_grace_s=10)
    run_server(create_app([slowed(model, pause) if pause else model], settings), settings)

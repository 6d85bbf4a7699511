from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from appliedpapers.pipelines import registry
from appliedpapers.pipelines.tracking_store import open_store

_SCRIPT = Path(__file__).with_name("concurrent_runs.py")
_PROCESSES, _EPOCHS = 8, 5


def test_eight_processes_that_start_at_once_on_a_fresh_store_all_succeed(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "mlruns"
    command = [sys.executable, str(_SCRIPT), str(folder), str(_PROCESSES), str(_EPOCHS)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = open_store(folder)
    experiment = store.client.get_experiment_by_name("apps.tiny-rows")
    runs = store.client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(int(run.data.params["seed"]) for run in runs) == list(range(_PROCESSES))
    for run in runs:
        history = store.client.get_metric_history(run.info.run_id, "loss")
        assert sorted(point.step for point in history) == list(range(_EPOCHS))
        assert {point.value for point in history} == {float(run.data.params["seed"])}
    shown = registry.show(store, "tiny-rows")
    assert [version.number for version in shown.versions] == list(range(1, _PROCESSES + 1))
    assert [move.action for move in shown.moves] == ["register"]
    assert shown.versions[0].aliases == ("champion",)

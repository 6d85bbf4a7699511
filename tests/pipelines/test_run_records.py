"""What a cut-off run leaves in MLflow and on disk, and how it is taken up again or cleared away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tinyplugins.rows.config import RowsConfig

from appliedpapers.core.errors import ConfigError, LockedError
from appliedpapers.pipelines.registry import show
from appliedpapers.pipelines.run import run, start
from appliedpapers.pipelines.run_fit import Fitter
from appliedpapers.pipelines.run_folder import RunRequest, list_runs, resume_request
from appliedpapers.pipelines.run_mark import MARK, read_mark
from appliedpapers.pipelines.run_prune import prune_runs

REQUEST = RunRequest(plugin="tiny-rows", config=RowsConfig().replace(data={"rows": 60}), preset="quick")


@pytest.fixture
def runs(tmp_path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def cut_off(runs, store_folder, monkeypatch):
    """A run that was killed while it fitted its baselines: nothing could say so."""

    def _cut_off() -> Path:
        started = start(REQUEST, runs=runs, store_folder=store_folder)
        with monkeypatch.context() as patch:
            patch.setattr(Fitter, "baselines", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            # a process that is killed ends nothing
            patch.setattr("appliedpapers.pipelines.tracking._end", lambda *_: None)
            with pytest.raises(KeyboardInterrupt):
                started.live()
        return started.folder

    return _cut_off


def record(store, folder):
    return store.client.get_run(read_mark(folder).record)


def test_the_record_of_a_killed_run_is_gone_on_with(store, cut_off, runs):
    folder = cut_off()
    before = record(store, folder)
    assert before.info.status == "RUNNING"
    result = run(resume_request(folder), runs=runs, store_folder=store.folder, resume=folder)
    after = record(store, folder)
    assert (after.info.run_id, after.info.status) == (before.info.run_id, "FINISHED")
    (version,) = show(store, "tiny-rows").versions
    assert version.run_id == after.info.run_id
    experiment = after.info.experiment_id
    assert len(store.client.search_runs([experiment])) == 1
    assert result.registered.version == 1


def test_a_record_that_is_gone_is_made_anew(store, cut_off, runs, tmp_path):
    folder = cut_off()
    mark = read_mark(folder)
    (folder / MARK).write_text(json.dumps({**mark.__dict__, "record": "0" * 32}))
    run(resume_request(folder), runs=runs, store_folder=store.folder, resume=folder)
    assert record(store, folder).info.status == "FINISHED"


def test_a_record_of_another_store_is_left_alone(store, cut_off, runs, tmp_path):
    folder = cut_off()
    first = record(store, folder).info.run_id
    run(resume_request(folder), runs=runs, store_folder=tmp_path / "other", resume=folder)
    assert store.client.get_run(first).info.status == "RUNNING"
    assert read_mark(folder).store.startswith(f"sqlite:///{tmp_path / 'other'}")


@pytest.fixture
def process():
    """Some process that is alive."""
    made = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield made
    made.kill()
    made.wait()


def test_a_run_at_work_is_listed_as_running_and_not_resumed_by_another(cut_off, runs, process):
    from appliedpapers.pipelines.processes import born

    folder = cut_off()
    mark = replace(read_mark(folder), pid=process.pid, born=born(process.pid))
    (folder / MARK).write_text(json.dumps(mark.__dict__))
    assert [item["state"] for item in list_runs(runs)] == ["running"]
    with pytest.raises(LockedError, match=f"at work \\(process {process.pid}\\)"):
        resume_request(folder)
    assert prune_runs(runs, older_than_days=0) == []
    process.kill()
    process.wait()
    assert [item["state"] for item in list_runs(runs)] == ["interrupted"]
    assert resume_request(folder).plugin == "tiny-rows"


def test_a_mark_that_cannot_be_read_hides_nothing(cut_off, runs):
    (cut_off() / MARK).write_text("{")
    assert [item["state"] for item in list_runs(runs)] == ["interrupted"]


def age(folder: Path, days: float) -> None:
    moment = time.time() - days * 86_400
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (moment, moment))


def test_pruning_removes_old_cut_off_runs_closes_their_records_and_keeps_reports(store, cut_off, runs):
    old, young = cut_off(), cut_off()
    complete = run(REQUEST, runs=runs, store_folder=store.folder).folder
    (complete / "fit" / "x").mkdir(parents=True, exist_ok=True)
    (complete / "fit" / "x" / "weights").write_bytes(bytes(1000))
    ended = record(store, old).info.run_id
    age(old, 40)
    age(complete, 40)
    planned = prune_runs(runs, dry_run=True, store_folder=store.folder)
    assert {(item.id, item.what) for item in planned} == {(old.name, "run"), (complete.name, "checkpoints")}
    assert old.is_dir()
    assert prune_runs(runs, store_folder=store.folder) == planned
    assert sum(item.bytes for item in planned) > 1000
    assert not old.exists()
    assert young.is_dir()
    assert {path.name for path in complete.iterdir()} >= {"model", "report.html", "results.json"}
    assert not (complete / "fit").exists()
    assert store.client.get_run(ended).info.status == "KILLED"
    assert prune_runs(runs, store_folder=store.folder) == []


def test_pruning_says_what_it_cannot_do(runs):
    with pytest.raises(ConfigError, match="no such folder"):
        prune_runs(runs)
    with pytest.raises(ConfigError, match="is negative"):
        prune_runs(runs, older_than_days=-1)


def test_pruning_without_a_store_makes_none(cut_off, runs, tmp_path):
    folder = cut_off()
    assert [item.what for item in prune_runs(runs, older_than_days=0, store_folder=tmp_path / "none")] == [
        "run"
    ]
    assert not folder.exists()
    assert not (tmp_path / "none").exists()

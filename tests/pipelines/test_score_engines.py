"""Every engine makes the same parts, also where a process that scores is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec

import pyarrow.parquet as pq
import pytest
from scored_rows import write_rows
from tinyplugins.bundles import make_bundle, plots, series

from appliedpapers.core.errors import ConfigError, DataError, RunError
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines import score_processes
from appliedpapers.pipelines.score import score_run

RAY = pytest.param(
    "ray",
    marks=pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed: pip install 'applied-papers[ray]'"
    ),
)
ENGINES = ["processes", RAY]


@pytest.fixture(scope="module", autouse=True)
def bomb(tmp_path_factory):
    """A file that ends the process which scores next, once; known to workers that Ray starts early."""
    path = tmp_path_factory.mktemp("bomb") / "bomb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_ROWS_BOMB", str(path))
        yield path
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("rows"), "tiny-rows"))


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("tasks"), "tiny-tasks", "ahead"))


def run(name, *arguments, **options):
    engine = "ray" if name == "ray" else "local"
    return score_run(*arguments, engine=engine, workers=2, **options)


@pytest.fixture
def inputs(tmp_path):
    return [write_rows(tmp_path / "data")]


def table(output, folder, *keys):
    return pq.read_table(output / folder).sort_by([(key, "ascending") for key in keys]).to_pylist()


def listed(output):
    """Return the manifest without the moment at which it was written."""
    document = json.loads((output / "manifest.json").read_text())
    return {key: value for key, value in document.items() if key != "written_at"}


def same(one, other, key="plot"):
    assert table(one, "predictions.parquet", key) == table(other, "predictions.parquet", key)
    assert listed(one) == listed(other)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_makes_the_parts_that_one_process_makes(engine, bundle, inputs, tmp_path):
    alone = score_run(bundle, inputs, tmp_path / "alone", batch_rows=20)
    summary = run(engine, bundle, inputs, tmp_path / "out", batch_rows=20)
    same(tmp_path / "out", tmp_path / "alone")
    assert table(tmp_path / "out", "quarantine.parquet", "file") == table(
        tmp_path / "alone", "quarantine.parquet", "file"
    )
    assert (summary.rows_in, summary.rejected) == (alone.rows_in, alone.rejected) == (300, 3)
    assert run(engine, bundle, inputs, tmp_path / "out", batch_rows=20).parts_written == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_groups_that_reach_over_files_stay_whole_on_an_engine(engine, ahead, tmp_path):
    whole = series([6, 6, 9, 4, 5])
    for number, start in enumerate(range(0, 30, 10)):
        write_table(whole.slice(start, 10), tmp_path / f"{number}.parquet")
    given = [str(tmp_path / "*.parquet")]
    score_run(ahead, given, tmp_path / "alone", batch_rows=7)
    run(engine, ahead, given, tmp_path / "out", batch_rows=7)
    same(tmp_path / "out", tmp_path / "alone", "series")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_chunk_of_a_killed_worker_is_scored_by_another(engine, bundle, inputs, tmp_path, bomb):
    score_run(bundle, inputs, tmp_path / "alone", batch_rows=20)
    bomb.touch()
    run(engine, bundle, inputs, tmp_path / "out", batch_rows=20)
    assert not bomb.exists()
    same(tmp_path / "out", tmp_path / "alone")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_of_a_worker_is_the_error_of_the_run(engine, bundle, tmp_path):
    write_table(plots(60), tmp_path / "0.parquet")
    (tmp_path / "1.csv").write_text("plot,heat\np1,3\n")
    with pytest.raises(DataError, match=r"1\.csv: column 'moisture' is missing"):
        run(engine, bundle, [str(tmp_path / "*.[pc]*")], tmp_path / "out", batch_rows=20)
    assert score_run(bundle, [str(tmp_path / "0.parquet")], tmp_path / "out", batch_rows=20).parts_kept == 3
    (tmp_path / "out" / "quarantine.parquet").write_text("a file where a folder belongs")
    write_table(plots(60).set_column(3, "soil", [["moss"] * 60]), tmp_path / "bad.parquet")
    with pytest.raises(RunError, match=r"quarantine\.parquet"):
        run(engine, bundle, [str(tmp_path / "bad.parquet")], tmp_path / "out", batch_rows=20)


def test_a_chunk_that_ends_every_process_ends_the_run_with_its_place(bundle, tmp_path, monkeypatch):
    write_table(plots(100), tmp_path / "a.parquet")
    monkeypatch.setenv("TINY_ROWS_DIES_AT", "p0000050")
    with pytest.raises(RunError, match=r"a\.parquet, row 41 and those behind it: 3 processes") as caught:
        score_run(bundle, [str(tmp_path / "a.parquet")], tmp_path / "out", batch_rows=20, workers=2)
    assert caught.value.hint
    monkeypatch.delenv("TINY_ROWS_DIES_AT")
    summary = score_run(bundle, [str(tmp_path / "a.parquet")], tmp_path / "out", batch_rows=20)
    assert summary.parts_kept >= 1
    assert summary.rows_out == 100


def test_a_single_chunk_starts_no_process(bundle, tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError("a process was started")

    monkeypatch.setattr(score_processes._Pool, "_start", never)
    write_table(plots(10), tmp_path / "a.parquet")
    assert score_run(bundle, [str(tmp_path / "a.parquet")], tmp_path / "out", workers=4).rows_out == 10


def test_an_interrupted_run_leaves_no_process(bundle, inputs, tmp_path, monkeypatch):
    pids = []
    start = score_processes._Pool._start

    def noted(pool):
        worker = start(pool)
        pids.append(worker.process)
        return worker

    monkeypatch.setattr(score_processes._Pool, "_start", noted)
    monkeypatch.setattr(
        "appliedpapers.pipelines.score_manifest.Ledger.add_part", partial(_interrupt, calls=[])
    )
    with pytest.raises(KeyboardInterrupt):
        score_run(bundle, inputs, tmp_path / "out", batch_rows=20, workers=2)
    assert len(pids) == 2
    assert not any(process.is_alive() for process in pids)


def _interrupt(*arguments, calls):
    calls.append(arguments)
    if len(calls) == 3:
        raise KeyboardInterrupt


def test_ray_that_is_not_installed_is_said_with_what_to_type(bundle, inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="needs Ray") as caught:
        score_run(bundle, inputs, tmp_path / "out", engine="ray")
    assert "pip install" in caught.value.hint


def test_an_unknown_engine_is_refused(bundle, inputs, tmp_path):
    with pytest.raises(ConfigError, match="--engine dask") as caught:
        score_run(bundle, inputs, tmp_path / "out", engine="dask")
    assert "local" in caught.value.hint


def test_a_killed_idle_worker_costs_nothing(bundle, inputs, tmp_path, monkeypatch):
    start, killed = score_processes._Pool._start, []

    def started(pool):
        worker = start(pool)
        if not killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.process.join()
        return worker

    monkeypatch.setattr(score_processes._Pool, "_start", started)
    summary = score_run(bundle, inputs, tmp_path / "out", batch_rows=20, workers=2)
    assert killed
    assert (summary.rows_in, summary.rows_out) == (300, 297)

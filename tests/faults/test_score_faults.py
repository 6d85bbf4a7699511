"""Batch scoring under faults: kills, full disks, damaged parts, locks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from scored_rows import content, everything, write_rows
from tinyplugins.bundles import make_bundle, plots, series

from appliedpapers.core.errors import DataError, LockedError, RunError
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines.score import score_run

# dies at the given call of os.replace (parts, manifest) or os.fsync (parts, journal)
_DIES = """
import os, signal, sys
from pathlib import Path
from appliedpapers.pipelines.score import score_run

name, call, when, bundle, inputs, output = sys.argv[1:]
original, calls = getattr(os, name), []

def fatal(*arguments):
    calls.append(arguments)
    if len(calls) == int(call) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    original(*arguments)
    if len(calls) == int(call):
        os.kill(os.getpid(), signal.SIGKILL)

setattr(os, name, fatal)
score_run(bundle, [inputs], Path(output), batch_rows=40)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("rows"), "tiny-rows"))


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("tasks"), "tiny-tasks", "ahead"))


@pytest.fixture
def inputs(tmp_path):
    return write_rows(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "call", "when"),
    [
        ("replace", 1, "before"),
        ("replace", 2, "after"),
        ("replace", 5, "before"),
        ("replace", 9, "after"),
        ("replace", 13, "before"),
        ("replace", 13, "after"),
        ("fsync", 6, "before"),
    ],
)
def test_a_run_killed_at_any_moment_continues_to_the_undisturbed_result(
    name, call, when, bundle, inputs, tmp_path
):
    undisturbed = score_run(bundle, [inputs], tmp_path / "calm", batch_rows=40)
    arguments = [name, str(call), when, bundle, inputs, str(tmp_path / "out")]
    died = subprocess.run([sys.executable, "-c", _DIES, *arguments], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    journal = tmp_path / "out" / ".journal.jsonl"
    recorded = journal.read_text().count('{"part"') if journal.exists() else 0
    summary = score_run(bundle, [inputs], tmp_path / "out", batch_rows=40)
    assert content(tmp_path / "out") == content(tmp_path / "calm")
    assert everything(tmp_path / "out") == everything(tmp_path / "calm")
    assert (summary.rows_in, summary.rows_out, summary.rejected) == (
        undisturbed.rows_in,
        undisturbed.rows_out,
        undisturbed.rejected,
    )
    assert summary.parts_written + summary.parts_kept == undisturbed.parts_written
    assert summary.parts_kept >= max(recorded, (call - 3) // 2 if name == "replace" else 1)
    assert score_run(bundle, [inputs], tmp_path / "out", batch_rows=40).parts_written == 0


def test_an_interrupt_leaves_finished_parts_that_the_next_run_keeps(bundle, inputs, tmp_path, monkeypatch):
    original, calls = pq.write_table, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_run(bundle, [inputs], tmp_path / "out", batch_rows=40)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not [path for path in everything(tmp_path / "out") if path.endswith(".part")]
    assert score_run(bundle, [inputs], tmp_path / "out", batch_rows=40).parts_kept == 3


def test_a_full_disk_ends_the_run_with_a_remedy_and_the_next_run_continues(
    bundle, inputs, tmp_path, monkeypatch
):
    original, calls = pq.write_table, []

    def full(table, path, **options):
        calls.append(path)
        original(table, path, **options)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(RunError, match="the disk is full") as caught:
        score_run(bundle, [inputs], tmp_path / "out", batch_rows=40)
    assert "run the same command again" in caught.value.hint
    monkeypatch.setattr(pq, "write_table", original)
    assert score_run(bundle, [inputs], tmp_path / "out", batch_rows=40).parts_kept == 3
    score_run(bundle, [inputs], tmp_path / "calm", batch_rows=40)
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def test_a_disk_that_is_full_while_a_model_writes_files_is_no_failed_item(tmp_path, monkeypatch):
    scenes = str(make_bundle(tmp_path / "scenes", "tiny-scenes"))
    (tmp_path / "grid.json").write_text("[[1, 2], [3, 4]]")
    (tmp_path / "a.csv").write_text("scene,tile,raster\ns1,0,grid.json\ns2,0,grid.json\n")

    def full(path, document):
        raise RunError("the disk is full") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("tinyplugins.scenes.model.write_json", full)
    with pytest.raises(RunError, match="the disk is full"):
        score_run(scenes, [str(tmp_path / "a.csv")], tmp_path / "out")


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
@pytest.mark.parametrize("folder", ["predictions.parquet", "quarantine.parquet"])
def test_a_damaged_part_is_noticed_and_made_again(damage, folder, bundle, inputs, tmp_path):
    output = tmp_path / "out"
    score_run(bundle, [inputs], output, batch_rows=40)
    before = content(output)
    victim = sorted((output / folder).glob("part-*"))[1]
    data = bytearray(victim.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif damage == "cut":
        victim.write_bytes(data[:-9])
    else:
        victim.unlink()
    summary = score_run(bundle, [inputs], output, batch_rows=40)
    assert (summary.parts_written, summary.parts_kept) == (1, 8)
    assert content(output) == before


@pytest.mark.parametrize(
    "text", ["", "{", '{"parts": 5}', '{"parts": [{"name": "x"}], "units": {}, "inputs": []}']
)
def test_a_damaged_manifest_costs_work_but_no_correctness(text, bundle, inputs, tmp_path):
    output = tmp_path / "out"
    score_run(bundle, [inputs], output)
    before = content(output)
    (output / "manifest.json").write_text(text)
    assert score_run(bundle, [inputs], output).parts_written == 3
    assert content(output) == before


def test_a_journal_line_that_a_kill_cut_short_is_passed_over(bundle, inputs, tmp_path, monkeypatch):
    original, calls = pq.write_table, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_run(bundle, [inputs], tmp_path / "out", batch_rows=40)
    journal = tmp_path / "out" / ".journal.jsonl"
    journal.write_text(journal.read_text()[:-20])
    monkeypatch.setattr(pq, "write_table", original)
    score_run(bundle, [inputs], tmp_path / "out", batch_rows=40)
    score_run(bundle, [inputs], tmp_path / "calm", batch_rows=40)
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def test_a_second_run_on_the_same_output_is_refused_while_the_first_works(bundle, inputs, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(LockedError) as caught:
        score_run(bundle, [inputs], tmp_path / "out")
    assert caught.value.exit_code == 75
    assert score_run(bundle, [inputs], tmp_path / "out").exit_code == 0


def test_an_input_truncated_between_two_runs_stops_before_the_old_scores_go(bundle, tmp_path):
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for number, path in enumerate(paths):
        write_table(plots(50, first=50 * number), path)
    inputs = [str(path) for path in paths]
    score_run(bundle, inputs, tmp_path / "out")
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    with pytest.raises(DataError, match=r"1\.parquet: cannot be read as parquet") as caught:
        score_run(bundle, inputs, tmp_path / "out")
    assert caught.value.hint
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == 100


def test_a_new_group_member_in_the_next_file_scores_both_files_again(ahead, tmp_path):
    table = series([6, 6])
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    write_table(table.slice(0, 8), paths[0])
    write_table(table.slice(8), paths[1])
    inputs = [str(path) for path in paths]
    score_run(ahead, inputs, tmp_path / "out", batch_rows=3)
    changed = table.slice(8).set_column(2, "value", [[9.0, 9.0, 9.0, 9.0]])
    write_table(changed, paths[1])
    summary = score_run(ahead, inputs, tmp_path / "out", batch_rows=3)
    # the group that lies in the first file alone is kept, the one that reaches over is made again
    assert (summary.parts_written, summary.parts_kept) == (1, 1)
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == 6

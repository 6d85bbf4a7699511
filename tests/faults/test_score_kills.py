"""Batch scoring that is killed at random moments, and inputs that change under it."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scored_rows import content, everything, write_rows
from tinyplugins.bundles import make_bundle, plots

from appliedpapers.core.errors import DataError
from appliedpapers.core.tables import write_table
from appliedpapers.pipelines import score_input
from appliedpapers.pipelines.score import score_run

_KILLS = 20
_EARLY = 10
_BATCH = 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(make_bundle(tmp_path_factory.mktemp("rows"), "tiny-rows"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data"))


def _score(bundle, inputs, output, workers=None):
    score_run(bundle, [inputs], Path(output), batch_rows=_BATCH, workers=workers)


@pytest.fixture(scope="module")
def start():
    """Start processes that have everything imported: what is killed is the scoring, not the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["appliedpapers.pipelines.score", "tinyplugins.rows.model", __name__])

    def started(*arguments):
        process = context.Process(target=_score, args=arguments)
        process.start()
        return process

    return started


def _recorded(journal):
    """How many whole lines of parts a journal has: a kill can leave it empty, or its last line cut."""
    try:
        lines = journal.read_text().splitlines()
    except FileNotFoundError:
        return 0
    return sum(line.startswith('{"part"') and line.endswith("}}") for line in lines)


def _wait_for(journal, process):
    while not _recorded(journal) and process.is_alive():
        time.sleep(0.001)


def test_a_run_killed_at_random_moments_continues_to_the_undisturbed_result(bundle, inputs, tmp_path, start):
    moments = random.Random(9)
    # the first one imports what a run imports late
    start(bundle, inputs, str(tmp_path / "first")).join()
    begun = time.monotonic()
    start(bundle, inputs, str(tmp_path / "calm")).join()
    length = time.monotonic() - begun
    undisturbed, files = content(tmp_path / "calm"), everything(tmp_path / "calm")
    caught = 0
    for number in range(_KILLS):
        output = tmp_path / str(number)
        journal = output / ".journal.jsonl"
        # every other one is killed a second time before it may end
        for _ in range(1 + number % 2):
            process = start(bundle, inputs, str(output))
            time.sleep(moments.uniform(0, length))
            if number >= _EARLY:
                # however long it takes to begin here: this one has begun
                _wait_for(journal, process)
            process.kill()
            process.join()
        recorded = _recorded(journal)
        caught += bool(recorded)
        summary = score_run(bundle, [inputs], output, batch_rows=_BATCH)
        assert content(output) == undisturbed, number
        assert everything(output) == files, number
        assert summary.parts_kept >= recorded
        assert (summary.rows_in, summary.rows_out, summary.rejected) == (300, 297, 3)
    assert caught, "no kill came in the middle of a run"


def test_a_run_with_workers_that_is_killed_continues_to_the_undisturbed_result(
    bundle, inputs, tmp_path, start
):
    score_run(bundle, [inputs], tmp_path / "calm", batch_rows=_BATCH)
    process = start(bundle, inputs, str(tmp_path / "out"), 2)
    _wait_for(tmp_path / "out" / ".journal.jsonl", process)
    process.kill()
    process.join()
    summary = score_run(bundle, [inputs], tmp_path / "out", batch_rows=_BATCH, workers=2)
    assert summary.parts_kept
    assert content(tmp_path / "out") == content(tmp_path / "calm")


def _changing(monkeypatch, change):
    """Change the file after its second piece was read."""
    original = score_input._READERS["parquet"]

    def reader(fragment, schema, rows):
        for number, piece in enumerate(original(fragment, schema, rows)):
            if number == 2:
                change(Path(fragment.place))
            yield piece

    monkeypatch.setitem(score_input._READERS, "parquet", reader)


def _grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def _replace(path):
    write_table(plots(100, seed=5), path.with_name("new.parquet"))
    path.with_name("new.parquet").replace(path)


@pytest.mark.parametrize("change", [_grow, _replace, Path.unlink])
@pytest.mark.parametrize("workers", [None, 2])
def test_an_input_that_changes_while_it_is_read_ends_the_run_and_mixes_nothing(
    change, workers, bundle, tmp_path, monkeypatch
):
    path = tmp_path / "a.parquet"
    write_table(plots(100), path)
    whole = path.read_bytes()
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        _changing(patch, change)
        with pytest.raises(DataError, match=r"a\.parquet: it was changed while it was read") as caught:
            score_run(bundle, [str(path)], output, batch_rows=20, workers=workers)
    assert caught.value.exit_code == 4
    assert not (output / "manifest.json").exists()
    # as it was before: what was finished then is of this content, and is kept
    path.write_bytes(whole)
    summary = score_run(bundle, [str(path)], output, batch_rows=20)
    assert summary.parts_kept == 2
    score_run(bundle, [str(path)], tmp_path / "calm", batch_rows=20)
    assert everything(output) == everything(tmp_path / "calm")
    rows = [pq.read_table(folder / "predictions.parquet") for folder in (output, tmp_path / "calm")]
    assert rows[0].sort_by("plot").equals(rows[1].sort_by("plot"))

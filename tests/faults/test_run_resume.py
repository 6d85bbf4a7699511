"""``apps run`` killed, interrupted or out of disk goes on with --resume and ends with the same weights."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from long_training import LONG

from appliedpapers.cli import main

APPS = [sys.executable, "-m", "appliedpapers"]
RUN = ["run", "frets", "--preset", "quick", "--no-register", "--quiet"]
RUN += [word for key, value in LONG.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A current folder for all runs of this module, which share its store."""
    return tmp_path_factory.mktemp("runs here")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | {"OMP_NUM_THREADS": "1"}


def finish(words: list[str], place: Path) -> Path:
    """Run to the end in this process, which has its libraries at hand, and return the run's folder."""
    before = Path.cwd()
    os.chdir(place)
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(StringIO()) as out,
            redirect_stderr(StringIO()) as err,
        ):
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            with pytest.raises(SystemExit) as ended:
                main([*words, "--threads", "1"])
    finally:
        os.chdir(before)
    assert ended.value.code == 0, err.getvalue()
    found = re.search(r"report +(.*)/report\.html", out.getvalue())
    assert found, out.getvalue()
    return place / found.group(1)


def disturb(place: Path, output: str, number: int) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Start a run and send it a signal once it trains; return how it ended and its folder."""
    process = subprocess.Popen(
        [*APPS, *RUN, "--output", output],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(6000):
            if list((place / output).glob("*/fit/**/checkpoint-*/state.json")):
                break
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    (folder,) = (place / output).iterdir()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), folder


def weights(folder: Path) -> dict[str, str]:
    """sha256 of every part of the bundle."""
    files = json.loads((folder / "model" / "bundle.json").read_text())["files"]
    assert any(name.endswith(".safetensors") for name in files)
    return files


@pytest.fixture(scope="module")
def uninterrupted(place) -> Path:
    return finish(RUN, place)


def assert_halfway(folder: Path) -> None:
    assert not (folder / "model").exists()
    assert not (folder / "results.json").exists()


def assert_same(folder: Path, uninterrupted: Path) -> None:
    assert weights(folder) == weights(uninterrupted)
    rows = [json.loads((each / "results.json").read_text())["rows"] for each in (folder, uninterrupted)]
    assert rows[0] == rows[1]
    assert not [path for path in folder.rglob("*") if path.name.endswith((".part", ".old"))]


def test_a_killed_run_resumed_ends_with_the_same_weights(place, uninterrupted):
    ended, folder = disturb(place, "killed", signal.SIGKILL)
    assert ended.returncode == -signal.SIGKILL
    assert_halfway(folder)
    words = ["run", "frets", "--resume", str(folder.relative_to(place))]
    assert finish(words, place) == folder
    assert_same(folder, uninterrupted)


def test_one_interrupt_says_how_to_resume_and_the_line_works_as_printed(place, uninterrupted):
    ended, folder = disturb(place, "stopped by hand", signal.SIGINT)
    assert ended.returncode == 130
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert_halfway(folder)
    *_, said, line = ended.stderr.splitlines()
    assert said.startswith("interrupted: what was learned is kept in")
    program, *words = shlex.split(line)
    assert program == "apps"
    assert finish(words, place) == folder
    assert_same(folder, uninterrupted)


def test_a_full_disk_is_exit_1_and_the_run_goes_on_once_there_is_room(
    place, uninterrupted, monkeypatch, capsys
):
    from appliedpapers.core import training_loop
    from appliedpapers.core.checkpoint import CheckpointStore

    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    original, calls = CheckpointStore._fill, []

    def fill(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "_fill", fill)
        # on a busy machine a checkpoint takes long, and fewer are worth their time
        patch.setattr(training_loop, "_WRITING_SHARE", math.inf)
        with pytest.raises(SystemExit) as ended:
            main([*RUN, "--output", "full"])
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    (folder,) = Path("full").iterdir()
    assert_halfway(folder)
    program, *words = shlex.split(err.splitlines()[-1])
    assert program == "apps"
    assert finish(words, place) == place / folder
    assert_same(folder, uninterrupted)

"""The command line in this process, and a workspace in which a tiny model has lived once."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from outcome import Outcome
from tinyplugins.bundles import plots

from appliedpapers.cli import main
from appliedpapers.core.tables import write_table


def exit_code(*words: object) -> int:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
    finally:
        signal.signal(signal.SIGTERM, before)
    return ended.value.code


@pytest.fixture
def apps(capsys):
    """Run a command in this process: its exit code and what it printed."""

    def _apps(*words: object) -> Outcome:
        capsys.readouterr()
        code = exit_code(*words)
        return Outcome(code, *capsys.readouterr())

    return _apps


@pytest.fixture(scope="session")
def lived(tmp_path_factory) -> Path:
    """A folder after ``apps run tiny-rows``: runs/, mlruns/ and plots.csv; not to be written to."""
    folder = tmp_path_factory.mktemp("lived")
    write_table(plots(20), folder / "plots.csv")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()) as err,
        ):
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            code = exit_code("run", "tiny-rows", "--preset", "quick")
            assert code == 0, err.getvalue()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """An empty current folder, no data folder and no store named from outside."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("APPS_DATA_HOME", str(tmp_path / "data"))
    return folder


@pytest.fixture
def after_a_run(workspace, lived) -> Path:
    """A current folder of this test's own in which a first run ended; its store is a copy."""
    shutil.copytree(lived / "runs", workspace / "runs")
    shutil.copyfile(lived / "plots.csv", workspace / "plots.csv")
    # artifacts are found where the store says: in the first folder
    (workspace / "mlruns").mkdir()
    # the last writes still stand in the journal beside it
    for file in (lived / "mlruns").glob("mlflow.db*"):
        shutil.copyfile(file, workspace / "mlruns" / file.name)
    return workspace


@pytest.fixture
def bundle(after_a_run) -> Path:
    """The bundle of the run."""
    (found,) = after_a_run.glob("runs/*/model")
    return found

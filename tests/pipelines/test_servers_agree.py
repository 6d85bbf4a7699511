"""One model, six ways to ask it: identical forecasts from each of them on the same rows."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest

from appliedpapers.cli import main
from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.tables import read_table, write_table

REFERENCE = "frets@champion"
TRAIN = (
    "run frets --preset quick --quiet --threads 1 --set data.simulator.series=3 "
    "--set data.simulator.steps=1500 --set model.lookback=48 --set model.horizon=12 --set model.embed_dim=8 "
    "--set model.hidden=16 --set training.epochs=1 --set baselines=[last-value]"
)
PLAIN = ("y_hat", "lo-80", "hi-80", "lo-95", "hi-95")


def apps(*words: str) -> str:
    """Run a command in this process and return its stdout."""
    with (
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):
        main(words)
    assert ended.value.code == 0, err.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """The current folder, in which a small model was trained, registered, and given rows to forecast."""
    folder = tmp_path_factory.mktemp("agree")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.setenv("OMP_NUM_THREADS", "1")
        apps(*TRAIN.split())
        model, _ = load_bundle(next(folder.glob("runs/*/model")))
        from appliedpapers.plugins.frets.data import DATASETS

        table = DATASETS.simulated(model.config).test.example(3)
        write_table(table, folder / "long.csv")
        write_table(table, folder / "long.parquet")
        wide = table.to_pandas().pivot(index="ds", columns="unique_id", values="y")
        wide.to_csv(folder / "wide.csv")
        yield folder


@pytest.fixture(scope="module")
def expected(place) -> pd.DataFrame:
    """What the model itself says, in this process."""
    model, _ = load_bundle(next(place.glob("runs/*/model")))
    frame = model.predict(read_table(place / "long.parquet")).to_pandas()
    assert len(frame) == 36
    return arranged(frame)


def arranged(frame: pd.DataFrame) -> pd.DataFrame:
    """Order rows and columns, and read timestamps that travelled as text; numbers stay as they came."""
    frame = frame.assign(**{name: pd.to_datetime(frame[name]).astype("M8[us]") for name in ("ds", "cutoff")})
    columns = ["unique_id", "ds", *PLAIN, "cutoff", "recursive"]
    return frame[columns].sort_values(["unique_id", "ds"], ignore_index=True).astype({"unique_id": "object"})


def assert_identical(frame: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(arranged(frame), expected, check_exact=True)


def records(place: Path) -> list[dict]:
    rows = read_table(place / "long.parquet").to_pylist()
    return [{**row, "ds": row["ds"].isoformat()} for row in rows]


@contextmanager
def server(words: list[str], place: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a server with all its children in a group of their own, which never outlives the test."""
    with (place / "server.log").open("w+") as log:
        process = subprocess.Popen(
            words, cwd=place, stdout=log, stderr=log, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def wait_for(place: Path, process: subprocess.Popen[str], ready) -> str:
    for _ in range(1200):
        log = (place / "server.log").read_text()
        assert process.poll() is None, log
        try:
            found = ready(log)
        except httpx.TransportError:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"the server did not become ready: {(place / 'server.log').read_text()}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(address: str, place: Path) -> pd.DataFrame:
    body = {"dataframe_records": records(place)}
    answer = httpx.post(f"{address}/invocations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return pd.DataFrame(answer.json()["predictions"])


def test_apps_serve_answers_like_the_model(place, expected):
    words = [sys.executable, "-m", "appliedpapers", "serve", REFERENCE, "--port", "0"]
    with server(words, place) as process:

        def ready(log):
            found = re.search(r"http://[\d.]+:\d+", log)
            if found and httpx.get(f"{found.group()}/v2/health/ready").status_code == 200:
                return found.group()
            return None

        assert_identical(ask(wait_for(place, process, ready), place), expected)
        process.terminate()
        assert process.wait(60) == 0


def test_mlflow_models_serve_answers_like_the_model(place, expected, monkeypatch):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    # it looks for uvicorn on the path, as an activated environment has it
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlruns' / 'mlflow.db'}")
    uri = "models:/apps.frets@champion"
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    with server(words, place) as process:

        def ready(log):
            return address if httpx.get(f"{address}/ping").status_code == 200 else None

        assert_identical(ask(wait_for(place, process, ready), place), expected)


@pytest.mark.parametrize("name", ["long.csv", "long.parquet"])
def test_apps_score_run_writes_what_the_model_says(place, expected, name):
    output = f"scores-{name}"
    apps("score", "run", "--model", REFERENCE, "--input", name, "--output", output, "--json")
    frame = pq.read_table(place / output / "predictions.parquet").to_pandas()
    assert_identical(frame, expected)


@pytest.mark.parametrize("name", ["long.csv", "long.parquet", "wide.csv"])
def test_apps_predict_prints_what_the_model_says_for_long_and_wide_files(place, expected, name):
    assert_identical(pd.DataFrame(json.loads(apps("predict", REFERENCE, "-i", name, "--json"))), expected)
    apps("predict", REFERENCE, "-i", name, "-o", f"{name}.out.csv")
    assert_identical(pd.read_csv(place / f"{name}.out.csv"), expected)


def test_the_python_api_answers_like_the_model(place, expected):
    import appliedpapers as ap

    table = ap.predict_file(REFERENCE, place / "long.csv", store_folder=place / "mlruns")
    assert_identical(table.to_pandas(), expected)

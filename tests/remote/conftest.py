"""A remote MLflow server on PostgreSQL, both started from their packages on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_START_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _programs() -> Path:
    """The folder of PostgreSQL's programs; without it the test is skipped."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    if other:
        return Path(other).resolve().parent
    pytest.skip("PostgreSQL is not installed: apt-get install -y postgresql")


def _as_somebody(words: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root; its package brings a user of its own."""
    return ["runuser", "-u", "postgres", "--", *words] if os.geteuid() == 0 else words


@contextmanager
def _process(words: list[str], log: Path, **more) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True, **more)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(ready, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """An empty PostgreSQL database on loopback; its address for SQLAlchemy."""
    programs, port = _programs(), free_port()
    # outside pytest's own folder, which only its user may enter
    folder = Path(tempfile.mkdtemp(prefix="apps-postgresql-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data, log = folder / "data", folder / "server.log"
        made = [str(programs / "initdb"), "-D", str(data), "-U", "mlflow", "-A", "trust", "--no-sync"]
        subprocess.run(_as_somebody(made), check=True, capture_output=True, cwd=folder)
        words = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
        words += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        probe = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        with _process(_as_somebody(words), log, cwd=folder) as process:
            _until(lambda: subprocess.run(probe, check=False).returncode == 0, process, log)
            yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mlflow_server(postgresql, tmp_path_factory) -> Iterator[str]:
    """The address of an MLflow server on that database, which serves artifacts itself."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", postgresql]
    words += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)

    def ready() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    log = folder / "server.log"
    with _process(words, log, env=environment, cwd=folder) as process:
        _until(ready, process, log)
        yield address

"""A whole life against a remote MLflow server on PostgreSQL, through MLFLOW_TRACKING_URI alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

import pytest
from tinyplugins.bundles import plots

from appliedpapers.cli import main
from appliedpapers.core.tables import write_table

pytestmark = pytest.mark.postgresql


class Terminal:
    """Somebody who types commands in one folder; in this process, which has its libraries at hand."""

    def __init__(self, folder: Path, server: str | None) -> None:
        self.folder = folder
        self.environment = {"MLFLOW_TRACKING_URI": server, "XDG_CACHE_HOME": str(folder / "cache")}

    def apps(self, *words: object, code: int = 0) -> str:
        before, handler = Path.cwd(), signal.getsignal(signal.SIGTERM)
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(StringIO()) as out,
            redirect_stderr(StringIO()) as err,
        ):
            for name, value in self.environment.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            os.chdir(self.folder)
            try:
                with pytest.raises(SystemExit) as ended:
                    main([str(word) for word in words])
            finally:
                os.chdir(before)
                signal.signal(signal.SIGTERM, handler)
        assert ended.value.code == code, out.getvalue() + err.getvalue()
        return out.getvalue() if code == 0 else err.getvalue()

    def json(self, *words: object):
        return json.loads(self.apps(*words, "--json"))


@pytest.fixture(scope="module")
def terminal(tmp_path_factory, mlflow_server) -> Terminal:
    folder = tmp_path_factory.mktemp("remote")
    write_table(plots(20), folder / "plots.csv")
    made = Terminal(folder, mlflow_server)
    for _ in range(2):
        made.apps("run", "tiny-rows", "--preset", "quick", "--quiet")
    return made


def champion(terminal: Terminal) -> int:
    (row,) = [row for row in terminal.json("registry", "list") if row["name"] == "apps.tiny-rows"]
    return int(row["champion"])


def test_runs_register_on_the_server_and_leave_no_local_store(terminal):
    history = terminal.json("registry", "show", "tiny-rows")
    assert [version["number"] for version in history["versions"]] == [1, 2]
    assert not (terminal.folder / "mlruns" / "mlflow.db").exists()
    assert history["moves"][0]["action"] == "register"


def test_cards_are_read_from_the_server(terminal):
    (first, _) = terminal.json("registry", "show", "tiny-rows")["versions"]
    for name in ("model", "data"):
        assert Path(first["cards"][name]).read_text().startswith("---")


def test_a_promotion_and_a_rollback_move_the_alias_on_the_server(terminal):
    before = champion(terminal)
    assert terminal.json("registry", "promote", "tiny-rows", 3 - before)["after"] == 3 - before
    assert champion(terminal) == 3 - before
    assert terminal.json("registry", "rollback", "tiny-rows")["after"] == before
    assert champion(terminal) == before
    assert terminal.json("registry", "diff", "tiny-rows", 1, 2)["config"] == {}


def test_predicting_and_scoring_use_the_server_s_champion(terminal):
    rows = terminal.json("predict", "tiny-rows@champion", "--input", "plots.csv")
    words = ("score", "run", "--model", "tiny-rows@champion", "--input", "plots.csv", "--output", "scores")
    summary = terminal.json(*words)
    assert (summary["rows_out"], summary["version"]) == (len(rows), str(champion(terminal)))
    assert terminal.json(*words)["parts_written"] == 0


def test_serving_answers_from_the_server_s_champion(terminal):
    words = [sys.executable, "-m", "appliedpapers", "serve", "tiny-rows@champion", "--port", "0"]
    server = subprocess.Popen(
        words,
        cwd=terminal.folder,
        env=os.environ | terminal.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        seen = ""
        while "http://" not in seen:
            line = server.stderr.readline()
            assert line, seen
            seen += line
        address = seen[seen.index("http://") :].split()[0].rstrip("/.,")
        body = (terminal.folder / "plots.csv").read_bytes()
        deadline = time.monotonic() + 60
        while True:
            try:
                request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "text/csv"})
                with urllib.request.urlopen(request, timeout=10) as answer:
                    served = json.load(answer)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    rows = terminal.json("predict", "tiny-rows@champion", "--input", "plots.csv")
    answers = [row["harvest"] for row in served["predictions"]]
    assert answers == pytest.approx([row["harvest"] for row in rows])


def test_a_version_travels_from_the_server_to_a_machine_without_network_and_back(terminal, tmp_path):
    archive = tmp_path / "model.zip"
    terminal.apps("registry", "export", "tiny-rows@champion", archive)
    alone = Terminal(tmp_path, None)
    write_table(plots(20), tmp_path / "plots.csv")
    assert "version 1" in alone.apps("registry", "import", archive)
    words = ("predict", "tiny-rows@champion", "--input", "plots.csv")
    assert alone.json(*words) == terminal.json(*words)
    before = len(terminal.json("registry", "show", "tiny-rows")["versions"])
    assert f"version {before + 1}" in terminal.apps("registry", "import", archive)
    (*_, last) = terminal.json("registry", "show", "tiny-rows")["versions"]
    assert last["tags"]["apps.imported_from"].startswith("apps.tiny-rows version")
    for name in ("model", "data"):
        assert Path(last["cards"][name]).is_file()


def test_a_scheduled_scoring_uses_the_server(terminal):
    score = {"model": "tiny-rows@champion", "input": "plots.csv", "output": "nightly"}
    document = {"jobs": {"nightly": {"score": score, "every": "1d"}}}
    (terminal.folder / "jobs.yaml").write_text(json.dumps(document))
    terminal.apps("schedule", "add", "jobs.yaml")
    firing = terminal.json("schedule", "run-once", "nightly")
    assert (firing["state"], firing["model_version"]) == ("done", str(champion(terminal)))


@contextmanager
def forwarded(port: int, server: str, once: Callable[[], bool]) -> Iterator[None]:
    """Let a port be nobody's until something holds, and then the server's."""
    stop = threading.Event()
    host, _, other = server.removeprefix("http://").partition(":")

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65_536):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)

    def work() -> None:
        while not once():
            if stop.wait(0.1):
                return
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(0.1)
            while not stop.is_set():
                with suppress(TimeoutError):
                    client, _ = listener.accept()
                    upstream = socket.create_connection((host, int(other)))
                    for pair in ((client, upstream), (upstream, client)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_scheduled_scoring_outlives_a_server_that_is_away_for_a_while(terminal, mlflow_server):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    score = {"model": "tiny-rows@champion", "input": "plots.csv", "output": "away"}
    document = {"jobs": {"away": {"score": score, "every": "1d", "retries": 20, "backoff": "1s"}}}
    (terminal.folder / "away.yaml").write_text(json.dumps(document))
    terminal.apps("schedule", "add", "away.yaml")
    there = Terminal(terminal.folder, f"http://127.0.0.1:{port}")
    there.environment |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    logs = terminal.folder / "schedule" / "logs" / "away"
    # a second attempt says that the first has failed, however slow this machine is
    with forwarded(port, mlflow_server, once=lambda: len(list(logs.glob("*.log"))) > 1):
        firing = there.json("schedule", "run-once", "away")
    assert firing["state"] == "done"
    assert firing["attempts"] > 1


def test_a_server_that_is_gone_is_one_line_and_no_hang(terminal, tmp_path):
    nowhere = Terminal(tmp_path, "http://127.0.0.1:9")
    nowhere.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    said = nowhere.apps("registry", "list", code=1)
    assert said.startswith("run error: MLflow store http://127.0.0.1:9:")
    assert "MLFLOW_TRACKING_URI" in said
    assert "Traceback" not in said

"""The product in a minute or two: train, report, register, serve one request, score one file.

Run it with ``make demo``. Everything is written below ``demo-output/``, which each run makes anew; no process
is left behind, not even after Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path("demo-output")
APPS = [sys.executable, "-m", "appliedpapers"]
# the demo keeps to its own store, whatever the user's points to
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
READY_WITHIN_S = 90
STOPPED_WITHIN_S = 40
FORECASTS_SHOWN = 3


def main() -> int:
    """Show the whole life of one model; return the exit code."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        show_everything()
    except KeyboardInterrupt:
        print("\ndemo interrupted; nothing is left running.", file=sys.stderr)
        return 130
    except subprocess.CalledProcessError as error:
        print(f"\ndemo stopped: apps ended with exit code {error.returncode}.", file=sys.stderr)
        return 1
    return 0


def show_everything() -> None:
    """Train, serve, score; say where everything is."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    say("1 of 3", "train on simulated loads, compare with real baselines, report, register")
    print(f"$ cd {FOLDER}")
    show("run", "frets", "--preset", "quick")
    write_recent_past(FOLDER / "recent.parquet")
    say("2 of 3", "serve it and ask for a forecast over HTTP")
    serve_once(FOLDER / "recent.parquet")
    say("3 of 3", "score a file in batch")
    show("score", "run", "--model", "frets@champion", "--input", "recent.parquet", "--output", "scores")
    part = next((FOLDER / "scores").glob("predictions.parquet/part-*.parquet"))
    print(f"\n report      {next((FOLDER / 'runs').glob('*/report.html'))}")
    print(f" registered  apps.frets version 1 → @champion, in {FOLDER / 'mlruns'}")
    print(f" scored      {part}")
    print(f" demo        done in {time.monotonic() - started:.0f} s")
    print(f" next        open the report; cd {FOLDER} and repeat a command above (apps is in {bin_folder()})")


def say(step: str, what: str) -> None:
    """Announce one step."""
    print(f"\n{step}  {what}\n", flush=True)


def show(*words: str) -> None:
    """Run one command as a person would type it in the demo's folder."""
    print(f"$ apps {' '.join(words)}", flush=True)
    with running(*words) as command:
        code = command.wait()
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise subprocess.CalledProcessError(code, words)


@contextmanager
def running(*words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``apps`` in the demo's folder; it has ended when the block is left, however that happens."""
    command = subprocess.Popen([*APPS, *words], cwd=FOLDER, env=ENVIRONMENT, **options)
    try:
        yield command
    finally:
        if command.poll() is None:
            # gently first: apps keeps what was learned
            command.terminate()
            try:
                command.wait(STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                command.kill()
                command.wait()


def write_recent_past(path: Path) -> None:
    """Write the recent past of the embedded series, as a user's system would send it."""
    from appliedpapers.core.config import resolve
    from appliedpapers.core.plugin import find
    from appliedpapers.core.tables import write_table

    task = find("frets").task()
    config = resolve(task.load("config"), preset="quick")
    write_table(task.load("datasets").simulated(config).test.example(limit=8), path)


def serve_once(past: Path) -> None:
    """Start the server, ask it once over HTTP, stop it."""
    port = free_port()
    print(f"$ apps serve frets@champion --port {port} &", flush=True)
    log = FOLDER / "serve.log"
    with (
        log.open("wb") as sink,
        running("serve", "frets@champion", "--port", str(port), stdout=sink, stderr=sink) as server,
    ):
        wait_until_ready(server, port, log)
        rows = json_rows(past)
        request = FOLDER / "request.json"
        request.write_text(json.dumps({"dataframe_records": rows}), encoding="utf-8")
        url = f"http://127.0.0.1:{port}/invocations"
        print(f"$ curl {url} -H 'Content-Type: application/json' -d @{request.name}", flush=True)
        call = urllib.request.Request(url, request.read_bytes(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(call, timeout=30) as answer:
            predictions = json.load(answer)["predictions"]
    print(
        f" served      {len(rows)} hours of series '{rows[0]['unique_id']}' in, {len(predictions)} ahead out:"
    )
    for forecast in predictions[:FORECASTS_SHOWN]:
        print(
            f"             {forecast['ds']}  {forecast['y_hat']:.2f}, "
            f"80 % interval {forecast['lo-80']:.2f} to {forecast['hi-80']:.2f}"
        )


def json_rows(path: Path) -> list[dict[str, Any]]:
    """Return the first series of a table as JSON rows."""
    from appliedpapers.core.json_rows import plain, records
    from appliedpapers.core.tables import read_table

    rows = records(read_table(path))
    return [plain(row) for row in rows if row["unique_id"] == rows[0]["unique_id"]]


def wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server has warmed up."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            print(log.read_text(encoding="utf-8"), file=sys.stderr, end="")
            raise subprocess.CalledProcessError(server.returncode, "serve")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the server was not ready within {READY_WITHIN_S} s; see {log}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bin_folder() -> Path:
    """Return the folder of the command ``apps``, as short as it can be said."""
    folder = Path(sys.executable).parent
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def interrupt(signum: int, frame: object) -> None:
    """Treat SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())

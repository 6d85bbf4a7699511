"""The product in five minutes: train, report, register, serve one request, score one file.

Run it with ``make demo``. Everything is written below ``demo-output/``; no process is left behind.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

FOLDER = Path("demo-output")
APPS = [sys.executable, "-m", "appliedpapers"]
STORE = ["--store", str(FOLDER / "mlruns")]
READY_WITHIN_S = 90


def main() -> None:
    """Show the whole life of one model."""
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    show("run", "frets", "--preset", "quick", "--output", str(FOLDER / "runs"), *STORE)
    request = FOLDER / "request.parquet"
    write_request(request)
    serve_once(request)
    scores = FOLDER / "scores"
    show("score", "run", "--model", "frets@champion", "--input", str(request), "--output", str(scores), *STORE)
    part = next(scores.glob("**/part-*.parquet"))
    print(f"\n scored      {part}")
    print(f" report      {next((FOLDER / 'runs').glob('*/report.html'))}")
    print(f" demo        done in {time.monotonic() - started:.0f} s; open the report, then try: apps run frets --help")


def show(*words: str) -> None:
    """Run one command as a person would type it."""
    print(f"\n$ apps {' '.join(words)}", flush=True)
    subprocess.run([*APPS, *words], check=True)


def write_request(path: Path) -> None:
    """Write the recent past of the embedded series, as a user's system would send it."""
    from appliedpapers.core.config import resolve
    from appliedpapers.core.plugin import find
    from appliedpapers.core.tables import write_table

    task = find("frets").task()
    config = resolve(task.load("config"), preset="quick")
    write_table(task.load("datasets").simulated(config).test.example(limit=8), path)


def serve_once(request: Path) -> None:
    """Start the server, ask it once over HTTP, stop it."""
    port = free_port()
    words = ["serve", "frets@champion", "--port", str(port), *STORE]
    print(f"\n$ apps {' '.join(words)} &", flush=True)
    server = subprocess.Popen([*APPS, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(server, port)
        body = json.dumps({"dataframe_records": json_rows(request)}).encode()
        url = f"http://127.0.0.1:{port}/invocations"
        print(f"$ curl {url} -d @request.json", flush=True)
        call = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(call, timeout=30) as answer:
            predictions = json.load(answer)["predictions"]
        print(f" served      {len(predictions)} rows; the first is {json.dumps(predictions[0])}")
    finally:
        server.terminate()
        server.wait(timeout=30)


def json_rows(path: Path) -> list[dict[str, object]]:
    """Return the first series of a table as JSON rows."""
    from appliedpapers.core.tables import plain_row, read_table

    rows = read_table(path).to_pylist()
    return [plain_row(row) for row in rows if row["unique_id"] == rows[0]["unique_id"]]


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server has warmed up."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server stopped with exit code {server.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the server was not ready within {READY_WITHIN_S} s")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()

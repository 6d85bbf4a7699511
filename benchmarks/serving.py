"""How fast a model is served: ours, ``mlflow models serve`` and a bare FastAPI, side by side in one run.

    python -m benchmarks.serving
    python -m benchmarks.serving --workers 2 --seconds 8 --rounds 5
    python -m benchmarks.serving --model finalmlp@champion --rows 10

Eight clients ask for one row each, with and without keep-alive. All three serve the same bundle, one thread a
worker; they are measured in turn, round after round, and the figures are medians over the rounds. The clients
share the machine with the server. Asked of ours: at least 2.5 times the throughput of MLflow's server and at
most half of its p99, and at least 0.75 of the throughput of the bare application, which checks nothing.

Without ``--model`` the smallest plugin of the tests is served: a ridge regression of five columns. The bare
application reads numbers, texts and nulls alone. The environment must be activated: MLflow looks for
``uvicorn`` on the ``PATH``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load, ask, post

_ROOT = Path(__file__).resolve().parents[1]
_TINY = _ROOT / "tests" / "plugins" / "tiny"
_BODIES = 64
_NAMES = {"ours": "ours", "mlflow": "mlflow models serve", "bare": "bare FastAPI"}
_THROUGHPUT, _LATENCY, _BARE = 2.5, 0.5, 0.75


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds; latencies in milliseconds."""

    server: str
    keep_alive: bool
    rate: float
    p50: float
    p99: float
    refused: int


def tiny_bundle(folder: Path) -> Path:
    """Fit the smallest plugin of the tests and return its bundle."""
    sys.path.insert(0, str(_TINY))
    from appliedpapers.core import plugin as plugins
    from appliedpapers.core.bundle import save_bundle
    from appliedpapers.core.config import resolve
    from appliedpapers.core.model import FitContext

    task = plugins.find("tiny-rows").task(None)
    config = resolve(task.load("config"), preset="quick")
    dataset = task.load("datasets").simulated(config)
    model = task.load("model")(config).fit(dataset.train, dataset.valid, FitContext(folder / "scratch"))
    facts = {"name": "simulated", "synthetic": True}
    save_bundle(model, folder / "bundle", plugin="tiny-rows", task=task.name, dataset=facts)
    return folder / "bundle"


def bodies_for(bundle: Path, rows: int) -> list[bytes]:
    """Return JSON bodies of the model's own example, so many rows each."""
    from appliedpapers.core.json_rows import plain, records
    from appliedpapers.pipelines.serve import load_served

    served = load_served(str(bundle))
    if served.example is None:
        raise SystemExit(f"{bundle}: the model has no example to ask with.")
    found = [plain(row) for row in records(served.example)]
    sent = [[found[(start + k) % len(found)] for k in range(rows)] for start in range(_BODIES)]
    return [json.dumps({"dataframe_records": part}).encode() for part in sent]


def commands(bundle: Path, folder: Path, workers: int, port: int) -> dict[str, list[str]]:
    """Return how each server is started."""
    if not (folder / "mlflow").exists():
        from appliedpapers.pipelines.packaging import write_model

        write_model(bundle, folder / "mlflow")
    python, listen = [sys.executable, "-m"], ["--host", "127.0.0.1", "--port", str(port)]
    many = ["--workers", str(workers)]
    mlflow = ["mlflow", "models", "serve", "-m", str(folder / "mlflow"), "--env-manager", "local"]
    bare = ["uvicorn", "benchmarks.serving_bare:app", "--loop", "uvloop", "--http", "httptools"]
    return {
        "ours": [*python, "appliedpapers", "serve", str(bundle), *listen, *(many if workers > 1 else [])],
        "mlflow": [*python, *mlflow, *listen, *many],
        "bare": [*python, *bare, "--no-access-log", "--log-level", "warning", *listen, *many],
    }


@contextmanager
def running(
    command: Sequence[str], bundle: Path, port: int, health: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server in a process group of its own and wait until it is ready."""
    paths = [str(_ROOT), str(_TINY), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "BUNDLE": str(bundle)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=env, stdout=said, stderr=said, start_new_session=True)
        try:
            if not _answers(process, port, health):
                said.seek(0)
                raise SystemExit(f"{' '.join(command)}\n{said.read().decode()[-3000:]}")
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int, health: str) -> bool:
    for _ in range(1200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=1):
                return True
        except OSError:
            if process.poll() is not None:
                return False
            time.sleep(0.05)
    return False


def measure(
    bundle: Path, folder: Path, sent: Sequence[bytes], options: argparse.Namespace
) -> dict[tuple[str, bool], list[Load]]:
    """Measure every server with and without keep-alive, in turn."""
    found: dict[tuple[str, bool], list[Load]] = {}
    for _ in range(options.rounds):
        for name in options.only or _NAMES:
            port = free_port()
            command = commands(bundle, folder, options.workers, port)[name]
            health = "/v2/health/ready" if name == "ours" else "/ping"
            with running(command, bundle, port, health):
                for kept in (True, False):
                    requests = post("/invocations", sent, keep_alive=kept, media_type="application/json")
                    ask(port, requests, clients=options.clients, seconds=options.warm, keep_alive=kept)
                    load = ask(
                        port, requests, clients=options.clients, seconds=options.seconds, keep_alive=kept
                    )
                    found.setdefault((name, kept), []).append(load)
                    said = f"{name} keep-alive={kept} {load.rate:.0f}/s p99 {load.percentile(99):.2f} ms"
                    print(said, dict(load.statuses), dict(load.failures), file=sys.stderr)
    return found


def figures(found: dict[tuple[str, bool], list[Load]]) -> list[Figures]:
    """Return the medians."""
    return [
        Figures(
            name,
            kept,
            statistics.median(load.rate for load in loads),
            statistics.median(load.percentile(50) for load in loads),
            statistics.median(load.percentile(99) for load in loads),
            sum(sum(load.failures.values()) + len(load.latencies) - load.statuses[200] for load in loads),
        )
        for (name, kept), loads in found.items()
    ]


def judged(rows: Sequence[Figures]) -> list[dict[str, object]]:
    """Return the ratios that the gate asks for."""
    verdicts: list[dict[str, object]] = []
    for kept in (True, False):
        by_name = {row.server: row for row in rows if row.keep_alive is kept}
        if by_name.keys() < _NAMES.keys():
            continue
        ours, mlflow, bare = by_name["ours"], by_name["mlflow"], by_name["bare"]
        for what, value, bound, good in (
            (
                "throughput over mlflow",
                ours.rate / mlflow.rate,
                _THROUGHPUT,
                ours.rate / mlflow.rate >= _THROUGHPUT,
            ),
            ("p99 over mlflow", ours.p99 / mlflow.p99, _LATENCY, ours.p99 / mlflow.p99 <= _LATENCY),
            ("throughput over bare", ours.rate / bare.rate, _BARE, ours.rate / bare.rate >= _BARE),
        ):
            verdicts.append(
                {"keep_alive": kept, "ratio": what, "value": value, "bound": bound, "holds": good}
            )
    return verdicts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a registered model or a bundle, in place of the small one")
    parser.add_argument("--store", type=Path, default=Path("mlruns"), help="folder of the MLflow store")
    parser.add_argument("--rows", type=int, default=1, help="rows in a request")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1, help="processes of each server")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds before each that do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(_NAMES), help="leave the others out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write docs/results/serving.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.model:
            from appliedpapers.pipelines.locate import locate

            bundle = locate(options.model, options.store).bundle
        else:
            bundle = tiny_bundle(folder)
        rows = figures(measure(bundle, folder, bodies_for(bundle, options.rows), options))
    verdicts = judged(rows)
    if options.keep:
        from benchmarks.acceptance import keep

        keep("serving", {"figures": [vars(row) for row in rows], "gate": verdicts})
    if options.json:
        print(json.dumps({"figures": [vars(row) for row in rows], "gate": verdicts}, indent=1))
        return
    print(f"\n{options.clients} clients, {options.workers} worker(s), {options.rows} row(s) a request")
    print(f"{'server':<22}{'keep-alive':<12}{'req/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}")
    for row in rows:
        kept = "yes" if row.keep_alive else "no"
        print(
            f"{_NAMES[row.server]:<22}{kept:<12}{row.rate:>8.0f}{row.p50:>9.2f}{row.p99:>9.2f}{row.refused:>8}"
        )
    for verdict in verdicts:
        kept = "keep-alive" if verdict["keep_alive"] else "no keep-alive"
        holds = "holds" if verdict["holds"] else "MISSED"
        print(f"  {verdict['ratio']}, {kept}: {verdict['value']:.2f} (bound {verdict['bound']}) {holds}")


if __name__ == "__main__":
    main()

"""Full acceptance runs of a plugin: target against measured, printed and kept.

    python -m benchmarks.acceptance frets
    python -m benchmarks.acceptance frets --only etth1-96-published --only speed
    python -m benchmarks.acceptance frets --list

Each run goes through the product as ``apps run --no-register`` does, in a temporary folder; data come from
``APPS_DATA_HOME`` or are downloaded. ``docs/results/PLUGIN.json`` is written after every case. A case that
was measured at the same clean commit is not run again unless ``--again`` is given, so that an interrupted
acceptance continues. The exit code is 1 where a figure misses its target; stretch targets are reported only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliedpapers.core.config import resolve_config
from appliedpapers.core.errors import AppsError
from appliedpapers.core.files import write_json, write_text
from appliedpapers.core.progress import Progress, choose_progress
from benchmarks.acceptance_case import Case, Measured, Settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
_WHAT = "Full acceptance runs of a plugin: target against measured, printed and kept."
# what has cases that are no runs of the product
_OWN_RUNNERS = {"mowst": "benchmarks.mowst_graphs", "fuzz": "benchmarks.fuzz"}
_LIBRARIES = (
    *("torch", "numpy", "pandas", "pyarrow", "scikit-learn", "lightgbm", "xgboost-cpu"),
    *("lightning-fabric", "scipy", "rasterio"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and return the exit code."""
    options = _parse(arguments)
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.plugin in _OWN_RUNNERS:
        return _hand_over(options)
    name = f"acceptance_{options.plugin.replace('-', '_')}"
    if not Path(__file__).with_name(f"{name}.py").is_file():
        print(f"no acceptance cases for '{options.plugin}': benchmarks/{name}.py is absent", file=sys.stderr)
        return 2
    cases: tuple[Case, ...] = importlib.import_module(f"benchmarks.{name}").CASES
    if options.list:
        for case in cases:
            print(f"{case.name:<24} points {', '.join(map(str, case.points)) or '-'}")
        return 0
    unknown = sorted(set(options.only) - {case.name for case in cases})
    if unknown:
        print(f"unknown case '{unknown[0]}'; --list names them", file=sys.stderr)
        return 2
    wanted = [case for case in cases if not options.only or case.name in options.only]
    path = options.output or RESULTS / f"{options.plugin}.json"
    document = _start(path, options.plugin)
    now = commit()
    order = [case.name for case in cases]
    for case in wanted:
        known = next((item for item in document["cases"] if item["name"] == case.name), None)
        if known and not options.again and known["commit"] == now and not now.endswith("-dirty"):
            print(f"{case.name}: measured at this commit already")
        else:
            known = _measure(options.plugin, case, options.device, choose_progress(options.quiet))
            others = [item for item in document["cases"] if item["name"] in {*order} - {case.name}]
            document["cases"] = sorted([*others, known], key=lambda item: order.index(item["name"]))
            write_text(path, compact(document) + "\n")
        _print(known)
    failed = [item for case in document["cases"] for item in case["checks"] if item["pass"] is False]
    total = sum(len(case["checks"]) for case in document["cases"])
    print(f"\n{total - len(failed)} of {total} figures as required; written to {path}")
    return 1 if failed else 0


def compact(value: Any, indent: int = 0) -> str:
    """Return JSON in which what holds nothing nested, such as a row of results, stands on one line.

    Args:
        value: A document; NaN and infinity are refused.
        indent: Blanks before the lines of what it holds.
    """
    inside = list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    if not any(isinstance(one, dict | list) and one for one in inside):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        lines = [f"{json.dumps(name)}: {compact(one, indent + 1)}" for name, one in value.items()]
        return "{\n" + ",\n".join(pad + line for line in lines) + "\n" + " " * indent + "}"
    lines = [compact(one, indent + 1) for one in value]
    return "[\n" + ",\n".join(pad + line for line in lines) + "\n" + " " * indent + "]"


def _hand_over(options: argparse.Namespace) -> int:
    """Let the module that judges itself do so; it takes ``--only`` and ``--output``."""
    words = ["--acceptance"]
    for case in options.only:
        words += ["--only", case]
    if options.output:
        words += ["--output", str(options.output)]
    return int(importlib.import_module(_OWN_RUNNERS[options.plugin]).main(words))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=_WHAT)
    parser.add_argument("plugin", nargs="?", default="frets", help="plugin id")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--again", action="store_true", help="measure again what was measured")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="CPU threads of what is measured in other processes")
    parser.add_argument("--output", type=Path, help="default: docs/results/PLUGIN.json")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args(arguments)


def _start(path: Path, plugin: str) -> dict[str, Any]:
    cases: list[dict[str, Any]] = []
    if path.is_file():
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return {"command": f"python -m benchmarks.acceptance {plugin}", "cases": cases}


def _measure(plugin: str, case: Case, device: str, progress: Progress) -> dict[str, Any]:
    """Run a case; what cannot be run fails with its reason, and the other cases go on."""
    print(f"\n{case.name}")
    started = time.monotonic()
    entry: dict[str, Any] = {
        "name": case.name,
        "points": list(case.points),
        "commands": {name: settings.command(plugin) for name, settings in case.runs.items()}
        | dict(case.commands),
        "commit": commit(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory(prefix="acceptance-") as scratch:
        try:
            runs = {
                name: _run(plugin, settings, device, Path(scratch), progress)
                for name, settings in case.runs.items()
            }
            entry["checks"] = [_judge(check, check.measure(runs)) for check in case.checks]
        except (AppsError, LookupError, subprocess.SubprocessError) as error:
            entry["error"] = str(error)
            entry["checks"] = [_judge(check, math.nan) for check in case.checks]
            runs = {}
    entry["device"] = next((run.results["device"] for run in runs.values()), platform.processor() or "cpu")
    entry["seconds"] = round(time.monotonic() - started, 1)
    # without the slices, which are many and belong to the report
    entry["runs"] = {
        name: {**run.results, "rows": [row for row in run.results["rows"] if not row["slice"]]}
        for name, run in runs.items()
    }
    return entry


def _run(plugin: str, settings: Settings, device: str, scratch: Path, progress: Progress) -> Measured:
    from appliedpapers.pipelines.run import start
    from appliedpapers.pipelines.run_folder import RunRequest

    config = resolve_config(
        plugin,
        task=settings.task,
        preset=settings.preset,
        assignments=settings.assignments,
        dataset=settings.dataset,
    )
    request = RunRequest(
        plugin=plugin,
        task=settings.task,
        config=config,
        preset=settings.preset,
        dataset=settings.dataset,
        device=device,
        register=False,
        command=settings.command(plugin),
    )
    started = time.process_time()
    run = start(request, runs=scratch / "runs", store_folder=scratch / "mlruns", progress=progress)
    left = run.live()
    cpu_seconds = time.process_time() - started
    selected = next(row["model"] for row in left.results["rows"] if row["selected"])
    # names of steps and networks stand before those of metrics
    epochs = [
        {key.rpartition("/")[2]: value for key, value in one.items()} for one in run.histories[selected]
    ]
    return Measured(left.results, epochs, left.report, cpu_seconds)


def _judge(check: Any, value: float) -> dict[str, Any]:
    holds = check.holds(value)
    return {
        "what": check.what,
        "target": check.target,
        "measured": round(value, 6) if math.isfinite(value) else None,
        "reached": holds,
        "pass": None if check.stretch or not check.bounded else holds,
    }


def _print(case: dict[str, Any]) -> None:
    if "error" in case:
        print(f"  not measured: {case['error']}")
    for item in case["checks"]:
        value = "-" if item["measured"] is None else f"{item['measured']:.4g}"
        missed = "missed" if item["pass"] is None else "FAILED"
        word = "ok" if item["reached"] else missed
        print(f"  {word:<8}{item['what']:<52}{item['target']:>24}{value:>12}")
    print(f"  {case['seconds']:.0f} s on {case['device']}, commit {case['commit']}")


def keep(name: str, measured: dict[str, Any]) -> Path:
    """Write what a benchmark measured to ``docs/results/NAME.json``, with the command, commit and versions.

    Args:
        name: Of the benchmark, and of the file.
        measured: Its figures.
    """
    words = ["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]
    path = RESULTS / f"{name}.json"
    write_json(path, {"command": shlex.join(words), "commit": commit(), "versions": versions(), **measured})
    return path


def commit() -> str:
    """Return the commit, with ``-dirty`` where code differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    # what the figures depend on; results and documents may change
    changed = git("status", "--porcelain", "-uno", "--", "appliedpapers", "benchmarks", "constraints.txt")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("-dirty" if changed else "")


def versions() -> dict[str, str]:
    """Return the versions that figures depend on, and the number of CPUs."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "cpus": str(os.cpu_count())}
    for name in ("applied-papers", *_LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    sys.exit(main())

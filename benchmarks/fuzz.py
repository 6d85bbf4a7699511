"""Readers and parsers under random damage: each case is read, or refused in words, in bounded resources.

    python -m benchmarks.fuzz
    python -m benchmarks.fuzz --only csv --cases 500
    make acceptance PLUGIN=fuzz

Each target starts from valid content, which hypothesis draws changes of. What is read, and what is refused
with the error of ours that the target declares, is as it should be; any other exception is a defect, and so
are a case that computes for longer than a limit and memory that grows beyond a bound. Each target has a
process of its own, so that a decoder that crashes is counted, too. Counts go to ``docs/results/fuzz.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from appliedpapers.core.errors import AppsError
from appliedpapers.core.files import write_json
from benchmarks import fuzz_bundles, fuzz_files, fuzz_server, fuzz_tables, fuzz_words
from benchmarks.acceptance import RESULTS, commit, versions
from benchmarks.fuzz_target import Target

TARGETS: tuple[Target, ...] = (
    *fuzz_words.TARGETS,
    *fuzz_tables.TARGETS,
    *fuzz_files.TARGETS,
    *fuzz_bundles.TARGETS,
    *fuzz_server.TARGETS,
)
CASES = 10_000
MOST_SECONDS = 10.0
MOST_MEGABYTES = 1024
_TARGET_SECONDS = 3600
_SHOWN = 400


@dataclass
class Outcome:
    """What became of the cases of one target.

    Attributes:
        cases: How many were tried.
        read: How many were read.
        refused: How many were refused, by class.
        defects: Where other exceptions came from, with the first case of each.
        slowest: Seconds of CPU of the slowest case, all threads of the process together.
        megabytes: Growth of the process's peak memory over all cases.
    """

    cases: int = 0
    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    defects: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0
    megabytes: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.defects and self.slowest <= MOST_SECONDS and self.megabytes <= MOST_MEGABYTES

    def to_json(self, target: Target) -> dict[str, Any]:
        """Return the entry of the results."""
        return {
            "name": target.name,
            "what": target.what,
            "cases": self.cases,
            "read": self.read,
            "refused": dict(sorted(self.refused.items())),
            "defects": self.defects,
            "slowest_cpu_seconds": round(self.slowest, 3),
            "memory_growth_mb": round(self.megabytes, 1),
            "ok": self.ok,
        }


class TooSlow(Exception):
    """A case took more CPU than the limit."""


def fuzzed(
    target: Target, cases: int, folder: Path, *, seed: int | None = None, limited: bool = True
) -> Outcome:
    """Try a target.

    Args:
        target: What is fuzzed.
        cases: How many cases are tried.
        folder: Empty; content is written below it.
        seed: Of the cases; without it they are the same in every run.
        limited: A case that takes too much CPU is a defect.
    """
    ready = target.prepare(folder)
    outcome = Outcome()

    def attempt(case: Any) -> None:
        outcome.cases += 1
        started = time.process_time()
        try:
            with _time_limit() if limited else nullcontext(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ready.attempt(case)
            outcome.read += 1
        except target.refusals as error:
            outcome.refused[type(error).__name__] += 1
            _require_one_line(error, outcome, case)
        # what a reader must not raise may be anything
        except (Exception, SystemExit) as error:
            outcome.defects.setdefault(_place(error), f"{error!r:.{_SHOWN}} for {case!r:.{_SHOWN}}")
        outcome.slowest = max(outcome.slowest, time.process_time() - started)

    run = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=seed is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(ready.cases)(attempt))
    before = _peak()
    (run if seed is None else seeded(seed)(run))()
    outcome.megabytes = _peak() - before
    return outcome


def _require_one_line(error: AppsError, outcome: Outcome, case: Any) -> None:
    """A refusal can be printed, and says what is wrong in a line that fits a screen."""
    try:
        error.render().encode("utf-8", "backslashreplace")
        json.dumps(error.message)
    except Exception as trouble:
        outcome.defects.setdefault(f"message: {trouble!r:.80}", f"{case!r:.{_SHOWN}}")
        return
    if "\n" in error.message:
        outcome.defects.setdefault(f"message of two lines at {_place(error)}", f"{error.message!r:.{_SHOWN}}")
    if not error.message.strip():
        outcome.defects.setdefault(f"empty message at {_place(error)}", f"{case!r:.{_SHOWN}}")


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "appliedpapers" in frame.filename]
    last = (ours or frames)[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} ({last.name})"


@contextmanager
def _time_limit() -> Iterator[None]:
    """Count CPU, not the clock: on a loaded machine, a case is as fast as on any other."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {MOST_SECONDS:g} s of CPU")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _peak() -> float:
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the targets, print, write; return 1 where something was found."""
    options = _parse(arguments)
    wanted = [target for target in TARGETS if not options.only or target.name in options.only]
    unknown = sorted(set(options.only) - {target.name for target in TARGETS})
    if unknown:
        print(
            f"unknown target '{unknown[0]}'; there are {', '.join(t.name for t in TARGETS)}", file=sys.stderr
        )
        return 2
    if options.child:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            outcome = fuzzed(wanted[0], options.cases, Path(folder), seed=options.seed)
        print(json.dumps(outcome.to_json(wanted[0])))
        return 0
    path = options.output or RESULTS / "fuzz.json"
    found = {entry["name"]: entry for entry in _kept(path)}
    for target in wanted:
        if options.resume and _finished(found.get(target.name), options.cases):
            continue
        entry = _in_a_process(target, options.cases, options.seed)
        found[target.name] = entry
        _print(entry)
        if options.cases >= CASES or options.output:
            entries = [found[target.name] for target in TARGETS if target.name in found]
            write_json(path, _document(entries, options.seed))
    bad = [target.name for target in wanted if not found[target.name]["ok"]]
    total = sum(found[target.name]["cases"] for target in wanted)
    print(f"\n{total:,} cases of {len(wanted)} targets; {len(bad)} with findings {' '.join(bad)}")
    return 1 if bad else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="TARGET", help="may be repeated")
    parser.add_argument("--cases", type=int, default=CASES, help=f"cases of each target, default {CASES:,}")
    parser.add_argument("--seed", type=int, default=1, help="of the cases")
    parser.add_argument("--output", type=Path, help="default: docs/results/fuzz.json, for whole runs")
    parser.add_argument("--resume", action="store_true", help="leave out what an earlier run finished")
    parser.add_argument("--acceptance", action="store_true", help="as make acceptance calls it: a whole run")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _finished(entry: dict[str, Any] | None, cases: int) -> bool:
    return entry is not None and entry["ok"] and entry["cases"] >= cases


def _kept(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["targets"]) if path.is_file() else []


def _document(entries: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    return {
        "command": "make acceptance PLUGIN=fuzz",
        "commit": entries[-1].get("commit", "unknown"),
        "versions": versions(),
        "seed": seed,
        "limits": {"cpu_seconds_of_a_case": MOST_SECONDS, "memory_growth_mb": MOST_MEGABYTES},
        "tried": sum(entry["cases"] for entry in entries),
        "defects": sum(len(entry["defects"]) for entry in entries),
        "targets": list(entries),
    }


def _in_a_process(target: Target, cases: int, seed: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.fuzz", "--child", "--only", target.name]
    words += ["--cases", str(cases), "--seed", str(seed)]
    env = os.environ | {"HYPOTHESIS_STORAGE_DIRECTORY": tempfile.gettempdir()}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_TARGET_SECONDS, env=env, check=False
        )
        if done.returncode == 0:
            return {**json.loads(done.stdout.splitlines()[-1]), "commit": commit()}
        said = done.stderr.strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
    except subprocess.TimeoutExpired:
        said = [f"not finished in {_TARGET_SECONDS} s"]
    crashed = Outcome(defects={"the process": said[0][:_SHOWN]})
    return {**crashed.to_json(target), "commit": commit()}


def _print(entry: dict[str, Any]) -> None:
    word = "ok" if entry["ok"] else "FOUND"
    refused = sum(entry["refused"].values())
    print(
        f"  {word:<6}{entry['name']:<18}{entry['cases']:>8,} cases {entry['read']:>8,} read"
        f"{refused:>8,} refused"
        f"{entry['slowest_cpu_seconds']:>9.3f} s slowest{entry['memory_growth_mb']:>8.0f} MB",
        flush=True,
    )
    for place, first in entry["defects"].items():
        print(f"        {place}\n          {first}")


if __name__ == "__main__":
    sys.exit(main())

"""What an acceptance case is: runs of the product, and the figures of them that must lie within bounds."""

from __future__ import annotations

import functools
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One run: what follows ``apps run PLUGIN``.

    Attributes:
        preset: Name of the preset.
        dataset: Id of a published dataset, or ``"simulated"``.
        assignments: ``a.b=c`` overrides.
        task: Of a plugin with several.
    """

    preset: str
    dataset: str
    assignments: tuple[str, ...] = ()
    task: str | None = None

    def command(self, plugin: str) -> str:
        """Return the command line of the run."""
        words = ["apps", "run", plugin, "--dataset", self.dataset, "--preset", self.preset, "--no-register"]
        words += [] if self.task is None else ["--task", self.task]
        for assignment in self.assignments:
            words += ["--set", assignment]
        return shlex.join(words)


@dataclass(frozen=True)
class Measured:
    """What a run left behind.

    Attributes:
        results: The results document.
        history: Metrics of each epoch of the selected model.
        report: Its HTML report.
        cpu_seconds: Processor time of the whole run, all threads together, whoever else uses the machine.
    """

    results: dict[str, Any]
    history: Sequence[Mapping[str, float]]
    report: Path
    cpu_seconds: float = math.nan

    def ours(self, metric: str, **part: str) -> float:
        """Return a figure of the selected model, over the whole test set or over one slice."""
        return self._value(metric, part, lambda row: bool(row["selected"]))

    def of(self, model: str, metric: str) -> float:
        """Return a figure of another model of the run: a baseline, or a part of ours."""

        def is_it(row: dict[str, Any]) -> bool:
            return bool(row["model"] == model and not row["selected"] and row["kind"] != "published")

        return self._value(metric, {}, is_it)

    def difference_to(self, model: str) -> tuple[float, float]:
        """Return the interval of the paired difference: that model's loss less ours, above 0 if we win."""
        for test in self.results["tests"]:
            if test["b"] == model:
                low, high = test["low"], test["high"]
                return (math.nan if low is None else low, math.nan if high is None else high)
        raise LookupError(f"no test against {model}")

    def _value(self, metric: str, part: Mapping[str, str], chosen: Callable[[dict[str, Any]], bool]) -> float:
        for row in self.results["rows"]:
            if row["metric"] == metric and row["slice"] == part and row["seed"] is None and chosen(row):
                return math.nan if row["value"] is None else float(row["value"])
        raise LookupError(f"no {metric} in the results for {dict(part) or 'the whole test set'}")


@dataclass(frozen=True)
class Check:
    """One figure and its bounds.

    Attributes:
        what: The figure in words.
        measure: Takes the runs of the case by name.
        low: Smallest value that passes.
        high: Largest value that passes.
        stretch: Reported, but no reason to fail.
    """

    what: str
    measure: Callable[[Mapping[str, Measured]], float]
    low: float = -math.inf
    high: float = math.inf
    stretch: bool = False

    @property
    def bounded(self) -> bool:
        """Whether anything is asked of it; otherwise it is only reported."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    @property
    def target(self) -> str:
        """The bounds in words."""
        if not self.bounded:
            return "reported"
        word = "stretch: " if self.stretch else ""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{word}{self.low:.4g} to {self.high:.4g}"
        return f"{word}<= {self.high:.4g}" if math.isfinite(self.high) else f"{word}>= {self.low:.4g}"

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies within the bounds; NaN does not."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Case:
    """Some runs and what must hold of them.

    Attributes:
        name: Its name on the command line.
        points: Points of the plugin's acceptance list that it covers.
        runs: Runs by name; may be empty where a check measures by itself.
        checks: What must hold.
        commands: Command lines of what checks measure by themselves, by name.
    """

    name: str
    points: tuple[int, ...]
    runs: Mapping[str, Settings]
    checks: tuple[Check, ...]
    commands: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def printed_by(script: str, *options: str) -> dict[str, Any]:
    """Return what a benchmark of this folder prints with ``--json``; it is run once for all checks.

    Raises:
        LookupError: It printed nothing.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *options, "--json"],
        capture_output=True,
        text=True,
        timeout=7200,
        check=False,  # some exit with 1 where a figure is missed, and the figures are judged by the cases
    )
    if not done.stdout.strip():
        raise LookupError(f"{script} printed nothing: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found

"""The matrix: every plugin that takes shared modules, with ten architectures and its own baselines.

    make compare                                     or: python -m benchmarks.compare_all
    python -m benchmarks.compare_all --only frets --only finalmlp
    python -m benchmarks.compare_all --list          the commands alone, one a plugin

Embedded data alone, so nothing is downloaded. What is fitted lies in ``comparison-suite/``: an interrupted
matrix goes on where it stopped. ``docs/results/compare.json`` is written whole after every plugin, and
``docs/results.md`` is made from it by ``python -m benchmarks.docs --text``. Exit 1 where a cell could not be
fitted; the others stand.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliedpapers.core.errors import AppsError
from appliedpapers.core.files import write_json
from appliedpapers.core.progress import choose_progress
from appliedpapers.core.verdict import SIGNIFICANT, headline, primary_metric, selected_model, verdict
from benchmarks.acceptance import ROOT, commit, versions

RESULTS = ROOT / "docs" / "results" / "compare.json"
SCHEMA = Path(__file__).with_name("compare.schema.json")
COMMAND = "python -m benchmarks.compare_all"
FOLDER = Path("comparison-suite")
SEEDS = 3
DIGITS = 6

ARCHITECTURES: dict[str, str] = {
    "MLP": "mlp",
    "KAN, B-splines": "kan(grid=5)",
    "KAN, RBF": "kan(basis=rbf)",
    "KAN, Chebyshev": "kan(basis=chebyshev)",
    "FAN": "fan",
    "hourglass MLP": "hourglass",
    "residual MLP": "resmlp",
    "SwiGLU": "swiglu",
    "group-rational KAN": "grkan",
    "fast feedforward": "fff",
}
"""The ten, as options take them; each as it comes, so that nobody's sizes are tuned."""


@dataclass(frozen=True)
class Setting:
    """How one plugin takes part.

    Attributes:
        plugin: Its id.
        preset: What all its cells start from.
        assignments: ``a.b=c`` over it: what makes a cell small, or lets the module be used at all.
        task: Of a plugin with several.
        over: The option that is varied.
        seeds: Fewer where a fit takes long.
        place: What the module does there, in words.
    """

    plugin: str
    preset: str
    place: str
    assignments: tuple[str, ...] = ()
    task: str | None = None
    over: str = "head"
    seeds: int = SEEDS

    def overs(self, heads: Sequence[str] = tuple(ARCHITECTURES.values())) -> str:
        """Return what ``--over`` takes."""
        return f"{self.over}=[{', '.join(heads)}]"

    def command(self, heads: Sequence[str] = tuple(ARCHITECTURES.values()), seeds: int | None = None) -> str:
        """Return the command line that repeats it."""
        words = ["apps", "compare", self.plugin]
        words += [] if self.task is None else ["--task", self.task]
        words += ["--preset", self.preset]
        for assignment in self.assignments:
            words += ["--set", assignment]
        words += ["--over", self.overs(heads), "--seeds", str(seeds or self.seeds)]
        return shlex.join(words)


SUITE: tuple[Setting, ...] = (
    Setting("frets", "quick", "the head, from the mixed frequencies to the horizon"),
    Setting("finalmlp", "quick", "the first of the two streams"),
    Setting(
        "agrosense",
        "quick",
        "the network over a soil test's numbers",
        ("simulator.sites=32", "model.family=mlp", "network.epochs=20", "model.inner_folds=5"),
        task="crop",
    ),
    Setting(
        "virtual-inking",
        "check",
        "the head over a tile's frozen features",
        # an mlp as wide as it usually is: the preset's is there to check that anything runs
        (
            *("simulator.blocks=[8, 3, 8]", "encoder.cache=features"),
            *("head.hidden=256", "head.training.epochs=20"),
        ),
        seeds=2,
    ),
    Setting(
        "laser-cvae",
        "quick",
        "the encoder of the forecast",
        # the part that judges a device by itself is not varied
        ("abnormality_training.epochs=2", "forecast_training.epochs=12"),
        seeds=2,
    ),
    Setting(
        "varifocal-net",
        "check",
        "the heads of both networks",
        # the networks answer without the boosted trees, and look at the chromosome's own box
        (
            *("simulator.train_cells=12", "simulator.test_cells=10"),
            *("network.answer=joint", "network.crop=simple", "network.head_hidden=512"),
            *("steps.g.epochs=10", "steps.l.epochs=8", "steps.fusion.epochs=10"),
        ),
        seeds=1,
    ),
    Setting(
        "imu-attitude",
        "quick",
        "the head of the network on top; where held-out trials keep nothing of it, the filter answers",
        (
            *("data.simulator.sequences=12", "training.epochs=5"),
            *("model.base=window-mean", "model.shares=[1.0]", "model.folds=2"),
        ),
        seeds=1,
    ),
    # no linear forecast underneath, which would answer for whatever the network does not learn
    Setting(
        "volatility-images", "quick", "the head over the pooled image and features", ("model.skip=none",)
    ),
)
LEFT_OUT = {
    "pansharpening": "takes no shared module: its networks are convolutions that learn from each scene",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare plugin after plugin and return the exit code."""
    options = _parse(arguments)
    chosen = [one for one in SUITE if not options.only or one.plugin in options.only]
    unknown = sorted(set(options.only) - {one.plugin for one in SUITE})
    if unknown:
        print(
            f"'{unknown[0]}' is not in the matrix: {', '.join(one.plugin for one in SUITE)}", file=sys.stderr
        )
        return 2
    if options.list:
        for one in chosen:
            print(one.command())
        return 0
    missing = 0
    for number, setting in enumerate(chosen, start=1):
        print(f"\n{setting.plugin} ({number} of {len(chosen)})", flush=True)
        started = time.monotonic()
        try:
            entry, failures = measure(setting, options.output, options.seeds, options.workers, options.quiet)
        except AppsError as error:
            print(f" not compared: {error.message}", file=sys.stderr)
            missing += 1
            continue
        for why in failures:
            print(f" could not be fitted: {why}", file=sys.stderr)
        missing += len(failures)
        merge(options.results, entry)
        print(f" {entry['words']}\n {entry['verdict']}\n {time.monotonic() - started:.0f} s", flush=True)
    print(f"\nwritten to {options.results}; python -m benchmarks.docs --text makes docs/results.md from it")
    return 1 if missing else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="PLUGIN", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="print the commands and do nothing")
    parser.add_argument("--seeds", type=int, help="fewer or more than the matrix has")
    parser.add_argument("--workers", type=int, help="fits at a time")
    parser.add_argument("--output", type=Path, default=FOLDER, help=f"what is fitted; default {FOLDER}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the small JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser.parse_args(arguments)


def measure(
    setting: Setting,
    output: Path,
    seeds: int | None = None,
    workers: int | None = None,
    quiet: bool = False,
    heads: Sequence[str] = tuple(ARCHITECTURES.values()),
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Compare one plugin's architectures; return its part of the document, and what could not be fitted.

    Args:
        setting: How it takes part.
        output: Folder of all comparisons; the plugin has one of its own below.
        seeds: Instead of the setting's.
        workers: Fits at a time.
        quiet: Show no progress.
        heads: Instead of the ten.

    Raises:
        AppsError: Nothing of it could be compared.
    """
    from appliedpapers.pipelines.compare import CompareRequest, compare

    command = setting.command(heads, seeds)
    request = CompareRequest(
        plugin=setting.plugin,
        overs=(setting.overs(heads),),
        seeds=seeds or setting.seeds,
        task=setting.task,
        preset=setting.preset,
        assignments=setting.assignments,
        device="cpu",
    )
    progress = choose_progress(quiet)
    found = compare([request], output / setting.plugin, workers=workers, command=command, progress=progress)
    return summary(setting, command, found.document["plugins"][0]), found.failures


def summary(setting: Setting, command: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a comparison is kept: figures of whole test sets, no slices and no cells."""
    from appliedpapers.pipelines.compare_page import choice_in_words

    results = part["results"]
    metric, best = primary_metric(results), selected_model(results)
    rows = {row["model"]: row for row in headline(results) if row["metric"] == metric}
    pairs = {pair["b"]: pair for pair in part["pairs"]}
    tests = {test["b"]: test for test in results["tests"]}
    first = rows[best]
    return {
        "plugin": setting.plugin,
        "task": results["task"],
        "place": setting.place,
        "command": command,
        "commit": commit(),
        "versions": versions(),
        **{
            name: results[name]
            for name in ("dataset", "synthetic", "protocol", "preset", "seeds", "test_size")
        },
        **{name: first[name] for name in ("metric", "unit", "higher_is_better")},
        "choices": [
            {
                "spec": choice["label"],
                "selected": choice["label"] == best,
                **_interval(rows[choice["label"]]),
                "spread": _spread(results, choice["label"], metric),
                "parameters": choice["parameters"],
                "seconds": round(statistics.fmean(choice["seconds"]), 2),
                "valid": _short(statistics.fmean(choice["valid"])),
                **_against(pairs.get(choice["label"])),
            }
            for choice in part["choices"]
        ],
        "baselines": [
            {
                "model": name,
                "attainable": name in tests,
                **_interval(row),
                "difference": _short(tests[name]["difference"]) if name in tests else None,
                "p": _short(tests[name]["p"]) if name in tests else None,
            }
            for name, row in rows.items()
            if row["kind"] == "baseline"
        ],
        "best": clear_best(part),
        "words": choice_in_words(part),
        "verdict": verdict(results),
        "warnings": list(results["warnings"]),
    }


def clear_best(part: Mapping[str, Any]) -> str | None:
    """Return the choice that is better than every other after Holm's adjustment; None where none is."""
    best, pairs = selected_model(part["results"]), part["pairs"]
    higher = next(row for row in part["results"]["rows"] if row["selected"])["higher_is_better"]
    sign = -1 if higher else 1
    won = [
        pair["adjusted_p"] is not None and pair["adjusted_p"] < SIGNIFICANT and sign * pair["difference"] > 0
        for pair in pairs
    ]
    return best if won and all(won) else None


def merge(path: Path, entry: Mapping[str, Any]) -> None:
    """Put one plugin's part in the place of its earlier one; the file appears whole."""
    known: list[dict[str, Any]] = []
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))["plugins"]
    order = [setting.plugin for setting in SUITE]
    kept = [one for one in known if one["plugin"] != entry["plugin"] and one["plugin"] in order]
    parts = sorted([*kept, dict(entry)], key=lambda one: order.index(one["plugin"]))
    document = {
        "version": 1,
        "command": COMMAND,
        "architectures": ARCHITECTURES,
        "left_out": LEFT_OUT,
        "plugins": parts,
    }
    validate(document)
    write_json(path, document)


def validate(document: Mapping[str, Any]) -> None:
    """Check the document against ``compare.schema.json``.

    Raises:
        jsonschema.ValidationError: It is not of that form.
    """
    import jsonschema

    jsonschema.validate(dict(document), json.loads(SCHEMA.read_text(encoding="utf-8")))


def _interval(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _short(row[name]) for name in ("value", "low", "high")}


def _against(pair: Mapping[str, Any] | None) -> dict[str, float | None]:
    names = ("difference", "adjusted_p")
    return {name: None if pair is None else _short(pair[name]) for name in names}


def _spread(results: Mapping[str, Any], model: str, metric: str) -> float | None:
    values = [
        row["value"]
        for row in results["rows"]
        if row["model"] == model and row["metric"] == metric and row["seed"] is not None and not row["slice"]
    ]
    known = [value for value in values if value is not None]
    return _short(statistics.stdev(known)) if len(known) > 1 else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


if __name__ == "__main__":
    sys.exit(main())

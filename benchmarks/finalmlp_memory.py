"""What a run of FinalMLP, and the scoring of the same file, hold in memory beyond the model, by stage.

    python -m benchmarks.finalmlp_memory --rows 2000000 --shuffle-buffer 100000
    python -m benchmarks.finalmlp_memory --rows 20000000 --keep big.parquet
    python -m benchmarks.finalmlp_memory --rows 20000000 --keep big.parquet --json

A simulated log of 100,000 users and 20,000 items is written to a Parquet file. One process lives the whole
run, streaming, with the click rate as the only baseline; another one scores the file with its bundle. The
kernel's high-water mark of resident memory is set back at the start of each stage (Linux). Shown is that mark
less what is resident once everything is imported; a stage within another one is not counted there again. The
model is its weights, and in the run two numbers of Adam a weight.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliedpapers.core.device import peak_memory_mb

USERS, ITEMS = 100_000, 20_000
_WEIGHT_BYTES = 4
_ADAM = 3  # a weight and its two moments
_IMPORTED = ("torch", "lightning_fabric", "pyarrow.parquet", "scipy.stats", "sklearn.metrics", "lightgbm")
_CODE = (
    "appliedpapers.pipelines.run",
    "appliedpapers.pipelines.report",
    "appliedpapers.pipelines.tracking",
    "appliedpapers.pipelines.score",
    "appliedpapers.plugins.finalmlp.evaluation",
    "appliedpapers.plugins.finalmlp.figures",
)
# where a stage begins and ends; a stage within another one is not part of it
_STAGES = (
    ("pipelines.run:Run._load", "data"),
    ("plugins.finalmlp.data:cut_rows", "cut"),
    ("plugins.finalmlp.data:single_field_leak", "leaks"),
    ("pipelines.run:leakage_audit", "audit"),
    ("plugins.finalmlp.data:ClickDataset.fingerprint", "fingerprint"),
    ("plugins.finalmlp.data:ClickDataset.test_fingerprint", "test fingerprint"),
    ("plugins.finalmlp.model:prepare", "prepare"),
    ("plugins.finalmlp.prepared:fit_encoder", "count tokens"),
    ("plugins.finalmlp.fitting:fit", "train"),
    ("plugins.finalmlp.model:fit_calibrator", "calibrate"),
    ("pipelines.run_fit:Fitter.baselines", "baselines"),
    ("plugins.finalmlp.model:FinalMlpModel.predict_split", "predict"),
    ("plugins.finalmlp.scoring:score_clicks", "score"),
    ("pipelines.run:build_results", "statistics"),
    ("pipelines.run:Run._save", "save"),
    ("pipelines.report:write_report", "report"),
    ("pipelines.run:Run._finish", "finish"),
)


class Stages:
    """Peaks of resident memory and seconds by stage.

    Args:
        watched: Functions as ``module:name``, and what the stage is called.
    """

    def __init__(self, watched: Sequence[tuple[str, str]] = _STAGES) -> None:
        for module in (*_IMPORTED, *_CODE):
            importlib.import_module(module)
        self.peaks: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = time.monotonic()
        for place, stage in watched:
            self._watch(place, stage)
        _forget_peak()
        self.imported = peak_memory_mb()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Give what happens within to ``name``."""
        self._settle()
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def rows(self) -> list[dict[str, Any]]:
        """Return each stage with its MiB beyond imports and its seconds."""
        return [
            {"stage": name, "mb": round(peak - self.imported, 1), "seconds": round(self.seconds[name], 1)}
            for name, peak in self.peaks.items()
        ]

    def _settle(self) -> None:
        name, now = self._open[-1] if self._open else "else", time.monotonic()
        self.peaks[name] = max(self.peaks.get(name, 0.0), peak_memory_mb())
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now
        _forget_peak()

    def _watch(self, place: str, stage: str) -> None:
        module, _, path = place.partition(":")
        *owners, name = path.split(".")
        owner: Any = importlib.import_module(f"appliedpapers.{module}")
        for inner in owners:
            owner = getattr(owner, inner)
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return original(*args, **kwargs)

        setattr(owner, name, watched)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def config_of(options: argparse.Namespace) -> Any:
    """Return the configuration of the run: one small network."""
    from appliedpapers.plugins.finalmlp.config import FinalMlpConfig
    from appliedpapers.plugins.finalmlp.simulator import simulated_fields

    return FinalMlpConfig.model_validate(
        {
            "data": {
                "fields": simulated_fields(),
                "streaming": options.streaming,
                "shuffle_buffer": options.shuffle_buffer,
            },
            "model": {
                "stream1": {"hidden": (64,)},
                "stream2": {"hidden": (64,)},
                "gate_hidden": (32,),
                "oov_dropout": 0.0,
            },
            "training": {"epochs": options.epochs, "batch_size": options.batch_size},
            "baselines": ("click-rate",),
        }
    )


def live(options: argparse.Namespace) -> dict[str, Any]:
    """Live a run in this process and return what it took."""
    import torch

    torch.set_num_threads(1)
    stages = Stages()
    from appliedpapers.core.progress import SilentProgress
    from appliedpapers.pipelines.run import start
    from appliedpapers.pipelines.run_folder import RunRequest

    request = RunRequest(
        plugin="finalmlp", config=config_of(options), data=options.keep, device="cpu", register=False
    )
    folder = options.folder
    run = start(request, runs=folder / "runs", store_folder=folder / "mlruns", progress=SilentProgress())
    with stages.stage("else"):
        result = run.live()
    bundle = result.folder / "model"
    judged = [row for row in result.results["rows"] if row["kind"] == "ours" and row["metric"] == "auc"]
    return {
        "stages": stages.rows(),
        "model_mb": round(_ADAM * _weights_mb(bundle), 1),
        "imported_mb": round(stages.imported, 1),
        "bundle": str(bundle),
        "auc": next(row["value"] for row in judged if not row["slice"]),
    }


def score(options: argparse.Namespace) -> dict[str, Any]:
    """Score the file in this process and return what it took."""
    import torch

    torch.set_num_threads(1)
    stages = Stages(())
    from appliedpapers.pipelines.score import score_run

    with stages.stage("score run"):
        done = score_run(str(options.bundle), [str(options.keep)], options.folder / "scores")
    return {
        "stages": stages.rows()[-1:],
        "model_mb": round(_weights_mb(options.bundle), 1),
        "imported_mb": round(stages.imported, 1),
        "rows": done.rows_out,
    }


def _weights_mb(bundle: Path) -> float:
    return sum(file.stat().st_size for file in bundle.rglob("*.safetensors")) / (1 << 20)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write the log where it is not there, and measure a run and a scoring in processes of their own."""
    from appliedpapers.plugins.finalmlp.simulator import write_simulated
    from appliedpapers.plugins.finalmlp.simulator_options import SimulatorOptions

    with tempfile.TemporaryDirectory(prefix="finalmlp-memory-") as scratch:
        options.folder = Path(scratch)
        options.keep = options.keep or options.folder / "clicks.parquet"
        if not options.keep.is_file():
            sizes = SimulatorOptions(rows=options.rows, users=options.users, items=options.items)
            write_simulated(options.keep, 0, sizes)
        run = _elsewhere("live", options)
        options.bundle = run.pop("bundle")
        return {"rows": options.rows, "run": run, "scoring": _elsewhere("score", options)}


def _elsewhere(what: str, options: argparse.Namespace) -> dict[str, Any]:
    given = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in vars(options).items()
        if value and name != "json"
    ]
    command = [sys.executable, "-m", "benchmarks.finalmlp_memory", *given, f"--only={what}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(found: dict[str, Any]) -> None:
    for name in ("run", "scoring"):
        one = found[name]
        about = f"{name} of {found['rows']:,} rows"
        print(f"{about}; model {one['model_mb']:.0f} MB, imported {one['imported_mb']:.0f} MB")
        print(f"{'stage':<18}{'MB beyond imports':>19}{'less the model':>16}{'seconds':>9}")
        for row in one["stages"]:
            held = row["mb"] - one["model_mb"]
            print(f"{row['stage']:<18}{row['mb']:>19,.0f}{held:>16,.0f}{row['seconds']:>9,.1f}")


def arguments_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a measurement."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finalmlp_memory", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument(
        "--shuffle-buffer", type=int, default=1_000_000, help="rows that are shuffled at a time"
    )
    parser.add_argument("--streaming", choices=("on", "off"), default="on")
    parser.add_argument(
        "--keep", type=Path, help="Parquet file of the log: read if there, else written and left"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=("live", "score"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments_of(arguments)
    if options.only is not None:
        print(json.dumps((live if options.only == "live" else score)(options)))
        return 0
    found = measure(options)
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())

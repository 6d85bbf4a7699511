"""What the suite itself costs: ``apps run`` and ``apps score run`` beside the same work without the suite.

    python -m benchmarks.overhead
    python -m benchmarks.overhead --plugin frets --preset quick --json

Every line is a fresh process on the embedded dataset, one thread. Bare means: import the plugin, make the
data, fit the model and the baselines, predict the test part, write the weights; then read the weights,
predict a file, write the answers. It leaves out what the suite adds: audit, fingerprints, checks,
intervals, figures, report, MLflow, registration, manifests. Asked of ``apps run`` is at most 10 % and 8 s
more than bare. Memory is the largest resident size of a process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from appliedpapers.core.schema import TableSchema

_ROOT = Path(__file__).resolve().parents[1]
_SHARE, _SECONDS = 0.10, 8.0
_GROUPS = {"pansharpening": 1}  # a scene takes minutes
_MANY = 5_000
_INPUT, _CHECKED = "input.parquet", "checked.parquet"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    megabytes: float
    printed: str


def measure(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder and wait for it.

    Raises:
        RuntimeError: It failed; the message is the end of what it said.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    one["PYTHONPATH"] = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    said = folder / "stderr.txt"
    started = time.perf_counter()
    with said.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **one}, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        printed = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {said.read_text()[-800:]}")
    return Cost(seconds, used.ru_maxrss / 1024, printed)


def bare_run(plugin: str, preset: str, folder: Path) -> dict[str, float]:
    """Fit and predict without the suite, and leave the weights and a file to score in ``folder``."""
    import pyarrow.parquet as pq

    from appliedpapers.core import config as configs
    from appliedpapers.core import plugin as plugins
    from appliedpapers.core.device import seed_everything
    from appliedpapers.core.model import FitContext
    from appliedpapers.core.sources import load_dataset
    from appliedpapers.core.validation import check

    task = plugins.find(plugin).tasks[0]
    clock = [time.perf_counter()]
    config = configs.resolve_config(plugin, preset=preset)
    dataset = load_dataset(task.load("datasets"), plugin, config)
    clock.append(time.perf_counter())
    seed_everything(config.seed)
    run = FitContext(folder / "fit", seed=config.seed)
    model = task.load("model")(config).fit(dataset.train, dataset.valid, run)
    clock.append(time.perf_counter())
    evaluation = task.load("evaluation")
    evaluation.predict(model, dataset.test)
    for number, baseline in enumerate(evaluation.baselines(config, dataset)):
        seed_everything(config.seed)
        run = FitContext(folder / f"baseline-{number}", seed=config.seed)
        baseline.fit(dataset.train, dataset.valid, run).predict(dataset.test)
    clock.append(time.perf_counter())
    parts = folder / "parts"
    parts.mkdir()
    state = model.write_parts(parts)
    (folder / "state.json").write_text(json.dumps([config.model_dump(mode="json"), state]))
    raw = _kept(dataset.test.example(_GROUPS.get(plugin, _MANY)), model.input_schema, folder / "inputs")
    pq.write_table(raw, folder / _INPUT)
    pq.write_table(check(raw, model.input_schema).table, folder / _CHECKED)
    data, fit, rest = (after - before for before, after in pairwise(clock))
    return {"data": data, "fit": fit, "rest": rest}


def _kept(rows: pa.Table, schema: TableSchema, folder: Path) -> pa.Table:
    """Copy the simulator's files, which go with their process, and let the rows name the copies."""
    for column in schema.columns:
        absent = column.file is None or column.name not in rows.column_names
        if absent or not pa.types.is_string(rows.schema.field(column.name).type):
            continue
        folder.mkdir(exist_ok=True)
        copies = [str(shutil.copy(path, folder)) for path in rows[column.name].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index(column.name), column.name, pa.array(copies))
    return rows


def bare_score(plugin: str, folder: Path) -> dict[str, float]:
    """Read the weights, predict the file, write the answers."""
    import pyarrow.parquet as pq

    from appliedpapers.core import plugin as plugins

    task = plugins.find(plugin).tasks[0]
    config, state = json.loads((folder / "state.json").read_text())
    model_class = task.load("model")
    model = model_class.read_parts(task.load("config").model_validate(config), state, folder / "parts", "cpu")
    table = pq.read_table(folder / _CHECKED)
    files = folder / "files"
    files.mkdir()
    started = time.perf_counter()
    pq.write_table(model.predict(table, files=files), folder / "bare.parquet")
    return {"predict": time.perf_counter() - started, "rows": table.num_rows}


@dataclass(frozen=True)
class Compared:
    """The suite beside the bare work.

    Attributes:
        plugin: Its id.
        what: ``"run"`` or ``"score"``.
        bare_s: Seconds of the bare process, imports included.
        suite_s: Seconds of the command.
        fit_s: Of the bare seconds, those in which our model was fitted; of scoring, those of prediction.
        bare_mb: Largest resident size of the bare process.
        suite_mb: Likewise of the command.
    """

    plugin: str
    what: str
    bare_s: float
    suite_s: float
    fit_s: float
    bare_mb: float
    suite_mb: float

    @property
    def within(self) -> bool:
        """Whether the command costs no more than is asked of ``apps run``."""
        return self.suite_s <= self.bare_s * (1 + _SHARE) + _SECONDS


def compare(plugin: str, preset: str, folder: Path) -> list[Compared]:
    """Measure training and scoring of one plugin, bare and by the suite, in fresh processes."""
    bare = [sys.executable, "-m", "benchmarks.overhead", "--bare"]
    apps = [sys.executable, "-m", "appliedpapers"]
    run = measure([*bare, "run", plugin, preset], folder)
    ours = measure([*apps, "run", plugin, "--preset", preset, "--quiet", "--json"], folder)
    score = measure([*bare, "score", plugin, preset], folder)
    command = [*apps, "score", "run", "--model", f"{plugin}@champion", "--input", _INPUT, "--quiet", "--json"]
    scored = measure([*command, "--output", "scores"], folder)
    return [
        Compared(
            *(plugin, "run", run.seconds, ours.seconds, json.loads(run.printed)["fit"]),
            *(run.megabytes, ours.megabytes),
        ),
        Compared(
            *(plugin, "score", score.seconds, scored.seconds, json.loads(score.printed)["predict"]),
            *(score.megabytes, scored.megabytes),
        ),
    ]


def _line(one: Compared) -> str:
    added = one.suite_s - one.bare_s
    verdict = "" if one.what == "score" else "  within" if one.within else "  BEYOND"
    return (
        f"{one.plugin:<19}{one.what:<7}{one.fit_s:>9.2f}{one.bare_s:>9.2f}{one.suite_s:>9.2f}{added:>9.2f}"
        f"{one.bare_mb:>10.0f}{one.suite_mb:>10.0f}{verdict}"
    )


def main() -> None:
    """Compare all plugins, or live one bare process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plugin", action="append", help="only this one of one task; may be repeated")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--keep", action="store_true", help="write docs/results/overhead.json")
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        what, plugin, preset = options.bare
        here = Path.cwd()
        print(json.dumps(bare_run(plugin, preset, here) if what == "run" else bare_score(plugin, here)))
        return
    from appliedpapers.core.plugin import discover
    from benchmarks.acceptance import keep

    found: list[Compared] = []
    if not options.json:
        print(
            f"{'plugin':<19}{'what':<7}{'fit s':>9}{'bare s':>9}{'suite s':>9}{'added':>9}"
            f"{'bare MB':>10}{'suite MB':>10}"
        )
    ready = [one.spec for one in discover() if one.spec is not None and one.state == "ok"]
    for plugin in options.plugin or [spec.id for spec in ready if len(spec.tasks) == 1]:
        with tempfile.TemporaryDirectory() as folder:
            for one in compare(plugin, options.preset, Path(folder)):
                found.append(one)
                if not options.json:
                    print(_line(one), flush=True)
        if options.keep:
            # after each plugin, so that a run that is cut short keeps what it has
            keep("overhead", {"figures": _figures(found)})
    if options.json:
        print(json.dumps(_figures(found), indent=2))


def _figures(found: Sequence[Compared]) -> list[dict[str, object]]:
    return [{**asdict(one), "within": one.within} for one in found]


if __name__ == "__main__":
    main()

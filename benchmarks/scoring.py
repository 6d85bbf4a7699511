"""Rows a second and peak memory of ``apps score run`` on a trivial model, beside a bare loop over pyarrow.

    python -m benchmarks.scoring
    python -m benchmarks.scoring --rows 5000000 --rows 20000000 --workers 0 --workers 2 --json

The model is the ridge regression of the tiny plugins of the tests: five columns, one of them a text of eight
letters that differs in every row. Inputs are Parquet as pyarrow writes it. Every line is a fresh process:
start-up is everything until a first run over a thousand rows has ended (interpreter, imports, model, thread
pools), the rest is the run that is timed. ``suite`` is ``score_run`` with everything it promises: contract
checked, parts named by content, hashed, flushed and listed, manifest. ``bare`` reads batches, predicts with
the same formula and writes one Parquet file: no check, no names, no hash, no flush. Memory is the largest
resident size of the process and of its workers together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_TINY = _ROOT / "tests" / "plugins" / "tiny"
_GATE_ROWS_PER_SECOND, _GATE_ROWS = 2_000_000, 10_000_000
_GROUP_ROWS = 1_000_000
_BATCH = 262_144
_WARM_ROWS = 1_000


def make_input(path: Path, rows: int) -> None:
    """Write ``rows`` rows in groups of a million, a tenth of one column missing."""
    import pyarrow.parquet as pq
    from tinyplugins.bundles import plots

    with pq.ParquetWriter(path, plots(1).schema) as writer:
        for first in range(0, rows, _GROUP_ROWS):
            writer.write_table(plots(min(_GROUP_ROWS, rows - first), seed=first, first=first))


def suite(bundle: Path, source: Path, output: Path, workers: int) -> int:
    """Score with the suite; return the rows written."""
    from appliedpapers.pipelines.score import score_run

    summary = score_run(str(bundle), [str(source)], output, **({"workers": workers} if workers else {}))
    if summary.rejected or summary.failed:
        raise RuntimeError(f"{summary.rejected} rows rejected, {len(summary.failed)} items failed")
    return summary.rows_out


def bare(bundle: Path, source: Path, output: Path) -> int:
    """Score with a loop that a person would write in ten lines; return the rows written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from appliedpapers.core.bundle import load_bundle

    model, rows = load_bundle(bundle)[0], 0
    output.mkdir(parents=True)
    scores = pa.schema([("plot", pa.string()), ("harvest", pa.float64())])
    with pq.ParquetFile(source) as file, pq.ParquetWriter(output / "scores.parquet", scores) as writer:
        for batch in file.iter_batches(batch_size=_BATCH):
            writer.write_table(model.predict(pa.Table.from_batches([batch])))
            rows += batch.num_rows
    return rows


def child(kind: str, bundle: Path, warm: Path, source: Path, output: Path, workers: int) -> dict[str, float]:
    """Run one kind in this process: once over a few rows, then timed over ``source``."""

    def once(path: Path, to: Path) -> int:
        return bare(bundle, path, to) if kind == "bare" else suite(bundle, path, to, workers)

    once(warm, output / "warm")
    ready = time.time()
    rows = once(source, output / "timed")
    return {"ready": ready, "rows": rows, "seconds": time.time() - ready}


def measure(arguments: Sequence[str]) -> dict[str, float]:
    """Run one kind in a fresh process and add what it held in memory.

    Raises:
        RuntimeError: It failed.
    """
    path = os.pathsep.join([str(_ROOT), str(_TINY), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "benchmarks.scoring", "--child", *arguments]
    begun = time.time()
    process = subprocess.Popen(
        command, cwd=_ROOT, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE
    )
    peak = _peak_memory(process)
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"{' '.join(command)} failed")
    found: dict[str, float] = json.loads(said)
    return found | {"start_up": found["ready"] - begun, "peak_mb": peak}


def _peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Return the largest sum of resident sizes of a process and its children, in MB; looked at often."""
    peak = 0.0
    while process.poll() is None:
        family = _family(process.pid)
        peak = max(peak, sum(_high_water(member, alone=len(family) == 1) for member in family))
        time.sleep(0.05)
    return peak


def _family(root: int) -> list[int]:
    found = [root]
    for member in found:
        found += _children(member)
    return found


def _children(process: int) -> Iterator[int]:
    for task in Path(f"/proc/{process}/task").glob("*"):
        try:
            yield from map(int, (task / "children").read_text().split())
        except OSError:
            continue


def _high_water(process: int, *, alone: bool) -> float:
    # the highest ever of one process is exact; of several at one moment only what they hold now may be added
    wanted = "VmHWM" if alone else "VmRSS"
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(wanted):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def compare(rows: Sequence[int], workers: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Measure every kind at every number of rows, one after the other."""
    from tinyplugins.bundles import make_bundle

    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder, "tiny-rows")
        make_input(folder / "warm.parquet", _WARM_ROWS)
        for count in rows:
            source = folder / f"{count}.parquet"
            make_input(source, count)
            kinds = [("bare", 0), *(("suite", number) for number in workers)]
            for kind, number in kinds * repeats:
                output = folder / f"{kind}-{number}-{count}-{len(lines)}"
                given = [kind, bundle, folder / "warm.parquet", source, output, number]
                found = measure([str(item) for item in given])
                line = {"kind": kind, "workers": number, "input_mb": source.stat().st_size / 2**20}
                lines.append(line | found | {"rows_per_second": found["rows"] / found["seconds"]})
                print(_line(lines[-1]), file=sys.stderr)
            source.unlink()
    return lines


def _line(line: dict[str, Any]) -> str:
    kind = line["kind"] + (f" --workers {line['workers']}" if line["workers"] else "")
    return (
        f"{kind:<20} {line['rows']:>12,.0f} rows  {line['rows_per_second']:>12,.0f} rows/s"
        f"  {line['seconds']:>7.2f} s  start-up {line['start_up']:>5.2f} s  peak {line['peak_mb']:>7,.0f} MB"
    )


def verdict(lines: Sequence[dict[str, Any]]) -> str:
    """Say whether the gate holds at ten million rows, where those were scored."""
    speeds = [
        line["rows_per_second"] for line in lines if line["kind"] == "suite" and line["rows"] == _GATE_ROWS
    ]
    if not speeds:
        return ""
    met = "met" if max(speeds) >= _GATE_ROWS_PER_SECOND else "missed"
    return f"asked for at 10,000,000 rows: 2,000,000 rows/s; measured {max(speeds):,.0f}: {met}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="100000, 1000000, 10000000 by default")
    parser.add_argument("--workers", type=int, action="append", help="0 (this process) by default")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kind, *paths, workers = given.child
        print(json.dumps(child(kind, *map(Path, paths), int(workers))))
        return
    sys.path.insert(0, str(_TINY))
    lines = compare(given.rows or [100_000, 1_000_000, 10_000_000], given.workers or [0], given.repeats)
    if given.json:
        print(json.dumps({"command": " ".join(sys.argv), "cores": os.cpu_count(), "lines": lines}, indent=2))
    elif said := verdict(lines):
        print(said)


if __name__ == "__main__":
    main()

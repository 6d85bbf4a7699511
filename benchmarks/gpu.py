"""Every plugin and the shared modules on a CUDA device, beside the CPU: do they agree, and what does it cost?

    make gpu
    python -m benchmarks.gpu --only frets --only modules
    python -m benchmarks.gpu --device cpu --reduced --output gpu.json

The last line tries the script itself where there is no CUDA. Each task of each plugin is fitted once on the
CPU and saved; the bundle is loaded on both devices and predicts the same rows, which must agree within a
tolerance. It is fitted once more on the device, which must end with finite predictions. Shared modules and
the full-size network of arXiv 2311.06184 take steps on both devices, from the same weights; outputs must
agree. Writes ``docs/results/gpu.json`` with the device's name. Without a CUDA device it says so in one line
and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import load_bundle
from appliedpapers.core.conformance.subject import Subject
from appliedpapers.core.device import describe_device, resolve_device, seed_everything
from appliedpapers.core.errors import AppsError
from appliedpapers.core.files import write_json
from appliedpapers.core.model import FitContext
from benchmarks.acceptance import RESULTS, commit, versions

# between devices sums are taken in another order, and convolutions by another algorithm
TOLERANCE = 2e-3
MODULES = ("mlp", "kan(grid=5)", "kan(basis=rbf, grid=8)", "chebykan(degree=4)", "fan", "hourglass(depth=2)")
_WARM = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, write; return 1 where something disagrees or there is no device."""
    options = _parse(arguments)
    try:
        device = resolve_device(options.device)
    except AppsError as error:
        print(f"make gpu: {error.message}", file=sys.stderr)
        return 1
    cases = dict(_cases(device, options.reduced))
    unknown = sorted(set(options.only) - set(cases))
    if unknown:
        print(f"unknown case '{unknown[0]}'; there are {', '.join(cases)}", file=sys.stderr)
        return 2
    entries = []
    for name, case in cases.items():
        if options.only and name not in options.only:
            continue
        entry = _tried(name, case)
        entries.append(entry)
        _print(entry)
        gc.collect()
    document = {
        "command": "python -m benchmarks.gpu",
        "commit": commit(),
        "versions": versions(),
        "device": describe_device(device),
        "tolerance": TOLERANCE,
        "reduced": options.reduced,
        "cases": entries,
    }
    write_json(options.output or RESULTS / "gpu.json", document)
    bad = [entry["name"] for entry in entries if not entry["ok"]]
    print(f"\n{len(entries) - len(bad)} of {len(entries)} agree on {document['device']}")
    return 1 if bad else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    first = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=first)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the script itself")
    parser.add_argument("--reduced", action="store_true", help="two plugins and few steps")
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="may be repeated")
    parser.add_argument("--output", type=Path, help="default: docs/results/gpu.json")
    return parser.parse_args(arguments)


def _cases(device: str, reduced: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield every case by name; a plugin with several tasks has one for each."""
    built_in = [found for found in plugins.discover() if found.spec and _is_ours(found.spec)]
    small = ("frets", "laser-cvae")
    for found in built_in:
        spec = found.spec
        if spec is None or (reduced and spec.id not in small):
            continue
        for task in spec.tasks:
            name = spec.id if len(spec.tasks) == 1 else f"{spec.id}.{task.name}"
            yield name, lambda spec=spec, task=task: agreement(spec, task, device)  # type: ignore[misc]
    modules = MODULES[:2] if reduced else MODULES
    yield "modules", lambda: modules_agree(modules, device, 2 if reduced else 30)
    yield "frets-step", lambda: full_size_step(device, 1 if reduced else 30)


def _is_ours(spec: plugins.PluginSpec) -> bool:
    return all(task.config.startswith("appliedpapers.plugins.") for task in spec.tasks)


def _tried(name: str, case: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        entry = case()
    # one plugin that fails on a device is a finding; the others are still measured
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        entry = {"ok": False, "error": f"{type(error).__name__}: {said}"}
    return {"name": name, **entry, "seconds": round(time.perf_counter() - started, 2)}


def agreement(spec: plugins.PluginSpec, task: plugins.TaskSpec, device: str) -> dict[str, Any]:
    """Fit a task on both devices, and compare the predictions of one bundle on both."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        subject = Subject(spec, task, Path(scratch))
        started = time.perf_counter()
        here = subject.predict(subject.example, load_bundle(subject.bundle, "cpu", spec=spec)[0])
        seconds = {"cpu": time.perf_counter() - started}
        there = subject.predict(subject.example, load_bundle(subject.bundle, device, spec=spec)[0])
        started = time.perf_counter()
        seed_everything(subject.config.seed)
        context = FitContext(subject.fresh("device"), seed=subject.config.seed, device=device)
        fitted = task.load("model")(subject.config).fit(subject.sample.train, subject.sample.valid, context)
        again = subject.predict(subject.example, fitted)
        seconds["device"] = time.perf_counter() - started
    difference = largest_difference(here, there)
    finite = all_finite(again) or not all_finite(here)
    return {
        "ok": difference <= TOLERANCE and finite and again.column_names == here.column_names,
        "difference": difference,
        "fitted_on_device_is_finite": finite,
        "fit_and_predict_seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def largest_difference(left: pa.Table, right: pa.Table) -> float:
    """Return the largest difference of two tables' numbers, relative above 1; infinity for other shapes."""
    if left.column_names != right.column_names or left.num_rows != right.num_rows:
        return float("inf")
    worst = 0.0
    for one, other in zip(_numbers(left), _numbers(right), strict=True):
        if one.shape != other.shape or not np.array_equal(np.isfinite(one), np.isfinite(other)):
            return float("inf")
        seen = np.isfinite(one)
        gaps = np.abs(one[seen] - other[seen]) / np.maximum(1, np.abs(one[seen]))
        worst = max(worst, float(gaps.max(initial=0)))
    return worst


def all_finite(table: pa.Table) -> bool:
    """Whether every number of a table is one."""
    return all(bool(np.isfinite(values).all()) for values in _numbers(table))


def _numbers(table: pa.Table) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the fractions of each column that holds any, lists laid out flat; a class may flip at a tie."""
    found = []
    for column in table.columns:
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        while isinstance(array, pa.ExtensionArray):
            array = array.storage
        while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
            array = array.flatten()
        if pa.types.is_floating(array.type):
            found.append(array.to_numpy(zero_copy_only=False).astype(np.float64))
    return found


def modules_agree(specs: Sequence[str], device: str, steps: int) -> dict[str, Any]:
    """Take steps of shared modules on both devices from the same weights."""
    import torch

    from appliedpapers.nn import build

    rows: dict[str, Any] = {}
    for spec in specs:
        torch.manual_seed(0)
        module, x = build(spec, in_features=64, out_features=64), torch.rand(1024, 64) * 2 - 1
        with torch.no_grad():
            expected = module(x)
        milliseconds = {"cpu": _milliseconds(module, x, "cpu", steps)}
        torch.manual_seed(0)
        module = build(spec, in_features=64, out_features=64).to(device)
        with torch.no_grad():
            gap = float(
                (module(x.to(device)).cpu() - expected).abs().max() / expected.abs().max().clamp(min=1)
            )
        milliseconds["device"] = _milliseconds(module, x.to(device), device, steps)
        rows[spec] = {"difference": gap, "step_milliseconds": milliseconds}
    return {"ok": all(row["difference"] <= TOLERANCE for row in rows.values()), "modules": rows}


def full_size_step(device: str, steps: int) -> dict[str, Any]:
    """Take steps of the full-size network of arXiv 2311.06184 on both devices."""
    import torch

    from appliedpapers.plugins.frets.network import FreTS
    from benchmarks.frets_step import BATCH, HORIZON, LOOKBACK, SERIES

    milliseconds = {}
    for name, where in (("cpu", "cpu"), ("device", device)):
        torch.manual_seed(2021)
        x = torch.randn(BATCH, LOOKBACK, SERIES, device=where)
        milliseconds[name] = _milliseconds(FreTS(LOOKBACK, HORIZON, SERIES).to(where), x, where, steps)
    return {"ok": True, "step_milliseconds": milliseconds}


def _milliseconds(module: Any, x: Any, device: str, steps: int) -> float:
    """Return the median wall time of forward, backward and update; the first steps allocate and plan."""
    import torch

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    times = []
    for _ in range(steps + _WARM):
        started = time.perf_counter()
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return round(statistics.median(times[_WARM:]), 3)


def _print(entry: dict[str, Any]) -> None:
    word = "ok" if entry["ok"] else "FAILED"
    said = entry.get("error") or f"difference {entry['difference']:.2g}" if "difference" in entry else ""
    print(
        f"  {word:<8}{entry['name']:<26}{entry['seconds']:>8.1f} s   {entry.get('error', said)}", flush=True
    )
    for spec, row in entry.get("modules", {}).items():
        steps = row["step_milliseconds"]
        print(f"          {spec:<26}{steps['cpu']:>9.2f} ms cpu {steps['device']:>9.2f} ms device")


if __name__ == "__main__":
    sys.exit(main())

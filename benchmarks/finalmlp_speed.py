"""Rows a second of FinalMLP in training and in scoring, beside its equations written down plainly.

    python -m benchmarks.finalmlp_speed
    python -m benchmarks.finalmlp_speed --json

At the published Frappe setting (batches of 4,096 rows, one thread), batches loaded beforehand, in one
process, the two taking turns; medians of at least 12 rounds of CPU time. Frappe is read where the data
folder has it; otherwise rows of the same sizes are drawn at random, with the skew of its users and items.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from appliedpapers.core.features.encoded import EncodedField, EncodedRows
from appliedpapers.core.fetching import data_home
from appliedpapers.plugins.finalmlp.learner import as_batch
from appliedpapers.plugins.finalmlp.network import FinalMLP, StreamOptions
from appliedpapers.plugins.finalmlp.scorer import Scorer
from benchmarks.finalmlp_plain import PlainFinalMLP

BATCH = 4096
ROUNDS = 12
_STEPS = 6
_NAMES = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
_SIZES = (956, 4084, 9, 9, 4, 5, 4, 11, 82, 235)
_LATENCY = (1, 100, 4096)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Rows a second of FinalMLP beside its plain equations.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = measure()
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{found['rows']}; batches of {BATCH:,} rows, one thread, median of {ROUNDS} rounds, CPU time")
    for name in ("training", "scoring"):
        one = found[name]
        print(
            f"{name:<10} ours {one['ours']:>10,.0f} rows/s   plain {one['plain']:>10,.0f} rows/s"
            f"   ratio {one['ratio']:.2f}"
        )
    for one in found["latency"]:
        print(f"{one['rows']:>6,} rows   p50 {one['p50_ms']:.3f} ms   p99 {one['p99_ms']:.3f} ms")
    return 0


def measure() -> dict[str, Any]:
    """Return rows a second of both, their ratio, and the latency of ours."""
    rows, source = _rows()
    blocks = [rows.take(slice(start, start + BATCH)) for start in range(0, BATCH * _STEPS, BATCH)]
    network = FinalMLP(
        rows.fields,
        streams=(StreamOptions((400,), 0.4), StreamOptions((100,), 0.4)),
        contexts=((0,), (1,)),
        gate_hidden=(400,),
        heads=5,
    )
    plain = PlainFinalMLP(_SIZES, ((0,), (1,)))
    ours = [(as_batch(block), torch.from_numpy(block.label)) for block in blocks]
    theirs = [
        (torch.from_numpy(block.ids.astype(np.int64)), torch.from_numpy(block.label)) for block in blocks
    ]
    training = _compare(_trainer(network, ours, fused=True), _trainer(plain, theirs, fused=False))
    scorer = Scorer(network)
    plain.eval()
    scoring = _compare(
        lambda: [torch.sigmoid(scorer(batch)) for batch, _ in ours],
        lambda: [torch.sigmoid(plain(ids)) for ids, _ in theirs],
        inference=True,
    )
    latency = [_latency(scorer, rows, count) for count in _LATENCY]
    return {"rows": source, "training": training, "scoring": scoring, "latency": latency}


def _trainer(network: Any, batches: Sequence[tuple[Any, Any]], *, fused: bool) -> Callable[[], Any]:
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)

    def train() -> None:
        for batch, label in batches:
            optimizer.zero_grad()
            penalty = network.penalty(0.05, 0.0) if fused else network.penalty(0.05)
            loss = F.binary_cross_entropy_with_logits(network(batch).reshape(-1), label) + penalty
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()

    return train


def _compare(
    ours: Callable[[], Any], plain: Callable[[], Any], *, inference: bool = False
) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    with torch.inference_mode(inference):
        for number in range(ROUNDS + 2):
            for name, run in (("ours", ours), ("plain", plain)):
                started = time.process_time()
                run()
                if number >= 2:
                    seconds[name].append(time.process_time() - started)
    speed = {name: BATCH * _STEPS / statistics.median(values) for name, values in seconds.items()}
    # of rounds that stood beside each other: the machine's speed drifts
    pairs = [b / a for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
    return speed | {"ratio": statistics.median(pairs)}


def _latency(scorer: Scorer, rows: EncodedRows, count: int) -> dict[str, float]:
    batch = as_batch(rows.take(slice(0, count)))
    times = []
    for number in range(220):
        started = time.perf_counter()
        scorer(batch)
        if number >= 20:
            times.append(1e3 * (time.perf_counter() - started))
    return {
        "rows": count,
        "p50_ms": float(np.quantile(times, 0.5)),
        "p99_ms": float(np.quantile(times, 0.99)),
    }


def _rows() -> tuple[EncodedRows, str]:
    path = data_home() / "finalmlp" / "frappe_x1_rebuilt.parquet"
    count = BATCH * _STEPS
    random = np.random.default_rng(0)
    if path.is_file():
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        chosen = random.permutation(np.flatnonzero(table["split"].to_numpy() == 0))[:count]
        # codes count from 0: two rows of each table are for padding and what was never seen
        ids = np.stack([table[name].to_numpy()[chosen] + 1 for name in _NAMES], axis=1)
        ids = np.minimum(ids, np.array(_SIZES) - 1)
        label, source = table["label"].to_numpy()[chosen], "Frappe"
    else:
        ids = np.stack([_skewed(random, size, count) for size in _SIZES], axis=1)
        label, source = random.integers(0, 2, count), "random rows of Frappe's sizes"
    fields = tuple(
        EncodedField(name, "categorical", size, 0, name) for name, size in zip(_NAMES, _SIZES, strict=True)
    )
    numbers = np.zeros((count, 0), np.float32)
    return EncodedRows(fields, ids.astype(np.int32), numbers, (), label.astype(np.float32)), source


def _skewed(random: np.random.Generator, size: int, count: int) -> NDArray[np.int64]:
    chances = 1.0 / np.arange(1, size - 1)
    return random.choice(np.arange(1, size - 1), count, p=chances / chances.sum())


if __name__ == "__main__":
    sys.exit(main())

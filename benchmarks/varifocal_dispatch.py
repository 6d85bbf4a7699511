"""How fast a thousand cells are dispatched, and whether probabilities of gains and losses can be believed.

    python -m benchmarks.varifocal_dispatch
    python -m benchmarks.varifocal_dispatch --json

Cells are drawn, not seen: 46 chromosomes or so with posteriors of noisy features, so that the probability of
each chromosome is calibrated. Times are CPU seconds of one thread. `settle` is dispatch with all words and
probabilities. For reliability six cells in a hundred have gained a chromosome, six have lost one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from appliedpapers.plugins.varifocal_net.assignment import CellCosts, Penalties, assign
from appliedpapers.plugins.varifocal_net.config import ReviewConfig
from appliedpapers.plugins.varifocal_net.dispatch import counts_of, paper_dispatch
from appliedpapers.plugins.varifocal_net.karyotype import settle

CELLS = 1000
SEPARATION = 4.0  # of features in standard deviations: 97 % of the chromosomes are read right
_PENALTIES = Penalties(4.0)
_GAINED = _LOST = 0.06
_BINS = (0.0, 0.5, 0.8, 0.95, 0.99, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description="Seconds to dispatch 1,000 cells; believed gains and losses."
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    labels, cells = _draw(np.random.default_rng(1))
    found = {"seconds": _seconds(cells), "reliability": _reliability(labels, cells)}
    if options.json:
        print(json.dumps(found))
        return 0
    for name, seconds in found["seconds"].items():
        print(f"{name:<22}{seconds:>8.2f} s for {CELLS:,} cells")
    for row in found["reliability"]:
        print(f"said {row['said']:.3f}   true {row['true']:.3f}   of {row['n']:>4} gains and losses")
    return 0


def _draw(generator: np.random.Generator) -> tuple[list[Any], list[Any]]:
    labels, cells = [], []
    for _ in range(CELLS):
        counts = np.array([2] * 22 + ([2, 0] if generator.random() < 0.5 else [1, 1]))
        fate = generator.random()
        if fate < _GAINED + _LOST:
            counts[generator.integers(22)] += 1 if fate < _GAINED else -1
        types = np.repeat(np.arange(24), counts)
        seen = generator.normal(size=(len(types), 24))
        seen[np.arange(len(types)), types] += SEPARATION
        odds = np.exp(SEPARATION * (seen - seen.max(1, keepdims=True)))
        labels.append(types)
        cells.append(odds / odds.sum(1, keepdims=True))
    return labels, cells


def _seconds(cells: list[Any]) -> dict[str, float]:
    ways: dict[str, Callable[[Any], Any]] = {
        "Algorithm 1": paper_dispatch,
        "assignment": lambda cell: assign(CellCosts(cell), _PENALTIES),
        "settle, Algorithm 1": lambda cell: settle(cell, None, ReviewConfig(dispatch="paper")),
        "settle, assignment": lambda cell: settle(cell, None, ReviewConfig()),
    }
    found = {}
    for name, way in ways.items():
        way(cells[0])  # imports
        started = time.process_time()
        for cell in cells:
            way(cell)
        found[name] = time.process_time() - started
    return found


def _reliability(labels: list[Any], cells: list[Any]) -> list[dict[str, Any]]:
    pairs = []
    for types, cell in zip(labels, cells, strict=True):
        counts = counts_of(types)
        for change in settle(cell, None, ReviewConfig()).karyotype.changes:
            if change.kind == "sex":
                right = "X" * counts[22] + "Y" * counts[23] == change.chromosome
            else:
                copies = counts[int(change.chromosome) - 1]
                right = copies > 2 if change.kind == "gain" else copies < 2
            pairs.append((change.probability, bool(right)))
    said, right = (np.array(column) for column in zip(*pairs, strict=True))
    bins = np.digitize(said, _BINS[1:-1])
    return [
        {"said": float(said[bins == one].mean()), "true": float(right[bins == one].mean()), "n": n}
        for one in range(len(_BINS) - 1)
        if (n := int((bins == one).sum()))
    ]


if __name__ == "__main__":
    sys.exit(main())

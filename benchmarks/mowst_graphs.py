"""Mixtures of a weak (MLP) and a strong (GCN) expert on published graphs: accuracy, and the cost of routing.

    python -m benchmarks.mowst_graphs --data FOLDER
    python -m benchmarks.mowst_graphs --data FOLDER --graphs blogcatalog --splits 3 --json
    python -m benchmarks.mowst_graphs --data FOLDER --acceptance

``FOLDER`` holds ``mowst/graph_NAME.npz``; by default it is ``APPS_DATA_HOME``. Every model sees the same
splits; whatever is chosen (epoch, constant weight, what ships, threshold) is chosen on validation nodes.
``--acceptance`` also measures the simulator, the speed and the saved time, judges the figures and writes
``docs/results/mowst.json``; the exit code is 1 where one misses its target.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from appliedpapers.nn.graph import Graph, GraphExpert, read_npz
from appliedpapers.nn.mowst import ConfidenceGatedMixture
from appliedpapers.nn.mowst_phases import MixtureTraining
from appliedpapers.nn.mowst_routing import look_into_gate, scores
from appliedpapers.nn.mowst_training import pretrain_expert, train_mixture

# name: hidden width
GRAPHS = {"blogcatalog": 64, "fb100_johnshopkins55": 32, "chameleon_filtered": 64, "cora": 64}
COLUMNS = (
    ("weak", "MLP"),
    ("strong", "GCN"),
    ("weak fine-tuned", "MLP ft"),
    ("strong fine-tuned", "GCN ft"),
    ("average", "average"),
    ("constant", "constant c"),
    ("mowst", "Mowst"),
    ("mixture", "Mowst*"),
    ("shipped", "shipped"),
)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
LIMIT = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mowst_graphs", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("APPS_DATA_HOME"), help="folder of the data"
    )
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--splits", type=int, help="the first so many splits only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the document instead of the tables")
    parser.add_argument("--acceptance", action="store_true", help="judge, and write docs/results/mowst.json")
    parser.add_argument("--only", action="append", metavar="CASE", help="judge these cases anew")
    parser.add_argument("--output", type=Path, help="where --acceptance writes")
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("give --data FOLDER or set APPS_DATA_HOME")
    torch.set_num_threads(options.threads)
    words = sys.argv[1:] if arguments is None else arguments
    # without the folder, which is a property of this machine
    command = " ".join(["python -m benchmarks.mowst_graphs", *_repeatable(words)])
    if options.acceptance:
        from benchmarks.mowst_acceptance import accept

        return accept(options.data, command, options.output, options.only)
    measured = {}
    for name in options.graphs:
        measured[name] = measure_graph(options.data, name, options.splits)
        if not options.json:
            print_graph(name, measured[name])
    if options.json:
        print(json.dumps(rounded({"command": command, "graphs": measured})))
    else:
        print(f"\n{command}")
    return 0


def measure_graph(data: Path, name: str, splits: int | None = None) -> list[dict[str, Any]]:
    """Return what was measured on each split of a graph."""
    graph = read_npz(Path(data) / "mowst" / f"graph_{name}.npz")
    count = len(graph.splits) if splits is None else min(splits, len(graph.splits))
    found = []
    for index in range(count):
        print(f"{name}, split {index + 1} of {count}", file=sys.stderr)
        found.append(measure_split(graph, index, GRAPHS[name]))
    return found


def measure_split(graph: Graph, index: int, hidden: int, epochs: int = 150) -> dict[str, Any]:
    """Train everything on one split and return the test accuracies (%) and the cost of routing."""
    started, cpu = time.perf_counter(), time.process_time()
    train, valid, test = (part(graph, index, name) for name in ("train", "valid", "test"))
    options = MixtureTraining(seed=index, epochs=epochs)
    mixture = experts(graph, hidden, "star", seed=index)
    done = train_mixture(mixture, train, valid, options)
    accuracy = done.compare(mixture, *test)
    rival = experts(graph, hidden, "star", seed=index)
    later = MixtureTraining(seed=index, epochs=epochs, lr=options.lr / options.lr_divisor)
    for side in ("weak", "strong"):
        rival.load_state_dict(done.single)
        pretrain_expert(rival, side, train, valid, later)
        found = rival.evidence(test[0])
        right = scores(found.weak if side == "weak" else found.strong, test[1])
        accuracy[f"{side} fine-tuned"] = float(right.mean())
    turns = experts(graph, hidden, "mowst", seed=index)
    turns.load_state_dict(done.single)
    few = MixtureTraining(seed=index, epochs=epochs, pretrain="none", rounds=4)
    again = train_mixture(turns, train, valid, few)
    accuracy["mowst"] = again.compare(turns, *test)["mixture"]
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    assert done.selection is not None
    return {
        "split": index,
        "accuracy": {key: 100 * value for key, value in accuracy.items()},
        "valid": {key: 100 * value for key, value in done.selection.valid.items()},
        "selected": done.selection.name,
        "constant": done.selection.constant,
        "epochs": {phase.name: len(phase.scores) for phase in done.phases},
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "routing": routing(graph, mixture, valid, test),
        "gate": look_into_gate(mixture.evidence(test[0]), test[1], bins=5),
    }


def routing(graph: Graph, mixture: ConfidenceGatedMixture, valid: Any, test: Any) -> dict[str, Any]:
    """Return what routing to the shipped model costs and saves; the threshold is chosen on validation nodes.

    Where a mixture or an average ships, a routed node gets the shipped answer and the others the weak
    expert's; where the weak expert ships, nothing is routed.
    """
    answer = mixture.weight
    found: dict[str, Any] = {"answer": answer, "curve": mixture.curve(*test, SHARES, answer)}
    every = 100 * float(scores(mixture.evidence(test[0]).mixed(answer), test[1]).mean())
    choices = {"half": {"budget": 0.5}, "limit": {"max_loss": LIMIT}}
    for name, choice in choices.items():
        tau = -1.0 if answer == 1.0 else mixture.tau_for(*valid, **choice, answer=answer)
        routed = mixture.route(test[0], tau, answer=answer)
        accuracy = 100 * float(scores(routed.prediction, test[1]).mean())
        nodes = test[0]["strong"].rows[routed.routed]
        closure = len(graph.closure(nodes, 2)) if len(nodes) else 0
        found[name] = {
            "share": routed.share,
            "accuracy": accuracy,
            "loss": every - accuracy,
            "closure": closure / graph.nodes,
        }
    return found


def experts(graph: Graph, hidden: int, mode: str, seed: int) -> ConfidenceGatedMixture:
    """Return an MLP and a GCN with a fresh gate."""
    torch.manual_seed(seed)
    sizes = (graph.features.shape[1], len(graph.classes))
    weak, strong = (GraphExpert(*sizes, kind=kind, hidden=hidden) for kind in ("mlp", "gcn"))
    return ConfidenceGatedMixture(weak, strong, mode=mode)


def part(graph: Graph, index: int, name: str) -> tuple[dict[str, Any], torch.Tensor]:
    """Return inputs and labels of one part of a split."""
    rows = getattr(graph.split(index), name)
    return {"weak": graph.features.take(rows), "strong": graph.at(rows)}, graph.labels[rows]


def mean(runs: list[dict[str, Any]], model: str) -> float:
    """Return the mean test accuracy of a model over splits."""
    return statistics.fmean(run["accuracy"][model] for run in runs)


def spread(runs: list[dict[str, Any]], model: str) -> float:
    """Return the sample standard deviation over splits, 0 for one split."""
    values = [run["accuracy"][model] for run in runs]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def print_graph(name: str, runs: list[dict[str, Any]]) -> None:
    """Print the accuracies and the cost of routing of one graph."""
    # of cora the first split is another protocol: 140 training nodes
    groups = [("public split", runs[:1]), ("random splits", runs[1:])] if name == "cora" else [("", runs)]
    for label, group in groups:
        if not group:
            continue
        print(f"\n{name} {label}: test accuracy %, mean +- std over {len(group)} splits")
        for key, title in COLUMNS:
            print(f"  {title:<12}{mean(group, key):8.2f} +- {spread(group, key):.2f}")
        print(f"  shipped: {', '.join(run['selected'] for run in group)}")
        print("  share of nodes routed: accuracy, loss against routing all")
        for place, share in enumerate(SHARES):
            points = [run["routing"]["curve"][place] for run in group]
            accuracy = 100 * statistics.fmean(point["score"] for point in points)
            loss = 100 * statistics.fmean(point["loss"] for point in points)
            print(f"  {share:>6.0%}{accuracy:10.2f}{loss:8.2f}")
        for key, title in (("half", "half routed"), ("limit", f"at most {LIMIT} lost on valid")):
            found = [run["routing"][key] for run in group]
            middle = {k: statistics.fmean(item[k] for item in found) for k in ("share", "loss", "closure")}
            print(
                f"  threshold for {title}: {middle['share']:.0%} routed, {middle['loss']:.2f} points lost, "
                f"neighbourhood {middle['closure']:.0%} of the graph"
            )
        print(f"  {statistics.fmean(run['seconds'] for run in group):.1f} s a split")


def rounded(value: Any) -> Any:
    """Return a document with short numbers; infinite ones, which JSON does not have, as None."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 4) if math.isfinite(value) else None
    return value


def _repeatable(words: Sequence[str]) -> list[str]:
    """Leave out what belongs to this machine or to a part of a measurement."""
    own = ("--data", "--output", "--only")
    before = ["", *words]
    return [word for word, last in zip(words, before, strict=False) if word not in own and last not in own]


if __name__ == "__main__":
    sys.exit(main())

"""Shared modules beside straightforward formulations and importable public packages, in one process.

    python -m benchmarks.nn_peers
    python -m benchmarks.nn_peers --only bspline --json

One thread. The variants of a group take turns, so that a busy machine slows all of them alike, two steps a
turn of which the second counts; figures are medians of process time over at least 12 turns. A step is forward
and backward of the sum of the output;
"saved" is what autograd keeps in between, parameters apart. pykan is measured where it can be imported
(``pip install pykan``).
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from appliedpapers.nn import build
from benchmarks import nn_references as plain

Make = Callable[[], nn.Module]
_FORM = "recursion, weight form"


@dataclass(frozen=True)
class Group:
    """Variants of the same maths; the first one is the reference that ratios refer to.

    Attributes:
        title: What is measured.
        x: The input.
        variants: Name to constructor; names that end in "compiled" are compiled before they are measured.
        train: Whether a step has a backward pass.
    """

    title: str
    x: Tensor
    variants: Mapping[str, Make]
    train: bool = True
    turns: int = 15


@dataclass
class Row:
    """What was measured of one variant."""

    name: str
    parameters: int
    times: list[float] = field(default_factory=list)
    saved: float = 0.0

    @property
    def milliseconds(self) -> float:
        """The median step."""
        return statistics.median(self.times)


def _two(make: Callable[[int, int], nn.Module], *sizes: int) -> Make:
    return lambda: nn.Sequential(*(make(a, b) for a, b in itertools.pairwise(sizes)))


def _ours(spec: str) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: build(spec, in_features=inputs, out_features=outputs)


class _Product(nn.Module):
    """The matrix products alone, without evaluating anything: nothing dense can be faster."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, 8 * inputs))
        self.features: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Multiply stand-ins for the features; the gradient of ``x`` is one slab of theirs."""
        rows = len(x)
        if rows not in self.features:
            self.features[rows] = torch.randn(rows, self.weight.shape[1])
        out: Tensor = _ProductOnly.apply(x, self.features[rows], self.weight)
        return out


class _ProductOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.inputs = x.shape[1]
        return features @ weight.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor]:
        features, weight = ctx.saved_tensors
        grad_x = (grad @ weight)[:, : ctx.inputs] if ctx.needs_input_grad[0] else None
        return grad_x, None, grad.t() @ features


def _pykan(sizes: tuple[int, ...], speed: bool | None) -> Make | None:
    """Return a constructor of the public package's network, or of two of its layers; None without it."""
    try:
        kan = importlib.import_module("kan")
        layer = importlib.import_module("kan.KANLayer").KANLayer
    except ImportError:
        return None
    if speed is None:

        class First(nn.Module):
            def __init__(self, inputs: int, outputs: int) -> None:
                super().__init__()
                self.layer = layer(inputs, outputs, num=5, k=3, device="cpu")

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.layer(x)[0]
                return out

        return _two(First, *sizes)

    def make() -> nn.Module:
        net = kan.KAN(width=list(sizes), grid=5, k=3, device="cpu", auto_save=False)
        return net.speed() if speed else net

    return make


def groups() -> dict[str, Group]:
    """Return what is measured, by the name that ``--only`` takes."""
    torch.manual_seed(0)
    wide, few = torch.rand(1024, 64) * 2 - 1, torch.rand(256, 8) * 2 - 1
    sizes = (64, 64, 64)
    weight_form = _two(plain.WeightFormSpline, *sizes)
    ours = _two(_ours("kan-linear"), *sizes)
    found = {
        "eager": Group(
            "B-splines 64-64-64, 1024 rows",
            wide,
            {
                _FORM: weight_form,
                "ours": ours,
                "ours, lean": _two(_ours("kan-linear(path=lean)"), *sizes),
                "products alone": _two(_Product, *sizes),
                "mlp": lambda: build("mlp(hidden=[64], act=silu)", in_features=64, out_features=64),
            },
        ),
        "compiled": Group(
            "B-splines 64-64-64, 1024 rows, compiled",
            wide,
            {
                _FORM: weight_form,
                f"{_FORM}, compiled": _two(lambda a, b: plain.WeightFormSpline(a, b, scaler=False), *sizes),
                "ours, compiled": ours,
                "products alone": _two(_Product, *sizes),
            },
        ),
        "edge": Group(
            "B-splines 64-64-64, 1024 rows, the authors' form",
            wide,
            {"recursion, edge form": _two(plain.EdgeFormSpline, *sizes), "ours": ours},
        ),
        "pykan": Group("B-splines 64-64-64, 1024 rows, public package", wide, _public(sizes), turns=12),
        "small": Group(
            "B-splines 8-16-1, 256 rows",
            few,
            {
                _FORM: _two(plain.WeightFormSpline, 8, 16, 1),
                "ours, the same function": _two(_ours("kan-linear(outside=zero, bias=false)"), 8, 16, 1),
                "ours": _two(_ours("kan-linear"), 8, 16, 1),
            },
            turns=200,
        ),
        "chebyshev": Group(
            "Chebyshev polynomials of degree 7, 64-64-64, 1024 rows",
            wide,
            {
                "arc cosine": _two(plain.ArccosineChebyshev, *sizes),
                "ours": _two(_ours("kan-linear(basis=chebyshev, grid=7, bias=false)"), *sizes),
            },
        ),
        "fourier": Group(
            "Harmonics up to 4, 64-64-64, 1024 rows",
            wide,
            {
                "broadcast": _two(plain.BroadcastFourier, *sizes),
                "ours": _two(_ours("kan-linear(basis=fourier, grid=4)"), *sizes),
            },
            turns=12,
        ),
        "rbf": Group(
            "8 Gaussians, 64-64-64, 1024 rows",
            wide,
            {
                "one tensor": _two(plain.GaussianLayer, *sizes),
                "ours": _two(_ours("kan-linear(basis=rbf)"), *sizes),
            },
        ),
        "rational": Group(
            "Rational of 8 groups, 1024 rows of 512 channels",
            torch.randn(1024, 512, requires_grad=True),
            {
                "stacked powers": lambda: plain.StackedRational(512),
                "ours": lambda: build("rational", in_features=512),
                "ours, compiled": lambda: build("rational", in_features=512),
            },
        ),
        "fff": Group(
            "Fast feedforward, depth 4, 64-16-64, 1024 rows, evaluation",
            wide,
            {
                "row by row": lambda: plain.RowwiseFeedforward(64, 16, 64),
                "ours": lambda: build("fff(depth=4, hidden=16)", in_features=64, out_features=64).eval(),
            },
            train=False,
        ),
        "daruan": Group(
            "DARUAN, 3 repetitions, 1024 rows of 64 channels",
            torch.randn(1024, 64, requires_grad=True),
            {
                "state vector": lambda: plain.StateVectorDaruan(64),
                "ours": lambda: build("daruan", in_features=64),
            },
        ),
    }
    return {name: group for name, group in found.items() if len(group.variants) > 1}


def _public(sizes: tuple[int, ...]) -> dict[str, Make]:
    named = {
        "pykan, layers alone": _pykan(sizes, None),
        "pykan, speed mode": _pykan(sizes, True),
        "pykan": _pykan(sizes, False),
    }
    there = {name: make for name, make in named.items() if make is not None}
    return {**there, "ours": _two(_ours("kan-linear"), *sizes)} if there else {}


def measure(group: Group) -> list[Row]:
    """Measure the variants in turns."""
    nets = {name: make() for name, make in group.variants.items()}
    rows = {name: Row(name, sum(p.numel() for p in net.parameters())) for name, net in nets.items()}
    if group.train:
        for name, net in nets.items():
            rows[name].saved = _saved(net, group.x)
    steps = {name: torch.compile(net) if name.endswith("compiled") else net for name, net in nets.items()}
    for _ in range(2):  # compile and allocate
        for net in steps.values():
            _step(net, group)
    for _ in range(group.turns):
        for name, net in steps.items():
            _step(net, group)  # the memory that the variant before gives back is not this one's time
            rows[name].times.append(_step(net, group))
    return list(rows.values())


def _step(net: Any, group: Group) -> float:
    """Take a step and return its process time in milliseconds."""
    start = time.process_time()
    if group.train:
        net(group.x).sum().backward()
    else:
        with torch.no_grad():
            net(group.x)
    spent = 1e3 * (time.process_time() - start)
    net.zero_grad(set_to_none=True)
    group.x.grad = None
    return spent


def _saved(net: nn.Module, x: Tensor) -> float:
    owned = {item.untyped_storage().data_ptr() for item in (*net.parameters(), *net.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(x)
    return sum(sizes.values()) / 1e6


def main() -> None:
    """Measure and print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="GROUP", help="may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = groups()
    unknown = sorted(set(options.only) - set(known))
    if unknown:
        parser.error(f"unknown group '{unknown[0]}'; there are {', '.join(known)}")
    document: dict[str, Any] = {}
    for name, group in known.items():
        if options.only and name not in options.only:
            continue
        rows = measure(group)
        base = rows[0].milliseconds
        document[name] = {
            row.name: {
                "milliseconds": round(row.milliseconds, 4),
                "times_faster": round(base / row.milliseconds, 3),
                "parameters": row.parameters,
                "saved_mb": round(row.saved, 3),
            }
            for row in rows
        }
        if not options.json:
            _print(group, document[name])
    if options.json:
        json.dump(document, sys.stdout, indent=1)
        print()


def _print(group: Group, rows: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n{group.title}")
    print(f"{'':36} {'ms':>9} {'x faster':>9} {'parameters':>11} {'saved MB':>9}")
    for name, row in rows.items():
        print(
            f"{name:36} {row['milliseconds']:9.2f} {row['times_faster']:9.2f} "
            f"{row['parameters']:11,} {row['saved_mb']:9.2f}"
        )


if __name__ == "__main__":
    main()

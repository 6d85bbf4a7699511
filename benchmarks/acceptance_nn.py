"""The acceptance cases of the shared modules: speed beside peers, the toy problem, the ways out of eager."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.acceptance_case import Case, Check, printed_by
from benchmarks.nn_portability import WAYS


def _ratio(group: str, ours: str, peer: str) -> float:
    rows = printed_by("nn_peers", "--only", group)[group]
    return float(rows[peer]["milliseconds"] / rows[ours]["milliseconds"])


def _faster(what: str, group: str, low: float, ours: str, peer: str, *, stretch: bool = False) -> Check:
    return Check(what, lambda _: _ratio(group, ours, peer), low=low, stretch=stretch)


def _public(what: str, low: float, peer: str) -> Check:
    """Check against a package that need not be installed; absent, it is reported as not measured."""
    return Check(what, lambda _: _ratio("pykan", "ours", peer), low=low, stretch=not _has_pykan())


def _has_pykan() -> bool:
    found = subprocess.run([sys.executable, "-c", "import kan"], capture_output=True, check=False)
    return found.returncode == 0


def _saved(ours: str) -> float:
    return float(printed_by("nn_peers", "--only", "eager")["eager"][ours]["saved_mb"])


_FORM = "recursion, weight form"
_SPLINES = Case(
    "bspline-speed",
    (1,),
    {},
    (
        _faster("step, eager, beside the weight form", "eager", 4, "ours", _FORM),
        _faster("step, compiled, beside the weight form", "compiled", 7, "ours, compiled", _FORM),
        _faster(
            "step, compiled, beside the compiled weight form",
            "compiled",
            2.5,
            "ours, compiled",
            f"{_FORM}, compiled",
        ),
        _faster("step, eager, beside the edge form", "edge", 18, "ours", "recursion, edge form"),
        _faster(
            "step of 8-16-1, 256 rows, the same function", "small", 2.5, "ours, the same function", _FORM
        ),
        _faster("step of 8-16-1, 256 rows, as it comes", "small", 2.5, "ours", _FORM, stretch=True),
        Check("MB kept, fast", lambda _: _saved("ours"), high=5.5),
        Check("MB kept, lean", lambda _: _saved("ours, lean"), high=1.5),
        _faster("goal: eager", "eager", 8, "ours", _FORM, stretch=True),
        _faster("goal: compiled", "compiled", 10, "ours, compiled", _FORM, stretch=True),
        _faster("for scale: the products alone", "eager", 0, "products alone", _FORM, stretch=True),
    ),
)
_PYKAN = Case(
    "bspline-pykan",
    (1,),
    {},
    (
        _public("step beside pykan's layers", 18, "pykan, layers alone"),
        _public("step beside pykan's speed mode", 20, "pykan, speed mode"),
        _public("step beside pykan as it comes", 200, "pykan"),
    ),
)
_OTHERS = Case(
    "other-speed",
    (2,),
    {},
    (
        _faster("Chebyshev beside arc cosine", "chebyshev", 2.5, "ours", "arc cosine"),
        _faster("harmonics beside broadcasting", "fourier", 30, "ours", "broadcast"),
        _faster("Gaussians beside one tensor", "rbf", 1.3, "ours", "one tensor"),
        _faster("rational beside stacked powers", "rational", 1.7, "ours", "stacked powers"),
        _faster("rational, compiled", "rational", 8, "ours, compiled", "stacked powers"),
        _faster("fast feedforward beside rows", "fff", 20, "ours", "row by row"),
        _faster("DARUAN beside the state vector", "daruan", 6, "ours", "state vector"),
    ),
)


def _toy(number: int) -> float:
    return float(printed_by("nn_toy")["checks"][number]["measured"])


def _worst(way: str) -> float:
    found = printed_by("nn_portability", "--way", way)
    failed = {name: row[way] for name, row in found.items() if isinstance(row[way], str)}
    if failed:
        raise LookupError(f"{way}: {failed}")
    return max(float(row[way]) for row in found.values())


def _way(way: str) -> Check:
    return Check(f"largest difference from eager, {way}", lambda _: _worst(way), high=1e-5)


_PORTABLE = Case("portability", (8,), {}, tuple(_way(way) for way in WAYS))

_TOY = Case(
    "toy",
    (5,),
    {},
    (
        Check("RMSE with 5 cells, best of 3 seeds", lambda _: _toy(0), high=1e-2),
        Check("RMSE with 10 cells, best of 3 seeds", lambda _: _toy(1), high=1e-3),
        Check("RMSE with 20 cells, best of 3 seeds", lambda _: _toy(2), high=3e-4),
        Check("RMSE with 20 cells over that of the MLP", lambda _: _toy(3), high=1.0),
        Check("CPU seconds of all stages, slowest seed", lambda _: _toy(4), high=2.0, stretch=True),
    ),
)

CASES = (_SPLINES, _PYKAN, _OTHERS, _PORTABLE, _TOY)

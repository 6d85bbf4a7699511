"""Naming the formula of a curve: ``c f(a x + b) + d`` (KAN, arXiv 2404.19756, section 2.5.1).

For given a and b the best c and d are a linear fit, and its R^2 a squared correlation; so a and b alone are
searched: on a grid wide enough for every shape that a sample can show, then on ever smaller grids around the
best places. No starting value, no gradient, nothing random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# points for the first grid and for the finer ones
_SEARCHED = 400
_REFINED = 2000
_STARTS = 3
_ROUNDS = 14
_TIE = 1e-4
_PI = math.pi
_POWERS = {"x^2": 2.0, "x^3": 3.0, "1/x": -1.0, "sqrt": 0.5, "|x|": 1.0}


@dataclass(frozen=True)
class _Family:
    """How the inner map of a function is searched, for x scaled to [-1, 1].

    ``scales`` and ``shifts`` span the grid of ``f(scale * (x + shift))``, or ``f(scale * x + shift)`` where
    ``phase``; a family without either has no inner parameter that an outer one does not stand for.
    """

    function: Callable[[Array], Array]
    text: str
    complexity: int
    scales: tuple[float, ...] = (1.0,)
    shifts: tuple[float, ...] = (0.0,)
    phase: bool = False


def _spread(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(np.geomspace(low, high, count).tolist())


def _both(values: tuple[float, ...]) -> tuple[float, ...]:
    return (*(-value for value in reversed(values)), *values)


def _root(z: Array) -> Array:
    # an end of the half line that is a point of the sample may be off by rounding
    return np.asarray(np.sqrt(np.where((z < 0.0) & (z > -1e-9), 0.0, z)))


# places of a vertex or a step: inside the sample evenly, beyond it ever farther
_PLACES = (
    *_both(_spread(1.1, 30.0, 12))[:12],
    *np.linspace(-1.0, 1.0, 21).tolist(),
    *_both(_spread(1.1, 30.0, 12))[12:],
)
# ends of a half line and poles, outside the sample, however near
_BEYOND = tuple(1.0 + gap for gap in _spread(1e-4, 30.0, 40))

_FAMILIES: dict[str, _Family] = {
    "x": _Family(lambda z: z, "{}", 1),
    "x^2": _Family(lambda z: z * z, "({})^2", 2, shifts=_PLACES),
    "x^3": _Family(lambda z: z**3, "({})^3", 3, shifts=_PLACES),
    "1/x": _Family(lambda z: 1.0 / z, "1/({})", 2, shifts=_both(_BEYOND)),
    "sqrt": _Family(_root, "sqrt({})", 2, scales=(-1.0, 1.0), shifts=_both((1.0, *_BEYOND))),
    "exp": _Family(np.exp, "exp({})", 2, scales=_both(_spread(0.05, 30.0, 40))),
    "log": _Family(np.log, "log({})", 2, scales=(-1.0, 1.0), shifts=_both(_BEYOND)),
    "sin": _Family(
        np.sin,
        "sin({})",
        2,
        scales=tuple(np.arange(0.5, 40.0, 0.4).tolist()),
        shifts=tuple(np.linspace(-_PI / 2, _PI / 2, 9)[:-1].tolist()),
        phase=True,
    ),
    "tanh": _Family(np.tanh, "tanh({})", 3, scales=_spread(0.3, 40.0, 24), shifts=_PLACES),
    "|x|": _Family(np.abs, "|{}|", 3, shifts=_PLACES),
    "gaussian": _Family(
        lambda z: np.exp(-z * z), "exp(-({})^2)", 3, scales=_spread(0.3, 40.0, 24), shifts=_PLACES
    ),
}

CANDIDATES: tuple[str, ...] = (
    "x",
    "x^2",
    "x^3",
    "1/x",
    "sqrt",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "|x|",
    "gaussian",
)


@dataclass(frozen=True)
class Formula:
    """``y = c f(a x + b) + d``.

    Attributes:
        name: Of f, one of :data:`CANDIDATES`.
        a: Inner factor.
        b: Inner offset.
        c: Outer factor.
        d: Outer offset.
        r2: Share of the variance of y that it explains.
        score: ``r2`` less the weight of complexity times the complexity of f beyond 1.
    """

    name: str
    a: float
    b: float
    c: float
    d: float
    r2: float
    score: float

    def __call__(self, x: Any) -> Array:
        """Return the values at ``x``; not a number outside the domain of f."""
        z = self.a * np.asarray(x, dtype=np.float64) + self.b
        function = np.cos if self.name == "cos" else _FAMILIES[self.name].function
        with np.errstate(all="ignore"):
            return np.asarray(self.c * function(z) + self.d)

    def __str__(self) -> str:
        """Return the formula with four digits, such as ``2 sin(3 x) + 1``."""
        text = "cos({})" if self.name == "cos" else _FAMILIES[self.name].text
        return _affine(self.c, text.format(_affine(self.a, "x", self.b)), self.d)


@dataclass(frozen=True)
class CurveFit:
    """What a curve looks like.

    Attributes:
        formulas: The best formula of every candidate, highest score first.
    """

    formulas: tuple[Formula, ...]

    @property
    def best(self) -> Formula:
        """The formula with the highest score."""
        return self.formulas[0]

    @property
    def r2(self) -> dict[str, float]:
        """R^2 of every candidate, by its name."""
        return {formula.name: formula.r2 for formula in self.formulas}


def fit_curve(
    x: Any, y: Any, *, candidates: Sequence[str] = CANDIDATES, complexity: float = 0.002
) -> CurveFit:
    """Fit every candidate to a table of points.

    Scores that differ by less than 1e-4 count as equal; then the simpler function comes first, and of sine
    and cosine, which are one family, the one with the smaller phase.

    Args:
        x: ``(points,)``, numbers or a tensor; points that are not finite are left out.
        y: ``(points,)``.
        candidates: Names to try, of :data:`CANDIDATES`.
        complexity: What each step of complexity (x 1; squares, roots, exp, log, sine 2; the others 3) takes
            from R^2; with 0 the most flexible function wins unless another is as good.

    Returns:
        The fits of all candidates.

    Raises:
        ValueError: A name is unknown, the shapes differ, or fewer than 3 points are finite.
    """
    for name in candidates:
        if name not in CANDIDATES:
            raise ValueError(f"fit_curve: there is no candidate '{name}'; there are {', '.join(CANDIDATES)}")
    points, values = _points(x, y)
    middle, half = (points.max() + points.min()) / 2, (points.max() - points.min()) / 2
    # a sample without width, up to rounding, is left as it is
    half = half if half > max(1e-12 * abs(middle), 1e-60) else 1.0
    scaled = (points - middle) / half
    found: list[Formula] = []
    for name in dict.fromkeys("sin" if name == "cos" else name for name in candidates):
        family = _FAMILIES[name]
        scale, shift = _search(family, scaled, values)
        a = scale / half
        b = (shift if family.phase else scale * shift) - a * middle
        c, d, r2 = _outer(family.function(a * points + b), values)
        score = r2 - complexity * (family.complexity - 1)
        if family.phase:
            found.extend(_waves(a, b, c, d, r2, score, candidates))
        else:
            found.append(Formula(name, *_plain(name, a, b, c, d), r2, score))
    return CurveFit(_ordered(found))


def _points(x: Any, y: Any) -> tuple[Array, Array]:
    points, values = (np.asarray(_array(item), dtype=np.float64) for item in (x, y))
    if points.shape != values.shape or points.ndim != 1:
        raise ValueError(
            f"fit_curve: x and y must be of one shape (points,), got {points.shape} and {values.shape}"
        )
    kept = np.isfinite(points) & np.isfinite(values)
    if kept.sum() < 3:
        raise ValueError(f"fit_curve: at least 3 finite points are needed, got {int(kept.sum())}")
    order = np.argsort(points[kept], kind="stable")
    return points[kept][order], values[kept][order]


def _array(item: Any) -> Any:
    return item.detach().cpu().double().numpy() if hasattr(item, "detach") else item


def _search(family: _Family, x: Array, y: Array) -> tuple[float, float]:
    """Return scale and shift of the highest R^2."""
    x, y = _thinned(x, y, _REFINED)
    scales, shifts = np.array(family.scales), np.array(family.shifts)
    if scales.size * shifts.size == 1:
        return float(scales[0]), float(shifts[0])
    values = _goodness(family, *_thinned(x, y, _SEARCHED), scales, shifts)
    starts = np.argsort(-values, axis=None, kind="stable")[:_STARTS]
    best = (-math.inf, 1.0, 0.0)
    for start in starts:
        row, column = np.unravel_index(start, values.shape)
        best = max(best, _zoomed(family, x, y, (scales, int(row)), (shifts, int(column))))
    return best[1], best[2]


def _thinned(x: Array, y: Array, points: int) -> tuple[Array, Array]:
    few = np.linspace(0, len(x) - 1, min(len(x), points)).astype(int)
    return x[few], y[few]


def _zoomed(
    family: _Family, x: Array, y: Array, scale: tuple[Array, int], shift: tuple[Array, int]
) -> tuple[float, float, float]:
    """Search on grids of ever smaller width around a place of the first grid."""
    centres = [float(grid[place]) for grid, place in (scale, shift)]
    widths = [_gap(grid, place) for grid, place in (scale, shift)]
    # of a sign only one side is searched, and what has no width stays
    if set(family.scales) == {-1.0, 1.0}:
        widths[0] = 0.0
    best = (-math.inf, centres[0], centres[1])
    steps = np.linspace(-1.0, 1.0, 9)
    for _ in range(_ROUNDS):
        scales, shifts = (
            centre + width * steps if width else np.array([centre])
            for centre, width in zip(best[1:], widths, strict=True)
        )
        values = _goodness(family, x, y, scales, shifts)
        row, column = np.unravel_index(int(np.argmax(values)), values.shape)
        best = max(best, (float(values[row, column]), float(scales[row]), float(shifts[column])))
        widths = [width / 3.0 for width in widths]
    return best


def _gap(grid: Array, place: int) -> float:
    return float(np.abs(np.delete(grid, place) - grid[place]).min()) if grid.size > 1 else 0.0


def _goodness(family: _Family, x: Array, y: Array, scales: Array, shifts: Array) -> Array:
    """Return R^2 for every pair, ``(scales, shifts)``; -1 where f is not finite on the sample."""
    result = np.full((len(scales), len(shifts)), -1.0)
    centred = y - y.mean()
    total = float(centred @ centred)
    for row, scale in enumerate(scales):
        moved = scale * x + shifts[:, None] if family.phase else scale * (x + shifts[:, None])
        with np.errstate(all="ignore"):
            values = family.function(moved)
            values = values - values.mean(1, keepdims=True)
            size = (values * values).sum(1)
            r2 = (values @ centred) ** 2 / (size * total)
        usable = np.isfinite(r2) & (size > 1e-20)
        if family.text == "1/({})":  # a pole within the sample is no fit, even where no point hits it
            usable &= (moved.min(1) > 0) | (moved.max(1) < 0)
        result[row] = np.where(usable, r2, -1.0)
    return result


def _outer(values: Array, y: Array) -> tuple[float, float, float]:
    """Return factor, offset and R^2 of the linear fit; a constant where the values are not finite."""
    mean, centred = y.mean(), y - y.mean()
    total = float(centred @ centred)
    if total <= 1e-24 * max(float(y @ y), 1e-300):
        return 0.0, float(mean), 1.0
    inner = values - values.mean()
    size = float(inner @ inner)
    if not math.isfinite(size) or size <= 0.0:
        return 0.0, float(mean), 0.0
    factor = float(inner @ centred) / size
    rest = centred - factor * inner
    return factor, float(mean - factor * values.mean()), 1.0 - float(rest @ rest) / total


def _plain(name: str, a: float, b: float, c: float, d: float) -> tuple[float, float, float, float]:
    """Return the same formula with ``a = 1`` or ``a = -1`` where an outer factor can stand for it."""
    size = abs(a)
    if name == "x":
        return 1.0, 0.0, c * a, d + c * b
    if name in _POWERS:
        return a / size, b / size, c * size ** _POWERS[name], d
    if name == "log":
        return a / size, b / size, c, d + c * math.log(size)
    if name == "exp" and abs(b) < 700.0:
        return a, 0.0, c * math.exp(b), d
    return a, b, c, d


def _waves(
    a: float, b: float, c: float, d: float, r2: float, score: float, candidates: Sequence[str]
) -> list[Formula]:
    """Return one wave as a sine and as a cosine, each with its phase within a quarter turn."""
    waves: list[Formula] = []
    for name, phase in (("sin", b), ("cos", b - _PI / 2)):
        turns = round(phase / _PI)
        sign = -1.0 if turns % 2 else 1.0
        if name in candidates:
            waves.append(Formula(name, a, phase - turns * _PI, sign * c, d, r2, score))
    return waves


def _ordered(found: list[Formula]) -> tuple[Formula, ...]:
    def complexity(formula: Formula) -> int:
        return _FAMILIES["sin" if formula.name == "cos" else formula.name].complexity

    rest = sorted(found, key=lambda formula: -formula.score)
    ordered: list[Formula] = []
    while rest:
        tied = [formula for formula in rest if formula.score >= rest[0].score - _TIE]
        wave = {"sin", "cos"}
        tied.sort(key=lambda formula: (complexity(formula), abs(formula.b) if formula.name in wave else 0.0))
        ordered.append(tied[0])
        rest.remove(tied[0])
    return tuple(ordered)


def _affine(factor: float, text: str, offset: float) -> str:
    head = text if _digits(factor) == "1" else f"{_digits(factor)} {text}"
    tail = _digits(abs(offset))
    return head if tail == "0" else f"{head} {'-' if offset < 0 else '+'} {tail}"


def _digits(value: float) -> str:
    text = f"{value:.4g}"
    return "0" if text == "-0" or abs(value) < 5e-13 else text

"""Whether a labelled table was drawn by a program: equal spans, independence in a class, uniform values.

Measured soil and weather of one crop differ in spread from those of another, hang together, and cluster. A
program that draws each number between two bounds leaves three traces, and all three are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_ROWS = 20
_PERMUTATIONS = 20
_EQUAL_SPANS = 0.1
_LEAST_COLUMNS = 2
_UNIFORM_SHARE = 0.8
_LEVEL = 0.05


@dataclass(frozen=True)
class SyntheticTest:
    """What was found.

    Attributes:
        equal_spans: Columns whose span is the same in every class, with smallest and largest span.
        correlation: Mean absolute correlation of two columns within a class.
        shuffled: The same after each column was shuffled within its class: what chance alone gives.
        uniform: Share of the cells (class and column) that look uniform between their ends.
        cells: How many cells were looked at.
    """

    equal_spans: tuple[tuple[str, float, float], ...]
    correlation: float
    shuffled: float
    uniform: float
    cells: int

    @property
    def fires(self) -> bool:
        """Whether the table looks drawn: independent within classes, and uniform with several equal spans."""
        independent = self.correlation <= 1.25 * self.shuffled
        return independent and self.uniform >= _UNIFORM_SHARE and len(self.equal_spans) >= _LEAST_COLUMNS

    def sentences(self) -> list[str]:
        """Return the finding in words."""
        if not self.cells:
            return []
        spans = "; ".join(f"{name} {low:g} to {high:g}" for name, low, high in self.equal_spans)
        facts = [
            f"spans that are the same in every class: {spans or 'none'}",
            f"mean |correlation| within classes {self.correlation:.4f}, {self.shuffled:.4f} when shuffled",
            f"{100 * self.uniform:.1f} % of {self.cells} cells (class and column) do not differ from uniform",
        ]
        verdict = "this table is SYNTHETIC: it was drawn class by class" if self.fires else "looks measured"
        return [f"synthetic-table test: {verdict}", *facts]


def synthetic_test(
    values: Floats, labels: NDArray[np.int64], names: list[str], seed: int = 0
) -> SyntheticTest:
    """Look for the traces of a program.

    Args:
        values: Numeric columns, ``(rows, columns)``, NaN where missing.
        labels: Class of each row, ``(rows,)``.
        names: Of the columns.
        seed: Of the shuffling.
    """
    classes = [number for number in np.unique(labels) if (labels == number).sum() >= _LEAST_ROWS]
    varied = [place for place in range(values.shape[1]) if np.nanstd(values[:, place]) > 0]
    if not classes or len(varied) < 2:
        return SyntheticTest((), float("nan"), float("nan"), float("nan"), 0)
    parts = [values[labels == number][:, varied] for number in classes]
    spans = np.array([np.nanmax(part, axis=0) - np.nanmin(part, axis=0) for part in parts])
    equal = []
    for place, column in enumerate(varied):
        low, high = float(spans[:, place].min()), float(spans[:, place].max())
        if high > 0 and (high - low) <= _EQUAL_SPANS * high:
            equal.append((names[column], low, high))
    rng = np.random.default_rng(seed)
    shuffled = np.mean([_correlation([_shuffled(part, rng) for part in parts]) for _ in range(_PERMUTATIONS)])
    uniform = [_is_uniform(column, rng) for part in parts for column in part.T]
    return SyntheticTest(
        tuple(equal), _correlation(parts), float(shuffled), float(np.mean(uniform)), len(uniform)
    )


def _correlation(parts: list[Floats]) -> float:
    found = []
    for part in parts:
        filled = np.where(np.isnan(part), np.nanmean(part, axis=0), part)
        kept = filled[:, filled.std(axis=0) > 0]
        if kept.shape[1] > 1:
            matrix = np.corrcoef(kept, rowvar=False)
            found.append(np.abs(matrix[np.triu_indices(len(matrix), 1)]).mean())
    return float(np.mean(found)) if found else float("nan")


def _shuffled(part: Floats, rng: np.random.Generator) -> Floats:
    return np.stack([rng.permutation(column) for column in part.T], axis=1)


def _is_uniform(column: Floats, rng: np.random.Generator) -> bool:
    """Whether Kolmogorov and Smirnov's test does not refuse a uniform between the ends of the column."""
    from scipy.stats import kstest

    known = column[~np.isnan(column)]
    low, high = known.min(), known.max()
    if high <= low:
        return False
    # whole numbers stand for an interval each: without that, ties alone would refuse them
    steps = np.diff(np.unique(known))
    grain = float(steps.min()) if steps.size else 0.0
    if np.allclose(known, np.round(known)) and grain >= 1:
        known = known + rng.uniform(-0.5, 0.5, known.size)
        low, high = low - 0.5, high + 0.5
    return bool(kstest(known, "uniform", args=(low, high - low)).pvalue > _LEVEL)

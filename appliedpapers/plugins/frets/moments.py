"""Second moments of all windows of a history, in time that hardly depends on how many there are.

Neighbouring windows share all but one value, so the moment matrix of a sliding window obeys
``S[i+1, j+1] = S[i, j] + v[W+i] v[W+j] - v[i] v[j]`` for W consecutive windows over v. The first row costs
one correlation; everything else follows without looking at the windows again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from appliedpapers.plugins.frets.windows import Bools, Floats, WindowArrays


@dataclass(frozen=True)
class WindowMoments:
    """Sums over all valid windows and series of values minus the window's last input value.

    Attributes:
        inputs: ``(L, L)``, sum of ``x x'``.
        cross: ``(L, H)``, sum of ``x y'``.
        targets: ``(H,)``, sum of ``y * y``.
        count: Number of windows that were summed, over all series.
    """

    inputs: Floats
    cross: Floats
    targets: Floats
    count: int

    @classmethod
    def of(cls, windows: WindowArrays) -> Self:
        """Sum over the windows; those with a missing value are left out."""
        width = windows.lookback + windows.horizon
        moments, count = np.zeros((width, width)), 0
        for series in range(windows.n_series):
            column = windows.values[:, series]
            for begin, end in _runs(windows.valid[:, series]):
                start = windows.first + begin * windows.step - windows.lookback
                stop = start + (end - begin - 1) * windows.step + width
                moments += _sliding_moments(column[start:stop], width, windows.step)
                count += end - begin
        last = moments[windows.lookback - 1]
        changes = moments - last[None, :] - last[:, None] + last[windows.lookback - 1]
        inputs, cross = (
            changes[: windows.lookback, : windows.lookback],
            changes[: windows.lookback, windows.lookback :],
        )
        return cls(inputs, cross, np.diagonal(changes)[windows.lookback :].copy(), count)

    def mean_squared_error(self, weight: NDArray[np.float64]) -> float:
        """Return the mean of ``(y - weight' x)^2`` over windows, series and steps, for ``weight (L, H)``."""
        residual = (
            self.targets.sum() - 2 * (weight * self.cross).sum() + (weight * (self.inputs @ weight)).sum()
        )
        return float(residual / (self.count * len(self.targets)))


def _runs(valid: Bools) -> Iterator[tuple[int, int]]:
    """Yield ``begin, end`` of each run of consecutive True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _sliding_moments(values: Floats, width: int, step: int) -> Floats:
    """Return the sum of ``w w'`` over all windows ``w`` of ``width`` values, ``(width, width)``."""
    windows = sliding_window_view(values, width)[::step]
    count = len(windows)
    if step != 1 or count < width // 8:
        product: Floats = windows.T @ windows
        return product
    moments = np.empty((width, width))
    moments[0] = np.correlate(values, values[:count], mode="valid")[:width]
    moments[:, 0] = moments[0]
    entering, leaving = values[count:], values
    for i in range(width - 1):
        tail = slice(i, width - 1)
        row = moments[i, tail] + entering[i] * entering[tail] - leaving[i] * leaving[tail]
        moments[i + 1, i + 1 :] = row
        moments[i + 1 :, i + 1] = row
    return moments

"""From a score to a p-value: ranks among healthy devices that were cut at the same elapsed time.

p = (1 + number of calibration devices with at least this score) / (n + 1). Scores are compared within the
cell of a condition where it has 50 calibration devices, else after the median and the MAD of the cell are
taken off (those of all devices, where a cell has too few even for that).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.laser_cvae.devices import Flags, Floats

Basis = Literal["cell", "standardised"]

WHOLE_CELL, STANDARD_CELL = 50, 8
_LEAST = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Scores of healthy devices at elapsed times.

    Attributes:
        hours: Elapsed times, rising, ``(E,)``.
        scores: Of calibration devices, ``(n, E)``; NaN where one was not (or no longer) on test.
        cells: Cell of each, n names.
        centres: Median and MAD of scores by cell, ``(E, 2)`` each; ``""`` is for all devices.
    """

    hours: Floats
    scores: Floats
    cells: tuple[str, ...]
    centres: dict[str, Floats]

    @classmethod
    def fit(
        cls,
        hours: Floats,
        scores: Floats,
        cells: Sequence[str],
        known: tuple[Floats, Sequence[str]],
    ) -> Calibration:
        """Keep the scores of calibration devices, and centres by cell.

        Args:
            hours: ``(E,)``, rising.
            scores: ``(n, E)`` of devices that nothing was learned from.
            cells: Of these devices.
            known: Scores ``(m, E)`` and cells of all healthy devices, for the centres.
        """
        every, names = known
        which = np.array(names)
        centres = {"": _centre(every)}
        for name in dict.fromkeys(names):
            own = every[which == name]
            if len(own) >= STANDARD_CELL:
                centres[name] = np.where(
                    (np.isfinite(own).sum(axis=0) >= STANDARD_CELL)[:, None], _centre(own), centres[""]
                )
        return cls(hours, scores, tuple(cells), centres)

    def standardised(self, scores: Floats, elapsed: Floats, cells: Sequence[str]) -> Floats:
        """Return scores ``(R,)`` less what is usual in their cell after this time, in MAD."""
        centre = np.empty((len(scores), 2))
        which = np.array(cells)
        for name in dict.fromkeys(cells):
            own, usual = which == name, self.centres.get(name, self.centres[""])
            for part in range(2):
                centre[own, part] = np.interp(elapsed[own], self.hours, usual[:, part])
        return np.asarray((scores - centre[:, 0]) / np.maximum(centre[:, 1], _LEAST))

    def p_values(self, scores: Floats, elapsed: Floats, cells: Sequence[str]) -> tuple[Floats, list[Basis]]:
        """Return p-values ``(R,)``, and of each whether it is of its cell alone."""
        found, basis = np.ones(len(scores)), list[Basis]()
        own_of = {name: np.array([cell == name for cell in self.cells]) for name in dict.fromkeys(cells)}
        relative = self.standardised(scores, elapsed, cells)
        table = self._table
        for row, name in enumerate(cells):
            left, step = self._place(float(elapsed[row]))
            own: Flags = own_of[name]
            alone = int(own.sum()) >= WHOLE_CELL
            values = (self.scores[own] if alone else table)[:, left : left + 2]
            at = values[:, 0] * (1 - step) + values[:, -1] * step
            at = at[np.isfinite(at)]
            against = scores[row] if alone else relative[row]
            found[row] = (1 + int((at >= against).sum())) / (len(at) + 1)
            basis.append("cell" if alone else "standardised")
        return found, basis

    def to_json(self) -> dict[str, Any]:
        """Return numbers that :meth:`from_json` reads back exactly; missing ones as null."""
        return {
            "hours": self.hours.tolist(),
            "scores": [[None if np.isnan(v) else float(v) for v in row] for row in self.scores],
            "cells": list(self.cells),
            "centres": {name: value.tolist() for name, value in self.centres.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """Rebuild a calibration from :meth:`to_json`."""
        rows = [[np.nan if v is None else v for v in row] for row in document["scores"]]
        hours = np.array(document["hours"], dtype=np.float64)
        return cls(
            hours,
            np.array(rows, dtype=np.float64).reshape(-1, len(hours)),
            tuple(document["cells"]),
            {name: np.array(value) for name, value in document["centres"].items()},
        )

    @cached_property
    def _table(self) -> Floats:
        """Return the calibration scores less what is usual in their cells."""
        if not len(self.scores):
            return self.scores
        usual = np.stack([self.centres.get(name, self.centres[""]) for name in self.cells])
        return np.asarray((self.scores - usual[..., 0]) / np.maximum(usual[..., 1], _LEAST))

    def _place(self, elapsed: float) -> tuple[int, float]:
        place = int(np.clip(np.searchsorted(self.hours, elapsed) - 1, 0, max(len(self.hours) - 2, 0)))
        if len(self.hours) < 2:
            return 0, 0.0
        width = self.hours[place + 1] - self.hours[place]
        return place, float(np.clip((elapsed - self.hours[place]) / width, 0, 1))


def _centre(scores: Floats) -> Floats:
    """Return median and scaled MAD of columns ``(E, 2)``; 0 and 1 where a column is empty."""
    found = np.tile([0.0, 1.0], (scores.shape[1], 1))
    for number, column in enumerate(scores.T):
        known: NDArray[np.float64] = column[np.isfinite(column)]
        if len(known):
            middle = float(np.median(known))
            found[number] = middle, max(1.4826 * float(np.median(np.abs(known - middle))), _LEAST)
    return found

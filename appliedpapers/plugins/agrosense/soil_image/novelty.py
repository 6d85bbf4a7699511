"""Whether a photo is like those that were learned from: distance of its features, and its colours.

A probability says which soil a photo shows most likely, not whether it shows soil. Two looks are taken: the
distance to the tenth nearest photo that was learned from, against the 99th percentile of those among
themselves; and a gate on colour and grain, that keeps out what has colours of no soil, nothing on it at all,
or the edges of print. Its limit: soil of another collection, camera and light may pass both and be taken for
the wrong class all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.soil_image.descriptor import CELLS, GRADIENTS

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NEIGHBOUR = 10
_PERCENTILE = 99.0
_COMPONENTS = 32
_RARE = 2e-4  # mean share of a cell of colour below which it is a colour of no soil
_GATE_PERCENTILE = 0.5
_GRAIN_MARGIN = 1.15
_FLAT = 1e-9


@dataclass(frozen=True)
class Novelty:
    """What photos that were learned from look like.

    Attributes:
        mean: Of each feature, ``(features,)``.
        axes: Their whitened principal axes, ``(components, features)``.
        known: The photos on these axes, ``(photos, components)``.
        farthest: The distance to the tenth neighbour beyond which a photo is new, ``(1,)``.
        colours: Which cells of colour soils have, 0 or 1, ``(128,)``.
        least_soil: Share of a photo's pixels that must have such a colour, ``(1,)``.
        grain: Least and largest mean change of grey, ``(2,)``.
    """

    mean: Floats
    axes: Floats
    known: Floats
    farthest: Floats
    colours: Floats
    least_soil: Floats
    grain: Floats

    @classmethod
    def fit(cls, features: Floats, groups: Labels) -> Self:
        """Learn from features ``(n, 145 + ...)`` of photos, the colour descriptor first.

        Args:
            features: Of the photos.
            groups: Photos of one group are near-duplicates, which are no neighbours of each other.
        """
        mean, scale = features.mean(axis=0), features.std(axis=0)
        inverse = 1 / np.where(scale > _FLAT, scale, np.inf)
        axes = _principal_axes((features - mean) * inverse) * inverse
        known = (features - mean) @ axes.T
        distances = [_tenth(known[groups != group], row) for row, group in zip(known, groups, strict=True)]
        histograms = features[:, :CELLS]
        colours = histograms.mean(axis=0) > _RARE
        share = histograms[:, colours].sum(axis=1)
        grain = features[:, GRADIENTS].mean(axis=1)
        return cls(
            mean,
            axes,
            known,
            np.array([np.percentile(distances, _PERCENTILE)]),
            colours.astype(np.float64),
            np.array([min(0.9, np.percentile(share, _GATE_PERCENTILE))]),
            np.array([grain.min() / _GRAIN_MARGIN, grain.max() * _GRAIN_MARGIN]),
        )

    def distances(self, features: Floats) -> Floats:
        """Return the distance of each row to its tenth neighbour over the limit, ``(n,)``: above 1 is new."""
        axes = np.einsum("nf,cf->nc", features - self.mean, self.axes)
        found = [_tenth(self.known, row) for row in axes]
        return np.array(found, dtype=np.float64) / max(float(self.farthest[0]), _FLAT)

    def reasons(self, features: Floats) -> list[str | None]:
        """Return why each photo is no soil, or like none that was learned from; None where it is."""
        soil = np.einsum("nc,c->n", features[:, :CELLS], self.colours)
        grain = features[:, GRADIENTS].mean(axis=1)
        found: list[str | None] = []
        for distance, share, change in zip(self.distances(features), soil, grain, strict=True):
            reason = None
            if share < self.least_soil[0]:
                reason = f"only {100 * share:.0f} % of it has the colours of soil"
            elif change < self.grain[0]:
                reason = "it shows an even surface without any grain"
            elif change > self.grain[1]:
                reason = "it has harder edges than soil has"
            elif distance > 1:
                reason = (
                    f"it is {distance:.1f} times as far from all known photos as these are from each other"
                )
            found.append(reason)
        return found

    def write(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        from safetensors.numpy import load_file

        return cls(**load_file(path))


def _principal_axes(rows: Floats) -> Floats:
    """Return the first principal axes ``(components, features)`` of centred rows, half whitened.

    Directions that vary more tell more, but not in proportion.
    """
    squares, left = np.linalg.eigh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    squares, left = squares[::-1][:_COMPONENTS], left[:, ::-1][:, :_COMPONENTS]
    kept = squares > _FLAT * max(float(squares[0]), _FLAT)
    sizes, left = np.sqrt(squares[kept]), left[:, kept]
    axes = (left / sizes).T @ rows if len(rows) < rows.shape[1] else left.T
    spread = sizes / np.sqrt(max(len(rows) - 1, 1))
    found: Floats = axes / np.sqrt(spread)[:, None]
    return found


def _tenth(known: Floats, row: Floats) -> float:
    """Return the distance of a row to its tenth neighbour, or the farthest of fewer."""
    if not len(known):
        return 0.0
    squares = ((known - row) ** 2).sum(axis=1)
    place = min(NEIGHBOUR, len(squares)) - 1
    return float(np.sqrt(np.partition(squares, place)[place]))

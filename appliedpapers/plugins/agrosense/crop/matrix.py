"""From tables to matrices: columns of numbers with NaN, and their standardised form for networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.columns import Feature

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

SOIL_MISSING = "soil missing"


@dataclass(frozen=True)
class Encoder:
    """Features as columns of numbers.

    Attributes:
        features: Numbers keep a column, a category gets one for each of its values.
        soils: Classes of the soil photo, whose probabilities follow; none without photos.
    """

    features: tuple[Feature, ...]
    soils: tuple[str, ...] = ()

    @property
    def players(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Each input with its columns, for attributions."""
        found, start = [], 0
        for feature in self.features:
            width = len(feature.categories) if feature.kind == "category" else 1
            found.append((feature.name, tuple(range(start, start + width))))
            start += width
        if self.soils:
            found.append(("image", tuple(range(start, start + len(self.soils) + 1))))
        return tuple(found)

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(len(columns) for _, columns in self.players)

    def matrix(self, table: pa.Table, soil: Floats | None = None) -> Floats:
        """Return the columns of a table, ``(rows, width)`` float64, NaN where a number is missing.

        Args:
            table: With the columns of the features; absent ones are missing.
            soil: Probabilities of the soil classes and the missing flag, ``(rows, classes + 1)``.
        """
        parts = [self._columns(table, feature) for feature in self.features]
        if self.soils:
            assert soil is not None
            parts.append(soil)
        return np.concatenate(parts, axis=1) if parts else np.zeros((table.num_rows, 0))

    def _columns(self, table: pa.Table, feature: Feature) -> Floats:
        import pyarrow as pa

        if feature.name not in table.column_names:
            width = len(feature.categories) if feature.kind == "category" else 1
            return np.full((table.num_rows, width), 0.0 if feature.kind == "category" else np.nan)
        column = table.column(feature.name)
        if feature.kind == "number":
            return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)[:, None]
        values = column.to_pylist()
        place = {name: number for number, name in enumerate(feature.categories)}
        found = np.zeros((len(values), len(feature.categories)))
        for row, value in enumerate(values):
            if value in place:
                found[row, place[value]] = 1.0
        return found


@dataclass(frozen=True)
class Scaler:
    """Medians for missing numbers, a column that says so, and zero mean with unit deviation.

    Attributes:
        medians: Of each column, ``(width,)``.
        means: After filling, ``(width,)``.
        deviations: After filling, positive, ``(width,)``.
        told: Columns whose missing values get a column of their own.
    """

    medians: Floats
    means: Floats
    deviations: Floats
    told: tuple[int, ...]

    @classmethod
    def fit(cls, matrix: Floats) -> Self:
        """Learn from rows ``(rows, width)`` with NaN; a column without any number is constant 0."""
        known = ~np.isnan(matrix)
        medians = np.array(
            [
                np.median(column[there]) if there.any() else 0.0
                for column, there in zip(matrix.T, known.T, strict=True)
            ]
        )
        filled = np.where(known, matrix, medians)
        spread = filled.std(axis=0)
        told = tuple(int(place) for place in np.flatnonzero(~known.all(axis=0)))
        return cls(medians, filled.mean(axis=0), np.where(spread > 1e-12, spread, 1.0), told)

    def __call__(self, matrix: Floats) -> Floats:
        """Return ``(rows, width + told)`` float64 without NaN."""
        missing = np.isnan(matrix)
        scaled = (np.where(missing, self.medians, matrix) - self.means) / self.deviations
        return np.concatenate([scaled, missing[:, list(self.told)].astype(np.float64)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON form that keeps every bit."""
        return {
            "medians": self.medians.tolist(),
            "means": self.means.tolist(),
            "deviations": self.deviations.tolist(),
            "told": list(self.told),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Rebuild a scaler from :meth:`to_json`."""
        arrays = [np.array(document[name], dtype=np.float64) for name in ("medians", "means", "deviations")]
        return cls(arrays[0], arrays[1], arrays[2], tuple(document["told"]))


def soil_block(probabilities: Floats, prior: Floats, missing: NDArray[np.bool_] | Sequence[bool]) -> Floats:
    """Return the soil columns: probabilities, the prior where a photo is missing, and a flag that says so.

    Args:
        probabilities: ``(rows, classes)``; what stands in missing rows does not matter.
        prior: Of the training rows, ``(classes,)``.
        missing: ``(rows,)``.
    """
    gone = np.asarray(missing, dtype=bool)[:, None]
    return np.concatenate([np.where(gone, prior, probabilities), gone.astype(np.float64)], axis=1)

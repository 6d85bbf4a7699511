"""The banding pattern of each simulated type: how it was drawn, and the table that came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, Y

# physical lengths of the human chromosomes 1 to 22, X and Y, and their centromeres from the end of the p-arm
MEGABASES = (
    *(249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133),
    *(114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156, 57),
)
CENTROMERES = (
    *(123, 94, 91, 50, 49, 60, 60, 45, 43, 40, 53, 36),
    *(18, 17, 19, 37, 25, 19, 26, 28, 12, 15, 61, 10),
)

_GENOME = 3088  # megabases that share the 300 bands of the resolution that is imitated
_SEED = 20190601
_LIGHT, _DARK = (0.0, 0.1, 0.2), (0.4, 0.6, 0.8, 1.0)
_HETEROCHROMATIN = 1.0
_HETEROCHROMATIC_CENTROMERES = (0, 8, 15)  # types 1, 9 and 16
_ALIKE = 0.85


@dataclass(frozen=True)
class Template:
    """The bands of one type from the tip of the p-arm (0) to that of the q-arm (1).

    Attributes:
        edges: Where the bands begin and end: float64, one more than there are bands, rising from 0 to 1.
        density: How darkly each band stains, 0 to 1.
        centromere: Place of the centromere.
        megabases: Physical length.
    """

    edges: NDArray[np.float64]
    density: NDArray[np.float64]
    centromere: float
    megabases: int

    def profile(self, points: int = 64) -> NDArray[np.float64]:
        """Return the density at ``points`` equally spaced places, each in the middle of its share."""
        at = (np.arange(points) + 0.5) / points
        return self.density[np.searchsorted(self.edges, at, side="right") - 1]


@cache
def templates() -> tuple[Template, ...]:
    """Return the 24 templates in the order of the types.

    They are read from the package's table, because NumPy does not promise the same draws in every version.
    """
    text = resources.files(__package__).joinpath("templates.json").read_text(encoding="ascii")
    return tuple(
        _template(label, np.array(row["edges"]), np.array(row["density"]))
        for label, row in enumerate(json.loads(text))
    )


def draw_templates() -> tuple[Template, ...]:
    """Draw the templates from their fixed seeds; again while one correlates by 0.85 with an earlier one."""
    found: list[Template] = []
    for label in range(len(TYPES)):
        rng = np.random.default_rng(_SEED + label)
        template = _draw(label, rng)
        while any(_correlation(template, other) >= _ALIKE for other in found):
            template = _draw(label, rng)
        found.append(template)
    return tuple(found)


def _draw(label: int, rng: np.random.Generator) -> Template:
    share = CENTROMERES[label] / MEGABASES[label]
    bands = max(4, round(300 * MEGABASES[label] / _GENOME))
    short = max(1, round(bands * share))
    widths = [
        share * rng.dirichlet(np.full(short, 4.0)),
        (1 - share) * rng.dirichlet(np.full(bands - short, 4.0)),
    ]
    edges = np.concatenate([[0.0], np.cumsum(np.concatenate(widths))])
    edges[short], edges[-1] = share, 1.0
    always = _always_dark(label, short, bands)
    first = int(rng.integers(2)) if always is None else always % 2
    is_dark = np.arange(bands) % 2 == first
    density = np.where(is_dark, rng.choice(_DARK, bands), rng.choice(_LIGHT, bands))
    if always is not None:
        density[always] = _HETEROCHROMATIN
    return _template(label, edges, density)


def _always_dark(label: int, short: int, bands: int) -> int | None:
    # beside the centromere it lies on the q-arm: 1q12, 9q12, 16q11.2; of Y it is the end of the q-arm
    if label in _HETEROCHROMATIC_CENTROMERES:
        return short
    return bands - 1 if label == Y else None


def _template(label: int, edges: NDArray[np.float64], density: NDArray[np.float64]) -> Template:
    return Template(edges, density, CENTROMERES[label] / MEGABASES[label], MEGABASES[label])


def _correlation(one: Template, other: Template) -> float:
    return float(np.corrcoef(one.profile(), other.profile())[0, 1])

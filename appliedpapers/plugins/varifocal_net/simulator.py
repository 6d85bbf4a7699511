"""The embedded dataset: cells of banded chromosomes with exact truth, drawn from formulas alone.

What it is. Each of the 24 types has a fixed template of 5 to 24 bands, 300 in the whole genome, with the
physical length and centromere of the human chromosome; which band is dark is chance, so no template is a real
one. Nothing was learned from or copied from images of people.

Specimens. Each has one constitution, 46,XX or 46,XY by halves: 6 % carry one trisomy (21, 18 or 13), 3 % a
sex chromosome anomaly (XXY, X, XXX, XYY) instead. Each has two cells, which share the constitution and a warp
of every type's bands along the axis (smooth, 2.5 %, a new one for each type); 6 % of the cells have lost one
chromosome at random. Train, valid and test hold different specimens.

Cells. A contraction c ~ LogNormal(0, .12) makes lengths 0.5 c pixels a megabase (about 25 to 130), times
LogNormal(0, .03) for each chromosome; half widths are U(7, 10) c^-.3 pixels, drawn for the cell. Arms narrow
by 25 to 45 % at the centromere and end in superellipses. The axis is an arc that turns by N(0, 12 deg), in
15 % kinked by 15 to 60 degrees at the centromere, tilted by N(0, 4 deg). The stain takes U(120, 190) grey
levels in the darkest bands and 35 % of that in the lightest, with blur, uneven gain (8 %), noise of 4 levels
and, in 40 %, a lighter gap between the sister chromatids.

Artefacts of segmentation. 12 % carry 5 to 25 % (at least 4 px) of another of the cell, pushed against a side
with 0 to 3 pixels of overlap; 5 % have lost a corner; 3 % have specks. ``simulate_with_truth`` tells which.

What it is not. Bands do not merge or split with contraction, there are no structural aberrations, satellites
or overlaps across the body, all images come from one imagined microscope, and every label is right: figures
on it say that the method works, not how well it reads real metaphases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.varifocal_net.chromosomes import TYPES, UNKNOWN, WHITE, Chromosomes, X, Y, ink_box
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig, SimulatorConfig
from appliedpapers.plugins.varifocal_net.simulator_artefacts import add_debris, add_fragment, cut_corner
from appliedpapers.plugins.varifocal_net.simulator_drawing import Ink, Shape, draw_end, draw_shape
from appliedpapers.plugins.varifocal_net.simulator_templates import templates

ARTEFACTS = ("touching", "cut", "debris")
CELLS_PER_SPECIMEN = 2

_ARTEFACT_RATES = (0.12, 0.05, 0.03)
_TRISOMY_RATE, _SEX_ANOMALY_RATE, _LOSS_RATE = 0.06, 0.03, 0.06
_TRISOMIES = (20, 17, 12)  # types 21, 18 and 13
_SEX_ANOMALIES = ((2, 1), (1, 0), (3, 0), (1, 2))
_WARP, _WARP_TERMS = 0.025, 4
_MARGIN = 2
_LEAST_FRAGMENT = 4.0  # pixels: less of a rounded tip would not be seen


@dataclass(frozen=True)
class Simulated:
    """Simulated chromosomes with what spoiled each.

    Attributes:
        chromosomes: The images; all q-down, labelled, with case and specimen.
        artefacts: Which of ``ARTEFACTS`` each image got; empty for most.
    """

    chromosomes: Chromosomes
    artefacts: tuple[frozenset[str], ...]


def simulate(config: KaryotypeConfig) -> tuple[Chromosomes, Chromosomes, Chromosomes]:
    """Simulate the cells to learn from, to choose on and to judge on, from different specimens.

    Args:
        config: ``seed`` and ``simulator`` are read. A cell depends on the seed, its split and its number
            within the split alone: more cells to learn from leave the others as they were, and a switch turns
            off what it names and nothing else.

    Returns:
        Train, valid and test. Cases are called ``train-0001`` and on, chromosomes ``21-2`` for the second 21.
    """
    train, valid, test = simulate_with_truth(config)
    return train.chromosomes, valid.chromosomes, test.chromosomes


def simulate_with_truth(config: KaryotypeConfig) -> tuple[Simulated, Simulated, Simulated]:
    """Simulate the same, and tell which artefacts each image got."""
    options = config.simulator
    return (
        _simulate_split(options, config.seed, "train", options.train_cells),
        _simulate_split(options, config.seed, "valid", options.valid_cells),
        _simulate_split(options, config.seed, "test", options.test_cells),
    )


class _Drawn(NamedTuple):
    image: NDArray[np.uint8]
    name: str
    case: str
    specimen: str
    label: int
    artefacts: frozenset[str]


def _simulate_split(options: SimulatorConfig, seed: int, split: str, cells: int) -> Simulated:
    drawn = [row for cell in range(cells) for row in _draw_cell(options, seed, split, cell)]
    unknown = np.full(len(drawn), UNKNOWN, dtype=np.int16)
    chromosomes = Chromosomes(
        images=[row.image for row in drawn],
        names=[row.name for row in drawn],
        cases=[row.case for row in drawn],
        specimens=[row.specimen for row in drawn],
        labels=np.array([row.label for row in drawn], dtype=np.int16),
        polarity=np.ones(len(drawn), dtype=np.int8),
        fixed=unknown,
    )
    return Simulated(chromosomes, tuple(row.artefacts for row in drawn))


def _draw_cell(options: SimulatorConfig, seed: int, split: str, cell: int) -> Iterator[_Drawn]:
    specimen = cell // CELLS_PER_SPECIMEN
    counts = draw_karyotype(seed, split, cell, options.abnormal)
    spread = _WARP / np.sqrt(_WARP_TERMS / 2)
    warps = _stream(seed, split, "warp", specimen).normal(0, spread, (len(TYPES), _WARP_TERMS))
    look = _stream(seed, split, "cell", cell)
    contraction, half_width = look.lognormal(0, 0.12), look.uniform(7, 10)
    members = [(label, copy) for label in range(len(TYPES)) for copy in range(counts[label])]
    shapes = [
        _draw_shape(label, warps[label], contraction, half_width, _stream(seed, split, cell, label, copy))
        for label, copy in members
    ]
    for row, (label, copy) in enumerate(members):
        ink = draw_shape(shapes[row], _stream(seed, split, cell, label, copy, "stain"))
        names: frozenset[str] = frozenset()
        if options.artefacts:
            others = shapes[:row] + shapes[row + 1 :]
            ink, names = _spoil(ink, others, _stream(seed, split, cell, label, copy, "artefacts"))
        yield _Drawn(
            image=_image(ink),
            name=f"{TYPES[label]}-{copy + 1}",
            case=f"{split}-{cell + 1:04d}",
            specimen=f"{split}-specimen-{specimen + 1:04d}",
            label=label,
            artefacts=names,
        )


def draw_karyotype(seed: int, split: str, cell: int, abnormal: bool) -> NDArray[np.int64]:
    """Draw how many chromosomes of each type a cell has.

    Args:
        seed: Of the run.
        split: ``train``, ``valid`` or ``test``.
        cell: Number within the split, from 0; each two have one specimen.
        abnormal: Without it every cell is 46,XX or 46,XY.

    Returns:
        Counts of the 24 types.
    """
    rng = _stream(seed, split, "constitution", cell // CELLS_PER_SPECIMEN)
    counts = np.full(len(TYPES), 2, dtype=np.int64)
    counts[[X, Y]] = (2, 0) if rng.random() < 0.5 else (1, 1)
    if not abnormal:
        return counts
    fate = rng.random()
    if fate < _TRISOMY_RATE:
        counts[rng.choice(_TRISOMIES)] += 1
    elif fate < _TRISOMY_RATE + _SEX_ANOMALY_RATE:
        counts[[X, Y]] = rng.choice(_SEX_ANOMALIES)
    loss = _stream(seed, split, "loss", cell)
    if loss.random() < _LOSS_RATE:
        counts[loss.choice(np.repeat(np.arange(len(TYPES)), counts))] -= 1
    return counts


def _draw_shape(
    label: int,
    warp: NDArray[np.float64],
    contraction: float,
    half_width: float,
    rng: np.random.Generator,
) -> Shape:
    template = templates()[label]
    length = 0.5 * contraction * template.megabases * rng.lognormal(0, 0.03)
    kinks, kink, side = rng.random() < 0.15, np.deg2rad(rng.uniform(15, 60)), rng.choice((-1, 1))
    has_gap, gap = rng.random() < 0.4, rng.uniform(0.1, 0.2)
    return Shape(
        length=length,
        joint=length * float(_warped(np.array([template.centromere]), warp)[0]),
        half_width=half_width * contraction**-0.3,
        narrowing=rng.uniform(0.25, 0.45),
        bend=np.deg2rad(rng.normal(0, 12)),
        kink=side * kink if kinks else 0.0,
        tilt=np.deg2rad(rng.normal(0, 4)),
        edges=length * _warped(template.edges, warp),
        density=template.density,
        blur=rng.uniform(0.8, 1.8),
        stain=rng.uniform(120, 190),
        gap=gap if has_gap else 0.0,
    )


def _warped(place: NDArray[np.float64], warp: NDArray[np.float64]) -> NDArray[np.float64]:
    # sines that vanish at both tips; a warp that would fold the axis only squeezes it
    waves = np.sin(np.pi * place[:, None] * np.arange(1, _WARP_TERMS + 1))
    return np.maximum.accumulate(np.clip(place + waves @ warp, 0, 1))


def _spoil(ink: Ink, others: list[Shape], rng: np.random.Generator) -> tuple[Ink, frozenset[str]]:
    touching, cut, debris = rng.random(len(ARTEFACTS)) < _ARTEFACT_RATES
    if cut:
        ink = cut_corner(ink, rng)
    if touching:
        ink = _touch(ink, others[rng.integers(len(others))], rng)
    if debris:
        ink = add_debris(ink, rng)
    given = zip(ARTEFACTS, (touching, cut, debris), strict=True)
    return ink, frozenset(name for name, is_there in given if is_there)


def _touch(ink: Ink, other: Shape, rng: np.random.Generator) -> Ink:
    on_right, of_q = rng.random(2) < 0.5
    # the neighbour lies with its tip towards the chromosome, up to 60 degrees askew
    outwards = -np.pi / 2 if on_right else np.pi / 2
    tilt = outwards + (np.pi if of_q else 0) + np.deg2rad(rng.uniform(-60, 60))
    share = max(rng.uniform(0.05, 0.25), _LEAST_FRAGMENT / other.length)
    fragment = draw_end(replace(other, tilt=tilt), share, bool(of_q), rng)
    return add_fragment(ink, fragment, bool(on_right), int(rng.integers(4)), rng)


def _image(ink: Ink) -> NDArray[np.uint8]:
    grey = np.clip(np.rint(WHITE - ink), 0, WHITE).astype(np.uint8)
    box = ink_box(grey)
    assert box is not None  # the faintest stain takes 42 grey levels
    x0, y0, x1, y1 = box
    inner = grey[y0:y1, x0:x1]
    # what is not ink by the common definition is background, which a segmentation leaves white
    inner = np.where(inner < WHITE - 5, inner, WHITE).astype(np.uint8)
    return np.pad(inner, _MARGIN, constant_values=WHITE)


def _stream(seed: int, *path: str | int) -> np.random.Generator:
    # one for each purpose, so that what is switched off leaves everything else as it was
    return np.random.default_rng(derive_seed(seed, "varifocal-net", "simulator", *path))

"""Drawn photos of simulated fields, and some that show no soil: seeded, with known truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.config import SimulatorConfig as Sites
from appliedpapers.plugins.agrosense.simulator import simulate
from appliedpapers.plugins.agrosense.soil_image.config import SoilImageConfig
from appliedpapers.plugins.agrosense.soil_image.drawing import DISTRACTORS, draw, draw_distractor
from appliedpapers.plugins.agrosense.soil_image.photos import NO_SOIL, Photos
from appliedpapers.plugins.agrosense.soils import SOILS

_DEAL = (0, 5, 4, 1, 2, 6, 3)  # below 4 train, 4 valid, above test
_DISTRACTOR_GROUPS = 1_000_000


class Drawn(NamedTuple):
    """Photos of each part; sites stand in one of them."""

    train: Photos
    valid: Photos
    test: Photos


def draw_photos(config: SoilImageConfig) -> Drawn:
    """Draw the embedded dataset (data card ``simulated-soil-photos``).

    Sites are dealt to parts by class, four sevenths, one and two; photos that show no soil stand in the parts
    that are chosen and judged on alone, as nobody brings a collection of what is no soil.
    """
    options = config.simulator
    sites = Sites(sites=options.sites, fields_from=options.fields, fields_to=options.fields)
    fields = simulate(sites, config.seed)
    of_site = fields.soil_class[np.unique(fields.site, return_index=True)[1]]
    part_of_site = _dealt(of_site, config.seed)
    part = part_of_site[fields.site]
    found, before = [], 0
    for low, high, judged in ((0, 4, False), (4, 5, True), (5, 7, True)):
        rows = np.flatnonzero((part >= low) & (part < high)).repeat(options.photos)
        shots = np.arange(len(rows)) % options.photos
        names = fields.names()
        photos = Photos(
            tuple(draw(fields, rows.tolist(), config.seed, shots.tolist())),
            tuple(f"{names[row]}-{shot + 1}.jpg" for row, shot in zip(rows, shots, strict=True)),
            fields.soil_class[rows],
            SOILS,
            tuple(names[row] for row in rows),
            fields.site[rows],
        )
        extra = round(options.distractors * len(rows)) if judged else 0
        found.append(photos.joined(_distractors(before, extra, config.seed)))
        before += extra
    return Drawn(*found)


def _dealt(soils: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a number from 0 to 6 of each site; of each soil the first site is learned from."""
    order = np.random.default_rng(seed).permutation(len(soils))
    found = np.empty(len(soils), dtype=np.int64)
    for soil in np.unique(soils):
        own = order[soils[order] == soil]
        found[own] = np.array(_DEAL)[np.arange(len(own)) % len(_DEAL)]
    return found


def _distractors(first: int, count: int, seed: int) -> Photos:
    numbers = range(first, first + count)
    kinds = [DISTRACTORS[number % len(DISTRACTORS)] for number in numbers]
    return Photos(
        tuple(draw_distractor(kind, seed, number) for kind, number in zip(kinds, numbers, strict=True)),
        tuple(f"no-soil-{kind}-{number}.jpg" for kind, number in zip(kinds, numbers, strict=True)),
        np.full(count, NO_SOIL, dtype=np.int64),
        SOILS,
        (None,) * count,
        _DISTRACTOR_GROUPS + np.arange(first, first + count),
    )

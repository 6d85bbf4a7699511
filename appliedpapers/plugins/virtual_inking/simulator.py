"""The embedded dataset: simulated blocks of tissue with simulated cuts, a few serial sections of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.virtual_inking.simulator_cautery import (
    BlockPlan,
    Section,
    draw_outline,
    make_section,
)
from appliedpapers.plugins.virtual_inking.simulator_noise import smooth_noise
from appliedpapers.plugins.virtual_inking.simulator_tissue import EPITHELIUM, Regions, paint, region_map

MPP = (1.0, 1.0)
"""Micrometres per pixel of a simulated slide."""

_MUCOSA = (40, 80)
_SHARE = (0.3, 0.6)


def simulate_section(
    seed: int, number: int, size: int, *, confounders: bool = True, natural: bool = False
) -> Section:
    """Simulate one serial section of a block.

    Sections of a block share outline, cut arcs and regions, each smoothly deformed by 8 to 20 pixels; nuclei,
    staining and confounders are a section's own.

    Args:
        seed: Of the block.
        number: Of the section.
        size: Side in pixels of 1 um.
        confounders: Also folds, crush, epithelium, bubbles, pen, stain jitter and JPEG.
        natural: Nothing was cut.
    """
    block = np.random.default_rng(derive_seed(seed, "block"))
    plan = BlockPlan.draw(block, most_arcs=0 if natural else 2 if confounders else 1)
    regions = region_map(block, size)
    rng = np.random.default_rng(derive_seed(seed, "section", number))
    scale = size / 896
    shift = np.stack([smooth_noise(rng, size, 120 * scale) for _ in range(2)])
    shift *= rng.uniform(8, 20) * scale / 2
    outline = draw_outline(plan, size, rng, shift)
    moved = _moved(regions, shift)
    starts = block.uniform(0, 2 * np.pi), block.uniform(*_SHARE)
    strip = ((outline.angles - starts[0]) % (2 * np.pi) < 2 * np.pi * starts[1]) & ~outline.in_arc
    moved[strip & (outline.depth < block.uniform(*_MUCOSA) * scale)] = EPITHELIUM
    return make_section(paint(rng, moved), outline, plan, rng, confounders=confounders)


def _moved(regions: Regions, shift: NDArray[np.float64]) -> Regions:
    size = len(regions)
    rows, columns = np.mgrid[:size, :size]
    found: Regions = regions[
        np.clip(np.round(rows + shift[0]).astype(int), 0, size - 1),
        np.clip(np.round(columns + shift[1]).astype(int), 0, size - 1),
    ]
    return found

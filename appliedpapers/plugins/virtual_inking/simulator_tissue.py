"""Simulated H&E tissue: regions, nuclei, fibres, vessels; no image of anybody is needed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.simulator_noise import fibres, hard_core, smooth_noise
from appliedpapers.plugins.virtual_inking.simulator_stains import STAINS

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Regions = NDArray[np.int8]

STROMA, EPITHELIUM, LYMPHOID = range(3)

_SHARES = (3, 2, 1)  # Dirichlet
_DENSITY = ((8, 15), (35, 60), (90, 140))  # nuclei per 10,000 pixels
_RADII = (((7, 10), (2, 3)), ((5, 7), (4, 6)), ((3, 4), (3, 4)))
_EOSIN = (0.45, 0.30, 0.20)
_FIBRE = 0.15
_CHROMATIN = 0.15
_LUMEN = 0.02
_NOISE = 2.0


def region_map(rng: np.random.Generator, size: int) -> Regions:
    """Return stroma, epithelium or lymphoid tissue at each pixel, from noise that is cut at its quantiles."""
    field = smooth_noise(rng, size, 120 * size / 896)
    shares = np.cumsum(rng.dirichlet(_SHARES))
    order = np.argsort(rng.uniform(size=3))
    edges = np.quantile(field, np.clip(shares[:2], 0, 1))
    return order[np.digitize(field, edges)].astype(np.int8)


def paint(rng: np.random.Generator, regions: Regions) -> Floats:
    """Stain tissue with the given regions.

    Args:
        rng: Source of chance; another one gives another section of the same regions.
        regions: ``(size, size)``.

    Returns:
        RGB in 0 to 255, float, ``(size, size, 3)``.
    """
    size = len(regions)
    angle = math.pi * smooth_noise(rng, size, 80)
    texture = fibres(rng, size, angle, rng.uniform(8, 14))
    eosin = np.array(_EOSIN)[regions]
    eosin = np.maximum(eosin + np.where(regions == STROMA, _FIBRE * texture, 0.0), 0.03)
    nuclei = np.zeros((size, size))
    density = np.zeros((size, size))
    for region, (low, high) in enumerate(_DENSITY):
        density[regions == region] = rng.uniform(low, high) / 1e4
    lumina = _lumina(rng, size)
    density[lumina] = 0
    for row, column in hard_core(rng, size, density):
        (a, b) = _RADII[int(regions[int(row), int(column)])]
        turn = angle[int(row), int(column)] + math.pi / 2
        _ellipse(nuclei, row, column, rng.uniform(*a), rng.uniform(*b), turn, rng.uniform(0.8, 1.6))
    nuclei *= 1 + _CHROMATIN * rng.standard_normal((size, size))
    haematoxylin = rng.uniform(0.05, 0.12) + np.maximum(nuclei, 0)
    eosin[nuclei > 0.3] *= 0.6
    lining = _lining(lumina)
    haematoxylin[lining] = np.maximum(haematoxylin[lining], 0.8)
    haematoxylin[lumina], eosin[lumina] = _LUMEN, _LUMEN
    loads = np.stack([haematoxylin * rng.uniform(0.85, 1.15), eosin * rng.uniform(0.85, 1.15)], axis=-1)
    rgb = 256 * np.exp(-(loads @ STAINS[:2])) - 1
    rgb *= 1 + 0.03 * np.clip(smooth_noise(rng, size, size / 4), -2, 2)[..., None] / 2
    return np.clip(rgb + rng.normal(0, _NOISE, rgb.shape), 0, 255)


def _ellipse(
    field: Floats, row: float, column: float, long: float, short: float, turn: float, load: float
) -> None:
    """Add a nucleus with an edge of one pixel."""
    reach = math.ceil(long) + 2
    top, left = max(int(row) - reach, 0), max(int(column) - reach, 0)
    part = field[top : int(row) + reach + 1, left : int(column) + reach + 1]
    dy = np.arange(top, top + part.shape[0])[:, None] - row
    dx = np.arange(left, left + part.shape[1])[None] - column
    u, v = dx * math.cos(turn) + dy * math.sin(turn), -dx * math.sin(turn) + dy * math.cos(turn)
    inside = np.clip((1 - np.sqrt((u / long) ** 2 + (v / short) ** 2)) * short + 0.5, 0, 1)
    np.maximum(part, load * inside, out=part)


def _lumina(rng: np.random.Generator, size: int) -> Flags:
    found = np.zeros((size, size))
    for _ in range(int(rng.integers(1, 7))):
        row, column = rng.uniform(0.15 * size, 0.85 * size, 2)
        a = rng.uniform(8, 28)
        _ellipse(found, row, column, a, a * rng.uniform(0.4, 1), rng.uniform(0, math.pi), 1.0)
    return np.asarray(found > 0.5)


def _lining(lumina: Flags) -> Flags:
    from scipy import ndimage

    wide: Flags = ndimage.binary_dilation(lumina, iterations=4)
    return wide & ~lumina

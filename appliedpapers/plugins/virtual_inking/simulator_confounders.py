"""What is easily taken for cautery on edges that were not cut: folds, crush, epithelium, bubbles, pen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.virtual_inking.simulator_noise import hard_core, smooth_noise
from appliedpapers.plugins.virtual_inking.simulator_stains import from_stains, to_stains

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CHANCE = 0.5
_PENS = ((40, 110, 70), (35, 60, 130), (28, 26, 30))


def confound(picture: Floats, depth: Floats, natural: Flags, rng: np.random.Generator) -> Floats:
    """Draw folds, crush, basophilic epithelium and bubbles, each with a chance of a half.

    Args:
        picture: RGB in 0 to 255, ``(S, S, 3)``.
        depth: Distance to the outside in pixels.
        natural: Tissue whose edge was not cut.
        rng: Source of chance.
    """
    steps = (_epithelium, _fold, _crush, _bubble)
    wanted = rng.uniform(size=len(steps)) < _CHANCE
    for step, drawn in zip(steps, wanted, strict=True):
        if drawn:
            picture = step(picture, depth, natural, rng)
    return picture


def pen_strokes(picture: Floats, depth: Floats, natural: Flags, rng: np.random.Generator) -> Floats:
    """Draw one stroke of a pen across the edge of every fourth slide: a marker is wider than a tile."""
    from scipy import ndimage

    if rng.uniform() > _CHANCE / 2 or not natural.any():
        return picture
    size = len(depth)
    edge = np.argwhere(natural & (depth <= 2))
    if not len(edge):
        return picture
    row, column = edge[int(rng.integers(len(edge)))]
    turn, length, width = rng.uniform(0, math.pi), 0.28 * size, rng.uniform(0.04, 0.06) * size
    rows, columns = np.mgrid[:size, :size]
    along = (columns - column) * math.cos(turn) + (rows - row) * math.sin(turn)
    across = -(columns - column) * math.sin(turn) + (rows - row) * math.cos(turn)
    across = across + 4 * smooth_noise(rng, size, 30)
    stroke = (np.abs(along) < length) & (np.abs(across) < width)
    share = ndimage.gaussian_filter(stroke.astype(np.float64), 2)[..., None] * 0.92
    ink = np.array(_PENS[int(rng.integers(len(_PENS)))], dtype=np.float64)
    return np.asarray(picture * (1 - share) + ink * share)


def _stretch(depth: Floats, natural: Flags, rng: np.random.Generator) -> Flags:
    """Return a part of the natural edge's surroundings."""
    return natural & (smooth_noise(rng, len(depth), 90) > 0.2)


def _epithelium(picture: Floats, depth: Floats, natural: Flags, rng: np.random.Generator) -> Floats:
    size = len(depth)
    strip = _stretch(depth, natural, rng) & (depth < rng.uniform(40, 120))
    loads = to_stains(picture)
    texture = np.zeros((size, size))
    points = hard_core(rng, size, np.where(strip, 0.006, 0.0)).astype(int)
    texture[points[:, 0], points[:, 1]] = 1
    from scipy import ndimage

    nuclei = ndimage.gaussian_filter(texture, 3) * 2 * math.pi * 9
    loads[..., 0] = np.where(strip, loads[..., 0] * 1.5 + 0.5 * nuclei, loads[..., 0])
    return from_stains(loads)


def _fold(picture: Floats, depth: Floats, natural: Flags, rng: np.random.Generator) -> Floats:
    size = len(depth)
    turn, width = rng.uniform(0, math.pi), rng.uniform(20, 60)
    rows, columns = np.mgrid[:size, :size]
    edge = np.argwhere(natural & (depth < 60))
    if not len(edge):
        return picture
    row, column = edge[int(rng.integers(len(edge)))]
    across = -(columns - column) * math.sin(turn) + (rows - row) * math.cos(turn)
    across = across + 10 * smooth_noise(rng, size, 60)
    band = natural & (np.abs(across) < width / 2)
    return np.where(band[..., None], from_stains(to_stains(picture) * 1.6), picture)


def _crush(picture: Floats, depth: Floats, natural: Flags, rng: np.random.Generator) -> Floats:
    from scipy import ndimage

    part = _stretch(depth, natural, rng) & (depth < rng.uniform(40, 90))
    blurred = np.stack([ndimage.gaussian_filter(picture[..., c], 3) for c in range(3)], axis=-1)
    loads = to_stains(blurred)
    loads[..., 0] *= 1.5
    return np.where(part[..., None], from_stains(loads), picture)


def _bubble(picture: Floats, depth: Floats, natural: Flags, rng: np.random.Generator) -> Floats:
    size = len(depth)
    rows, columns = np.mgrid[:size, :size]
    row, column = rng.uniform(0.1 * size, 0.9 * size, 2)
    radius = rng.uniform(40, 110)
    apart = np.hypot(rows - row, columns - column)
    ring = np.exp(-0.5 * ((apart - radius) / 4) ** 2) * natural
    return np.asarray(picture * (1 - 0.45 * ring[..., None]))

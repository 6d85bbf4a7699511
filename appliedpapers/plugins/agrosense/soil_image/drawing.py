"""Pictures of simulated soil, and of what is no soil: seeded, each by its own numbers.

All colours and textures are illustrative. A picture carries the soil class, organic matter and moisture, and
nothing else of its field.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.agrosense.simulator import Fields, stream
from appliedpapers.plugins.agrosense.soil_image.lab import lab_to_rgb
from appliedpapers.plugins.agrosense.soils import SOILS

Floats = NDArray[np.float64]

SIDE = 192
DISTRACTORS = ("plain", "leaf", "sky", "text")
"""Kinds of pictures that are no soil."""

_BASE = {
    "alluvial": (58, 4, 18),
    "arid": (72, 6, 24),
    "black": (27, 1, 4),
    "laterite": (42, 24, 28),
    "mountain": (36, 5, 10),
    "red": (45, 22, 22),
    "yellow": (62, 9, 38),
}
_SPREAD = (5.0, 3.0, 4.0)
_DARKER_BY_CARBON, _DARKER_BY_MOISTURE = 3.0, 10.0
_CRACKED, _STONY = ("black", "arid"), ("mountain", "laterite")
_OCTAVES, _CELL, _AMPLITUDE = 4, 48, 10.0
_QUALITY = 85


def draw(fields: Fields, rows: Sequence[int], seed: int, shots: Sequence[int] | None = None) -> list[bytes]:
    """Draw the soil of fields.

    Args:
        fields: Simulated fields.
        rows: Which of them.
        seed: The same seed gives the same pictures, whichever others are drawn.
        shots: Which photo of its field each one is: the soil stays, texture and light differ. By default
            the first of each.

    Returns:
        JPEG files of 192 x 192 px.
    """
    taken = shots if shots is not None else [0] * len(rows)
    return [_photo(fields, row, seed, shot) for row, shot in zip(rows, taken, strict=True)]


def draw_distractor(kind: str, seed: int, number: int) -> bytes:
    """Draw a picture that is no soil, of one of :data:`DISTRACTORS`, as JPEG."""
    rng = stream(seed, f"distractor {kind} {number}")
    if kind == "plain":
        colours = np.broadcast_to(rng.uniform(0, 255, 3), (SIDE, SIDE, 3))
    elif kind == "leaf":
        colours = _leaf(rng)
    elif kind == "sky":
        colours = _sky(rng)
    else:
        colours = _text(rng)
    return _taken(colours, rng)


def _photo(fields: Fields, row: int, seed: int, shot: int) -> bytes:
    soil = SOILS[fields.soil_class[row]]
    base = np.array(_BASE[soil], float) + stream(seed, f"colour {row}").normal(0, _SPREAD)
    base[0] -= _DARKER_BY_CARBON * fields.organic_score[row] + _DARKER_BY_MOISTURE * fields.moisture[row]
    rng = stream(seed, f"picture {row} {shot}")
    lab = np.empty((SIDE, SIDE, 3))
    lab[:] = base
    lab[..., 0] += _noise(rng)
    if soil in _CRACKED:
        lab[..., 0] -= 18 * _cracks(rng)
    lab[..., 0] = np.clip(lab[..., 0], 3, 97)
    colours = lab_to_rgb(lab)
    if soil in _STONY:
        colours = _with_stones(colours, rng)
    return _taken(colours, rng)


def _noise(rng: np.random.Generator) -> Floats:
    """Return value noise ``(SIDE, SIDE)`` of four octaves around 0."""
    total = np.zeros((SIDE, SIDE))
    for octave in range(_OCTAVES):
        cells = SIDE * 2**octave // _CELL + 2
        total += _stretched(rng.uniform(-1, 1, (cells, cells))) * _AMPLITUDE * 2.0**-octave
    return total


def _stretched(grid: Floats) -> Floats:
    from PIL import Image

    small = Image.fromarray(grid.astype(np.float32))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)


def _cracks(rng: np.random.Generator) -> Floats:
    """Return 1 on the borders of Worley's cells, 0 elsewhere."""
    from scipy.spatial import cKDTree

    seeds = rng.uniform(-20, SIDE + 20, (int(rng.integers(15, 50)), 2))
    places = np.mgrid[:SIDE, :SIDE].reshape(2, -1).T
    near = cKDTree(seeds).query(places, k=2)[0]
    gap = (near[:, 1] - near[:, 0]).reshape(SIDE, SIDE)
    cracks: Floats = np.clip(rng.uniform(1, 4) - gap + 0.5, 0, 1)
    return cracks


def _with_stones(colours: Floats, rng: np.random.Generator) -> Floats:
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(colours.astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 61))):
        (x, y), (width, height) = rng.uniform(0, SIDE, 2), rng.uniform(2, 9, 2)
        grey = rng.uniform(0.75, 1.35) * colours.mean((0, 1))
        pen.ellipse((x, y, x + width, y + height), fill=tuple(int(min(one, 255)) for one in grey))
    return np.asarray(canvas, dtype=np.float64)


def _taken(colours: Floats, rng: np.random.Generator) -> bytes:
    """Photograph colours: light that falls off to a side, white balance, noise, JPEG."""
    from PIL import Image

    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.15)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    light = 1 + fall * (np.cos(angle) * x + np.sin(angle) * y)
    seen = colours * light[..., None] * rng.uniform(0.9, 1.1, 3) + rng.normal(0, 2, colours.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _leaf(rng: np.random.Generator) -> Floats:
    lab = np.empty((SIDE, SIDE, 3))
    lab[:] = np.array([48, -34, 32]) + rng.normal(0, (8, 6, 6))
    lab[..., 0] += _noise(rng)
    middle, bend = rng.uniform(0.3, 0.7), rng.uniform(-0.2, 0.2)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    along = np.abs(x - middle - bend * (y - 0.5))
    veins = np.abs(((y + along * 0.7) * 9) % 1 - 0.5)
    lab[..., 0] += 14 * (along < 0.012) + 7 * (veins < 0.04)
    return lab_to_rgb(lab)


def _sky(rng: np.random.Generator) -> Floats:
    y = np.mgrid[:SIDE, :SIDE][0] / SIDE
    lab = np.empty((SIDE, SIDE, 3))
    lab[:] = np.array([62, -4, -34]) + rng.normal(0, (5, 2, 5))
    lab[..., 0] += 22 * y
    cloud = np.clip(_noise(rng) / 8 + rng.uniform(-1, 0.6), 0, 1)
    lab[..., 0] += cloud * (96 - lab[..., 0])
    lab[..., 1:] *= (1 - cloud)[..., None]
    return lab_to_rgb(lab)


def _text(rng: np.random.Generator) -> Floats:
    page = np.full((SIDE, SIDE), rng.uniform(225, 250))
    top, pitch = int(rng.integers(4, 12)), int(rng.integers(9, 16))
    for line in range(top, SIDE - pitch, pitch):
        at = int(rng.integers(6, 14))
        end = SIDE - int(rng.integers(6, 60))
        while at < end:
            width = int(rng.integers(3, 7))
            letter = rng.random((pitch * 5 // 9, width)) < 0.55
            rows, columns = page[line : line + letter.shape[0], at : at + width].shape
            block = page[line : line + rows, at : at + columns]
            block[letter[:rows, :columns]] = 35
            at += width + (1 if rng.random() < 0.8 else 5)
    return np.repeat(page[..., None], 3, axis=2)

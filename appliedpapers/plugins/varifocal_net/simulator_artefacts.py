"""What goes wrong when a metaphase is cut into single chromosomes: touching ends, lost corners, specks."""

from __future__ import annotations

import numpy as np

from appliedpapers.plugins.varifocal_net.chromosomes import WHITE
from appliedpapers.plugins.varifocal_net.simulator_drawing import Ink

_SEEN = 5.0  # ink that counts as more than background
_OUTLINE = 20.0  # ink at the middle of the soft edge of a faint chromosome


def overlay(one: Ink, other: Ink) -> Ink:
    """Return the ink of two things on top of each other: their transmittances multiply."""
    return np.asarray(one + other - one * other / WHITE)


def add_fragment(ink: Ink, fragment: Ink, on_right: bool, overlap: int, rng: np.random.Generator) -> Ink:
    """Push a piece of a neighbour against one side, at a random height, until it touches.

    Args:
        ink: The chromosome.
        fragment: The piece of the neighbour.
        on_right: The side that it comes from.
        overlap: Columns by which it goes on after the first touch.
        rng: Draws the height.

    Returns:
        Both on a canvas that holds them.
    """
    if not on_right:
        return add_fragment(ink[:, ::-1], fragment[:, ::-1], True, overlap, rng)[:, ::-1]
    body, piece = _tight(ink), _tight(fragment)
    height = max(len(body), len(piece))
    top = int(rng.integers(abs(len(body) - len(piece)) + 1))
    if len(body) < height:
        body = np.pad(body, ((top, height - len(body) - top), (0, 0)))
    else:
        piece = np.pad(piece, ((top, height - len(piece) - top), (0, 0)))
    shift = max(0, _columns_to_touch(body, piece) - overlap)
    width = max(body.shape[1], shift + piece.shape[1])
    body = np.pad(body, ((0, 0), (0, width - body.shape[1])))
    return overlay(body, np.pad(piece, ((0, 0), (shift, width - shift - piece.shape[1]))))


def cut_corner(ink: Ink, rng: np.random.Generator) -> Ink:
    """Take 3 to 12 % of a chromosome away at one of its four corners, along a slanted straight line."""
    y, x = np.nonzero(ink > _SEEN)
    slant = np.deg2rad(rng.uniform(20, 50))
    right, down = rng.choice((-1.0, 1.0), 2)
    limit = np.quantile(right * x * np.cos(slant) + down * y * np.sin(slant), 1 - rng.uniform(0.03, 0.12))
    rows, columns = np.indices(ink.shape)
    is_left = right * columns * np.cos(slant) + down * rows * np.sin(slant) <= limit
    return np.where(is_left, ink, 0.0)


def add_debris(ink: Ink, rng: np.random.Generator) -> Ink:
    """Scatter one to four dark specks over a chromosome and its surroundings."""
    room = 4
    ink = np.pad(_tight(ink), room)
    rows, columns = np.indices(ink.shape)
    for _ in range(int(rng.integers(1, 5))):
        y, x = rng.uniform(1, np.array(ink.shape) - 2)
        away = np.hypot(rows - y, columns - x)
        ink = overlay(ink, rng.uniform(60, 160) / (1 + np.exp((away - rng.uniform(0.8, 2.0)) / 0.4)))
    return ink


def _tight(ink: Ink) -> Ink:
    rows, columns = (np.flatnonzero((ink > _SEEN).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _columns_to_touch(body: Ink, piece: Ink) -> int:
    # how far right the piece stands, its canvas on that of the body, when the two first touch in some row
    seen, also = body > _OUTLINE, piece > _OUTLINE
    right_end = np.where(seen.any(1), seen.shape[1] - np.argmax(seen[:, ::-1], 1), -seen.shape[1])
    left_end = np.where(also.any(1), np.argmax(also, 1), also.shape[1])
    return int((right_end - left_end).max())

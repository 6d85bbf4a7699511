"""How one simulated chromosome is drawn: an axis of two arcs, a width along it, bands across it, a stain.

Drawings are *ink*: float64 ``(h, w)``, the grey levels that a chromosome takes from the white background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ink = NDArray[np.float64]

_EDGE = 0.8  # softness of the outline in pixels
_ROUNDNESS = 2.5  # power of the superellipse that ends an arm
_CENTROMERE_SIGMA = 3.0
_BACKGROUND = 0.35  # how much of the stain even a light band takes
_PIXEL_NOISE = 4.0
_GAIN_NOISE = 0.08
_GAIN_WAVES = 6
_GAP_SIGMA = 0.5
_MARGIN = 4  # pixels around the outline: beyond them nothing is left of its soft edge
_LEAST_CURVATURE = 1e-6


@dataclass(frozen=True)
class Shape:
    """Everything that is drawn of one chromosome but its noise; lengths in pixels, angles in radians.

    Attributes:
        length: Of the axis from tip to tip.
        joint: Distance of the centromere from the tip of the p-arm.
        half_width: Of an arm.
        narrowing: Share of the width that is missing at the centromere.
        bend: Angle that the axis turns through over its length.
        kink: Angle by which the q-arm leaves the direction of the p-arm.
        tilt: Of the line from the p-tip to the q-tip, clockwise as displayed; 0 has the q-arm down.
        edges: Boundaries of the bands from the tip of the p-arm, one more than there are bands.
        density: Of each band, 0 to 1.
        blur: Standard deviation of the blur along the axis.
        stain: Grey levels that the darkest band takes away.
        gap: Share of the stain that is missing between the sister chromatids.
    """

    length: float
    joint: float
    half_width: float
    narrowing: float
    bend: float
    kink: float
    tilt: float
    edges: NDArray[np.float64]
    density: NDArray[np.float64]
    blur: float
    stain: float
    gap: float


def draw_shape(shape: Shape, rng: np.random.Generator) -> Ink:
    """Draw a whole chromosome with the noise of its stain and of its pixels."""
    along, across = _coordinates(shape)
    return _ink(shape, along, across, rng)


def draw_end(shape: Shape, share: float, of_q: bool, rng: np.random.Generator) -> Ink:
    """Draw what lies within ``share`` of the length from one tip, cut straight across.

    Args:
        shape: The chromosome that the end belongs to.
        share: Of its length, 0 to 1.
        of_q: The tip of the q-arm rather than that of the p-arm.
        rng: For the noise.
    """
    along, across = _coordinates(shape)
    from_tip = shape.length - along if of_q else along
    return _ink(shape, along, across, rng) * (from_tip < share * shape.length)


def _ink(shape: Shape, along: Ink, across: Ink, rng: np.random.Generator) -> Ink:
    stain = _stain_along(shape, along) * (1 + _GAIN_NOISE * _waves(along.shape, rng))
    stain *= 1 - shape.gap * np.exp(-0.5 * (across / _GAP_SIGMA) ** 2)
    noise = rng.normal(0, _PIXEL_NOISE, along.shape)
    return (stain + noise) * _opacity(shape, along, across)


def _coordinates(shape: Shape) -> tuple[Ink, Ink]:
    """Return for each pixel how far along the axis it lies from the p-tip, and how far from the axis."""
    curvature = shape.bend / shape.length
    if abs(curvature) < _LEAST_CURVATURE:
        curvature = _LEAST_CURVATURE
    p_end, q_end = -shape.joint, shape.length - shape.joint
    chord = _on_arc(np.array([q_end]), shape.kink, curvature) - _on_arc(np.array([p_end]), 0.0, curvature)
    turn = np.pi / 2 + shape.tilt - np.arctan2(*chord[0, ::-1])
    p_axis = _on_arc(np.linspace(p_end, 0, 9), turn, curvature)
    q_axis = _on_arc(np.linspace(0, q_end, 9), turn + shape.kink, curvature)
    outline, room = np.concatenate([p_axis, q_axis]), shape.half_width + _MARGIN
    (x0, y0), (x1, y1) = np.floor(outline.min(0) - room), np.ceil(outline.max(0) + room)
    x, y = np.arange(x0, x1 + 1), np.arange(y0, y1 + 1)[:, None]
    p_along, p_across = _arc_coordinates(x, y, turn, curvature)
    if shape.kink == 0:
        return shape.joint + p_along, p_across
    q_along, q_across = _arc_coordinates(x, y, turn + shape.kink, curvature)
    # beyond the joint an arm is as far away as its joint is: it closes the wedge on the outside of a kink
    p_across = np.hypot(p_across, np.maximum(p_along, 0))
    q_across = np.hypot(q_across, np.minimum(q_along, 0))
    in_p = p_across < q_across
    along = np.where(in_p, np.minimum(p_along, 0), np.maximum(q_along, 0))
    return shape.joint + along, np.where(in_p, p_across, q_across)


def _on_arc(s: NDArray[np.float64], direction: float, curvature: float) -> NDArray[np.float64]:
    # x and y of the points s beyond the joint, at which the arc has the given direction
    half = curvature * s / 2
    chord = s * np.sinc(half / np.pi)
    return np.stack([chord * np.cos(direction + half), chord * np.sin(direction + half)], axis=-1)


def _arc_coordinates(x: Ink, y: Ink, direction: float, curvature: float) -> tuple[Ink, Ink]:
    radius, side = 1 / abs(curvature), np.sign(curvature)
    forward = x * np.cos(direction) + y * np.sin(direction)
    sideways = y * np.cos(direction) - x * np.sin(direction) - side * radius
    along = np.arctan2(forward, -side * sideways) * radius
    return along, np.abs(np.hypot(forward, sideways) - radius)


def _opacity(shape: Shape, along: Ink, across: Ink) -> Ink:
    from_joint = (along - shape.joint) / _CENTROMERE_SIGMA
    width = shape.half_width * (1 - shape.narrowing * np.exp(-0.5 * from_joint**2))
    cap = min(shape.half_width, shape.length / 2)
    into_cap = np.maximum(np.maximum(cap - along, along - shape.length + cap), 0) / cap
    reach, in_cap = across / width, into_cap > 0
    reach[in_cap] = (reach[in_cap] ** _ROUNDNESS + into_cap[in_cap] ** _ROUNDNESS) ** (1 / _ROUNDNESS)
    return 1 / (1 + np.exp(np.minimum((reach - 1) * width / _EDGE, 50)))


def _stain_along(shape: Shape, along: Ink) -> Ink:
    """Return the stain of each pixel: steps at the edges of the bands, blurred exactly."""
    from scipy.special import ndtr

    at = np.arange(0, shape.length + 1, 0.5)
    steps = ndtr((at[:, None] - shape.edges[1:-1]) / shape.blur)
    density = shape.density[0] + steps @ np.diff(shape.density)
    banded = np.interp(along, at, density)
    return np.asarray(shape.stain * (_BACKGROUND + (1 - _BACKGROUND) * banded))


def _waves(size: tuple[int, ...], rng: np.random.Generator) -> Ink:
    # smooth noise of mean 0 and variance 1: some plane waves of 15 to 60 pixels in all directions
    direction, phase = rng.uniform(0, 2 * np.pi, (2, _GAIN_WAVES))
    number = 2j * np.pi / rng.uniform(15, 60, _GAIN_WAVES)
    down = np.exp(np.arange(size[0])[:, None] * number * np.sin(direction) + 1j * phase)
    right = np.exp(np.arange(size[1])[:, None] * number * np.cos(direction))
    return np.asarray((down @ right.T).real * np.sqrt(2 / _GAIN_WAVES))

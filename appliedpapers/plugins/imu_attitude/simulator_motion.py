"""Smooth motion with exact orientation, angular rate and specific force at any time.

Orientation and position are splines over a time that can stand still::

    q = s / |s|                    s: cubic spline through random quaternions
    omega' = 2 vec(s* s') / |s|^2  the radial part of s' only changes the real part
    f = R(q)^T (p'' + g e_z) + omega' x r + omega x (omega x r)

Derivatives are by the warped time and follow from the splines by the chain rule, so that truth has no error
of its own beyond rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.imu_attitude.rotations import (
    conjugate,
    multiply,
    normalise,
    rotate,
)
from appliedpapers.plugins.imu_attitude.trailing_mean import strapdown

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_BEYOND_S = 1.0  # splines reach so far beyond the recording: their ends bend most
_FEWEST_KNOTS = 6
_RAMP_S = 1.0
_NO_START_REST = 0.15
_START_REST_S, _BREAK_S = (2.0, 40.0), (1.0, 10.0)
_MOST_BREAKS = 4
_ROTATION = ((2.0, 0.3), (1.0, 1.2), (0.5, 2.4))  # factor on the gaps of knots, largest angle between them
_ROTATION_GAP_S, _TRANSLATION_GAP_S = (0.25, 1.0), (0.2, 1.2)
_TRANSLATION = ((0.0, 0.0), (0.2, 4.0), (4.0, 20.0))  # root mean square of the acceleration, m/s^2
_LEVER_M, _LEVER_SHARE = 0.05, 0.5
_GRAVITY = (9.78, 9.83)


@dataclass(frozen=True)
class Moment:
    """The truth at N times.

    Attributes:
        quaternion: ``(N, 4)`` sensor to ENU, unit length.
        rate: ``(N, 3)`` angular rate of the sensor in its own frame, rad/s.
        force: ``(N, 3)`` specific force in the sensor frame, m/s^2.
        moving: ``(N,)`` whether the sensor moves.
    """

    quaternion: Floats
    rate: Floats
    force: Floats
    moving: Bools


@dataclass(frozen=True)
class Warp:
    """A time that stands still in rests and takes a second to stop and to go, its rate twice differentiable.

    Attributes:
        rests: ``(R, 2)`` begin and end in seconds; more than two ramps apart.
    """

    rests: Floats

    def __call__(self, time: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the warped time, its rate (0 at rest, else up to 1) and its acceleration, each ``(N,)``."""
        warped, rate, change = time.copy(), np.ones_like(time), np.zeros_like(time)
        for begin, end in self.rests:
            for since, sign in (((time - begin) / _RAMP_S + 1, -1.0), ((time - end) / _RAMP_S, 1.0)):
                x = np.clip(since, 0, 1)
                warped += sign * _RAMP_S * (x**4 * (2.5 - 3 * x + x * x) + np.maximum(since - 1, 0))
                rate += sign * x**3 * (10 - 15 * x + 6 * x * x)
                change += sign * 30 * (x * (1 - x)) ** 2 / _RAMP_S
        return warped, np.clip(rate, 0, 1), change


@dataclass(frozen=True)
class Motion:
    """One random motion; see :func:`draw_motion`.

    Attributes:
        warp: Where it rests.
        rotation: Spline of quaternions of any length, by warped time.
        translation: Spline of positions in metres, by warped time.
        lever: ``(3,)`` where the sensor sits on the body whose position is given, metres in the sensor frame.
        gravity: m/s^2.
    """

    warp: Warp
    rotation: Any
    translation: Any
    lever: Floats
    gravity: float

    def at(self, time: Floats) -> Moment:
        """Return the truth at ``(N,)`` seconds within the recording."""
        warped, rate, change = self.warp(time)
        s, ds, dds = (self.rotation(warped, order) for order in range(3))
        square = np.sum(s * s, axis=1, keepdims=True)
        spin = 2 * multiply(conjugate(s), ds)[:, 1:] / square
        growth = 2 * np.sum(s * ds, axis=1, keepdims=True) / square
        spin_change = 2 * multiply(conjugate(s), dds)[:, 1:] / square - growth * spin
        omega = spin * rate[:, None]
        alpha = spin_change * rate[:, None] ** 2 + spin * change[:, None]
        speed, pull = self.translation(warped, 1), self.translation(warped, 2)
        earth = pull * rate[:, None] ** 2 + speed * change[:, None]
        earth[:, 2] += self.gravity
        quaternion = normalise(s)
        lever = np.cross(alpha, self.lever) + np.cross(omega, np.cross(omega, self.lever))
        return Moment(quaternion, omega, rotate(conjugate(quaternion), earth) + lever, rate > 0)


def draw_motion(rng: np.random.Generator, seconds: float, rotation: int, translation: int) -> Motion:
    """Draw a motion.

    Args:
        rng: Where the numbers come from.
        seconds: Length of the recording; the motion reaches a little further.
        rotation: 0 slow, 1 medium, 2 fast.
        translation: 0 none, 1 gentle, 2 violent: the acceleration's root mean square is up to 20 m/s^2.
    """
    return Motion(
        warp=Warp(_draw_rests(rng, seconds)),
        rotation=_draw_rotation(rng, seconds, rotation),
        translation=_draw_translation(rng, seconds, translation),
        lever=rng.normal(0, _LEVER_M, 3) * (rng.random() < _LEVER_SHARE),
        gravity=float(rng.uniform(*_GRAVITY)),
    )


def _draw_rests(rng: np.random.Generator, seconds: float) -> Floats:
    """Return the rest at the start and the breaks, which take at most half of what remains."""
    start = rng.uniform(*np.minimum(_START_REST_S, seconds * 2 / 3))
    rests = [] if rng.random() < _NO_START_REST else [(0.0, float(start))]
    first = (rests[0][1] if rests else 0.0) + 2 * _RAMP_S
    lengths = rng.uniform(*_BREAK_S, rng.integers(_MOST_BREAKS + 1))
    taken = np.cumsum(lengths + 3 * _RAMP_S)
    fits = taken <= (seconds - first) / 2
    lengths, taken = lengths[fits], taken[fits]
    if len(lengths):
        slack = np.sort(rng.uniform(0, seconds - first - taken[-1], len(lengths)))
        begins = first + slack + taken - (lengths + 2 * _RAMP_S)
        rests += list(zip(begins, begins + lengths, strict=True))
    return np.array(rests).reshape(-1, 2)


def _draw_rotation(rng: np.random.Generator, seconds: float, kind: int) -> Any:
    from scipy.interpolate import CubicSpline

    factor, largest = _ROTATION[kind]
    knots = _draw_knots(rng, seconds, np.multiply(factor, _ROTATION_GAP_S))
    turns = normalise(rng.normal(size=(len(knots), 3))) * rng.uniform(0, largest, (len(knots), 1))
    start = normalise(rng.normal(size=4))
    # turns are shorter than half a turn, so that neighbours stay on one side of the double cover
    return CubicSpline(knots, multiply(start, strapdown(np.arange(len(knots), dtype=float), turns)))


def _draw_translation(rng: np.random.Generator, seconds: float, kind: int) -> Any:
    from scipy.interpolate import make_interp_spline

    knots = _draw_knots(rng, seconds, np.array(_TRANSLATION_GAP_S))
    points = rng.normal(size=(len(knots), 3))
    wanted = rng.uniform(*_TRANSLATION[kind])
    unit = make_interp_spline(knots, points, k=5)
    times = np.arange(0, seconds, 0.01)
    found = np.sqrt(np.mean(np.sum(unit(times, 2) ** 2, axis=1)))
    return make_interp_spline(knots, points * (wanted / found), k=5)


def _draw_knots(rng: np.random.Generator, seconds: float, gap: Floats) -> Floats:
    """Return times with random gaps that cover the recording, at least the six that a quintic needs."""
    most = int(np.ceil((seconds + 2 * _BEYOND_S) / gap[0])) + _FEWEST_KNOTS
    knots = -_BEYOND_S + np.concatenate([[0.0], np.cumsum(rng.uniform(gap[0], gap[1], most))])
    return knots[: max(int(np.searchsorted(knots, seconds + _BEYOND_S)) + 1, _FEWEST_KNOTS)]

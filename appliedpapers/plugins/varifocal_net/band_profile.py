"""Hand-made features of a chromosome: how long and large it is, where it is narrow, and where it is dark.

The medial axis is a parabola along the principal axis. The chromosome is straightened along it, and read from
top to bottom: turned upside down it gives the same features in reverse order, which :func:`upside_down` does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.varifocal_net.chromosomes import INK, WHITE, Chromosomes
from appliedpapers.plugins.varifocal_net.preprocess import FEWEST_FOR_SCALE

Floats = NDArray[np.float64]

BANDS, WIDTHS = 64, 16
SIZES = ("length", "area", "darkness")
"""The first features: logarithms, relative to the medians of the cell."""

FEATURES = (
    *SIZES,
    "waist",
    "waist_place",
    *(f"band_{number}" for number in range(BANDS)),
    *(f"width_{number}" for number in range(WIDTHS)),
)
"""Names of the features in order; ``waist_place`` is 0 in the middle, negative above it."""

_UPRIGHT = 1.3  # of the variance along y: small chromosomes are as wide as long, and images stand upright
_WIDEST = 40
_SOFTNESS = 0.04
_ENDS = 0.1


class _Axis(NamedTuple):
    """A parabola in pixels: ``origin + t along + (b0 + b1 t + b2 t^2) across``, t from first to last."""

    origin: Floats
    along: Floats
    bend: Floats
    first: float
    last: float
    reach: int


def band_features(chromosomes: Chromosomes, usual: Floats | None = None) -> Floats:
    """Return the features of chromosomes, ``(N, len(FEATURES))`` float64.

    Args:
        chromosomes: Of whole cells.
        usual: Sizes ``(3,)`` that stand in for the medians of a cell where the cell is not known or has fewer
            than 20 chromosomes; None takes those of all that are given.
    """
    if not len(chromosomes):
        return np.empty((0, len(FEATURES)))
    found = np.stack([_measure(image) for image in chromosomes.images])
    sizes = found[:, : len(SIZES)]
    medians = np.repeat((_medians(sizes) if usual is None else usual)[None], len(found), axis=0)
    for rows in chromosomes.rows_by_case().values():
        if len(rows) >= FEWEST_FOR_SCALE:
            medians[rows] = _medians(sizes[rows])
    found[:, : len(SIZES)] = sizes - medians
    return found


def usual_sizes(chromosomes: Chromosomes) -> Floats:
    """Return the medians of the sizes, ``(3,)``, that stand in where a cell does not show its own."""
    return _medians(np.stack([_measure(image)[: len(SIZES)] for image in chromosomes.images]))


def _medians(sizes: Floats) -> Floats:
    found: Floats = np.median(sizes, axis=0)
    return found


def upside_down(features: Floats) -> Floats:
    """Return the features that the same chromosomes have in images turned upside down."""
    turned = features.copy()
    place = FEATURES.index("waist_place")
    bands = slice(place + 1, place + 1 + BANDS)
    widths = slice(bands.stop, bands.stop + WIDTHS)
    turned[:, place] *= -1
    for part in (bands, widths):
        turned[:, part] = features[:, part][:, ::-1]
    return turned


def _measure(image: NDArray[np.uint8]) -> Floats:
    """Return the features of one image, sizes as plain logarithms; zeros where nothing is dark."""
    found = np.zeros(len(FEATURES))
    ys, xs = np.nonzero(image < INK)
    if not len(ys):
        return found
    darkness = float(WHITE) - image.astype(np.float64)
    axis = _medial_axis(ys, xs)
    straight, length = _straighten(darkness, axis)
    inside = straight > WHITE - INK
    widths = np.maximum(inside.sum(axis=1), 1).astype(np.float64)
    bands = np.where(inside, straight, 0.0).sum(axis=1) / widths
    profile = widths.reshape(WIDTHS, -1).mean(axis=1)
    profile /= profile.mean()
    waist, place = _waist(widths)
    sizes = np.log([length, len(ys), darkness[ys, xs].mean()])
    spread = max(float(bands.std()), 1.0)
    return np.concatenate([sizes, [waist, place], (bands - bands.mean()) / spread, profile])


def _medial_axis(ys: NDArray[np.intp], xs: NDArray[np.intp]) -> _Axis:
    """Fit a parabola to pixels along their principal axis, which points down."""
    points = np.stack([xs, ys], axis=1).astype(np.float64)
    origin = points.mean(axis=0)
    centred = points - origin
    variance = centred.T @ centred / len(points)
    variance[1, 1] *= _UPRIGHT
    along = np.linalg.eigh(variance)[1][:, 1]
    along = along if along[1] >= 0 else -along
    t, off = centred @ along, centred @ np.array([along[1], -along[0]])
    powers = t[:, None] ** np.arange(3)
    # a ridge, for a single pixel or a row of them has no curvature
    bend = np.linalg.solve(powers.T @ powers + 1e-3 * np.eye(3), powers.T @ off)
    reach = min(int(np.ceil(np.abs(off - powers @ bend).max())) + 1, _WIDEST)
    return _Axis(origin, along, bend, float(t.min()) - 0.5, float(t.max()) + 0.5, reach)


def _straighten(darkness: Floats, axis: _Axis) -> tuple[Floats, float]:
    """Return darkness on lines across the axis, ``(BANDS, 2 reach + 1)`` a pixel apart, and the length."""
    from scipy.ndimage import map_coordinates

    fine = np.linspace(axis.first, axis.last, 2 * BANDS + 1)
    steps = np.hypot(np.diff(fine), np.diff(np.polyval(axis.bend[::-1], fine)))
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    t = np.interp((np.arange(BANDS) + 0.5) / BANDS * arc[-1], arc, fine)
    slope = axis.bend[1] + 2 * axis.bend[2] * t
    scale = 1 / np.sqrt(1 + slope**2)
    across = np.array([axis.along[1], -axis.along[0]])
    middle = axis.origin + t[:, None] * axis.along + np.polyval(axis.bend[::-1], t)[:, None] * across
    normal = scale[:, None] * (across - slope[:, None] * axis.along)
    offsets = np.arange(-axis.reach, axis.reach + 1)
    places = middle[:, None] + offsets[:, None] * normal[:, None]
    straight = map_coordinates(darkness, [places[..., 1], places[..., 0]], order=1, cval=0.0)
    return straight, float(arc[-1])


def _waist(widths: Floats) -> tuple[float, float]:
    """Return how narrow the narrowest place is, relative to the mean, and where: -0.5 to 0.5 from the top.

    The place is a mean with weights that fall off quickly, so that equally narrow places do not decide by
    their order.
    """
    smooth = np.convolve(np.pad(widths, 2, mode="edge"), np.full(5, 0.2), mode="valid") / widths.mean()
    places = (np.arange(BANDS) + 0.5) / BANDS - 0.5
    within = np.abs(places) < 0.5 - _ENDS
    narrow = np.exp((smooth[within].min() - smooth[within]) / _SOFTNESS)
    return float(smooth[within].min()), float((narrow * places[within]).sum() / narrow.sum())

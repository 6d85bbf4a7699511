"""Random fields: smooth noise, fibres, hard-core points, and smooth closed outlines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_COARSE = 4.0  # samples of the coarse grid per sigma
_TURNS = 6


def smooth_noise(rng: np.random.Generator, size: int, sigma: float) -> Floats:
    """Return unit-variance noise ``(size, size)`` that is correlated over ``sigma`` pixels."""
    from scipy import ndimage

    stride = max(int(sigma / _COARSE), 1)
    coarse = size // stride + 2 * math.ceil(4 * sigma / stride)
    field = ndimage.gaussian_filter(rng.standard_normal((coarse, coarse)), sigma / stride, mode="wrap")
    wide = enlarge(field, coarse * stride)[:size, :size]
    spread = float(field.std())
    return (wide - float(field.mean())) / spread if spread > 0 else wide


def enlarge(field: NDArray[Any], size: int) -> Floats:
    """Return a field interpolated to ``(size, size)``, by cubic splines."""
    from PIL import Image

    if field.shape == (size, size):
        return np.asarray(field, dtype=np.float64)
    picture = Image.fromarray(field.astype(np.float32), mode="F")
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64)


def fibres(rng: np.random.Generator, size: int, angle: Floats, wavelength: float) -> Floats:
    """Return unit-variance noise of parallel fibres whose direction turns slowly.

    Args:
        rng: Source of chance.
        size: Side in pixels.
        angle: Direction in radians, ``(size, size)``.
        wavelength: From fibre to fibre in pixels.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    centre, width, along = 1 / wavelength, 0.35 / wavelength, 0.12 / wavelength
    found, total = np.zeros((size, size)), np.full((size, size), 1e-9)
    for turn in range(_TURNS):
        direction = math.pi * turn / _TURNS
        across = columns * math.cos(direction) + rows * math.sin(direction)
        beside = -columns * math.sin(direction) + rows * math.cos(direction)
        band = np.exp(-0.5 * ((np.abs(across) - centre) / width) ** 2 - 0.5 * (beside / along) ** 2)
        part = np.fft.irfft2(spectrum * band, s=(size, size))
        weight = np.cos(angle - direction) ** 8
        found += weight * part / max(float(part.std()), 1e-12)
        total += weight
    return np.asarray(found / total, dtype=np.float64)


def hard_core(rng: np.random.Generator, size: int, density: Floats) -> Floats:
    """Return points that keep their distance (Matern's second process), ``(points, 2)`` as row and column.

    Args:
        rng: Source of chance.
        size: Side in pixels.
        density: Wanted points per square pixel, ``(size, size)``; the distance follows from it.
    """
    from scipy.spatial import cKDTree

    most = float(density.max())
    if most <= 0:
        return np.empty((0, 2))
    # half of what is packed at random closest: then this many candidates leave the wanted number
    extra = 1.6
    points = rng.uniform(0, size, (rng.poisson(most * extra * size * size), 2))
    own = density[points[:, 0].astype(int), points[:, 1].astype(int)]
    points = points[rng.uniform(size=len(points)) * most < own]
    if not len(points):
        return np.empty((0, 2))
    own = density[points[:, 0].astype(int), points[:, 1].astype(int)]
    reach = np.sqrt(0.9 / (math.pi * extra * np.maximum(own, 1e-9)))
    rank = rng.uniform(size=len(points))
    pairs = cKDTree(points).query_pairs(float(reach.max()), output_type="ndarray")
    apart = np.hypot(*(points[pairs[:, 0]] - points[pairs[:, 1]]).T)
    near = pairs[apart < np.minimum(reach[pairs[:, 0]], reach[pairs[:, 1]])]
    loses = np.where(rank[near[:, 0]] < rank[near[:, 1]], near[:, 0], near[:, 1])
    kept = np.ones(len(points), dtype=bool)
    kept[loses] = False
    return np.asarray(points[kept], dtype=np.float64)


def wavy_radius(rng: np.random.Generator, angles: Floats, radius: float) -> Floats:
    """Return ``radius (1 + sum over k = 1..5 of 0.07 / k cos(k theta + phi))`` at angles of any shape."""
    found = np.ones(angles.shape)
    for order, phase in enumerate(rng.uniform(0, 2 * math.pi, 5), start=1):
        found += 0.07 / order * np.cos(order * angles + phase)
    return np.asarray(radius * found, dtype=np.float64)

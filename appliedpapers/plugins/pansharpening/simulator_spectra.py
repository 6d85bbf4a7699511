"""What a simulated scene is made of: spectra of materials, and how much of each lies in every pixel.

All numbers are of the specification of the simulator; see :mod:`~.simulator`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RED_EDGE_NM, _RED_EDGE_WIDTH_NM = 715.0, 12.0
_LOWEST, _HIGHEST = 0.01, 0.95
_FIELD_WEIGHT, _PARCEL_WEIGHT = 1.5, 3.0


def draw_materials(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Draw the parameters of ``count`` reflectance spectra; the first is vegetation-like.

    Returns:
        One mapping a material: ``c0``, ``c1``, ``bumps`` as ``(a, mu_nm, sigma_nm)``, ``red_edge`` height.
    """
    materials = []
    for number in range(count):
        bumps = rng.integers(2, 6)
        materials.append(
            {
                "c0": float(rng.uniform(0.05, 0.3)),
                "c1": float(rng.uniform(-0.1, 0.3)),
                "bumps": np.column_stack(
                    [
                        rng.uniform(-0.15, 0.25, bumps),
                        rng.uniform(400, 2500, bumps),
                        rng.uniform(40, 250, bumps),
                    ]
                ).tolist(),
                "red_edge": float(rng.uniform(0.25, 0.45)) if number == 0 else 0.0,
            }
        )
    return materials


def reflectance(materials: list[dict[str, Any]], wavelengths: Floats) -> Floats:
    """Return the spectra of materials, shape ``(K, B)``, between 0.01 and 0.95.

    Args:
        materials: What :func:`draw_materials` drew.
        wavelengths: Band centres in nm, shape ``(B,)``.
    """
    spectra = []
    for material in materials:
        spectrum = material["c0"] + material["c1"] * (wavelengths - 400) / 2100
        for height, centre, width in material["bumps"]:
            spectrum = spectrum + height * np.exp(-0.5 * ((wavelengths - centre) / width) ** 2)
        edge = np.clip((wavelengths - _RED_EDGE_NM) / _RED_EDGE_WIDTH_NM, -60, 60)
        spectra.append(spectrum + material["red_edge"] / (1 + np.exp(-edge)))
    clipped: Floats = np.clip(np.stack(spectra), _LOWEST, _HIGHEST)
    return clipped


def draw_fields(rng: np.random.Generator, betas: Floats, size: int) -> Floats:
    """Return Gaussian random fields of mean 0 and variance 1, shape ``(K, size, size)``.

    Args:
        rng: Source of randomness.
        betas: Exponent of each field's power spectrum, shape ``(K,)``: amplitudes fall as ``f ** (-b / 2)``.
        size: Height and width.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf
    amplitude = frequency[None] ** (-betas[:, None, None] / 2)
    white = np.fft.rfft2(rng.standard_normal((len(betas), size, size)))
    fields = np.fft.irfft2(white * amplitude, s=(size, size))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return fields


def draw_parcels(rng: np.random.Generator, seeds: int, classes: int, size: int) -> NDArray[np.intp]:
    """Return a Voronoi map of classes, shape ``(size, size)``: fields and roofs with sharp edges."""
    from scipy.spatial import KDTree

    places = rng.uniform(0, size, (seeds, 2))
    kinds = rng.integers(0, classes, seeds)
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1) + 0.5
    _, nearest = KDTree(places).query(pixels.reshape(-1, 2))
    return np.asarray(kinds[nearest].reshape(size, size), dtype=np.intp)


def abundances(fields: Floats, parcels: NDArray[np.intp]) -> Floats:
    """Return the share of each material, shape ``(K, H, W)``, which sum to 1 in every pixel."""
    odds = _FIELD_WEIGHT * fields
    odds += _PARCEL_WEIGHT * (parcels[None] == np.arange(len(fields))[:, None, None])
    shares: Floats = np.exp(odds - odds.max(axis=0))
    shares /= shares.sum(axis=0)
    return shares

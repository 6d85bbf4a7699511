"""Wald's protocol on San Francisco, and scenes of random texture, for the tests of classical methods."""

from __future__ import annotations

import numpy as np

from appliedpapers.plugins.pansharpening.degradation import degrade
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, Sensor

REFERENCE = {
    **{"phase": "reference", "boundary": "circular", "normalize_kernel": False},
    "sensor": Sensor(hs_gain=0.3, pan_gain=0.2),
}


def san_francisco(shared, rows: slice, optics: Optics) -> Scene:
    """47 Hyperion bands as truth, degraded and rounded; PAN by the response of ALI, rounded."""
    rasterio = __import__("pytest").importorskip("rasterio")
    folder = shared / "data" / "pansharpening"
    with rasterio.open(folder / "sf_hyperion_vnir_298x136x47.tif") as file:
        truth = file.read()[:, rows, :132].astype(np.float64)
    centres = 355.59 + 10.1752 * (np.arange(11, 58) - 1)
    with np.load(folder / "eo1_srf.npz") as srf:
        response = np.interp(centres, srf["ali_wl"].astype(float), srf["ali_srf"][-1].astype(float))
    pan = np.round(np.tensordot(response / response.sum(), truth, axes=1))
    coarse = np.round(degrade(truth, optics.ratio, 0.3, optics.phase, normalize=optics.normalize_kernel))
    return Scene.of("san-francisco", coarse, pan, optics, wavelengths=centres, truth=truth)


def texture(seed: int, shape: tuple[int, int], slope: float = 2.5) -> np.ndarray:
    """A Gaussian field of unit variance whose power falls with frequency to the ``slope``."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * frequency ** (-slope / 2)).real
    return (field - field.mean()) / field.std()


def textured(
    coarse: tuple[int, int], ratio: int, bands: int = 5, phase: str = "centre", seed: int = 0
) -> Scene:
    """A noise-free scene between 1,000 and 9,000 of three mixed textures, and its truth."""
    shape = (coarse[0] * ratio, coarse[1] * ratio)
    fields = np.stack([texture(seed + number, shape) for number in range(3)])
    mixing = np.random.default_rng(seed).uniform(0.2, 1, size=(bands, 3))
    truth = 5000 + 600 * np.tensordot(mixing, fields, axes=1)
    optics = Optics(ratio, phase=phase)
    pan = truth.mean(axis=0)
    return Scene.of("textured", optics.degrade_hs(truth), pan, optics, truth=truth)


def ergas(product: np.ndarray, truth: np.ndarray, ratio: int) -> float:
    """Relative error over all bands, in per cent of a coarse pixel."""
    error = ((product - truth) ** 2).mean(axis=(1, 2)) / truth.mean(axis=(1, 2)) ** 2
    return float(100 / ratio * np.sqrt(error.mean()))


def sam(product: np.ndarray, truth: np.ndarray) -> float:
    """Mean spectral angle in degrees."""
    norms = np.sqrt((product**2).sum(axis=0) * (truth**2).sum(axis=0))
    cosine = (product * truth).sum(axis=0) / norms
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def cut_scores(product: np.ndarray, truth: np.ndarray, ratio: int) -> tuple[float, float]:
    """ERGAS and SAM of the benchmark: clipped to [0, 65536], ten or eleven pixels off each edge."""
    inner = np.s_[:, 10:-11, 10:-11]
    clipped = np.clip(product.astype(np.float64), 0, 65536)[inner]
    return ergas(clipped, truth[inner], ratio), sam(clipped, truth[inner])

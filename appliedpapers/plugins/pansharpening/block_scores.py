"""What is known of a product beside the truth: sums over blocks, from which every metric follows.

Sums add up over any choice of blocks, so that metrics are known over all of them, by spectral range, and over
bootstrap resamples, without the cubes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.pansharpening.fidelity import psnr_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Measure = Callable[[Floats], float]

RANGES: Mapping[str, tuple[float, float]] = {
    "< 700 nm": (0.0, 700.0),
    ">= 700 nm": (700.0, np.inf),
    "> 1000 nm": (1000.0 + 1e-9, np.inf),
}


@dataclass(frozen=True)
class Reduced:
    """A product beside the truth, as sums over blocks. L living bands, K blocks with a pixel that counts.

    Attributes:
        ratio: Fine pixels per coarse pixel.
        dead: Bands that are not judged, shape ``(B,)``.
        wavelengths: Band centres in nm, shape ``(B,)``, or None.
        places: Row and column of each block in the grid of blocks, shape ``(K, 2)``.
        counts: Pixels that count, shape ``(K,)``.
        shifts: Mean of each band of the truth: what the sums below are taken about, shape ``(L,)``.
        peaks: Largest value of each band of the truth, shape ``(L,)``.
        squared: Sums of squared errors, shape ``(L, K)``.
        moments: Sums of t, f, t t, f f, t f of truth t and product f less ``shifts``, shape ``(5, L, K)``.
        angles: Sums of spectral angles in degrees, shape ``(K,)``.
        angle_counts: Pixels whose two spectra are not zero, shape ``(K,)``.
        q2n: Q2n of each block, shape ``(K,)``; NaN where less than half of it counts.
        ssim: Sums of structural similarity, shape ``(L, K)``.
        ssim_counts: Pixels that it is known at, shape ``(K,)``.
    """

    ratio: int
    dead: Mask
    wavelengths: Floats | None
    places: NDArray[np.intp]
    counts: Floats
    shifts: Floats
    peaks: Floats
    squared: Floats
    moments: Floats
    angles: Floats
    angle_counts: Floats
    q2n: Floats
    ssim: Floats
    ssim_counts: Floats

    @property
    def blocks(self) -> int:
        """How many blocks there are, K."""
        return self.counts.size

    def within(self, low: float, high: float) -> Mask | None:
        """Return which living bands have their centre from ``low`` to below ``high`` nm, shape ``(L,)``.

        None where wavelengths are not known or no band lies there.
        """
        if self.wavelengths is None:
            return None
        centres = self.wavelengths[~self.dead]
        chosen = (centres >= low) & (centres < high)
        return chosen if chosen.any() else None

    def measure(self, name: str, bands: Mask | None = None) -> Measure:
        """Return a metric as a function of how often each block counts, shape ``(K,)``.

        Args:
            name: ``ergas``, ``sam``, ``q2n``, ``cc``, ``psnr`` or ``ssim``.
            bands: Which living bands are judged, shape ``(L,)``; None for all. SAM and Q2n judge all.
        """
        return _MEASURES[name](self, np.ones(len(self.shifts), dtype=bool) if bands is None else bands)

    def value(self, name: str, bands: Mask | None = None) -> float:
        """Return a metric over all blocks; see :meth:`measure`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.measure(name, bands)(np.ones(self.blocks))

    def values(self) -> dict[str, float]:
        """Return all metrics by name."""
        return {name: self.value(name) for name in _MEASURES}

    def banded(self) -> dict[str, dict[str, float]]:
        """Return the metrics that single bands have, by spectral range; ranges without bands are left out."""
        found = {}
        for name, (low, high) in RANGES.items():
            bands = self.within(low, high)
            if bands is not None:
                found[name] = {key: self.value(key, bands) for key in BANDED}
        return found

    def band_rmse(self) -> Floats:
        """Return the RMSE of each band relative to its mean, shape ``(B,)``; NaN for dead bands."""
        pixels = self.counts.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._spread(np.sqrt(self.squared.sum(axis=1) / pixels) / np.abs(self.shifts))

    def band_cc(self) -> Floats:
        """Return the correlation of each band, shape ``(B,)``; NaN for dead bands."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._spread(_correlations(self.moments.sum(axis=2) / self.counts.sum()))

    def _spread(self, values: Floats) -> Floats:
        whole = np.full(self.dead.shape, np.nan)
        whole[~self.dead] = values
        return whole


def _ergas(sums: Reduced, bands: Mask) -> Measure:
    table = np.concatenate([sums.squared[bands], sums.moments[0][bands], sums.counts[None]])
    shifts, scale = sums.shifts[bands], 100 / sums.ratio
    living = shifts.size

    def measure(weights: Floats) -> float:
        total = table @ weights
        means = shifts + total[living:-1] / total[-1]
        return float(scale * np.sqrt((total[:living] / total[-1] / means**2).sum() / living))

    return measure


def _psnr(sums: Reduced, bands: Mask) -> Measure:
    table, peaks = np.concatenate([sums.squared[bands], sums.counts[None]]), sums.peaks[bands]

    def measure(weights: Floats) -> float:
        total = table @ weights
        return _mean_known(psnr_of(total[:-1] / total[-1], peaks))

    return measure


def _cc(sums: Reduced, bands: Mask) -> Measure:
    moments = sums.moments[:, bands]
    table = np.concatenate([moments.reshape(-1, sums.blocks), sums.counts[None]])

    def measure(weights: Floats) -> float:
        total = table @ weights
        return _mean_known(_correlations((total[:-1] / total[-1]).reshape(5, -1)))

    return measure


def _correlations(means: Floats) -> Floats:
    t, f, tt, ff, tf = means
    # a band that a resample leaves without variance has none: 0 / 0
    return np.asarray((tf - t * f) / np.sqrt((tt - t * t) * (ff - f * f)), dtype=np.float64)


def _sam(sums: Reduced, bands: Mask) -> Measure:
    return _ratio(sums.angles, sums.angle_counts)


def _q2n(sums: Reduced, bands: Mask) -> Measure:
    known = np.isfinite(sums.q2n)
    return _ratio(np.where(known, sums.q2n, 0.0), known.astype(np.float64))


def _ssim(sums: Reduced, bands: Mask) -> Measure:
    return _ratio(sums.ssim[bands].mean(axis=0), sums.ssim_counts)


def _ratio(above: Floats, below: Floats) -> Measure:
    table = np.stack([above, below])

    def measure(weights: Floats) -> float:
        first, second = table @ weights
        return float(first / second)

    return measure


def _mean_known(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.sum()) / known.size if known.size else float("nan")


_MEASURES: Mapping[str, Callable[[Reduced, Mask], Measure]] = {
    "ergas": _ergas,
    "sam": _sam,
    "q2n": _q2n,
    "cc": _cc,
    "psnr": _psnr,
    "ssim": _ssim,
}
METRICS = tuple(_MEASURES)
BANDED = ("ergas", "cc", "psnr")

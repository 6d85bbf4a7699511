"""What is known of a product beside the truth: sums over blocks, from which every metric follows.

Sums add up over any choice of blocks, so that metrics are known over all of them, by spectral range, and over
bootstrap resamples, without the cubes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.pansharpening.fidelity import ergas_of, psnr_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

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

    def band_mse(self, weights: Floats | None = None) -> Floats:
        """Return each living band's mean squared error, blocks counting ``weights`` times, shape ``(L,)``."""
        return self._mean(self.squared, weights)

    def band_means(self, weights: Floats | None = None) -> Floats:
        """Return each living band's mean of the truth, shape ``(L,)``."""
        return self.shifts + self._mean(self.moments[0], weights)

    def band_rmse(self) -> Floats:
        """Return the relative RMSE of each band, of its mean, shape ``(B,)``; NaN for dead bands."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._spread(np.sqrt(self.band_mse()) / np.abs(self.band_means()))

    def band_cc(self) -> Floats:
        """Return the correlation of each band, shape ``(B,)``; NaN for dead bands."""
        return self._spread(self._correlations(None))

    def ergas(self, weights: Floats | None = None, bands: Mask | None = None) -> float:
        """Return ERGAS.

        Args:
            weights: How often each block counts, shape ``(K,)``; None for once.
            bands: Which living bands are judged, shape ``(L,)``; None for all.
        """
        chosen = slice(None) if bands is None else bands
        return ergas_of(self.band_mse(weights)[chosen], self.band_means(weights)[chosen], self.ratio)

    def sam(self, weights: Floats | None = None) -> float:
        """Return the mean spectral angle in degrees over all bands."""
        return _ratio(self.angles, self.angle_counts, weights)

    def q2n_index(self, weights: Floats | None = None) -> float:
        """Return the mean of Q2n over blocks that have it."""
        known = np.isfinite(self.q2n)
        return _ratio(np.where(known, self.q2n, 0.0), known.astype(np.float64), weights)

    def cc(self, weights: Floats | None = None, bands: Mask | None = None) -> float:
        """Return the mean correlation over bands; see :meth:`ergas`."""
        return _mean_known(self._correlations(weights)[slice(None) if bands is None else bands])

    def psnr(self, weights: Floats | None = None, bands: Mask | None = None) -> float:
        """Return the mean peak signal-to-noise ratio over bands in dB; see :meth:`ergas`."""
        chosen = slice(None) if bands is None else bands
        return _mean_known(psnr_of(self.band_mse(weights), self.peaks)[chosen])

    def ssim_index(self, weights: Floats | None = None, bands: Mask | None = None) -> float:
        """Return the mean structural similarity over bands; see :meth:`ergas`."""
        chosen = self.ssim if bands is None else self.ssim[bands]
        return _ratio(chosen.mean(axis=0), self.ssim_counts, weights)

    def values(self) -> dict[str, float]:
        """Return all metrics by name."""
        return {
            "ergas": self.ergas(),
            "sam": self.sam(),
            "q2n": self.q2n_index(),
            "cc": self.cc(),
            "psnr": self.psnr(),
            "ssim": self.ssim_index(),
        }

    def banded(self) -> dict[str, dict[str, float]]:
        """Return the metrics that single bands have, by spectral range; ranges without bands are left out."""
        found = {}
        for name, (low, high) in RANGES.items():
            bands = self.within(low, high)
            if bands is not None:
                found[name] = {
                    "ergas": self.ergas(None, bands),
                    "cc": self.cc(None, bands),
                    "psnr": self.psnr(None, bands),
                    "ssim": self.ssim_index(None, bands),
                }
        return found

    def _mean(self, sums: Floats, weights: Floats | None) -> Floats:
        share = np.ones(self.blocks) if weights is None else weights
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sums @ share / (self.counts @ share), dtype=np.float64)

    def _correlations(self, weights: Floats | None) -> Floats:
        t, f, tt, ff, tf = (self._mean(one, weights) for one in self.moments)
        spread = np.sqrt(np.maximum(tt - t * t, 0) * np.maximum(ff - f * f, 0))
        found = np.full(t.shape, np.nan)
        np.divide(tf - t * f, spread, out=found, where=spread > 0)
        return found

    def _spread(self, values: Floats) -> Floats:
        whole = np.full(self.dead.shape, np.nan)
        whole[~self.dead] = values
        return whole


def _ratio(sums: Floats, counts: Floats, weights: Floats | None) -> float:
    share = np.ones(counts.size) if weights is None else weights
    total = float(counts @ share)
    return float(sums @ share) / total if total > 0 else float("nan")


def _mean_known(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")

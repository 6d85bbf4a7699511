"""Bringing a product back to what the sensor saw, by iterative back-projection (Irani and Peleg 1991)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from appliedpapers.plugins.pansharpening.degradation import decimate, low_pass, low_pass_kernel
from appliedpapers.plugins.pansharpening.scene import Scene


def back_projected(plane: NDArray[np.float32], scene: Scene, band: int, steps: int) -> NDArray[np.float32]:
    """Return a fine band whose view through the sensor is nearer to the coarse band.

    Each step adds the interpolated difference between what the sensor saw and what it would see of the
    product. Spatial detail above the coarse grid's Nyquist frequency stays; the spectrum of each coarse pixel
    is restored, and what the low-pass took from frequencies below is given back. Differences where nothing
    was observed count as none.

    Args:
        plane: Shape ``(R h, R w)``, physical units.
        scene: The pair.
        band: Index in file order.
        steps: How many; each of the first two leaves less than half of the difference, the following ones
            about 60 %: what lies near the Nyquist frequency comes back slowly.
    """
    optics = scene.optics
    gain = float(optics.sensor.gains(scene.bands)[band])
    kernel = low_pass_kernel(gain, optics.ratio, optics.phase, normalize=optics.normalize_kernel)
    seen = scene.hs_valid if scene.band_valid is None else scene.band_valid[band]
    coarse, product = np.asarray(scene.hs[band], dtype=np.float64), plane.astype(np.float64)
    for _ in range(steps):
        missed = np.where(seen, coarse - decimate(low_pass(product, kernel), optics.ratio), 0.0)
        product += scene.interpolator(missed)
    return product.astype(np.float32)

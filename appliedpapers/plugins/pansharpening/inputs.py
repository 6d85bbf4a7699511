"""What the networks see of a scene: normalised bands on the fine grid, whole or in patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.plugins.pansharpening.losses import (
    LocalCorrelation,
    SpectralLoss,
    StructuralLoss,
    struct_reach,
    structural_threshold,
)
from appliedpapers.plugins.pansharpening.moments import coarse_valid
from appliedpapers.plugins.pansharpening.operators import Observation
from appliedpapers.plugins.pansharpening.scene import Mask, Scene

_FIXED16 = 65_536.0
_TYPICAL = 0.5
_PERCENTILE = 99.9
_PAN_RESPONSE = (480.0, 690.0)
_COMPONENTS = 3
_SAMPLED = 2_000_000
_ROUNDING = 1e-9


def propagation_order(scene: Scene) -> list[int]:
    """Return the living bands by wavelength; in file order where wavelengths are not known.

    Whatever is summed over bands is summed in this order, so that a file with its bands in another order
    gives the same product to the last bit.
    """
    if scene.wavelengths is None:
        return [int(band) for band in scene.living]
    centres = scene.wavelengths[scene.living]
    return [int(scene.living[place]) for place in np.argsort(centres, kind="stable")]


@dataclass(frozen=True)
class Normalisation:
    """One factor for all bands, and a line that brings the panchromatic band to their level.

    Attributes:
        scale: Factor from physical to normalised units.
        pan_gain: Factor on the panchromatic band, in physical units.
        pan_offset: What is added to it, in physical units.
    """

    scale: float
    pan_gain: float = 1.0
    pan_offset: float = 0.0

    @classmethod
    def fixed16(cls, scene: Scene) -> Normalisation:
        """Return the division of stored 16-bit numbers by 65,536."""
        return cls(1.0 / (_FIXED16 * scene.unit))

    @classmethod
    def of(cls, scene: Scene) -> Normalisation:
        """Return the scene's own: its 99.9th percentile becomes 0.5, whatever its units are.

        The panchromatic band takes the mean and the deviation that the bands inside its response have on
        the coarse grid.
        """
        gain, offset = _pan_match(scene)
        seen = [scene.hs[band][scene.hs_valid] for band in scene.living]
        pan = np.asarray(scene.pan)[scene.pan_valid] * gain + offset
        values = np.concatenate([*(part[:: _step(seen)] for part in seen), pan[:: _step([pan])]])
        high = float(np.percentile(np.abs(values), _PERCENTILE))
        return cls(_TYPICAL / high if high > 0 else 1.0, gain, offset)


def _step(parts: Sequence[NDArray[np.floating]]) -> int:
    return max(sum(part.size for part in parts) // _SAMPLED, 1)


def _pan_match(scene: Scene) -> tuple[float, float]:
    inside = np.array(propagation_order(scene))
    if scene.wavelengths is not None:
        centres = scene.wavelengths[inside]
        chosen = inside[(centres >= _PAN_RESPONSE[0]) & (centres <= _PAN_RESPONSE[1])]
        inside = chosen if chosen.size else inside
    both = coarse_valid(scene)
    seen = both if both.any() else scene.hs_valid
    intensity = np.mean([scene.hs[band][seen] for band in inside], axis=0, dtype=np.float64)
    pan = scene.optics.degrade_pan(scene.pan)[seen]
    spread = pan.std()
    # of a band that never varies, the low-pass leaves rounding errors
    varies = spread > _ROUNDING * np.abs(pan).max()
    gain = float(intensity.std() / spread) if varies else 1.0
    return gain, float(intensity.mean() - gain * pan.mean())


@dataclass(frozen=True)
class BandPatches:
    """One band in every patch, with its losses.

    Attributes:
        interpolated: Shape ``(P, 1, H, W)``, normalised.
        base: What a network adds to; None for ``interpolated``.
        spectral: The spectral loss.
        structural: The structural loss.
    """

    interpolated: Tensor
    base: Tensor | None
    spectral: SpectralLoss
    structural: StructuralLoss


class FineBands(Protocol):
    """Supplies windows of single fine bands in physical units."""

    def band(self, band: int, window: Window) -> NDArray[np.float32]:
        """Return one window of one band, shape ``(H, W)``."""


class NetworkInputs:
    """A scene as the networks see it.

    Args:
        scene: The pair.
        normalisation: Factors.
        thresholded: R-PNN's structural loss (clipped, with a threshold) in place of rho-PNN's.
        base: Fine cube ``(B, R h, R w)`` in physical units that the networks add to; None for EXP.
        device: Of the tensors.
        floor: Smallest sum of squares in correlations.
    """

    def __init__(
        self,
        scene: Scene,
        normalisation: Normalisation,
        *,
        thresholded: bool,
        base: FineBands | None = None,
        device: str = "cpu",
        floor: float = 1e-10,
    ) -> None:
        self.scene, self.normalisation, self.device = scene, normalisation, device
        self._thresholded, self._base, self._floor = thresholded, base, floor
        self._gains = scene.optics.sensor.gains(scene.bands)
        self._pans: dict[tuple[Window, ...], tuple[Tensor, LocalCorrelation, Tensor | None]] = {}
        self._observations: dict[tuple[tuple[int, int], float], Observation] = {}

    def pan(self, window: Window) -> Tensor:
        """Return a window of the normalised panchromatic band, shape ``(1, 1, H, W)``."""
        made = self.normalisation
        values = np.asarray(self.scene.pan[window.slices], dtype=np.float32) * np.float32(made.pan_gain)
        return self._tensor((values + np.float32(made.pan_offset)) * np.float32(made.scale))

    def interpolated(self, band: int, window: Window) -> Tensor:
        """Return a window of a normalised band on the fine grid, shape ``(1, 1, H, W)``."""
        values = self.scene.interpolator.window(self.scene.hs[band], window)
        return self._tensor(values * np.float32(self.normalisation.scale))

    def base(self, band: int, window: Window) -> Tensor | None:
        """Return a window of what the networks add to, normalised; None for the interpolated band."""
        if self._base is None:
            return None
        return self._tensor(self._base.band(band, window) * np.float32(self.normalisation.scale))

    def pans(self, windows: Sequence[Window]) -> Tensor:
        """Return the panchromatic band in equally large fine windows, shape ``(P, 1, H, W)``."""
        return self._structure(tuple(windows))[0]

    def patches(self, band: int, coarse: Sequence[Window]) -> BandPatches:
        """Return a band and its losses in equally large windows of the coarse grid."""
        ratio = self.scene.optics.ratio
        fine = tuple(Window(*(edge * ratio for edge in window)) for window in coarse)
        interpolated = torch.cat([self.interpolated(band, window) for window in fine])
        bases = [self.base(band, window) for window in fine]
        pan, correlate, seen = self._structure(fine)
        gain = float(self._gains[band])
        threshold = (
            structural_threshold(interpolated, pan, self.scene.optics, gain, floor=self._floor)
            if self._thresholded
            else None
        )
        return BandPatches(
            interpolated,
            None if bases[0] is None else torch.cat([part for part in bases if part is not None]),
            self._spectral(band, coarse, gain),
            StructuralLoss(correlate, threshold, seen),
        )

    def _structure(self, windows: tuple[Window, ...]) -> tuple[Tensor, LocalCorrelation, Tensor | None]:
        if windows not in self._pans:
            pan = torch.cat([self.pan(window) for window in windows])
            reach = struct_reach(self.scene.optics.ratio)
            correlate = LocalCorrelation(pan, reach, clip=self._thresholded, floor=self._floor)
            # each pixel in a window has the mean of a window of its own taken off
            footprint = eroded(self.scene.footprint, 2 * reach)
            shares = _shares(np.stack([footprint[window.slices] for window in windows]))
            # the pans of one set of windows at a time: first training draws many sets
            self._pans = {windows: (pan, correlate, None if shares is None else self._tensor(shares, 1))}
        return self._pans[windows]

    def _spectral(self, band: int, coarse: Sequence[Window], gain: float) -> SpectralLoss:
        ratio = self.scene.optics.ratio
        height, width = coarse[0].shape
        key = ((height * ratio, width * ratio), gain)
        if key not in self._observations:
            self._observations[key] = Observation(key[0], self.scene.optics, gain, device=self.device)
        observe = self._observations[key]
        inner = (observe.rows, observe.columns)
        seen = np.stack([self.scene.hs[band][window.slices][inner] for window in coarse])
        # an invalid coarse pixel has spread by interpolation into what its neighbours are compared with
        valid = eroded(self.scene.hs_valid, 1)
        shares = _shares(np.stack([valid[window.slices][inner] for window in coarse]))
        return SpectralLoss(
            observe,
            self._tensor(seen * np.float32(self.normalisation.scale), 1),
            None if shares is None else self._tensor(shares, 1),
        )

    def _tensor(self, values: NDArray[np.floating], axis: int = 0) -> Tensor:
        shaped = values[:, None] if axis else values[None, None]
        return torch.as_tensor(np.ascontiguousarray(shaped, dtype=np.float32), device=self.device)


def eroded(valid: Mask, reach: int) -> Mask:
    """Return the pixels whose neighbours up to ``reach`` away are valid, too; beyond the edge all are."""
    from scipy.ndimage import binary_erosion

    if valid.all():
        return valid
    square = np.ones((2 * reach + 1,) * 2, dtype=bool)
    return np.asarray(binary_erosion(valid, square, border_value=1), dtype=bool)


def _shares(valid: Mask) -> NDArray[np.float32] | None:
    if valid.all():
        return None
    total = int(valid.sum())
    return (valid / max(total, 1)).astype(np.float32)


def adaptation_windows(scene: Scene, side: int, count: int, seed: int) -> list[Window]:
    """Return the coarse windows that stand for the scene while a network adapts (rho-PNN, step 1).

    The scene is cut into tiles. Each is described by mean and deviation of the first three principal
    components and of the panchromatic gradient; k-means finds ``count`` groups of them, and the tile nearest
    each centre is taken. Public code describes tiles by a downloaded ImageNet network instead.

    Args:
        scene: The pair.
        side: Side of a tile in coarse pixels.
        count: How many.
        seed: Of k-means.

    Returns:
        Equally large windows; the whole scene where it is no larger than ``count`` tiles, or has no tile that
        is mostly valid.
    """
    height, width = scene.coarse_shape
    whole = [Window(0, 0, height, width)]
    if height * width <= count * side * side:
        return whole
    # a strip narrower than a tile is cut into tiles of its own width
    side = min(side, height, width)
    found = [
        window
        for window in tiles(scene.coarse_shape, side)
        if window.shape == (side, side) and scene.hs_valid[window.slices].mean() > 0.5
    ]
    if len(found) <= count:
        return found or whole
    return [found[place] for place in _representatives(_descriptions(scene, found), count, seed)]


def _descriptions(scene: Scene, windows: Sequence[Window]) -> NDArray[np.float64]:
    ratio = scene.optics.ratio
    valid = np.flatnonzero(scene.hs_valid.ravel())
    sample = valid[:: max(valid.size // 20_000, 1)]
    bands = propagation_order(scene)
    spectra = np.stack([np.asarray(scene.hs[band]).ravel()[sample] for band in bands], axis=1).astype(float)
    middle = spectra.mean(axis=0)
    axes = np.linalg.svd(spectra - middle, full_matrices=False)[2][:_COMPONENTS]
    rows = []
    for window in windows:
        cube = np.asarray(scene.hs[:, *window.slices])[bands].reshape(len(bands), -1).T - middle
        parts = (cube @ axes.T).T
        fine = Window(*(edge * ratio for edge in window))
        slope = np.hypot(*np.gradient(np.asarray(scene.pan[fine.slices], dtype=float)))
        rows.append([value for part in (*parts, slope) for value in (part.mean(), part.std())])
    table = np.array(rows)
    spread = table.std(axis=0)
    return np.asarray((table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _representatives(table: NDArray[np.float64], count: int, seed: int) -> list[int]:
    from scipy.cluster.vq import kmeans2

    axes = np.linalg.svd(table, full_matrices=False)[2][:_COMPONENTS]
    points = table @ axes.T
    centres, _ = kmeans2(points, count, minit="++", rng=np.random.default_rng(seed))
    chosen: list[int] = []
    for centre in centres:
        far = np.linalg.norm(points - centre, axis=1)
        far[chosen] = np.inf
        chosen.append(int(far.argmin()))
    return sorted(chosen)

"""What every method works on: one hyperspectral cube and its panchromatic band, filled and masked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.degradation import Phase, degrade
from appliedpapers.plugins.pansharpening.interpolation import Boundary, Interpolator

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sensor:
    """Modulation transfer of the instrument at the Nyquist frequency of the coarse grid.

    Attributes:
        hs_gain: Of the hyperspectral bands: one number, or one a band in file order.
        pan_gain: Of the panchromatic band.
    """

    hs_gain: float | tuple[float, ...] = 0.30
    pan_gain: float = 0.15

    def gains(self, bands: int) -> NDArray[np.float64]:
        """Return the gain of each band, shape ``(bands,)``."""
        return np.broadcast_to(np.asarray(self.hs_gain, dtype=np.float64), (bands,)).copy()


@dataclass(frozen=True)
class Optics:
    """How coarse samples and the fine grid relate, as methods, losses and metrics must agree on.

    Attributes:
        ratio: Fine pixels per coarse pixel, 2 to 8.
        phase: Where coarse samples lie on the fine grid.
        sensor: Gains of the instrument.
        boundary: Edges of the interpolator.
        normalize_kernel: Whether the weights of a low-pass sum to 1.
    """

    ratio: int
    phase: Phase = "centre"
    sensor: Sensor = Sensor()
    boundary: Boundary = "symmetric"
    normalize_kernel: bool = True

    def interpolator(self, coarse_shape: tuple[int, int]) -> Interpolator:
        """Return EXP for a coarse image of this height and width."""
        return Interpolator(coarse_shape, self.ratio, self.phase, self.boundary)

    def degrade_hs(self, cube: Floats) -> NDArray[np.float64]:
        """Return a fine cube ``(B, H, W)`` as the hyperspectral sensor sees it, ``(B, H / R, W / R)``."""
        gains = self.sensor.gains(cube.shape[0])
        return degrade(cube, self.ratio, gains, self.phase, normalize=self.normalize_kernel)

    def degrade_pan(self, pan: Floats, gain: float | None = None) -> NDArray[np.float64]:
        """Return a fine band ``(H, W)`` on the coarse grid by the panchromatic gain, or by ``gain``."""
        gain = self.sensor.pan_gain if gain is None else gain
        return degrade(pan, self.ratio, gain, self.phase, normalize=self.normalize_kernel)


@dataclass(frozen=True)
class Scene:
    """A pair on nested grids. Arrays may be memory-mapped; they are only read.

    Attributes:
        scene_id: Its name.
        hs: Coarse cube, shape ``(B, h, w)``, float32, in the file's physical units and band order; finite:
            invalid pixels hold the nearest valid value of their band, dead bands their constant or 0.
        pan: Fine band, shape ``(R h, R w)``, float32, filled in the same way.
        optics: Grids and sensor.
        hs_valid: Which coarse pixels every living band observed, shape ``(h, w)``.
        pan_valid: Which fine pixels the panchromatic band observed, shape ``(R h, R w)``.
        band_valid: Per band where bands differ, shape ``(B, h, w)``; None where they all equal ``hs_valid``.
        dead: Bands that are constant or never observed, shape ``(B,)``: they pass through, and enter neither
            statistics nor propagation nor metrics.
        wavelengths: Band centres in nm, shape ``(B,)``; None where they are not known.
        unit: Physical unit of one stored step, for metrics that round: values are whole numbers of it.
        truth: The fine cube where it is known, shape ``(B, R h, R w)``.
        notes: What a report should say about the pair.
    """

    scene_id: str
    hs: Floats
    pan: Floats
    optics: Optics
    hs_valid: Mask
    pan_valid: Mask
    dead: Mask
    band_valid: Mask | None = None
    wavelengths: NDArray[np.float64] | None = None
    unit: float = 1.0
    truth: Floats | None = None
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls,
        scene_id: str,
        hs: Floats,
        pan: Floats,
        optics: Optics,
        *,
        wavelengths: NDArray[np.float64] | None = None,
        truth: Floats | None = None,
        unit: float = 1.0,
    ) -> Scene:
        """Return a scene of arrays in memory in which NaN marks what was not observed.

        Args:
            scene_id: Its name.
            hs: Shape ``(B, h, w)``.
            pan: Shape ``(R h, R w)``.
            optics: Grids and sensor.
            wavelengths: Band centres in nm, shape ``(B,)``.
            truth: Shape ``(B, R h, R w)``.
            unit: Physical unit of one stored step.
        """
        seen = np.isfinite(hs)
        dead = np.array([is_dead(band, mask) for band, mask in zip(hs, seen, strict=True)])
        alive = seen[~dead] if not dead.all() else seen
        common = np.asarray(alive.all(axis=0))
        same = bool((seen == common).all())
        return cls(
            scene_id=scene_id,
            hs=np.stack([fill_nearest(band, mask) for band, mask in zip(hs, seen, strict=True)]),
            pan=fill_nearest(pan, np.isfinite(pan)),
            optics=optics,
            hs_valid=common,
            pan_valid=np.isfinite(pan),
            dead=dead,
            band_valid=None if same else seen,
            wavelengths=wavelengths,
            unit=unit,
            truth=truth,
        )

    @property
    def bands(self) -> int:
        """Number of bands, dead ones included."""
        return int(self.hs.shape[0])

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """Height and width of the hyperspectral grid."""
        return self.hs.shape[1], self.hs.shape[2]

    @property
    def fine_shape(self) -> tuple[int, int]:
        """Height and width of the panchromatic grid."""
        return self.pan.shape[0], self.pan.shape[1]

    @cached_property
    def living(self) -> NDArray[np.intp]:
        """Indices of the bands that are not dead, in file order."""
        return np.flatnonzero(~self.dead)

    @cached_property
    def floors(self) -> NDArray[np.float32]:
        """Least value that a product may hold in each band, shape ``(B,)``.

        That is 0, since detail cannot take more light away than there is, or the least value that was
        observed where corrections have made values negative.
        """
        return np.array([min(0.0, float(np.min(band))) for band in self.hs], dtype=np.float32)

    @cached_property
    def interpolator(self) -> Interpolator:
        """EXP for this scene."""
        return self.optics.interpolator(self.coarse_shape)

    @property
    def footprint(self) -> Mask:
        """Which fine pixels the product may hold: inside the hyperspectral footprint and the band's."""
        ratio = self.optics.ratio
        return np.repeat(np.repeat(self.hs_valid, ratio, axis=0), ratio, axis=1) & self.pan_valid

    def footprint_of(self, band: int) -> Mask:
        """Return :attr:`footprint` of one band, which may be smaller or larger than the common one."""
        if self.band_valid is None:
            return self.footprint
        ratio = self.optics.ratio
        own = self.band_valid[band]
        return np.repeat(np.repeat(own, ratio, axis=0), ratio, axis=1) & self.pan_valid

    def cropped(self, window: Window) -> Scene:
        """Return a window of the coarse grid, and what belongs to it, as a scene of its own."""
        ratio = self.optics.ratio
        fine = Window(*(edge * ratio for edge in window))
        return replace(
            self,
            hs=self.hs[:, *window.slices],
            pan=self.pan[fine.slices],
            hs_valid=self.hs_valid[window.slices],
            pan_valid=self.pan_valid[fine.slices],
            band_valid=None if self.band_valid is None else self.band_valid[:, *window.slices],
            truth=None if self.truth is None else self.truth[:, *fine.slices],
        )


def is_dead(band: Floats, seen: Mask) -> bool:
    """Return whether a band never varies where it was observed, or was never observed."""
    values = band[seen]
    return not values.size or bool(values.min() == values.max())


def fill_nearest(image: Floats, seen: Mask) -> NDArray[np.float32]:
    """Return a float32 image in which what was not observed holds the nearest value that was; else 0.

    Args:
        image: Shape ``(h, w)``.
        seen: Which pixels were observed.
    """
    from scipy.ndimage import distance_transform_edt

    values = np.asarray(image, dtype=np.float32)
    if seen.all():
        return values.copy()
    if not seen.any():
        return np.zeros_like(values)
    nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
    filled: NDArray[np.float32] = values[tuple(nearest)]
    return filled

"""The one place where a product is judged: beside the truth, or at full resolution on its own pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening import full_resolution
from appliedpapers.plugins.pansharpening.block_scores import Reduced
from appliedpapers.plugins.pansharpening.degradation import TAPS, decimate
from appliedpapers.plugins.pansharpening.fidelity import angles, cut, ergas, ssim_inner, ssim_map
from appliedpapers.plugins.pansharpening.q2n import BLOCK, q2n_map
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, fill_nearest, is_dead

Cube = NDArray[Any]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FEWEST_COARSE = 8
_FEWEST_STEPS = 100
_FEWEST_CUT = 96


@dataclass(frozen=True)
class Full:
    """A product judged at full resolution, on the pair that it was made of; NaN where nothing can be judged.

    Attributes:
        d_lambda: Spectral distortion; 0 at best.
        d_sr: Spatial distortion by regression; 0 at best.
        qnr: ``(1 - d_lambda)(1 - d_sr)``; 1 at best.
        d_s: Spatial distortion by the universal index; 0 at best.
        d_rho: Spatial distortion by local correlation; 0 at best.
        lr_ergas: ERGAS of the product as the sensor would see it beside what it saw; 0 at best.
        rho: Mean local correlation with PAN of each band, shape ``(B,)``; NaN for dead bands.
    """

    d_lambda: float
    d_sr: float
    qnr: float
    d_s: float
    d_rho: float
    lr_ergas: float
    rho: Floats

    def values(self) -> dict[str, float]:
        """Return all metrics by name."""
        names = ("d_lambda", "d_sr", "qnr", "d_s", "d_rho", "lr_ergas")
        return {name: float(getattr(self, name)) for name in names}


def reduced(
    truth: Cube,
    fused: Cube,
    *,
    ratio: int,
    mask: Mask | None = None,
    dead: Mask | None = None,
    wavelengths: Floats | None = None,
    unit: float = 1.0,
) -> Reduced:
    """Judge a product beside the truth.

    Args:
        truth: Shape ``(B, H, W)``.
        fused: The same shape and unit.
        ratio: Fine pixels per coarse pixel.
        mask: Pixels that count, shape ``(H, W)``; both cubes are finite there. None for all.
        dead: Bands that are left out, shape ``(B,)``; None for none.
        wavelengths: Band centres in nm, shape ``(B,)``.
        unit: What Q2n rounds to: the physical unit of one stored step.

    Raises:
        DataError: No pixel or no band counts.
    """
    if truth.shape != fused.shape:
        raise ValueError(f"the cubes have shapes {truth.shape} and {fused.shape}")
    seen = np.ones(truth.shape[1:], dtype=bool) if mask is None else mask
    gone = np.zeros(len(truth), dtype=bool) if dead is None else dead
    if not seen.any() or gone.all():
        raise DataError(
            "nothing to judge: no pixel was observed by all bands",
            hint="Expected at least one living band and one valid pixel; look at the nodata value.",
        )
    inner = ssim_inner(seen.shape, seen)
    counts = _block_sums(seen.astype(np.float64))
    kept = counts > 0
    squared, moments, similar, shifts, peaks = [], [], [], [], []
    for band in np.flatnonzero(~gone):
        t, f = (_masked(cube[band], seen) for cube in (truth, fused))
        observed = t[seen]
        shift, peak = float(observed.mean()), float(observed.max())
        ssim = ssim_map(t, f, peak - float(observed.min()))
        squared.append(_block_sums(np.where(seen, (f - t) ** 2, 0.0))[kept])
        t, f = np.where(seen, t - shift, 0.0), np.where(seen, f - shift, 0.0)
        moments.append([_block_sums(one)[kept] for one in (t, f, t * t, f * f, t * f)])
        similar.append(_block_sums(np.where(inner, ssim, 0.0))[kept])
        shifts.append(shift)
        peaks.append(peak)
    turned = angles(truth[~gone], fused[~gone])
    known = np.isfinite(turned) & seen
    living = ~gone
    blocks = q2n_map(
        truth[living],
        fused[living],
        unit=_rounding(np.array(shifts), unit),
        mask=None if mask is None else seen,
    )
    return Reduced(
        ratio=ratio,
        dead=gone,
        wavelengths=wavelengths,
        places=np.argwhere(kept),
        counts=counts[kept],
        shifts=np.array(shifts),
        peaks=np.array(peaks),
        squared=np.array(squared),
        moments=np.array(moments).transpose(1, 0, 2),
        angles=_block_sums(np.where(known, turned, 0.0))[kept],
        angle_counts=_block_sums(known.astype(np.float64))[kept],
        q2n=blocks[kept],
        ssim=np.array(similar),
        ssim_counts=_block_sums(inner.astype(np.float64))[kept],
    )


def beside_truth(scene: Scene, fused: Cube) -> Reduced:
    """Judge a product of a scene whose truth is known, within its footprint.

    Rows and columns at the edges are left out as the benchmark does (:func:`~.fidelity.cut`), since filters
    see there what was made up beyond the edge; scenes of less than 96 rows or columns are kept whole.

    Args:
        scene: With ``truth``.
        fused: Shape ``(B, H, W)``.

    Raises:
        DataError: No pixel or no band counts.
    """
    if scene.truth is None:
        raise ValueError(f"the truth of scene {scene.scene_id} is not known")
    truth, mask = scene.truth, scene.footprint
    if min(scene.fine_shape) >= _FEWEST_CUT:
        truth, fused, mask = cut(truth), cut(fused), cut(mask)
    return reduced(
        truth,
        fused,
        ratio=scene.optics.ratio,
        mask=None if mask.all() else mask,
        dead=scene.dead,
        wavelengths=scene.wavelengths,
        unit=scene.unit,
    )


def at_full_resolution(scene: Scene, fused: Cube, *, window: Literal["all", "top-left"] = "all") -> Full:
    """Judge a product on the pair that it was made of.

    Args:
        scene: The pair.
        fused: Shape ``(B, H, W)``, finite within the scene's footprint.
        window: Part of the coarse grid that D_lambda is taken on.
    """
    living, ratio = scene.living, scene.optics.ratio
    footprint = scene.footprint
    degraded_mask = degrade_mask(footprint, ratio)
    whole = bool(footprint.all())
    mask, coarse_mask = (None, None) if whole else (footprint, degraded_mask)
    judged = np.stack([_filled(fused[band], footprint) for band in living])
    sensed = _sensed(judged, scene.optics, scene.optics.sensor.gains(scene.bands)[living])
    seen = np.asarray(scene.hs, dtype=np.float64)[living]
    means = seen.mean(axis=(1, 2)) if coarse_mask is None else seen[:, scene.hs_valid].mean(axis=1)
    spectral = full_resolution.d_lambda(
        sensed, seen, unit=_rounding(means, scene.unit), mask=coarse_mask, window=window
    )
    spatial = full_resolution.d_sr(judged, scene.pan, mask)
    curve = full_resolution.rho_curve(judged, scene.pan, ratio, mask)
    rho = np.full(scene.bands, np.nan)
    rho[living] = curve
    any_seen = bool(degraded_mask.any())
    return Full(
        d_lambda=spectral,
        d_sr=spatial,
        qnr=full_resolution.qnr(spectral, spatial),
        d_s=full_resolution.d_s(judged, seen, scene.pan, ratio, mask, coarse_mask),
        d_rho=float(np.mean(1 - curve)),
        lr_ergas=ergas(seen, sensed, ratio, coarse_mask) if any_seen else float("nan"),
        rho=rho,
    )


def wald(scene: Scene) -> Scene:
    """Return the scene one step coarser, with its own hyperspectral cube as the truth (Wald et al. 1997).

    Both images pass their sensor's low-pass and lose all but every ratio-th sample. Rows and columns beyond
    a multiple of the ratio are cut off at the bottom and at the right.

    Raises:
        DataError: The scene is too small.
    """
    ratio = scene.optics.ratio
    height, width = (size // ratio * ratio for size in scene.coarse_shape)
    if min(height, width) < _FEWEST_COARSE * ratio:
        raise DataError(
            f"scene {scene.scene_id}: {scene.coarse_shape[0]} x {scene.coarse_shape[1]} hyperspectral pixels "
            f"are too few to judge at reduced resolution with ratio {ratio}",
            hint=f"Expected at least {_FEWEST_COARSE * ratio} rows and columns; --set output.quality=fast "
            "judges at full resolution alone.",
        )
    cropped = scene.cropped(Window(0, 0, height, width))
    optics, truth = scene.optics, np.asarray(cropped.hs, dtype=np.float32)
    hs = optics.degrade_hs(truth).astype(np.float32)
    seen = degrade_mask(cropped.hs_valid, ratio)
    dead = cropped.dead | np.array([is_dead(band, seen) for band in hs])
    return replace(
        cropped,
        scene_id=f"{scene.scene_id}-reduced",
        hs=hs,
        pan=optics.degrade_pan(np.asarray(cropped.pan, dtype=np.float32)).astype(np.float32),
        hs_valid=seen,
        pan_valid=degrade_mask(cropped.pan_valid, ratio),
        band_valid=None,
        dead=dead,
        truth=truth,
    )


def middle(scene: Scene, crop: int) -> Scene:
    """Return the middle of a scene, ``crop`` fine pixels a side; the scene itself if it is no larger."""
    window = middle_window(scene, crop)
    return scene if window.shape == scene.coarse_shape else scene.cropped(window)


def middle_window(scene: Scene, crop: int) -> Window:
    """Return the middle of a scene on the coarse grid, at most ``crop`` fine pixels a side."""
    side = max(crop // scene.optics.ratio, 1)
    starts = [max(size - side, 0) // 2 for size in scene.coarse_shape]
    ends = [min(start + side, size) for start, size in zip(starts, scene.coarse_shape, strict=True)]
    return Window(starts[0], starts[1], ends[0], ends[1])


def degrade_mask(mask: Mask, ratio: int) -> Mask:
    """Return which coarse pixels see nothing but valid fine ones within the core of the low-pass.

    The core is two coarse pixels on each side of the sample, at most the whole filter; beyond it the weights
    of gains from 0.1 on are below 1 % of the largest.

    Args:
        mask: Shape ``(R h, R w)``; beyond its edges everything counts as valid.
        ratio: Fine pixels per coarse pixel, R.
    """
    from scipy.ndimage import minimum_filter

    side = 2 * min(2 * ratio, TAPS // 2) + 1
    core = minimum_filter(mask.astype(np.uint8), size=side, mode="constant", cval=1)
    return np.asarray(decimate(core, ratio), dtype=bool)


def _sensed(cube: Cube, optics: Optics, gains: Floats) -> Floats:
    """Return living bands as the sensor would see them."""
    sensor = replace(optics.sensor, hs_gain=tuple(float(gain) for gain in gains))
    return replace(optics, sensor=sensor).degrade_hs(cube)


def _filled(band: Cube, footprint: Mask) -> NDArray[np.float32]:
    """Return a band in which what lies outside the footprint and is not finite has the nearest value."""
    values = np.asarray(band, dtype=np.float32)
    known = np.isfinite(values) | footprint
    return values if known.all() else fill_nearest(values, known)


def _masked(band: Cube, seen: Mask) -> Floats:
    return np.where(seen, np.asarray(band, dtype=np.float64), 0.0)


def _rounding(means: Floats, unit: float) -> float:
    """Return the unit that Q2n rounds to, 0 where values are too small to be whole numbers of it."""
    return unit if np.abs(means).max() >= _FEWEST_STEPS * unit else 0.0


def _block_sums(image: Floats) -> Floats:
    rows, columns = (np.arange(0, size, BLOCK) for size in image.shape)
    return np.asarray(
        np.add.reduceat(np.add.reduceat(image, rows, axis=0), columns, axis=1), dtype=np.float64
    )

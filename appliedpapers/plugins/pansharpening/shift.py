"""How far the panchromatic band lies beside the hyperspectral cube, and moving it there (specification, 2.8).

Phase correlation on the coarse grid finds the shift to a fraction of a coarse pixel. That is not fine enough
to be told in panchromatic pixels, and coarse samples are aliased, so it is the start of a least-squares fit
on the fine grid: the panchromatic band, seen as the hyperspectral sensor sees it at shifted places, must be
a linear combination of the bands. Both sides are then aliased alike, and masked pixels are left out exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.degradation import TAPS, mtf_kernel, sample_offset
from appliedpapers.plugins.pansharpening.moments import coarse_valid
from appliedpapers.plugins.pansharpening.panlowpass import filtered_window
from appliedpapers.plugins.pansharpening.regression import is_flat, least_squares
from appliedpapers.plugins.pansharpening.scene import Mask, Scene

Floats = NDArray[np.float64]

_UPSAMPLING = 20
_LARGEST_WINDOW = 64
_SMALLEST_WINDOW = 12
_FEWEST_PIXELS = 48
_SHARE_VALID = 0.3
_ROUNDS = 8
_CONVERGED = 1e-3
_SPLINE = 3


@dataclass(frozen=True)
class ShiftEstimate:
    """Where the panchromatic band shows what the hyperspectral cube shows, in panchromatic pixels.

    A positive row means that the panchromatic band shows it further down, a positive column further right.

    Attributes:
        row: Median over the windows; NaN where no window had enough valid pixels that vary.
        column: The same for columns.
        spread: Largest of the two interquartile ranges over the windows.
        windows: Row and column of each window, shape ``(n, 2)``.
        fit: Share of the variance of the smoothed panchromatic band that the bands explain at this shift;
            little of it means that the estimate is not to be trusted.
    """

    row: float
    column: float
    spread: float
    windows: Floats
    fit: float = 0.0

    @property
    def known(self) -> bool:
        """Whether any window could be judged."""
        return len(self.windows) > 0

    @property
    def distance(self) -> float:
        """Length of the shift in panchromatic pixels."""
        return float(np.hypot(self.row, self.column))


@dataclass(frozen=True)
class _Part:
    """One window: its bands and mask on the coarse grid, and the band seen as the sensor sees it around it.

    Attributes:
        cube: Living bands, shape ``(n, h, w)``.
        valid: Pixels that count, shape ``(h, w)``.
        smooth: Spline coefficients of the low-passed panchromatic band, with a margin.
        places: Rows and columns of the coarse samples in ``smooth``.
    """

    cube: Floats
    valid: Mask
    smooth: Floats
    places: tuple[NDArray[Any], NDArray[Any]]

    def seen(self, row: float, column: float) -> Floats:
        """Return the band as seen ``row`` and ``column`` fine pixels further, shape ``(h, w)``."""
        from scipy.ndimage import map_coordinates

        rows, columns = self.places
        grid = np.meshgrid(rows + row, columns + column, indexing="ij")
        image = map_coordinates(self.smooth, grid, order=_SPLINE, mode="nearest", prefilter=False)
        return np.asarray(image)

    def slopes(self, row: float, column: float) -> tuple[Floats, Floats]:
        """Return the derivatives of :meth:`seen` by row and by column."""
        step = 0.5
        down = self.seen(row + step, column) - self.seen(row - step, column)
        right = self.seen(row, column + step) - self.seen(row, column - step)
        return down, right


def estimate_shift(scene: Scene, windows: int = 9) -> ShiftEstimate:
    """Return how far the panchromatic band is misregistered.

    Args:
        scene: The pair; dead bands and pixels that were not observed do not count.
        windows: How many windows to judge, at least 4: the largest square number not above it, and 4 where
            windows would have fewer than 12 coarse pixels a side.
    """
    if windows < 4:
        raise ValueError(f"a shift is judged on at least 4 windows, not {windows}")
    parts = [part for part in map(_part_of(scene), _windows(scene, windows)) if part]
    if not parts or not scene.living.size:
        return ShiftEstimate(float("nan"), float("nan"), float("nan"), np.zeros((0, 2)))
    start = _start(parts, scene.optics.ratio)
    shift, weights, left = _together(parts, start, 2.0 * scene.optics.ratio)
    found = np.array([_alone(part, weights, shift) for part in parts])
    row, column = np.median(found, axis=0)
    low, high = np.percentile(found, [25, 75], axis=0)
    return ShiftEstimate(float(row), float(column), float((high - low).max()), found, 1 - left)


def shift_pan(pan: NDArray[np.floating[Any]], row: float, column: float) -> NDArray[np.float32]:
    """Return an image whose content lies ``row`` pixels further down and ``column`` further right.

    Cubic spline; what comes from beyond an edge repeats it.

    Args:
        pan: Shape ``(H, W)``, finite.
        row: In pixels, positive or negative.
        column: In pixels.
    """
    from scipy.ndimage import shift

    moved = shift(np.asarray(pan, dtype=np.float64), (row, column), order=_SPLINE, mode="nearest")
    return np.asarray(moved, dtype=np.float32)


def aligned(scene: Scene, estimate: ShiftEstimate) -> Scene:
    """Return the scene with its panchromatic band moved onto the hyperspectral cube.

    Pixels that would come from outside the band, or touch what it did not observe, are no longer valid.
    """
    if not estimate.known or estimate.distance == 0:
        return scene
    row, column = -estimate.row, -estimate.column
    note = f"the PAN was moved by {row:+.2f} rows and {column:+.2f} columns to align it with the cube"
    return replace(
        scene,
        pan=shift_pan(scene.pan, row, column),
        pan_valid=_moved_mask(scene.pan_valid, row, column),
        notes=(*scene.notes, note),
    )


def _moved_mask(mask: Mask, row: float, column: float) -> Mask:
    """Return which pixels of a moved image rest on observed ones; an outer half pixel still counts."""
    inside = []
    for axis, step in enumerate((row, column)):
        size = mask.shape[axis]
        source = np.arange(size) - step
        lower = np.clip(np.floor(source), 0, size - 1).astype(int)
        upper = np.clip(np.ceil(source), 0, size - 1).astype(int)
        mask = np.take(mask, lower, axis=axis) & np.take(mask, upper, axis=axis)
        inside.append((source >= -0.5) & (source <= size - 0.5))
    return np.asarray(mask & inside[0][:, None] & inside[1][None, :])


def _windows(scene: Scene, number: int) -> list[Window]:
    """Return at most ``number`` windows of the coarse grid, each amid its cell of a chessboard."""
    side = max(min(int(np.sqrt(number)), min(scene.coarse_shape) // _SMALLEST_WINDOW), 2)
    spans = []
    for size in scene.coarse_shape:
        edges = np.linspace(0, size, side + 1).astype(int)
        length = min(int(np.diff(edges).min()), _LARGEST_WINDOW)
        middles = (edges[:-1] + edges[1:]) // 2
        spans.append([(int(m) - length // 2, int(m) - length // 2 + length) for m in middles])
    return [Window(top, left, bottom, right) for top, bottom in spans[0] for left, right in spans[1]]


def _part_of(scene: Scene) -> Callable[[Window], _Part | None]:
    """Return what makes a :class:`_Part` of a window, or None where little of it is valid or varies."""
    from scipy.ndimage import binary_erosion, spline_filter

    optics = scene.optics
    gain = float(optics.sensor.gains(scene.bands).mean())
    kernel = mtf_kernel(gain, optics.ratio, normalize=True)
    # most of the response lies within one coarse pixel of a sample's own
    valid = binary_erosion(coarse_valid(scene), np.ones((3, 3), dtype=bool), border_value=1)

    def part(window: Window) -> _Part | None:
        mask = valid[window.slices]
        if mask.sum() < max(_FEWEST_PIXELS, _SHARE_VALID * mask.size):
            return None
        fine = Window(*(edge * optics.ratio for edge in window)).grown(TAPS // 2, scene.fine_shape)
        low_passed = filtered_window(scene.pan, kernel, fine)
        if is_flat(float(low_passed.var()), float(low_passed.mean())):
            return None
        smooth = spline_filter(low_passed, order=_SPLINE, mode="nearest")
        first = sample_offset(optics.ratio, optics.phase)
        rows = np.arange(window.top, window.bottom) * optics.ratio + first - fine.top
        columns = np.arange(window.left, window.right) * optics.ratio + first - fine.left
        cube = scene.hs[:, *window.slices][scene.living].astype(np.float64)
        return _Part(cube, mask, smooth, (rows, columns))

    return part


def _start(parts: list[_Part], ratio: int) -> tuple[float, float]:
    """Return the median shift by phase correlation of the decimated band with its image among the bands."""
    weights = _weights(parts, 0.0, 0.0)[0]
    found = [
        register(_levelled(np.tensordot(weights, p.cube, axes=1), p), _levelled(p.seen(0, 0), p))
        for p in parts
    ]
    row, column = np.median(found, axis=0) * ratio
    return float(row), float(column)


def _levelled(image: Floats, part: _Part) -> Floats:
    """Return the image with its mean where it was not observed."""
    return np.where(part.valid, image, image[part.valid].mean())


def _weights(parts: list[_Part], row: float, column: float) -> tuple[Floats, tuple[float, float], float]:
    """Fit the band at a shift by the bands, a constant a window and its own slopes, over all windows.

    Returns:
        Weights of the bands, the step that the slopes ask for, and the share of variance left.
    """
    regressors, target = [], []
    for part in parts:
        inner = part.valid
        down, right = part.slopes(row, column)
        block = np.vstack([part.cube[:, inner], down[inner], right[inner]])
        regressors.append(block - block.mean(axis=1, keepdims=True))
        seen = part.seen(row, column)[inner]
        target.append(seen - seen.mean())
    design, wanted = np.concatenate(regressors, axis=1), np.concatenate(target)
    found = least_squares(design @ design.T, design @ wanted)
    left = wanted - found @ design
    variance = float(wanted @ wanted)
    share = float(left @ left) / variance if variance > 0 else 1.0
    return found[:-2], (-float(found[-2]), -float(found[-1])), share


def _together(
    parts: list[_Part], start: tuple[float, float], most: float
) -> tuple[tuple[float, float], Floats, float]:
    """Return one shift of all windows, the weights of the bands there and the share of variance left.

    Gauss-Newton from no shift and from ``start``; a step is at most half of ``most``.
    """
    best: tuple[float, tuple[float, float], Floats] | None = None
    for first in {(0.0, 0.0), start}:
        row, column = first
        for _ in range(_ROUNDS):
            _, step, _ = _weights(parts, row, column)
            down, right = np.clip(step, -most / 2, most / 2)
            row, column = row + float(down), column + float(right)
            if max(abs(down), abs(right)) < _CONVERGED:
                break
        weights, _, left = _weights(parts, row, column)
        if best is None or left < best[0]:
            best = left, (row, column), weights
    assert best is not None
    return best[1], best[2], best[0]


def _alone(part: _Part, weights: Floats, start: tuple[float, float]) -> tuple[float, float]:
    """Return the shift of one window: its intensity is given, gain, offset and shift are fitted."""
    intensity = np.tensordot(weights, part.cube, axes=1)[part.valid]
    intensity = intensity - intensity.mean()
    row, column = start
    for _ in range(_ROUNDS):
        seen = part.seen(row, column)[part.valid]
        down, right = (slope[part.valid] for slope in part.slopes(row, column))
        design = np.stack([intensity, down - down.mean(), right - right.mean()])
        found = least_squares(design @ design.T, design @ (seen - seen.mean()))
        step = np.clip(-found[1:], -1.0, 1.0)
        row, column = row + float(step[0]), column + float(step[1])
        if np.abs(step).max() < _CONVERGED:
            break
    return row, column


def register(reference: Floats, moved: Floats, upsampling: int = _UPSAMPLING) -> tuple[float, float]:
    """Return by how many pixels ``moved`` shows further down and right what ``reference`` shows.

    Phase correlation: the peak to a pixel by FFT, then to ``1 / upsampling`` of one on the Fourier sums
    around it, as two matrix products (Guizar-Sicairos, Thurman and Fienup 2008).

    Args:
        reference: Shape ``(h, w)``.
        moved: Shape ``(h, w)``.
        upsampling: Steps a pixel.
    """
    taper = np.outer(*(np.hanning(size + 2)[1:-1] for size in reference.shape))
    first, second = (np.fft.fft2((image - image.mean()) * taper) for image in (reference, moved))
    cross = second * first.conj()
    size = np.abs(cross)
    phase = np.divide(cross, size, out=np.zeros_like(cross), where=size > 1e-12 * size.max())
    peak = np.array(np.unravel_index(np.argmax(np.fft.ifft2(phase).real), phase.shape), dtype=np.float64)
    shape = np.array(phase.shape)
    peak = np.where(peak > shape / 2, peak - shape, peak)
    offsets = np.arange(-upsampling, upsampling + 1) / upsampling
    rows, columns = peak[0] + offsets, peak[1] + offsets
    left = np.exp(2j * np.pi * np.outer(rows, np.fft.fftfreq(shape[0])))
    right = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(shape[1]), columns))
    finer = np.unravel_index(np.argmax((left @ phase @ right).real), (rows.size, columns.size))
    return float(rows[finer[0]]), float(columns[finer[1]])

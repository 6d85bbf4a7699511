"""What the classical methods need to know about a scene, gathered in one pass over tiles of the fine grid.

Sums are float64 and taken about a rough mean, so that neither large offsets nor small units cost digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.plugins.pansharpening.scene import Mask, Scene

Floats = NDArray[np.float64]
Image = Callable[[Window], NDArray[Any]]

DEFAULT_BUDGET = 256 * 2**20
_BYTES = 16  # a value of a tile: float32 from the interpolator and its product, float64 in the sums
_SMALLEST_TILE = 32


class Expansion:
    """EXP of a scene, window by window, and linear combinations of its bands.

    Interpolation is linear: a combination of bands is mixed on the coarse grid and interpolated once.

    Args:
        scene: The pair.
        cube: EXP itself, shape ``(B, R h, R w)``, where the caller holds it, perhaps rounded.
    """

    def __init__(self, scene: Scene, cube: NDArray[Any] | None = None) -> None:
        self._scene, self._cube = scene, cube

    def window(self, window: Window) -> NDArray[np.float32]:
        """Return all bands of a window, shape ``(B, height, width)``."""
        if self._cube is not None:
            return np.array(self._cube[:, *window.slices], dtype=np.float32)
        fine = self._scene.interpolator.window(self._scene.hs, window)
        return fine.astype(np.float32, copy=False)

    def band(self, band: int, window: Window) -> NDArray[np.float32]:
        """Return one band of a window, shape ``(height, width)``."""
        if self._cube is not None:
            return np.array(self._cube[band, *window.slices], dtype=np.float32)
        fine = self._scene.interpolator.window(self._scene.hs[band], window)
        return fine.astype(np.float32, copy=False)

    def mixed(self, weights: Floats) -> Image:
        """Return what gives windows of the sum of weighted bands, float64; ``weights`` has shape ``(B,)``."""
        used = np.flatnonzero(weights)
        cube = self._cube
        if cube is not None:
            return lambda window: np.asarray(
                np.tensordot(weights[used], cube[:, *window.slices][used].astype(np.float64), axes=1)
            )
        coarse = np.zeros(self._scene.coarse_shape)
        for band in used:
            coarse += weights[band] * self._scene.hs[band].astype(np.float64)
        return lambda window: self._scene.interpolator.window(coarse, window)


@dataclass(frozen=True)
class Moments:
    """Statistics over the valid fine pixels of the living bands X and of side images Y.

    Attributes:
        count: Number of valid pixels.
        mean: Of the bands, shape ``(n,)``.
        least: Smallest value of each band, shape ``(n,)``.
        side_mean: Of the side images, shape ``(k,)``.
        cross: Covariances of bands and side images, shape ``(n, k)``.
        side: Covariances of the side images, shape ``(k, k)``.
        bands: Covariances of the bands, shape ``(n, n)``; empty where they were not asked for.
    """

    count: int
    mean: Floats
    least: Floats
    side_mean: Floats
    cross: Floats
    side: Floats
    bands: Floats

    @property
    def gram(self) -> Floats:
        """Mean products of the bands, not about their means, shape ``(n, n)``."""
        return self.bands + np.outer(self.mean, self.mean)


def coarse_valid(scene: Scene) -> Mask:
    """Return which coarse pixels both sensors observed in full, shape ``(h, w)``."""
    ratio = scene.optics.ratio
    height, width = scene.coarse_shape
    blocks = scene.pan_valid.reshape(height, ratio, width, ratio)
    return scene.hs_valid & blocks.all(axis=(1, 3))


def tile_side(bands: int, tile: int, budget: int) -> int:
    """Return the side of a tile whose bands take at most ``budget`` bytes, no more than ``tile``."""
    return max(min(tile, int(np.sqrt(budget / (max(bands, 1) * _BYTES)))), min(_SMALLEST_TILE, tile))


def gather(
    scene: Scene,
    expansion: Expansion,
    sides: Sequence[Image],
    *,
    between_bands: bool = False,
    tile: int = 512,
    budget: int = DEFAULT_BUDGET,
    progress: Progress | None = None,
) -> Moments:
    """Return the moments of EXP and of side images over the valid fine pixels, in one pass over tiles.

    Args:
        scene: The pair; dead bands are left out.
        expansion: Its EXP.
        sides: Images of the fine grid, by window.
        between_bands: Whether covariances between bands are needed, which take most of the time.
        tile: Largest side of a tile in fine pixels.
        budget: Bytes that the bands of a tile may take.
        progress: Where the pass is reported.

    Raises:
        DataError: Where no pixel is valid in all living bands and in the panchromatic band.
    """
    windows = list(tiles(scene.fine_shape, tile_side(scene.bands, tile, budget)))
    sums = _Sums(scene.living.size, len(sides), between_bands)
    with (progress or SilentProgress()).task("statistics", len(windows)) as task:
        for window in windows:
            valid = _footprint(scene, window)
            if valid.any():
                sums.add(expansion.window(window)[scene.living], [image(window) for image in sides], valid)
            task.advance()
    return sums.moments(scene)


def gather_coarse(scene: Scene, side: Floats, *, budget: int = DEFAULT_BUDGET) -> Moments:
    """Return the moments of the coarse bands and of one coarse image, covariances between bands included.

    Args:
        scene: The pair; dead bands are left out. Only coarse pixels that both sensors observed count.
        side: Shape ``(h, w)``.
        budget: Bytes that a strip of rows may take.

    Raises:
        DataError: Where no coarse pixel is valid in all living bands and in the panchromatic band.
    """
    height, width = scene.coarse_shape
    rows = max(budget // (_BYTES * width * max(scene.bands, 1)), 1)
    valid = coarse_valid(scene)
    sums = _Sums(scene.living.size, 1, True)
    for top in range(0, height, rows):
        strip = slice(top, top + rows)
        if valid[strip].any():
            sums.add(scene.hs[:, strip][scene.living], [side[strip]], valid[strip])
    return sums.moments(scene)


def _footprint(scene: Scene, window: Window) -> Mask:
    """Return a window of the scene's footprint without making the whole of it."""
    ratio = scene.optics.ratio
    rows = np.arange(window.top, window.bottom) // ratio
    columns = np.arange(window.left, window.right) // ratio
    return scene.hs_valid[np.ix_(rows, columns)] & scene.pan_valid[window.slices]


class _Sums:
    """Running sums about a shift that the first block sets."""

    def __init__(self, bands: int, sides: int, between_bands: bool) -> None:
        self._n, self._between = bands, between_bands
        self._count = 0
        self._shift = np.zeros(bands + sides)
        self._first = np.zeros(bands + sides)
        self._cross = np.zeros((bands + sides, sides))
        self._bands = np.zeros((bands, bands) if between_bands else (0, 0))
        self._least = np.full(bands, np.inf)

    def add(self, cube: NDArray[Any], sides: Sequence[NDArray[Any]], valid: Mask) -> None:
        """Add a block: living bands ``(n, height, width)``, side images and mask ``(height, width)``."""
        values = np.empty((self._first.size, int(np.count_nonzero(valid))))
        for row, image in enumerate([*cube, *sides]):
            values[row] = image[valid]
        if not self._count:
            self._shift = values.mean(axis=1)
        bands = values[: self._n]
        self._least = np.minimum(self._least, bands.min(axis=1))
        values -= self._shift[:, None]
        self._count += values.shape[1]
        self._first += values.sum(axis=1)
        self._cross += values @ values[self._n :].T
        if self._between:
            self._bands += bands @ bands.T

    def moments(self, scene: Scene) -> Moments:
        """Return the moments of all blocks added."""
        if not self._count:
            raise DataError(
                f"{scene.scene_id}: no pixel is valid in every band and in the panchromatic band",
                hint="leave out bands that are nodata almost everywhere with --set data.bands=[FROM,TO], "
                "or check the nodata value with --set data.nodata=VALUE",
            )
        n = self._n
        first = self._first / self._count
        cross = self._cross / self._count - np.outer(first, first[n:])
        between = self._bands / self._count - np.outer(first[:n], first[:n]) if self._between else self._bands
        mean = self._shift + first
        return Moments(self._count, mean[:n], self._least, mean[n:], cross[:n], cross[n:], between)

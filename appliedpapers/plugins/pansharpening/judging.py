"""Judge one scene and let its cubes go: what remains are sums over blocks and small pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Split
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.assessment import (
    Full,
    at_full_resolution,
    beside_truth,
    middle,
    wald,
)
from appliedpapers.plugins.pansharpening.block_scores import Reduced
from appliedpapers.plugins.pansharpening.composites import picture_bands, points_of
from appliedpapers.plugins.pansharpening.scene import Scene

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.config import EvaluationConfig
    from appliedpapers.plugins.pansharpening.splits import SceneSplit

Cube = NDArray[Any]
Picture = NDArray[np.float32]
Protocol = Literal["truth", "wald"]


@dataclass(frozen=True)
class Preview:
    """Small pictures of one judged scene; NaN outside its footprint. Their bands are red, green, blue.

    Attributes:
        bands: The bands shown.
        true_colour: Whether they lie within 50 nm of 640, 550 and 460 nm.
        coarse: What the sensor saw, shape ``(3, h, w)``.
        fused: The product, shape ``(3, H, W)``.
        truth: Shape ``(3, H, W)``.
        error: Root mean square over bands of the error relative to the band's mean, in percent, shape
            ``(H, W)``.
        points: Row and column of six pixels from dark to bright, shape ``(6, 2)``.
        fused_spectra: The product there, shape ``(6, B)``; NaN for dead bands, as in the next two.
        truth_spectra: The truth there.
        exp_spectra: The interpolated cube there.
    """

    bands: tuple[int, int, int]
    true_colour: bool
    coarse: Picture
    fused: Picture
    truth: Picture
    error: Picture
    points: NDArray[np.intp]
    fused_spectra: Picture
    truth_spectra: Picture
    exp_spectra: Picture


@dataclass(frozen=True)
class Judged:
    """What is known of a method on one scene.

    Attributes:
        scene_id: The scene.
        protocol: ``"truth"`` where the fine cube is known; ``"wald"`` where the scene was made coarser, and
            its hyperspectral cube is the truth.
        reduced: Beside the truth.
        full: At full resolution; None where that was not asked for.
        preview: Pictures; None where they were not asked for.
    """

    scene_id: str
    protocol: Protocol
    reduced: Reduced
    full: Full | None = None
    preview: Preview | None = None


def judge(
    scene: Scene,
    sharpen: Callable[[Scene], Cube],
    *,
    crop: int,
    full_resolution: bool,
    pictures: bool = False,
) -> Judged:
    """Sharpen a scene and judge the product.

    A scene without a truth is sharpened twice: one step coarser for metrics beside a truth, and as it is for
    those at full resolution.

    Args:
        scene: The pair.
        sharpen: Returns the product in physical units, shape ``(B, H, W)``.
        crop: Most judged pixels a side, which beside the coarse cube are coarse pixels; of a larger scene the
            middle is taken.
        full_resolution: Whether it is also judged at full resolution.
        pictures: Whether pictures are kept.

    Raises:
        DataError: The scene is too small, or nothing in it was observed.
    """
    known, part = scene.truth is not None, middle(scene, crop)
    beside = part if known else wald(middle(scene, crop * scene.optics.ratio))
    fused = sharpen(beside)
    reduced = beside_truth(beside, fused)
    preview = preview_of(beside, fused) if pictures else None
    full = None
    if full_resolution:
        full = at_full_resolution(part, fused if known else sharpen(part))
    return Judged(scene.scene_id, "truth" if known else "wald", reduced, full, preview)


def judge_all(split: Split, sharpen: Callable[[Scene], Cube], options: EvaluationConfig) -> list[Judged]:
    """Judge each scene of a split and let its cubes go; the first leaves pictures.

    Raises:
        DataError: As :func:`judge`.
    """
    return [
        judge(
            scene,
            sharpen,
            crop=options.crop,
            full_resolution=options.full_resolution,
            pictures=number == 0,
        )
        for number, scene in enumerate(cast("SceneSplit", split).scenes())
    ]


def preview_of(scene: Scene, fused: Cube) -> Preview:
    """Return small pictures of a scene whose truth is known, and of its product."""
    truth = scene.truth
    if truth is None:
        raise ValueError(f"the truth of scene {scene.scene_id} is not known")
    bands, true_colour = picture_bands(scene)
    chosen = list(bands)
    points = points_of([truth[band] for band in bands], scene.footprint)
    rows, columns = points.T
    expanded = [scene.interpolator.window(scene.hs, Window(r, c, r + 1, c + 1))[:, 0, 0] for r, c in points]
    return Preview(
        bands=bands,
        true_colour=true_colour,
        coarse=_picture(np.where(scene.hs_valid, scene.hs[chosen], np.nan)),
        fused=_picture(np.where(scene.footprint, fused[chosen], np.nan)),
        truth=_picture(np.where(scene.footprint, truth[chosen], np.nan)),
        error=_error(scene, truth, fused),
        points=points,
        fused_spectra=_living(fused[:, rows, columns].T, scene),
        truth_spectra=_living(truth[:, rows, columns].T, scene),
        exp_spectra=_living(np.array(expanded), scene),
    )


def _error(scene: Scene, truth: Cube, fused: Cube) -> Picture:
    total, footprint = np.zeros(scene.fine_shape), scene.footprint
    for band in scene.living:
        mean = float(np.mean(truth[band][footprint], dtype=np.float64))
        if mean != 0:
            total += ((np.asarray(fused[band], dtype=np.float64) - truth[band]) / mean) ** 2
    percent = 100 * np.sqrt(total / scene.living.size)
    return _picture(np.where(footprint, percent, np.nan))


def _living(spectra: Cube, scene: Scene) -> Picture:
    return _picture(np.where(scene.dead[None, :], np.nan, spectra))


def _picture(values: Cube) -> Picture:
    return np.array(values, dtype=np.float32)

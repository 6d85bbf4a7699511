"""What a quality report measures on a product: beside coarser truth, on its own pair, and by eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import AppsError, DataError
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.plugins.pansharpening.assessment import (
    Full,
    at_full_resolution,
    beside_truth,
    middle,
    wald,
)
from appliedpapers.plugins.pansharpening.block_scores import Reduced
from appliedpapers.plugins.pansharpening.classical import sharpen, whole
from appliedpapers.plugins.pansharpening.composites import (
    Bands,
    false_colour_bands,
    picture_bands,
    points_of,
)
from appliedpapers.plugins.pansharpening.config import CLASSICAL, Classical, PansharpeningConfig
from appliedpapers.plugins.pansharpening.products import network_refusal
from appliedpapers.plugins.pansharpening.scene import Scene
from appliedpapers.plugins.pansharpening.shift import ShiftEstimate, estimate_shift

if TYPE_CHECKING:
    from appliedpapers.plugins.pansharpening.model import Pansharpener

Cube = NDArray[Any]
Floats = NDArray[np.floating[Any]]

WORRYING_SHIFT = 0.5

_LEAST_FIT = 0.5
_WINDOWS, _WINDOW_SIDE = 9, 64


@dataclass(frozen=True)
class AtReduced:
    """Methods one step coarser, where the scene's own cube is the truth (Wald et al. 1997).

    Attributes:
        methods: Each method's sums, ours first where it is known.
        shape: Rows and columns that were judged; None where nothing was.
        reason: Why ours, or everything, is missing; empty where nothing is.
    """

    methods: dict[str, Reduced]
    shape: tuple[int, int] | None
    reason: str = ""


@dataclass(frozen=True)
class AtFull:
    """The product on its own pair, and baselines on the same window.

    Attributes:
        methods: Each method's metrics, ours first.
        window: What was judged, in fine pixels of the scene; None where nothing was.
        reason: Why it is missing; empty where it is not.
    """

    methods: dict[str, Full]
    window: Window | None
    reason: str = ""


@dataclass(frozen=True)
class Registration:
    """Where the panchromatic band lies beside the cube, in panchromatic pixels.

    Attributes:
        estimate: Median and spread over windows.
        fit: Share of the band's variance that the cube explains, less what chance explains.
        pixels: Length of the shift; None where too little is explained to know it.
    """

    estimate: ShiftEstimate
    fit: float
    pixels: float | None

    @property
    def worrying(self) -> bool:
        """Whether it should be corrected."""
        return self.pixels is not None and self.pixels > WORRYING_SHIFT


@dataclass(frozen=True)
class Composite:
    """Three bands as a picture, red first; NaN outside the footprint.

    Attributes:
        colours: ``true colour`` or ``false colour``.
        bands: The bands shown.
        before: As the sensor saw them, shape ``(3, h, w)``.
        after: The product, shape ``(3, H, W)``.
    """

    colours: Literal["true colour", "false colour"]
    bands: Bands
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class Looks:
    """Pictures and spectra of the window that was judged.

    Attributes:
        composites: One or two.
        points: Row and column of six coarse pixels of the scene, from dark to bright, shape ``(6, 2)``.
        coarse: The cube there, shape ``(6, B)``; NaN for dead bands, as in the next two.
        mean: Mean of the product over the coarse pixel.
        fine: The product at its middle pixel.
    """

    composites: tuple[Composite, ...]
    points: NDArray[np.intp]
    coarse: NDArray[np.float32]
    mean: NDArray[np.float32]
    fine: NDArray[np.float32]


def measure_reduced(scene: Scene, model: Pansharpener) -> AtReduced:
    """Judge the method and its baselines on the middle of the scene, one step coarser.

    The crop counts judged pixels, which are coarse pixels of the scene here.
    """
    config = model.config
    try:
        coarser = wald(middle(scene, config.evaluation.crop * scene.optics.ratio))
    except DataError as error:
        return AtReduced({}, None, error.message)
    methods: dict[str, Reduced] = {}
    reason = _refusal(coarser, config)
    if not reason:
        reason = _judge(methods, config.method, coarser, model.sharpen)
    for name in baselines_of(config):
        missing = _judge(methods, name, coarser, _classical(name))
        reason = reason or missing
    return AtReduced(methods, coarser.fine_shape if methods else None, reason)


def measure_full(part: Scene, cube: Cube, window: Window, config: PansharpeningConfig) -> AtFull:
    """Judge a window of the product, and baselines fitted to the same window of the scene.

    Args:
        part: The window of the scene.
        cube: The product there, shape ``(B, H, W)``.
        window: Its place in the scene, in fine pixels.
        config: Names the method and its baselines.
    """
    if not part.living.size or not part.footprint.any():
        return AtFull({}, None, "nothing was observed in the middle of the scene")
    methods: dict[str, Full] = {config.method: at_full_resolution(part, cube)}
    for name in baselines_of(config):
        methods[name] = at_full_resolution(part, _classical(name)(part))
    return AtFull(methods, window)


def measure_registration(scene: Scene) -> Registration:
    """Estimate the shift of the panchromatic band on windows of the scene."""
    if not scene.living.size:
        nothing = float("nan")
        return Registration(ShiftEstimate(nothing, nothing, nothing, np.zeros((0, 2))), fit=0.0, pixels=None)
    estimate = estimate_shift(scene, _WINDOWS)
    # a fit by many bands to few pixels explains anything
    pixels = min(int(scene.hs_valid.sum()), _WINDOWS * _WINDOW_SIDE**2)
    free = pixels - scene.living.size - 3
    fit = 1 - (1 - estimate.fit) * (pixels - 1) / free if free > 0 and estimate.known else 0.0
    trusted = fit >= _LEAST_FIT and np.isfinite(estimate.distance)
    return Registration(estimate, max(fit, 0.0), estimate.distance if trusted else None)


def take_looks(part: Scene, cube: Cube, place: tuple[int, int]) -> Looks | None:
    """Return pictures and spectra of a window; None where nothing was observed there.

    Args:
        part: The window of the scene.
        cube: The product there, shape ``(B, H, W)``.
        place: First row and column of the window on the coarse grid of the scene.
    """
    ratio, (height, width) = part.optics.ratio, part.coarse_shape
    seen = part.pan_valid.reshape(height, ratio, width, ratio).all(axis=(1, 3)) & part.hs_valid
    if not part.living.size or not seen.any():
        return None
    bands, true_colour = picture_bands(part)
    composites = [_composite("true colour" if true_colour else "false colour", bands, part, cube)]
    other = false_colour_bands(part)
    if other is not None:
        composites.append(_composite("false colour", other, part, cube))
    points = points_of([part.hs[band] for band in bands], seen)
    rows, columns = points.T
    blocks = [
        cube[:, row * ratio : (row + 1) * ratio, column * ratio : (column + 1) * ratio]
        for row, column in points
    ]
    half = ratio // 2
    return Looks(
        composites=tuple(composites),
        points=points + np.array(place),
        coarse=_living(part.hs[:, rows, columns].T, part),
        mean=_living(np.array([block.mean(axis=(1, 2), dtype=np.float64) for block in blocks]), part),
        fine=_living(np.array([block[:, half, half] for block in blocks]), part),
    )


def baselines_of(config: PansharpeningConfig) -> Sequence[Classical]:
    """Return the classical methods beside ours: those of the configuration, and always ``exp``."""
    wanted = {*config.baselines, "exp"} - {config.method}
    return [name for name in CLASSICAL if name in wanted]


def fine_window(coarse: Window, scene: Scene) -> Window:
    """Return a window of the coarse grid on the fine grid."""
    return Window(*(edge * scene.optics.ratio for edge in coarse))


def _classical(name: Classical) -> Callable[[Scene], Cube]:
    return lambda scene: whole(sharpen(name, scene), scene)


def _refusal(scene: Scene, config: PansharpeningConfig) -> str:
    """Return why a network cannot sharpen the coarser scene; empty where it can."""
    if config.method in CLASSICAL:
        return ""
    refusal = network_refusal(scene.coarse_shape, scene.wavelengths is not None, config.method)
    return f"one step coarser: {refusal.rstrip('.')}" if refusal else ""


def _judge(methods: dict[str, Reduced], name: str, scene: Scene, sharpened: Callable[[Scene], Cube]) -> str:
    """Add a method's sums; where it cannot be judged, return why."""
    try:
        methods[name] = beside_truth(scene, sharpened(scene))
    except AppsError as error:  # the product itself is whole: its report goes on without this
        return error.message.rstrip(".")
    return ""


def _composite(
    colours: Literal["true colour", "false colour"], bands: Bands, scene: Scene, cube: Cube
) -> Composite:
    chosen = list(bands)
    return Composite(
        colours,
        bands,
        before=np.where(scene.hs_valid, scene.hs[chosen], np.nan).astype(np.float32),
        after=np.where(scene.footprint, cube[chosen], np.nan).astype(np.float32),
    )


def _living(spectra: Cube, scene: Scene) -> NDArray[np.float32]:
    return np.where(scene.dead, np.nan, spectra).astype(np.float32)

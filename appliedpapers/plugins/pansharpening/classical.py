"""Classical pansharpening: ``gsa``, ``mtf-glp-fs``, ``bt-h``, ``brovey`` and ``exp`` (specification, 2.7).

E is EXP and P the panchromatic band. Every method is E changed by P with a few global numbers a band. They
are fitted on statistics of one pass over tiles, over valid pixels, and then any window of the fine grid can
be sharpened on its own: windows equal the whole image to rounding, and memory is bounded by the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.progress import Progress
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.plugins.pansharpening.config import Classical
from appliedpapers.plugins.pansharpening.degradation import low_pass_kernel, mtf_kernel
from appliedpapers.plugins.pansharpening.moments import (
    DEFAULT_BUDGET,
    Expansion,
    Image,
    Moments,
    gather,
    gather_coarse,
)
from appliedpapers.plugins.pansharpening.panlowpass import decimated, filtered_window, wavelet_kernel
from appliedpapers.plugins.pansharpening.regression import (
    condition,
    is_flat,
    least_squares,
    nonnegative_least_squares,
)
from appliedpapers.plugins.pansharpening.scene import Optics, Scene

Floats = NDArray[np.float64]
Cube = NDArray[np.float32]

# BT-H and Brovey divide by an intensity: it is floored at this share of its mean, the quotient clipped
_FLOOR, _MOST = 0.01, 10.0
# above this condition number of the bands' products, weights of both signs cancel and BT-H follows noise
_ILL_CONDITIONED = 1e6
# share of the darkest value taken as haze then; all of it makes the darkest pixels' quotient unbounded
_HAZE = 0.7
# nm in which a panchromatic band may respond, and the share of the best correlation that stands in for it
_RESPONSE = (400.0, 900.0)
_CORRELATED = 0.9


class Fused(Protocol):
    """A scene sharpened: any window of the product, on demand."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report should say about the fit."""

    def window(self, window: Window) -> Cube:
        """Return all bands of a window in file order and physical units, shape ``(B, height, width)``."""

    def band(self, band: int, window: Window) -> Cube:
        """Return one band of a window, shape ``(height, width)``."""


@dataclass(frozen=True)
class _Product:
    """What the products of all classical methods share; without more, the product of ``exp``.

    Attributes:
        expansion: EXP of the scene.
        constants: Values of dead bands, by band; they pass through.
        notes: See :class:`Fused`.
    """

    expansion: Expansion
    constants: dict[int, float]
    notes: tuple[str, ...] = ()

    def window(self, window: Window) -> Cube:
        cube = self.expansion.window(window)
        self._sharpen(cube, np.arange(len(cube)), window)
        for band, value in self.constants.items():
            cube[band] = value
        return cube

    def band(self, band: int, window: Window) -> Cube:
        if band in self.constants:
            return np.full(window.shape, self.constants[band], dtype=np.float32)
        image = self.expansion.band(band, window)
        self._sharpen(image[None], np.array([band]), window)
        return image

    def _sharpen(self, cube: Cube, bands: NDArray[np.intp], window: Window) -> None:
        """Change the given bands of EXP in place."""


@dataclass(frozen=True)
class _Injected(_Product):
    """out_b = E_b + g_b D, with as many details D as bands have different optics.

    Attributes:
        gains: g, shape ``(B,)``; 0 leaves EXP.
        details: Each D with the bands it belongs to, mask of shape ``(B,)``.
    """

    gains: Floats | None = None
    details: tuple[tuple[Image, NDArray[np.bool_]], ...] = ()

    def _sharpen(self, cube: Cube, bands: NDArray[np.intp], window: Window) -> None:
        assert self.gains is not None
        for image, members in self.details:
            rows = np.flatnonzero(members[bands] & (self.gains[bands] != 0))
            if rows.size:
                detail = image(window)
                for row in rows:
                    cube[row] += (self.gains[bands[row]] * detail).astype(np.float32)


@dataclass(frozen=True)
class _Modulated(_Product):
    """out_b = (E_b - a_b) Q + a_b.

    Attributes:
        haze: a, shape ``(B,)``.
        quotient: Q, None for 1.
    """

    haze: Floats | None = None
    quotient: Image | None = None

    def _sharpen(self, cube: Cube, bands: NDArray[np.intp], window: Window) -> None:
        assert self.haze is not None
        if self.quotient is None:
            return
        quotient = self.quotient(window)
        for row, band in enumerate(bands):
            cube[row] = (cube[row] - self.haze[band]) * quotient + self.haze[band]


@dataclass(frozen=True)
class _Fit:
    """A scene about to be sharpened, and how to go over it."""

    scene: Scene
    expansion: Expansion
    parity: bool
    tile: int
    budget: int
    progress: Progress | None

    def pan(self, window: Window) -> Floats:
        """Return a window of P, float64."""
        return np.asarray(self.scene.pan[window.slices], dtype=np.float64)

    def moments(self, *sides: Image, between_bands: bool = False) -> Moments:
        """Return the moments of EXP and of side images."""
        return gather(
            self.scene,
            self.expansion,
            sides,
            between_bands=between_bands,
            tile=self.tile,
            budget=self.budget,
            progress=self.progress,
        )

    def spread(self, values: Floats) -> Floats:
        """Return numbers of the living bands as numbers of all bands, 0 for dead ones."""
        every = np.zeros(self.scene.bands)
        every[self.scene.living] = values
        return every

    def low_passed(self, gain: float) -> Floats:
        """Return P on the coarse grid as a sensor with this gain sees it."""
        optics = self.scene.optics
        kernel = low_pass_kernel(gain, optics.ratio, optics.phase, normalize=optics.normalize_kernel)
        return decimated(self.scene.pan, kernel, optics.ratio)

    @property
    def gains(self) -> Floats:
        """Gains at Nyquist of the living bands."""
        return self.scene.optics.sensor.gains(self.scene.bands)[self.scene.living]


def sharpen(
    method: Classical,
    scene: Scene,
    *,
    parity: bool = False,
    tile: int = 512,
    budget: int = DEFAULT_BUDGET,
    expanded: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> Fused:
    """Fit a classical method to a scene.

    Args:
        method: One of the classical methods.
        scene: The pair. Dead bands pass through and enter no statistics.
        parity: The formulas as published, without guards; also where the scene's optics are those of public
            code (reference phase, circular edges, kernels that are not normalised).
        tile: Largest side of a tile of the pass that gathers statistics, in fine pixels.
        budget: Bytes that the bands of such a tile may take; tiles become smaller where there are many.
        expanded: EXP where the caller holds it, shape ``(B, R h, R w)``; taken in place of ours.
        progress: Where the pass is reported.

    Returns:
        The product, by window.

    Raises:
        DataError: Where no pixel is valid in all living bands and in the panchromatic band.
    """
    expansion = Expansion(scene, expanded)
    product = _Product(expansion, {int(b): float(scene.hs[b, 0, 0]) for b in np.flatnonzero(scene.dead)})
    if method == "exp" or not scene.living.size:
        return product
    parity = parity or _is_reference(scene.optics)
    fit = _Fit(scene, expansion, parity, tile, budget, progress)
    return _METHODS[method](fit, product)


def whole(fused: Fused, scene: Scene, tile: int = 512) -> Cube:
    """Return the whole product, shape ``(B, R h, R w)``, float32."""
    cube = np.empty((scene.bands, *scene.fine_shape), dtype=np.float32)
    for window in tiles(scene.fine_shape, tile):
        cube[:, *window.slices] = fused.window(window)
    return cube


def _is_reference(optics: Optics) -> bool:
    return optics.phase == "reference" and optics.boundary == "circular" and not optics.normalize_kernel


def _gsa(fit: _Fit, product: _Product) -> Fused:
    """Adaptive Gram-Schmidt: the intensity is the least-squares image of P among the coarse bands."""
    scene, optics = fit.scene, fit.scene.optics
    coarse_pan = decimated(scene.pan, wavelet_kernel(optics.ratio, optics.phase), optics.ratio, "symmetric")
    coarse = gather_coarse(scene, coarse_pan, budget=fit.budget)
    varies = np.array(
        [not is_flat(v, m) for v, m in zip(np.diag(coarse.bands), coarse.mean, strict=True)], dtype=bool
    )
    weights = np.zeros(scene.living.size)
    if varies.any():
        weights[varies] = least_squares(coarse.bands[np.ix_(varies, varies)], coarse.cross[varies, 0])
    intensity = fit.expansion.mixed(fit.spread(weights))
    found = fit.moments(intensity, fit.pan)
    mean, pan_mean = found.side_mean
    if is_flat(found.side[0, 0], pan_mean, np.sqrt(found.side[1, 1]), mean):
        return replace(product, notes=("gsa: no combination of bands resembles the PAN; EXP is returned",))
    gains = fit.spread(found.cross[:, 0] / found.side[0, 0])

    def detail(window: Window) -> Floats:
        return np.asarray((fit.pan(window) - pan_mean) - (intensity(window) - mean))

    notes = _thin(coarse.count, scene.living.size)
    return _Injected(
        product.expansion, product.constants, notes, gains, ((detail, np.ones(scene.bands, dtype=bool)),)
    )


def _thin(pixels: int, bands: int) -> tuple[str, ...]:
    """Return a note where the regression has fewer than two coarse pixels a band."""
    if pixels >= 2 * bands:
        return ()
    return (f"gsa: {pixels} valid coarse pixels for {bands} bands; mtf-glp-fs needs no regression on bands",)


def _mtf_glp_fs(fit: _Fit, product: _Product) -> Fused:
    """Full-scale regression on P less its own EXP; bands that share a gain share the detail."""
    scene = fit.scene
    kinds = np.unique(fit.gains)
    smooth = [_interpolated(scene, fit.low_passed(float(gain))) for gain in kinds]
    found = fit.moments(fit.pan, *smooth)
    every = scene.optics.sensor.gains(scene.bands)
    gains, details = np.zeros(scene.living.size), []
    for number, gain in enumerate(kinds):
        shared = found.side[0, number + 1]
        mine = fit.gains == gain
        if not is_flat(shared, found.side_mean[0]):
            gains[mine] = found.cross[mine, 0] / shared
        details.append((_difference(fit.pan, smooth[number]), every == gain))
    return _Injected(product.expansion, product.constants, (), fit.spread(gains), tuple(details))


def _interpolated(scene: Scene, coarse: Floats) -> Image:
    return lambda window: scene.interpolator.window(coarse, window)


def _difference(first: Image, second: Image) -> Image:
    return lambda window: first(window) - second(window)


def _bt_h(fit: _Fit, product: _Product) -> Fused:
    """Brovey transform with haze correction.

    The published form takes least-squares weights over all bands and the darkest value of E as haze. With
    many bands the first has weights of both signs that cancel, so that the intensity falls to nothing where
    the bands do not, and the second makes the quotient unbounded at the darkest pixels. Ours floors and
    clips; where the bands' products are ill-conditioned it also keeps the weights from being negative and
    takes a share of the darkest value: on San Francisco with 47 bands ERGAS is then smaller than that of EXP.
    """
    scene, optics = fit.scene, fit.scene.optics
    kernel = mtf_kernel(float(fit.gains.mean()), optics.ratio, normalize=optics.normalize_kernel, wide=True)
    found = fit.moments(lambda w: filtered_window(scene.pan, kernel, w), fit.pan, between_bands=True)
    gram, cross = found.gram, found.cross[:, 0] + found.mean * found.side_mean[0]
    haze = found.least
    notes: tuple[str, ...] = ()
    number = np.inf if fit.parity else condition(gram)
    if fit.parity or number <= _ILL_CONDITIONED:
        weights = least_squares(gram, cross)
    else:
        weights = nonnegative_least_squares(gram, cross)
        haze = _HAZE * np.maximum(haze, 0.0) + np.minimum(_coarse_least(scene), 0.0)
        notes = (
            f"bt-h: the bands' products have condition number {number:.1e}; weights were kept from being "
            f"negative and haze taken as {100 * _HAZE:.0f} % of the darkest value",
        )
    return _haze_corrected(fit, product, found, weights, haze, notes)


def _haze_corrected(
    fit: _Fit, product: _Product, found: Moments, weights: Floats, haze: Floats, notes: tuple[str, ...]
) -> Fused:
    variance = float(weights @ found.bands @ weights)
    mixed_haze = float(weights @ haze)
    mean = float(weights @ found.mean) - mixed_haze
    smooth_mean, smooth_variance = found.side_mean[0], found.side[0, 0]
    lost = is_flat(smooth_variance, smooth_mean) or is_flat(variance, mean, mixed_haze)
    if lost or (mean <= 0 and not fit.parity):
        note = "bt-h: no combination of bands resembles the PAN; EXP is returned"
        return replace(product, notes=(*notes, note))
    scale = float(np.sqrt(variance / smooth_variance))
    intensity = fit.expansion.mixed(fit.spread(weights))

    def quotient(window: Window) -> Floats:
        matched = (fit.pan(window) - smooth_mean) * scale + mean
        below = intensity(window) - mixed_haze
        if fit.parity:
            return np.asarray(matched / (below + np.finfo(np.float64).eps))
        return np.asarray(np.clip(matched / np.maximum(below, _FLOOR * mean), 0.0, _MOST))

    return _Modulated(product.expansion, product.constants, notes, fit.spread(haze), quotient)


def _coarse_least(scene: Scene) -> Floats:
    """Return the darkest valid coarse value of each living band."""
    return np.array([scene.hs[band][scene.hs_valid].min() for band in scene.living], dtype=np.float64)


def _brovey(fit: _Fit, product: _Product) -> Fused:
    """E_b P / I, with I a combination of bands inside the panchromatic response; our choice of weights."""
    scene = fit.scene
    found = gather_coarse(scene, fit.low_passed(float(fit.gains.mean())), budget=fit.budget)
    chosen = _responding(scene, found)
    gram, cross = found.gram, found.cross[:, 0] + found.mean * found.side_mean[0]
    weights = np.zeros(scene.living.size)
    weights[chosen] = nonnegative_least_squares(gram[np.ix_(chosen, chosen)], cross[chosen])
    mean = float(weights @ found.mean)
    if mean <= 0:
        return replace(product, notes=("brovey: no band grows with the PAN; EXP is returned",))
    intensity = fit.expansion.mixed(fit.spread(weights))

    def quotient(window: Window) -> Floats:
        return np.asarray(np.clip(fit.pan(window) / np.maximum(intensity(window), _FLOOR * mean), 0.0, _MOST))

    return _Modulated(product.expansion, product.constants, (), np.zeros(scene.bands), quotient)


def _responding(scene: Scene, found: Moments) -> NDArray[np.intp]:
    """Return which living bands may lie inside the panchromatic response, as positions among the living.

    By wavelength where it is known; otherwise the bands that correlate best with the panchromatic band.
    """
    if scene.wavelengths is not None:
        centres = scene.wavelengths[scene.living]
        inside = np.flatnonzero((centres >= _RESPONSE[0]) & (centres <= _RESPONSE[1]))
        if inside.size:
            return inside
    spread = np.sqrt(np.maximum(np.diag(found.bands) * found.side[0, 0], 0.0))
    correlation = np.divide(found.cross[:, 0], spread, out=np.zeros_like(spread), where=spread > 0)
    if correlation.max() <= 0:
        return np.arange(correlation.size)
    return np.flatnonzero(correlation >= _CORRELATED * correlation.max())


_METHODS: dict[str, Callable[[_Fit, _Product], Fused]] = {
    "gsa": _gsa,
    "mtf-glp-fs": _mtf_glp_fs,
    "bt-h": _bt_h,
    "brovey": _brovey,
}

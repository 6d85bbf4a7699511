"""Simulated pairs of a hyperspectral cube and a panchromatic band, with the fine cube that both came from.

A scene mixes a few materials with smooth spectra by shares that vary as natural textures do, broken by
parcels with sharp edges. Its reflectance times 10,000 is the truth; the sensors see it through a Gaussian MTF
and a panchromatic response, and add faults whose every parameter is kept. Only the panchromatic response of
half-width 70 to 110 nm around 590 nm ties the two, so detail beyond the visible is a matter of how materials
covary: recoverable, not given away.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.device import derive_seed
from appliedpapers.plugins.pansharpening.degradation import Phase, degrade
from appliedpapers.plugins.pansharpening.scene import Optics, Scene
from appliedpapers.plugins.pansharpening.scene_files import Georeference, write_bands
from appliedpapers.plugins.pansharpening.simulator_spectra import (
    abundances,
    draw_fields,
    draw_materials,
    draw_parcels,
    reflectance,
)

Floats = NDArray[np.float64]
Counts = NDArray[np.uint16]

NODATA = 65535
"""What a file holds where the hyperspectral sensor saw nothing; 0 would be the value of a dead band."""

SCALE = 10_000.0
"""Stored counts per unit of reflectance."""

WATER_NM = ((1350.0, 1420.0), (1810.0, 1950.0))
"""Windows in nm in which water vapour leaves 2 % of the signal."""

PLACE = Georeference(360_000.0, 5_810_000.0, 10.0, "EPSG:32633")
"""Where the fine grid of every simulated scene lies: 10 m pixels in UTM zone 33N."""

_BRIGHTEST = NODATA - 1
_DEFAULT_RANGE_NM, _DEFAULT_BANDS = (420.0, 2400.0), 48
_WATER_SHARE = 0.02
_DEAD_RATE = 0.03
_STRIPES = 0.005


@dataclass(frozen=True)
class SceneOptions:
    """What a simulated scene suffers from.

    Attributes:
        noise: Noise of both sensors, stripes, and two windows of water vapour.
        nonlinear: The panchromatic band is its own power of 0.95 to 1.05.
        misregistered: The panchromatic band is shifted by up to half a fine pixel an axis.
        dead_bands: Each band is constantly 0 with a probability of 3 %.
        nodata: A corner of up to 15 % of the hyperspectral area was not observed.
        materials: Number of spectra that are mixed, 4 to 8.
    """

    noise: bool = True
    nonlinear: bool = False
    misregistered: bool = False
    dead_bands: bool = True
    nodata: bool = True
    materials: int = 6

    @classmethod
    def clean(cls) -> SceneOptions:
        """Return the options of a scene without any fault."""
        return cls(noise=False, dead_bands=False, nodata=False)


@dataclass(frozen=True)
class SimulatedScene:
    """A pair as sensors would deliver it, and the truth about it.

    Attributes:
        scene_id: Its name.
        truth: Fine cube before noise, stripes, dead bands and nodata, shape ``(B, H, W)``, reflectance x
            10,000.
        hs: Coarse cube, shape ``(B, h, w)``; :data:`NODATA` where ``observed`` is False.
        pan: Fine band, shape ``(H, W)``.
        observed: Coarse pixels that were seen, shape ``(h, w)``.
        ratio: Fine pixels per coarse pixel.
        phase: Where coarse samples lie.
        wavelengths: Band centres in nm, shape ``(B,)``.
        fwhm: Band widths in nm, shape ``(B,)``.
        shift: Rows and columns by which the content of ``pan`` moved down and right, in fine pixels.
        dead: Dead bands, shape ``(B,)``.
        gain: MTF of the hyperspectral sensor at Nyquist.
        parameters: Every number that was drawn, as JSON values.
    """

    scene_id: str
    truth: Counts
    hs: Counts
    pan: Counts
    observed: NDArray[np.bool_]
    ratio: int
    phase: Phase
    wavelengths: Floats
    fwhm: Floats
    shift: tuple[float, float]
    dead: NDArray[np.bool_]
    gain: float
    parameters: dict[str, Any]

    def to_scene(self, optics: Optics | None = None) -> Scene:
        """Return the pair as every method takes it.

        Args:
            optics: Grids and sensor as a user would state them; by default the generic sensor, because
                nobody knows the gain that was drawn.
        """
        optics = optics or Optics(self.ratio, self.phase)
        hs = self.hs.astype(np.float32)
        hs[:, ~self.observed] = np.nan
        return Scene.of(
            self.scene_id,
            hs,
            self.pan.astype(np.float32),
            replace(optics, ratio=self.ratio, phase=self.phase),
            wavelengths=self.wavelengths,
            truth=self.truth.astype(np.float32),
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``<scene_id>_hs.tif`` and ``<scene_id>_pan.tif`` as GeoTIFFs in UTM zone 33N.

        Returns:
            Their paths.

        Raises:
            RunError: The folder cannot be written to, or the disk is full.
        """
        hs_path, pan_path = folder / f"{self.scene_id}_hs.tif", folder / f"{self.scene_id}_pan.tif"
        write_bands(
            hs_path,
            self.hs,
            PLACE.coarser(self.ratio),
            nodata=NODATA,
            wavelengths=self.wavelengths,
            fwhm=self.fwhm,
        )
        write_bands(pan_path, self.pan[None], PLACE, nodata=NODATA)
        return hs_path, pan_path


def simulate_scene(
    seed: int,
    options: SceneOptions | None = None,
    *,
    ratio: int = 3,
    size: int = 192,
    bands: int = _DEFAULT_BANDS,
    phase: Phase = "centre",
    wavelengths: Floats | None = None,
    band_range: tuple[float, float] | None = None,
    scene_id: str | None = None,
) -> SimulatedScene:
    """Simulate one scene; the same arguments give the same bytes.

    Args:
        seed: Of this scene.
        options: Faults; the usual ones by default.
        ratio: Fine pixels per coarse pixel, 2 to 8.
        size: Height and width of the fine grid, a multiple of ``ratio``.
        bands: Number of bands, evenly spaced from 420 to 2,400 nm or over ``band_range``.
        phase: Where coarse samples lie on the fine grid.
        wavelengths: Band centres in nm, shape ``(B,)``, in place of ``bands``.
        band_range: First and last band centre in nm; the panchromatic response then still covers the visible.
        scene_id: Its name; from the seed by default.

    Raises:
        ValueError: ``size`` is not a multiple of ``ratio``, or the number of materials is not 4 to 8.
    """
    options = options or SceneOptions()
    if size % ratio:
        raise ValueError(f"the size must be a multiple of the ratio {ratio}, not {size}")
    if not 4 <= options.materials <= 8:
        raise ValueError(f"a scene has 4 to 8 materials, not {options.materials}")
    first, last = band_range or _DEFAULT_RANGE_NM
    centres = np.linspace(first, last, bands) if wavelengths is None else np.asarray(wavelengths, float)
    drawn: dict[str, Any] = {"seed": seed, "ratio": ratio, "size": size, "phase": phase, **asdict(options)}
    light = _draw_light(seed, options.materials, size, drawn)
    spectra = reflectance(drawn["spectra"], centres)
    seen = np.where(_in_water(centres) & options.noise, _WATER_SHARE, 1.0)
    truth = _counts(np.tensordot(spectra.T * seen[:, None], light, axes=1))
    response_at = centres if band_range is None else np.linspace(*_DEFAULT_RANGE_NM, _DEFAULT_BANDS)
    pan = _draw_pan(seed, options, light, response_at, drawn)
    hs, dead = _draw_hs(seed, options, light, spectra, centres, drawn)
    observed = _draw_wedge(seed, options, size // ratio, drawn)
    hs[:, ~observed] = NODATA
    return SimulatedScene(
        scene_id=scene_id or f"scene-{seed}",
        truth=truth,
        hs=hs,
        pan=pan,
        observed=observed,
        ratio=ratio,
        phase=phase,
        wavelengths=centres,
        fwhm=np.abs(np.gradient(centres)) if centres.size > 1 else np.array([10.0]),
        shift=(drawn["shift"][0], drawn["shift"][1]),
        dead=dead,
        gain=drawn["hs_gain"],
        parameters=drawn,
    )


def _stream(seed: int, purpose: str) -> np.random.Generator:
    # one stream a purpose, so that a fault switched on leaves everything else as it was
    return np.random.default_rng(derive_seed(seed, "pansharpening", purpose))


def _draw_light(seed: int, materials: int, size: int, drawn: dict[str, Any]) -> Floats:
    """Return illumination times the share of each material, shape ``(K, size, size)``."""
    rng = _stream(seed, "ground")
    drawn["spectra"] = draw_materials(_stream(seed, "spectra"), materials)
    betas = rng.uniform(2, 3, materials + 1)
    parcels = int(rng.integers(60, 151))
    drawn["betas"], drawn["parcels"] = betas.tolist(), parcels
    fields = draw_fields(rng, betas, size)
    light = abundances(fields[1:], draw_parcels(rng, parcels, materials, size))
    light *= np.clip(1 + 0.1 * fields[0], 0.6, 1.4)
    return light


def _draw_pan(
    seed: int, options: SceneOptions, light: Floats, centres: Floats, drawn: dict[str, Any]
) -> Counts:
    rng = _stream(seed, "pan")
    centre, width = rng.uniform(570, 610), rng.uniform(70, 110)
    gamma, shift, snr = rng.uniform(0.95, 1.05), rng.uniform(-0.5, 0.5, 2), rng.uniform(80, 200)
    noise = rng.standard_normal(light.shape[1:])
    response = np.exp(-0.5 * ((centres - centre) / width) ** 2)
    response /= response.sum()
    pan = np.tensordot(reflectance(drawn["spectra"], centres) @ response, light, axes=1)
    pan = pan**gamma if options.nonlinear else pan
    if options.misregistered:
        from scipy.ndimage import shift as shifted

        pan = shifted(pan, shift, order=5, mode="nearest")
    if options.noise:
        pan = pan + pan.mean() / snr * noise
    drawn["pan_response_nm"] = [float(centre), float(width)]
    drawn["gamma"] = float(gamma) if options.nonlinear else 1.0
    drawn["shift"] = shift.tolist() if options.misregistered else [0.0, 0.0]
    drawn["pan_snr"] = float(snr) if options.noise else None
    return _counts(pan)


def _draw_hs(
    seed: int,
    options: SceneOptions,
    light: Floats,
    spectra: Floats,
    centres: Floats,
    drawn: dict[str, Any],
) -> tuple[Counts, NDArray[np.bool_]]:
    """Return the coarse cube without its nodata, and which bands are dead."""
    rng = _stream(seed, "hs")
    gain = float(rng.uniform(0.25, 0.35))
    drawn["hs_gain"] = gain
    # filtering and mixing are both linear: materials are filtered, of which there are fewer than bands
    coarse = np.tensordot(spectra.T, degrade(light, drawn["ratio"], gain, drawn["phase"]), axes=1)
    drawn["hs_snr"], drawn["water_bands"] = None, []
    if options.noise:
        snr = np.interp(centres, _DEFAULT_RANGE_NM, (300, 80)) * rng.uniform(0.8, 1.2, centres.size)
        stripes = 1 + _STRIPES * rng.standard_normal((centres.size, 1, coarse.shape[2]))
        water = _in_water(centres)
        coarse[water] *= _WATER_SHARE
        # of what is left in the windows of water vapour: else their noise alone would decide ERGAS
        sigma = coarse.mean(axis=(1, 2), keepdims=True) / snr[:, None, None]
        coarse = coarse * stripes + sigma * rng.standard_normal(coarse.shape)
        drawn["hs_snr"], drawn["water_bands"] = snr.tolist(), np.flatnonzero(water).tolist()
    dead = (_stream(seed, "dead").random(centres.size) < _DEAD_RATE) & options.dead_bands
    hs = _counts(coarse)
    hs[dead] = 0
    drawn["dead_bands"] = np.flatnonzero(dead).tolist()
    return hs, dead


def _draw_wedge(seed: int, options: SceneOptions, size: int, drawn: dict[str, Any]) -> NDArray[np.bool_]:
    """Return which coarse pixels lie outside a triangle in one corner, shape ``(size, size)``."""
    rng = _stream(seed, "wedge")
    share, slope, corner = rng.uniform(0, 0.15), rng.uniform(0.7, 1.4), int(rng.integers(4))
    if not options.nodata:
        drawn["wedge"] = None
        return np.ones((size, size), dtype=np.bool_)
    # a triangle of height h and width w covers h * w / 2
    height, width = np.sqrt(2 * share * slope), np.sqrt(2 * share / slope)
    place = (np.arange(size) + 0.5) / size
    observed = place[:, None] / height + place[None, :] / width >= 1
    drawn["wedge"] = {"share": float(share), "slope": float(slope), "corner": corner}
    return np.ascontiguousarray(np.rot90(observed, corner))


def _in_water(centres: Floats) -> NDArray[np.bool_]:
    windows = np.array(WATER_NM)[:, :, None]
    return np.asarray(((windows[:, 0] <= centres) & (centres <= windows[:, 1])).any(axis=0), dtype=np.bool_)


def _counts(reflected: Floats) -> Counts:
    return np.clip(np.rint(SCALE * reflected), 0, _BRIGHTEST).astype(np.uint16)

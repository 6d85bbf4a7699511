"""Tiny scenes, and settings under which networks adapt to them within seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from raster_files import write_tif

from appliedpapers.core import config as configs
from appliedpapers.core.bundle import save_bundle
from appliedpapers.plugins.pansharpening.adaptation import first_network
from appliedpapers.plugins.pansharpening.bandwise import BandAdapter
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.inputs import NetworkInputs, Normalisation, adaptation_windows
from appliedpapers.plugins.pansharpening.model import Pansharpener
from appliedpapers.plugins.pansharpening.products import Task
from appliedpapers.plugins.pansharpening.rhopnn import RhoPnnAdapter
from appliedpapers.plugins.pansharpening.rpnn import RPnnAdapter
from appliedpapers.plugins.pansharpening.scene import Optics, Scene
from appliedpapers.plugins.pansharpening.simulator import SceneOptions, SimulatedScene, simulate_scene

# the networks alone, as the papers have them: nothing else could hide what they do
SHORT = {
    "output": {"quality": "none"},
    "consistency": 0,
    "adaptation": {
        **{"max_iterations": 3, "plateau": 0, "base": "exp", "fallback": False},
        "rho": {"soups": 1, "soup_epochs": 1, "first_epochs": 3},
        "r": {"weights": "random", "random_iterations": 3},
    },
}

MISSING = 65535


def configured(method: str = "rho-pnn", **options: Any) -> PansharpeningConfig:
    """Return short settings; options are sections as mappings, such as ``adaptation={"lr": 1e-3}``."""
    merged = configs.merge(configs.merge(SHORT, {"method": method}), options)
    return configs.validate(PansharpeningConfig, merged)


def simulated(seed: int = 1, *, ratio: int = 2, size: int = 48, bands: int = 4, **faults: Any) -> Scene:
    """Return a scene of the visible and near infrared; without faults unless they are named."""
    return raw(seed, ratio=ratio, size=size, bands=bands, **faults).to_scene()


def raw(seed: int = 1, *, ratio: int = 2, size: int = 48, bands: int = 4, **faults: Any) -> SimulatedScene:
    """Return the stored counts of :func:`simulated`."""
    wanted = {"noise": False, "dead_bands": False, "nodata": False, **faults}
    return simulate_scene(
        seed, SceneOptions(**wanted), ratio=ratio, size=size, bands=bands, band_range=(450.0, 850.0)
    )


def adapter(scene: Scene, config: PansharpeningConfig) -> BandAdapter:
    """Return the networks' adapter as a product makes it."""
    by_band = config.method == "r-pnn"
    options = config.adaptation
    inputs = NetworkInputs(scene, Normalisation.of(scene), thresholded=by_band)
    coarse = adaptation_windows(scene, options.rho.tile, options.rho.tiles, 0)
    kind = RPnnAdapter if by_band else RhoPnnAdapter
    return kind(inputs, options, coarse, config.seed, first_network(Task(scene, config)))


def sharpened(scene: Scene, config: PansharpeningConfig, **more: Any) -> np.ndarray:
    """Return the cube that a model of these settings makes of a scene."""
    return Pansharpener(config).sharpen(scene, **more)


def bundled(folder: Path, config: PansharpeningConfig) -> Path:
    """Write a model of these settings; it needs no fit."""
    save_bundle(Pansharpener(config), folder, plugin="pansharpening", task="sharpening")
    return folder


def rebuilt(scene: Scene, hs: np.ndarray, pan: np.ndarray, **more: Any) -> Scene:
    """Return a scene of other images on the same grids."""
    return Scene.of(
        scene.scene_id, hs, pan, scene.optics, **{"wavelengths": scene.wavelengths, "truth": None, **more}
    )


def optics(ratio: int) -> Optics:
    """Return the grids that the product assumes."""
    return Optics(ratio)


def write_scene(folder: Path, scene: SimulatedScene, *, name: str = "scene", **hs: Any) -> tuple[Path, Path]:
    """Write ``NAME_hs.tif`` and ``NAME_pan.tif``."""
    options = {"wavelengths": scene.wavelengths, "nodata": MISSING, **hs}
    coarse = write_tif(folder / f"{name}_hs.tif", options.pop("values", scene.hs), **options)
    fine = write_tif(folder / f"{name}_pan.tif", scene.pan[None], pixel=30 / scene.ratio, nodata=MISSING)
    return coarse, fine


def write_manifest(folder: Path, *rows: tuple[str, ...], columns: str = "scene_id,hs_path,pan_path") -> Path:
    """Write a manifest with paths relative to it."""
    path = folder / "manifest.csv"
    path.write_text("\n".join([columns, *(",".join(row) for row in rows)]) + "\n")
    return path

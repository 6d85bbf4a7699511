"""One configuration of pansharpening on a real scene, judged beside the truth and at full resolution.

    python -m benchmarks.pansharpening_scenes --dataset san-francisco --set method=gsa
    python -m benchmarks.pansharpening_scenes --dataset paris --set method=rho-pnn --threads 2 --json
    python -m benchmarks.pansharpening_scenes --set method=r-pnn --bands-every 8 --steps 0 3
    python -m benchmarks.pansharpening_scenes --set method=mtf-glp-fs --parity 0:288

The scene is sharpened once; the product is then brought back to what the sensor saw by each number of
``--steps`` of back-projection, which is what ``--set consistency=STEPS`` does. ``--parity`` judges a
classical method on rows of San Francisco as the public benchmark does (arXiv 2407.01355), in place of the
product's own settings. Q2n beside the truth is that of pixels 10 to 105 on both axes, which blocks of 32
divide.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.config import resolve
from appliedpapers.core.fetching import fetch
from appliedpapers.core.model import FitContext
from appliedpapers.core.progress import Progress, choose_progress
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.pansharpening.assessment import at_full_resolution, beside_truth
from appliedpapers.plugins.pansharpening.classical import sharpen, whole
from appliedpapers.plugins.pansharpening.config import Classical, PansharpeningConfig
from appliedpapers.plugins.pansharpening.consistency import back_projected
from appliedpapers.plugins.pansharpening.data import DATASETS
from appliedpapers.plugins.pansharpening.fidelity import cut, ergas, sam
from appliedpapers.plugins.pansharpening.model import Pansharpener
from appliedpapers.plugins.pansharpening.published_data import (
    entry_of,
    read_pan_response,
    read_san_francisco,
)
from appliedpapers.plugins.pansharpening.published_scenes import wald_scene
from appliedpapers.plugins.pansharpening.q2n import q2n_map
from appliedpapers.plugins.pansharpening.scene import Optics, Scene, Sensor

PLUGIN = "pansharpening"
VISIBLE_NM = 700.0
SPECTRAL_TARGET = 0.65
STEPS = (0, 1, 2, 3)

_Q2N_WINDOW = slice(10, 106)
_BRIGHTEST = 65_536.0
_PAPER_OPTICS = Optics(
    6, phase="reference", sensor=Sensor(0.3, 0.2), boundary="circular", normalize_kernel=False
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _parse(arguments)
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{found['bands']} bands, {found['seconds']:.1f} s")
    for steps, figures in found["steps"].items():
        print(f"{steps} steps of back-projection")
        print("  " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    for band in found["reports"]:
        print(
            f"  {band['nm']:>6.0f} nm  share {band['share']:.3f}  {band['iterations']:>4} iterations  "
            f"{band['ending']}{'  missed' if band['missed'] else ''}"
        )
    return 0


def measured(*words: str) -> dict[str, Any]:
    """Return what ``python -m benchmarks.pansharpening_scenes WORDS --json`` prints, in this process."""
    return measure(_parse(words))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One configuration of pansharpening on a real scene.")
    parser.add_argument("--dataset", default="san-francisco", help="a published dataset")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="option of the run")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="steps of back-projection")
    parser.add_argument("--bands-every", type=int, default=1, metavar="N", help="keep every Nth band")
    parser.add_argument("--parity", metavar="FIRST:END", help="rows of San Francisco, judged as published")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Sharpen a scene and return its figures.

    Returns:
        ``bands``, ``seconds`` of sharpening, ``steps`` (figures by number of steps of back-projection, as
        text) and ``reports`` (one a band that a network adapted to).

    Raises:
        AppsError: Data are absent, or the configuration does not fit them.
    """
    # back-projection is applied afterwards
    config = resolve(PansharpeningConfig, preset="default", assignments=[*options.set, "consistency=0"])
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    if options.parity:
        return _as_published(cast("Classical", config.method), options.parity)
    scene = thinned(scene_of(options.dataset, config), options.bands_every)
    started = time.perf_counter()
    cube, reports = sharpened(scene, config, choose_progress(options.json))
    seconds = time.perf_counter() - started
    corrected = {steps: back(cube, scene, steps) for steps in options.steps}
    return {
        "bands": scene.bands,
        "seconds": seconds,
        "steps": {str(steps): figures(scene, product) for steps, product in corrected.items()},
        "reports": reports,
    }


def scene_of(dataset: str, config: PansharpeningConfig) -> Scene:
    """Return the test scene of a published dataset.

    Raises:
        DataError: Its files are absent or damaged.
    """
    split = load_dataset(DATASETS, PLUGIN, config, dataset=dataset, accept_licence=True).test
    return next(iter(cast("Any", split).scenes()))


def thinned(scene: Scene, every: int) -> Scene:
    """Return a scene with every so many-th band; its panchromatic band stays that of all."""
    kept = np.arange(0, scene.bands, every)
    return chosen(scene, kept) if every > 1 else scene


def chosen(scene: Scene, bands: NDArray[np.intp]) -> Scene:
    """Return a scene with these bands in this order."""

    def of(values: Any) -> Any:
        return None if values is None else values[bands]

    return replace(
        scene,
        hs=scene.hs[bands],
        dead=scene.dead[bands],
        band_valid=of(scene.band_valid),
        wavelengths=of(scene.wavelengths),
        truth=of(scene.truth),
    )


def model_of(config: PansharpeningConfig) -> Pansharpener:
    """Return a fitted sharpener, with first weights where the configuration wants them."""
    empty: Any = None
    with tempfile.TemporaryDirectory() as folder:
        return Pansharpener(config).fit(empty, empty, FitContext(Path(folder), seed=config.seed))


def sharpened(
    scene: Scene, config: PansharpeningConfig, progress: Progress | None = None
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Return the product in physical units, shape ``(B, R h, R w)``, and how its bands were adapted to."""
    product = model_of(config).product(scene, progress=progress)
    centres = scene.wavelengths
    reports = [
        {**report, "nm": None if centres is None else float(centres[report["band"]])}
        for report in product.reports
    ]
    return product.whole(), reports


def back(cube: NDArray[np.float32], scene: Scene, steps: int) -> NDArray[np.float32]:
    """Return a product after so many steps of back-projection."""
    if not steps:
        return cube
    return np.stack([back_projected(plane, scene, band, steps) for band, plane in enumerate(cube)])


def figures(scene: Scene, cube: NDArray[np.float32]) -> dict[str, float]:
    """Return all metrics of a product; those beside the truth only where that is known."""
    # the published D_lambda of scenes without a truth is that of one block
    window: Any = "all" if scene.truth is not None else "top-left"
    found = at_full_resolution(scene, cube, window=window).values()
    shares = spectral_shares(scene, cube)
    found |= {
        "reached": float((shares <= SPECTRAL_TARGET).mean()),
        "largest_share": float(shares.max()),
    }
    if scene.truth is None:
        return found
    sums = beside_truth(scene, cube)
    found |= sums.values()
    found["ergas_visible"] = sums.value("ergas", sums.within(0.0, VISIBLE_NM))
    found["ergas_infrared"] = sums.value("ergas", sums.within(VISIBLE_NM, np.inf))
    window = (..., _Q2N_WINDOW, _Q2N_WINDOW)
    found["q2n"] = float(np.nanmean(q2n_map(scene.truth[window], cube[window], unit=scene.unit)))
    return found


def spectral_shares(scene: Scene, cube: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the spectral loss of each living band's product as a share of EXP's, whole scenes alone."""
    gains = scene.optics.sensor.gains(scene.bands)
    found = []
    for band in scene.living:
        seen = np.asarray(scene.hs[band], dtype=np.float64)
        losses = [
            np.abs(_seen(np.asarray(image, dtype=np.float64), scene.optics, float(gains[band])) - seen)[
                scene.hs_valid
            ].mean()
            for image in (cube[band], scene.interpolator(seen))
        ]
        found.append(losses[0] / losses[1])
    return np.array(found)


def _seen(image: NDArray[np.float64], optics: Optics, gain: float) -> NDArray[np.float64]:
    return replace(optics, sensor=replace(optics.sensor, hs_gain=gain)).degrade_hs(image[None])[0]


def _as_published(method: Classical, rows: str) -> dict[str, Any]:
    """Judge a classical method as the public benchmark does; ERGAS and SAM alone."""
    first, end = (int(part) for part in rows.split(":"))
    scene = paper_scene(slice(first, end))
    started = time.perf_counter()
    product = whole(sharpen(method, scene, parity=True), scene)
    seconds = time.perf_counter() - started
    assert scene.truth is not None
    truth, judged = cut(scene.truth), cut(np.clip(product.astype(np.float64), 0, _BRIGHTEST))
    scores: Mapping[str, float] = {
        "ergas": ergas(truth, judged, scene.optics.ratio),
        "sam": sam(truth, judged, parity=True),
    }
    return {"bands": scene.bands, "seconds": seconds, "steps": {"0": dict(scores)}, "reports": []}


def paper_scene(rows: slice) -> Scene:
    """Return rows of San Francisco by Wald's protocol, for methods set up as in the public benchmark."""
    folder = fetch(PLUGIN, entry_of("san-francisco"))
    cube = read_san_francisco(folder)
    fine = cube.values[:, rows, :132].astype(np.float64)
    pan = np.rint(np.tensordot(read_pan_response(folder, cube.wavelengths), fine, axes=1))
    return wald_scene("san-francisco", fine, pan, _PAPER_OPTICS, cube.wavelengths)


if __name__ == "__main__":
    sys.exit(main())

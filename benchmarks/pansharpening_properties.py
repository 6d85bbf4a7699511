"""What must hold of pansharpening whatever its scores: units, order, repeats, nodata, tiles, faults.

    python -m benchmarks.pansharpening_properties invariance --bands-every 4
    python -m benchmarks.pansharpening_properties enmap --json
    python -m benchmarks.pansharpening_properties simulator

``invariance`` sharpens the standard crop of San Francisco in other units and in another order of bands, and a
simulated pair of files twice. ``enmap`` sharpens the half-observed Potsdam mosaic from files to files at
ratio 2 and 3, networks on a few bands. ``simulator`` counts what is known about simulated scenes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.config import resolve
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.core.sources import load_dataset
from appliedpapers.plugins.pansharpening.adaptation import first_network
from appliedpapers.plugins.pansharpening.assessment import beside_truth
from appliedpapers.plugins.pansharpening.bandwise import BandAdapter
from appliedpapers.plugins.pansharpening.classical import sharpen, whole
from appliedpapers.plugins.pansharpening.config import CLASSICAL, Classical, PansharpeningConfig
from appliedpapers.plugins.pansharpening.data import DATASETS
from appliedpapers.plugins.pansharpening.inputs import NetworkInputs, Normalisation, adaptation_windows
from appliedpapers.plugins.pansharpening.products import Task
from appliedpapers.plugins.pansharpening.rhopnn import RhoPnnAdapter
from appliedpapers.plugins.pansharpening.rpnn import RPnnAdapter
from appliedpapers.plugins.pansharpening.scene import Scene
from appliedpapers.plugins.pansharpening.shift import estimate_shift
from appliedpapers.plugins.pansharpening.simulator import SimulatedScene
from appliedpapers.plugins.pansharpening.splits import SceneItem, SimulatedItem
from benchmarks.pansharpening_scenes import PLUGIN, chosen, model_of, scene_of, sharpened, thinned

NETWORKS = ("r-pnn", "rho-pnn")
_RATIOS = (2, 3)
_ENMAP_CLASSICAL: tuple[Classical, ...] = ("gsa", "mtf-glp-fs")
# a few bands and steps: what is asked is not how well they sharpen
_FEW_NM = (500.0, 540.0)
_FEW = (
    *("adaptation.max_iterations=3", "adaptation.r.random_iterations=5"),
    *("adaptation.rho.soups=2", "adaptation.rho.soup_epochs=1", "adaptation.rho.first_epochs=3"),
)
_TILE = 64
_MARGIN = 0.05
_OTHER_NODATA = -9999
_SANITY = ("size=144", "bands=24")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _parse(arguments)
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return 0
    for name, figures in found.items():
        print(name)
        print("  " + "\n  ".join(f"{what:<34}{value:.6g}" for what, value in figures.items()))
    return 0


def measured(*words: str) -> dict[str, Any]:
    """Return what ``python -m benchmarks.pansharpening_properties WORDS --json`` prints, in this process."""
    return measure(_parse(words))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What must hold of pansharpening whatever its scores.")
    parser.add_argument("what", choices=("invariance", "enmap", "simulator"))
    parser.add_argument("--bands-every", type=int, default=4, metavar="N", help="invariance: every Nth band")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="option of the networks")
    parser.add_argument("--scenes", type=int, default=16, help="simulator: how many")
    parser.add_argument("--ratios", type=int, nargs="+", default=_RATIOS, help="enmap: which")
    parser.add_argument("--methods", nargs="+", help="invariance, enmap: which")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return figures by method, by ratio, or of the simulator.

    Raises:
        AppsError: Data are absent.
    """
    if options.what == "invariance":
        methods = options.methods or ("gsa", *NETWORKS)
        return {method: invariance(method, options.bands_every, options.set) for method in methods}
    if options.what == "enmap":
        return {f"ratio {ratio}": enmap(ratio, options.set, options.methods) for ratio in options.ratios}
    return {"simulator": simulator(options.scenes)}


# units, order, repeats


def invariance(method: str, every: int, assignments: Sequence[str] = ()) -> dict[str, float]:
    """Return how much units, the order of bands and a second try change the product of a method."""
    config = resolve(PansharpeningConfig, assignments=[f"method={method}", *assignments])
    scene = thinned(scene_of("san-francisco", config), every)
    cube = sharpened(scene, config)[0]
    usual = _ergas(scene, cube)
    order = np.random.default_rng(0).permutation(scene.bands)
    shuffled = sharpened(chosen(scene, order), config)[0][np.argsort(order)]
    tenfold, floats = (_scaled(scene, factor) for factor in (10.0, 1e-4))
    return {
        "ergas": usual,
        "change at ten times the values": abs(_ergas(tenfold, sharpened(tenfold, config)[0]) / usual - 1),
        "change as floats / 1e4": abs(_ergas(floats, sharpened(floats, config)[0]) / usual - 1),
        "difference of shuffled bands": float(np.abs(shuffled - cube).max()),
        "difference of a second try": float(np.abs(sharpened(scene, config)[0] - cube).max()),
        "identical files": float(_identical_files(config)),
    }


def _scaled(scene: Scene, factor: float) -> Scene:
    assert scene.truth is not None
    hs, pan, truth = (values * np.float32(factor) for values in (scene.hs, scene.pan, scene.truth))
    unit = scene.unit * factor if factor < 1 else scene.unit
    return replace(scene, hs=hs, pan=pan, truth=truth, unit=unit)


def _ergas(scene: Scene, cube: NDArray[np.float32]) -> float:
    return beside_truth(scene, cube).value("ergas")


def _identical_files(config: PansharpeningConfig) -> bool:
    """Return whether two tries write the same bytes of a simulated pair."""
    small = {"simulator": {"size": 96, "bands": 6}, "output": {"quality": "none"}}
    config = resolve(
        PansharpeningConfig,
        assignments=[
            f"method={config.method}",
            *(f"{part}.{name}={value}" for part, values in small.items() for name, value in values.items()),
            *(_FEW if config.method in NETWORKS else ()),
            f"adaptation.r.weights={config.adaptation.r.weights}",
        ],
    )
    item = cast("Any", DATASETS.simulated(config).test).items[0]
    sums = set()
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            sums.add(_delivered(item, config, Path(folder))["product_sha256"])
    return len(sums) == 1


def _delivered(item: SceneItem, config: PansharpeningConfig, folder: Path) -> dict[str, Any]:
    hs, pan = item.files(folder / "pair")
    row = _sharpened_files(hs, pan, config, folder)
    return row | {"path": folder / row["product_path"], "hs": hs, "pan": pan}


def _sharpened_files(hs: Path, pan: Path, config: PansharpeningConfig, folder: Path) -> dict[str, Any]:
    import pyarrow as pa

    table = pa.table({"scene_id": ["scene"], "hs_path": [str(hs)], "pan_path": [str(pan)]})
    row: dict[str, Any] = model_of(config).predict(table, files=folder).to_pylist()[0]
    return row


# nodata, georeference, tiles


def enmap(
    ratio: int, assignments: Sequence[str] = (), methods: Sequence[str] | None = None
) -> dict[str, float]:
    """Return what goes wrong from the files of the Potsdam mosaic to those of its products; 0 is right."""
    found: dict[str, float] = {}
    for method in methods or (*_ENMAP_CLASSICAL, *NETWORKS):
        few = (f"data.bands={list(_FEW_NM)}", *_FEW, *assignments) if method in NETWORKS else ()
        config = resolve(
            PansharpeningConfig,
            assignments=[f"method={method}", f"data.ratio={ratio}", "output.quality=none", *few],
        )
        item = _potsdam(config)
        with tempfile.TemporaryDirectory() as folder:
            row = _delivered(item, config, Path(folder))
            nm = _FEW_NM if method in NETWORKS else (0.0, np.inf)
            files = (row["path"], row["hs"], row["pan"])
            compared = _compared(*files, ratio, nm)
            compared["change by another nodata value"] = _leaked(*files, config, Path(folder) / "other")
        found |= {f"{method}: {what}": value for what, value in compared.items()}
    scene = _potsdam(resolve(PansharpeningConfig, assignments=[f"data.ratio={ratio}"])).open()
    assert scene.wavelengths is not None
    visible = chosen(scene, np.flatnonzero(_within(scene.wavelengths, _FEW_NM)))
    for method in methods or (*CLASSICAL, *NETWORKS):
        few = (f"method={method}", *_FEW, *assignments)
        found[f"{method}: tiled beside untiled"] = (
            _tiled_network(visible, resolve(PansharpeningConfig, assignments=few))
            if method in NETWORKS
            else _tiled_classical(scene, cast("Classical", method))
        )
    return found


def _potsdam(config: PansharpeningConfig) -> SceneItem:
    split = load_dataset(DATASETS, PLUGIN, config, dataset="enmap-potsdam", accept_licence=True).test
    item: SceneItem = cast("Any", split).items[0]
    return item


def _within(centres: NDArray[np.float64], nm: tuple[float, float]) -> NDArray[np.bool_]:
    return (centres >= nm[0]) & (centres <= nm[1])


def _compared(product: Path, hs: Path, pan: Path, ratio: int, nm: tuple[float, float]) -> dict[str, float]:
    """Count what differs between a product's file and what its inputs say it should be."""
    import rasterio

    with rasterio.open(product) as out, rasterio.open(hs) as coarse, rasterio.open(pan) as fine:
        centres = np.array([float(coarse.tags(index)["wavelength"]) for index in coarse.indexes])
        indexes = [int(place) + 1 for place in np.flatnonzero(_within(centres, nm))]
        seen = np.repeat(np.repeat(coarse.read_masks(indexes) > 0, ratio, axis=1), ratio, axis=2)
        footprint = seen & (fine.read_masks(1) > 0)
        written = out.read_masks() > 0
        values = out.read().astype(np.float64)[footprint]
        # of the whole input: in single bands fine detail is brighter than any coarse pixel, in the truth too
        given = coarse.read().astype(np.float64)[coarse.read_masks() > 0]
        margin = _MARGIN * (given.max() - given.min())
        wanted = ("wavelength", "wavelength_units", "fwhm")
        lost = sum(
            _plain(out.tags(number).get(name)) != _plain(coarse.tags(index).get(name))
            for number, index in enumerate(indexes, start=1)
            for name in wanted
        )
        return {
            "pixels of another footprint": float((written != footprint).sum()),
            "another CRS": float(out.crs != coarse.crs),
            "another transform": float(out.transform != fine.transform),
            "another nodata value": float(out.nodata != coarse.nodata),
            "tags lost": float(lost + (out.count != len(indexes))),
            "values out of range": float(
                ((values < given.min() - margin) | (values > given.max() + margin)).sum()
            ),
        }


def _plain(tag: str | None) -> float | str | None:
    """Return a tag with numbers as numbers: 418.240 is 418.24."""
    try:
        return None if tag is None else float(tag)
    except ValueError:
        return tag


def _with_other_nodata(source: Path, folder: Path) -> Path:
    """Write a raster again, with another value that means missing."""
    import rasterio

    path = folder / source.name
    with rasterio.open(source) as given:
        profile = {**given.profile, "nodata": _OTHER_NODATA}
        values = np.where(given.read_masks() > 0, given.read(), _OTHER_NODATA).astype(given.dtypes[0])
        with rasterio.open(path, "w", **profile) as written:
            written.write(values)
            for index in given.indexes:
                written.update_tags(index, **given.tags(index))
    return path


def _leaked(product: Path, hs: Path, pan: Path, config: PansharpeningConfig, folder: Path) -> float:
    """Return the largest difference that another nodata value in the inputs makes to valid values."""
    import rasterio

    folder.mkdir()
    other = _sharpened_files(*(_with_other_nodata(path, folder) for path in (hs, pan)), config, folder)
    with rasterio.open(product) as one, rasterio.open(folder / other["product_path"]) as two:
        both = (one.read_masks() > 0) & (two.read_masks() > 0)
        return float(np.abs(one.read().astype(np.float64) - two.read())[both].max())


def _tiled_classical(scene: Scene, method: Classical) -> float:
    untiled = whole(sharpen(method, scene), scene)
    fused, largest = sharpen(method, scene, tile=_TILE), 0.0
    for window in tiles(scene.fine_shape, _TILE):
        apart = np.abs(fused.window(window) - untiled[:, *window.slices])
        largest = max(largest, float(apart.max()))
    return largest


def _tiled_network(scene: Scene, config: PansharpeningConfig) -> float:
    """Return the largest difference between tiles and the whole of one band, by the same weights."""
    by_band = config.method == "r-pnn"
    inputs = NetworkInputs(scene, Normalisation.of(scene), thresholded=by_band)
    weights = model_of(config).weights
    kind: type[BandAdapter] = RPnnAdapter if by_band else RhoPnnAdapter
    windows = adaptation_windows(scene, config.adaptation.rho.tile, config.adaptation.rho.tiles, 0)
    network = first_network(Task(scene, config, weights))
    adapter = kind(inputs, config.adaptation, windows, config.seed, network)
    band = adapter.adapt(0).band
    return float(np.abs(adapter.predict(band, _TILE) - adapter.predict(band, max(scene.fine_shape))).max())


# simulated scenes


def simulator(scenes: int) -> dict[str, float]:
    """Return how many scenes of the simulator's test part are as they should be."""
    clean = ("noise=false", "dead_bands=false", "nodata=false")
    shifts = []
    for item in _test_items(scenes, *clean, "misregistered=true"):
        moved = item.make()
        estimate = estimate_shift(moved.to_scene())
        shifts.append(np.hypot(estimate.row - moved.shift[0], estimate.column - moved.shift[1]))
    faulty = [item.make() for item in _test_items(scenes)]
    again = [item.make() for item in _test_items(scenes)]
    ahead, small = (
        np.array([_glp_is_ahead(item) for item in _test_items(scenes, *clean, *size)])
        for size in ((), _SANITY)
    )
    return {
        "scenes": float(scenes),
        "mtf-glp-fs ahead of exp": float(ahead.all(axis=1).sum()),
        "mtf-glp-fs ahead of exp in ERGAS": float(ahead[:, 0].sum()),
        "mtf-glp-fs ahead, 24 bands": float(small.all(axis=1).sum()),
        "error of the shift": float(max(shifts)),
        "dead bands": float(sum(made.dead.sum() for made in faulty)),
        "dead bands mistaken": float(sum((made.to_scene().dead != made.dead).sum() for made in faulty)),
        "scenes of other bytes": float(
            sum(_bytes_of(one) != _bytes_of(two) for one, two in zip(faulty, again, strict=True))
        ),
    }


def _test_items(scenes: int, *options: str) -> list[SimulatedItem]:
    assignments = [f"simulator.test_scenes={scenes}", *(f"simulator.{option}" for option in options)]
    split = DATASETS.simulated(resolve(PansharpeningConfig, assignments=assignments)).test
    return list(cast("Any", split).items)


def _glp_is_ahead(item: SimulatedItem) -> list[bool]:
    """Return whether mtf-glp-fs is better than interpolation in ERGAS, and in SAM."""
    scene = item.open()
    everything = Window(0, 0, *scene.fine_shape)
    exp, glp = (
        beside_truth(scene, sharpen(cast("Classical", method), scene).window(everything))
        for method in ("exp", "mtf-glp-fs")
    )
    return [glp.value(metric) < exp.value(metric) for metric in ("ergas", "sam")]


def _bytes_of(made: SimulatedScene) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        pair = made.write(Path(folder))
        return made.truth.tobytes() + b"".join(path.read_bytes() for path in pair)


if __name__ == "__main__":
    sys.exit(main())

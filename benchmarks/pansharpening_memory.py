"""Peak memory of sharpening a large pair from files to a file.

    python -m benchmarks.pansharpening_memory
    python -m benchmarks.pansharpening_memory --size 4000 --bands 100 --methods gsa rho-pnn --json

The pair is written window by window: textures that repeat, mixed differently in each band. It is sharpened in
a fresh process each: GSA into all bands; a network, after a few steps of adaptation, into one band. Shown are
the peak of that process, and seconds, reading the pair and writing the GeoTIFF included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pansharpening_gsa import peak_bytes, texture

GOAL = 2e9
METHODS = ("gsa", "rho-pnn")
NETWORKS = ("r-pnn", "rho-pnn")

_TEXTURE = 512
_FIRST_NM, _STEP_NM = 420.0, 10.0
_FEW = (
    *(f"data.bands=[{_FIRST_NM - 1}, {_FIRST_NM + 1}]", "adaptation.max_iterations=3"),
    *("adaptation.r.weights=random", "adaptation.r.random_iterations=3"),
    *("adaptation.rho.soups=1", "adaptation.rho.most_first_steps=2"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Peak memory of sharpening a large pair of files.")
    parser.add_argument("--size", type=int, default=4000, help="side of the product in pixels")
    parser.add_argument("--bands", type=int, default=100)
    parser.add_argument("--ratio", type=int, default=4, help="divides the size")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--quality", default="full", help="report of the product: full, fast or none")
    parser.add_argument("--folder", type=Path, help="where the pair and products go; default: temporary")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(sharpen_one(options.one[0], Path(options.one[1]), options.quality)))
        return 0
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return 0
    for method, one in found.items():
        word = "met" if one["bytes"] < GOAL else "missed"
        print(
            f"{method:<8} peak {one['bytes'] / 1e6:,.0f} MB in {one['seconds']:,.0f} s "
            f"(goal < {GOAL / 1e6:,.0f} MB {word})"
        )
    return 0


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return bytes and seconds by method.

    Raises:
        CalledProcessError: A method failed.
    """
    found = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_pair(Path(folder), options.size, options.bands, options.ratio)
        for method in options.methods:
            words = ["--one", method, folder, "--quality", options.quality]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.pansharpening_memory", *words],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found[method] = json.loads(done.stdout)
    return found


def write_pair(folder: Path, size: int, bands: int, ratio: int) -> None:
    """Write ``hs.tif`` and ``pan.tif`` as uint16, one window after the other."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    fields = np.stack([texture(rng, (_TEXTURE * ratio, _TEXTURE * ratio)) for _ in range(3)])
    mixing = rng.uniform(0.2, 1, size=(bands, 3)).astype(np.float32)
    # means of blocks: the low-pass of a sensor is not needed to fill memory
    coarse = fields.reshape(3, _TEXTURE, ratio, _TEXTURE, ratio).mean(axis=(2, 4))
    images = {
        "hs": (mixing, coarse, size // ratio, ratio * 10.0),
        "pan": (mixing.mean(axis=0)[None], fields, size, 10.0),
    }
    for name, (weights, tile, side, pixel) in images.items():
        profile: dict[str, Any] = {
            **{"driver": "GTiff", "dtype": "uint16", "count": len(weights), "height": side, "width": side},
            **{"crs": "EPSG:32633", "transform": from_origin(360_000, 5_810_000, pixel, pixel)},
            **{"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band"},
        }
        step = tile.shape[-1]
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as file:
            for band, row in enumerate(weights, start=1):
                image = np.rint(5000 + 600 * np.tensordot(row, tile, axes=1)).astype(np.uint16)
                for top in range(0, side, step):
                    for left in range(0, side, step):
                        height, width = min(step, side - top), min(step, side - left)
                        place = Window(left, top, width, height)
                        file.write(image[:height, :width], band, window=place)
                if name == "hs":
                    centre = _FIRST_NM + _STEP_NM * (band - 1)
                    file.update_tags(band, wavelength=f"{centre:.1f}", wavelength_units="nm")


def sharpen_one(method: str, folder: Path, quality: str) -> dict[str, float]:
    """Sharpen the pair of a folder in this process and return what it took."""
    import pyarrow as pa

    from appliedpapers.core.config import resolve
    from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
    from benchmarks.pansharpening_scenes import model_of

    few = _FEW if method in NETWORKS else ()
    config = resolve(PansharpeningConfig, assignments=[f"method={method}", f"output.quality={quality}", *few])
    table = pa.table(
        {name: [str(folder / value)] for name, value in (("hs_path", "hs.tif"), ("pan_path", "pan.tif"))}
        | {"scene_id": [method]}
    )
    started = time.perf_counter()
    row = model_of(config).predict(table, files=folder / "products").to_pylist()[0]
    seconds = time.perf_counter() - started
    (folder / "products" / row["product_path"]).unlink()
    return {"bytes": float(peak_bytes()), "seconds": seconds, "bands": float(row["bands"])}


if __name__ == "__main__":
    sys.exit(main())

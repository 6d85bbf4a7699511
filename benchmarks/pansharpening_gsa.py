"""Time and memory of GSA on a large product: by windows, in memory, and a plain weighted Brovey beside them.

    python -m benchmarks.pansharpening_gsa

A simulated noise-free pair of random texture is sharpened in a fresh process each, one thread. Seconds cover
statistics and product on disk, not making the pair; GDAL also writes the pair as GeoTIFF first. Memory is
the peak of the process, and by how much it passed what loading the pair took. Brovey with a weighted mean of
the bands is what ``gdal_pansharpen`` computes: by NumPy, and by GDAL itself where rasterio is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.plugins.pansharpening.classical import sharpen
from appliedpapers.plugins.pansharpening.scene import Optics, Scene

WINDOWED, IN_MEMORY, NUMPY_BROVEY, GDAL_BROVEY = (
    "gsa windowed",
    "gsa in memory",
    "brovey numpy",
    "brovey gdal",
)
SECONDS_GOAL, BYTES_GOAL, RATIO_GOAL = 60.0, 2e9, 1.5


def texture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian field of unit variance whose amplitude falls with frequency, float32."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=shape)) * frequency**-1.25, shape)
    return (field / field.std()).astype(np.float32)


def pair(size: int, bands: int, ratio: int) -> Scene:
    """Return a pair whose bands mix three textures; the PAN is their mean."""
    rng = np.random.default_rng(0)
    fields = np.stack([texture(rng, (size, size)) for _ in range(3)])
    mixing = rng.uniform(0.2, 1, size=(bands, 3)).astype(np.float32)
    optics = Optics(ratio)
    coarse = np.tensordot(mixing, optics.degrade_hs(fields).astype(np.float32), axes=1)
    pan = np.tensordot(mixing.mean(axis=0), fields, axes=1)
    return Scene.of("benchmark", 5000 + 600 * coarse, 5000 + 600 * pan, optics)


def windowed(scene: Scene, folder: Path) -> None:
    """Sharpen window by window into a file."""
    fused = sharpen("gsa", scene)
    product = np.memmap(folder / "product", np.float32, "w+", shape=(scene.bands, *scene.fine_shape))
    for window in tiles(scene.fine_shape, 512):
        product[:, *window.slices] = fused.window(window)
    product.flush()


def in_memory(scene: Scene, folder: Path) -> None:
    """Sharpen with EXP held in memory."""
    everything = Window(0, 0, *scene.fine_shape)
    expanded = scene.interpolator(scene.hs)
    product = sharpen("gsa", scene, expanded=expanded).window(everything)
    product.tofile(folder / "product")


def numpy_brovey(scene: Scene, folder: Path) -> None:
    """Write down the weighted Brovey transform plainly, the whole cube at once."""
    from scipy.ndimage import zoom

    expanded = np.stack(
        [zoom(b, scene.optics.ratio, order=1, grid_mode=True, mode="nearest") for b in scene.hs]
    )
    quotient = scene.pan / expanded.mean(axis=0)
    (expanded * quotient).tofile(folder / "product")


def gdal_brovey(scene: Scene, folder: Path) -> None:
    """Let GDAL pansharpen, by the virtual dataset that ``gdal_pansharpen`` makes, window by window."""
    import rasterio
    from rasterio.transform import from_origin

    size = scene.fine_shape[0]
    for name, image, step in (("pan", scene.pan[None], 1), ("hs", scene.hs, scene.optics.ratio)):
        count, height, width = image.shape
        profile = {"count": count, "height": height, "width": width, "dtype": "float32", "driver": "GTiff"}
        with rasterio.open(
            folder / f"{name}.tif", "w", transform=from_origin(0, size, step, step), **profile
        ) as file:
            file.write(image)
    bands = "".join(
        f'<SpectralBand dstBand="{band}"><SourceFilename>{folder}/hs.tif</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SpectralBand>"
        for band in range(1, scene.bands + 1)
    )
    virtual = (
        '<VRTDataset subClass="VRTPansharpenedDataset"><PansharpeningOptions><Algorithm>WeightedBrovey'
        "</Algorithm><Resampling>Bilinear</Resampling><NumThreads>1</NumThreads><PanchroBand>"
        f"<SourceFilename>{folder}/pan.tif</SourceFilename><SourceBand>1</SourceBand></PanchroBand>"
        f"{bands}</PansharpeningOptions></VRTDataset>"
    )
    product = np.memmap(folder / "product", np.float32, "w+", shape=(scene.bands, *scene.fine_shape))
    with rasterio.open(virtual) as file:
        for window in tiles(scene.fine_shape, 512):
            rows, columns = window.slices
            product[:, rows, columns] = file.read(
                window=((window.top, window.bottom), (window.left, window.right))
            )
    product.flush()


VARIANTS = {WINDOWED: windowed, IN_MEMORY: in_memory, NUMPY_BROVEY: numpy_brovey, GDAL_BROVEY: gdal_brovey}


def peak_bytes() -> int:
    """Return the most memory this process ever held."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def run_one(variant: str, source: Path) -> None:
    """Sharpen the saved pair in this process and print what it took as JSON."""
    with np.load(source) as file:
        scene = Scene.of("benchmark", file["hs"], file["pan"], Optics(int(file["ratio"])))
    before = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        VARIANTS[variant](scene, Path(folder))
        seconds = time.perf_counter() - start
    peak = peak_bytes()
    print(json.dumps({"seconds": seconds, "bytes": peak, "bytes_more": peak - before}))


def measure(size: int, bands: int, ratio: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return medians over processes of each variant; the variants take turns."""
    names = [name for name in VARIANTS if name != GDAL_BROVEY or find_spec("rasterio")]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pair.npz"
        scene = pair(size, bands, ratio)
        np.savez(source, hs=scene.hs, pan=scene.pan, ratio=ratio)
        for _ in range(repeats):
            for name in names:
                command = [sys.executable, "-m", "benchmarks.pansharpening_gsa", "--one", name, str(source)]
                done = subprocess.run(
                    command, check=True, capture_output=True, text=True, env={**os.environ, **threads}
                )
                runs[name].append(json.loads(done.stdout))
    return {n: {k: statistics.median(r[k] for r in rs) for k in rs[0]} for n, rs in runs.items()}


def main() -> None:
    """Measure and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=1200, help="side of the product in pixels")
    parser.add_argument("--bands", type=int, default=60, help="bands")
    parser.add_argument("--ratio", type=int, default=6, help="fine pixels per coarse pixel; divides the size")
    parser.add_argument("--repeats", type=int, default=3, help="processes a variant")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "PAIR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(options.one[0], Path(options.one[1]))
    found = measure(options.size, options.bands, options.ratio, options.repeats)
    ratio = found[WINDOWED]["seconds"] / found[IN_MEMORY]["seconds"]
    if options.json:
        print(json.dumps({"variants": found, "windowed_to_in_memory": ratio}))
        return
    print(f"{'variant':16} {'seconds':>8} {'peak MB':>8} {'added MB':>9}")
    for name, row in found.items():
        print(f"{name:16} {row['seconds']:8.2f} {row['bytes'] / 1e6:8.0f} {row['bytes_more'] / 1e6:9.0f}")
    ours = found[WINDOWED]
    print(f"windowed / in memory {ratio:.2f} (goal <= {RATIO_GOAL})")
    print(f"windowed: goals < {SECONDS_GOAL:.0f} s, < {BYTES_GOAL / 1e6:.0f} MB: ", end="")
    print("met" if ours["seconds"] < SECONDS_GOAL and ours["bytes"] < BYTES_GOAL else "missed")


if __name__ == "__main__":
    main()

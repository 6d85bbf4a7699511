"""Tiles a second and memory of virtual-inking, beside a bare loop over the same encoder.

    python -m benchmarks.virtual_inking_speed
    python -m benchmarks.virtual_inking_speed --json --threads 1

A pyramidal TIFF of simulated tissue is read, its colours are brought to common ones, and its tiles go through
the default encoder as a prediction does it; beside it the same tiles, read before, go through the same
encoder. Both are timed in turn. Then a pyramid of 30,000 x 30,000 pixels, most of it glass, goes through a
whole prediction in a process of its own, whose largest memory is printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_SIDE, _LARGE = 2688, 30_000
_ROUNDS = 3


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.virtual_inking_speed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--threads", type=int, default=1, help="of the encoder")
    parser.add_argument(
        "--large", type=Path, help="predict a large slide in this folder, and print its memory"
    )
    options = parser.parse_args()
    if options.large is not None:
        print(json.dumps(_large(options.large)))
        return 0
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = _speed(Path(folder)) | {"threads": options.threads}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.virtual_inking_speed", "--large", folder],
            capture_output=True,
            text=True,
            check=True,
        )
        found |= json.loads(done.stdout)
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


def _speed(folder: Path) -> dict[str, Any]:
    from appliedpapers.core.config import resolve
    from appliedpapers.plugins.virtual_inking.cases import encoded, encoder_of
    from appliedpapers.plugins.virtual_inking.config import InkingConfig, SlideConfig
    from appliedpapers.plugins.virtual_inking.pyramid_tiff import write_pyramid
    from appliedpapers.plugins.virtual_inking.simulator import simulate_section
    from appliedpapers.plugins.virtual_inking.streaming import SlideSource, TileReader
    from appliedpapers.plugins.virtual_inking.survey import survey

    section = np.tile(simulate_section(1, 0, _SIDE // 3).rgb, (3, 3, 1))
    write_pyramid(folder / "slide.tif", section, (1.0, 1.0))
    config = resolve(InkingConfig, preset="default")
    source, encoder = SlideSource(folder / "slide.tif", SlideConfig()), encoder_of(config)
    found = survey(source.open(), config)
    reader = TileReader(source, found.tiling, config.tiles.pixels, found.normaliser)
    tiles = reader(found.corners)
    encoder.encode(tiles[:16])
    bare, whole = [], []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        expected = encoder.encode(tiles)
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        features = np.concatenate(list(encoded(source, found, config, encoder)))
        whole.append(time.perf_counter() - started)
        if not np.array_equal(features, expected):
            raise SystemExit("the two loops differ in their features")
    return {
        "tiles": len(tiles),
        "bare_tiles_a_second": len(tiles) / statistics.median(bare),
        "tiles_a_second": len(tiles) / statistics.median(whole),
        "ratio": statistics.median(bare) / statistics.median(whole),
    }


def _large(folder: Path) -> dict[str, Any]:
    """Predict a slide of 30,000 x 30,000 pixels, and return the largest memory of the process."""
    import pyarrow as pa

    from appliedpapers.core.config import resolve
    from appliedpapers.core.device import peak_memory_mb
    from appliedpapers.core.model import FitContext
    from appliedpapers.plugins.virtual_inking.config import InkingConfig
    from appliedpapers.plugins.virtual_inking.data import DATASETS
    from appliedpapers.plugins.virtual_inking.model import VirtualInker
    from appliedpapers.plugins.virtual_inking.pyramid_tiff import TILE, packed, write_levels
    from appliedpapers.plugins.virtual_inking.simulator import simulate_section

    rgb = simulate_section(1, 0, 896, confounders=False).rgb
    glass = packed(np.full((TILE, TILE, 3), 243, dtype=np.uint8))
    texture = packed(rgb[320 : 320 + TILE, 320 : 320 + TILE])
    sizes = [(_LARGE // 4**level, _LARGE // 4**level) for level in range(4)]

    def tile(level: int, row: int, column: int) -> bytes:
        middle = (np.array([row, column]) + 0.5) * TILE * 4**level - _LARGE / 2
        return texture if np.hypot(*middle) < 0.4 * _LARGE else glass

    write_levels(folder / "large.tif", sizes, tile, (0.5, 0.5))
    config = resolve(InkingConfig, preset="check")
    dataset = DATASETS.simulated(config)
    model = VirtualInker(config).fit(dataset.train, dataset.valid, FitContext(folder / "fit", seed=1))
    # fewer tiles than a lab would take: what is measured is memory
    model.config = config.replace(tiles={"stride": 448, "rim_um": 300.0}, output={"viewer_mpp": 8.0})
    table = pa.table({"slide_id": ["large"], "slide": [str(folder / "large.tif")]})
    rows = model.predict(table, files=folder / "files")
    return {"memory_mb": peak_memory_mb(), "large_tiles": int(rows["tiles"][0].as_py())}


if __name__ == "__main__":
    sys.exit(main())

"""From two files to a scene: band by band, missing pixels filled, dead bands found, large arrays on disk."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.files import whole_file
from appliedpapers.core.rasters.cube import RasterCube
from appliedpapers.core.rasters.pair import RasterPair, open_pair
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.rasters.wavelengths import bands_within
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.planes import (
    MemoryPlanes,
    Planes,
    file_planes,
    mapped,
    parse_memory,
    recorded,
)
from appliedpapers.plugins.pansharpening.scene import Mask, Scene, is_dead
from appliedpapers.plugins.pansharpening.sensors import optics_of
from appliedpapers.plugins.pansharpening.shift import aligned, estimate_shift

__all__ = ["parse_memory", "read_scene"]

_SHARE = 4
_FIRST_NM, _STEP_NM = 400.0, 10.0
_SAMPLES = 20_000
_PERCENTILE = 99.9
_STEPS = 1e3
_STRIP_BYTES = 192 * 2**20
_VERSION = 1


def read_scene(
    hs_path: Path,
    pan_path: Path,
    config: PansharpeningConfig,
    *,
    scene_id: str,
    scratch: Path | None,
    memory_bytes: int,
) -> tuple[Scene, RasterPair]:
    """Read a pair of rasters as a scene.

    Args:
        hs_path: Hyperspectral raster or product.
        pan_path: Panchromatic raster.
        config: Options ``data``, ``sensor`` and ``adaptation``.
        scene_id: Name of the scene, which also names its files in ``scratch``.
        scratch: Folder for arrays above a quarter of the memory; they stay there, and serve a second try as
            long as the sources do not change. None keeps everything in memory.
        memory_bytes: How much memory the scene may take.

    Returns:
        The scene, and the pair with the bands of the scene alone, for the product.

    Raises:
        DataError: A file cannot be read, the grids do not nest, or a raster has no valid pixel.
        ConfigError: Options do not fit the bands.
        RunError: ``scratch`` is full or not writable.
    """
    pair, wavelengths, notes = open_configured_pair(hs_path, pan_path, config)
    # options are checked before the long reading
    optics = optics_of(config, pair.ratio, pair.hs.count)
    budget = memory_bytes // _SHARE
    hs = _read(pair.hs, pair.hs_window, scratch, f"{scene_id}-hs", budget)
    pan = _read(pair.pan, pair.pan_window, scratch, f"{scene_id}-pan", budget)
    common, differ = _common(hs, pair.hs.path)
    per_band = _masks(hs, scratch, f"{scene_id}-valid", budget) if differ else None
    if not pan.seen(0).any():
        raise DataError(
            f"{pan_path}: the panchromatic band has no valid pixel on the ground that both cover.",
            hint="Check its nodata value with gdalinfo -stats.",
        )
    if pan.dead[0]:
        raise DataError(f"{pan_path}: the panchromatic band is constant.", hint="Check the file.")
    scene = Scene(
        scene_id=scene_id,
        hs=hs.values,
        pan=pan.values[0],
        optics=optics,
        hs_valid=common,
        pan_valid=pan.seen(0),
        dead=hs.dead,
        band_valid=per_band,
        wavelengths=wavelengths,
        unit=_unit(pair.hs, hs.high),
        notes=(*pair.notes, *notes, *_dead_note(hs.dead)),
    )
    return (_aligned(scene) if config.data.align else scene), pair


def _aligned(scene: Scene) -> Scene:
    """Return the scene with its panchromatic band moved to where the bands are, and a note that says so."""
    estimate = estimate_shift(scene)
    if not estimate.known:
        return replace(scene, notes=(*scene.notes, "The shift could not be measured; nothing was aligned."))
    note = (
        f"The panchromatic band was moved by {-estimate.row:+.2f} rows and {-estimate.column:+.2f} columns "
        "of its pixels."
    )
    return replace(aligned(scene, estimate), notes=(*scene.notes, note))


def open_configured_pair(
    hs_path: Path, pan_path: Path, config: PansharpeningConfig
) -> tuple[RasterPair, NDArray[np.float64] | None, list[str]]:
    """Open a pair as the options ``data`` say; of the rasters only headers are read.

    Returns:
        The pair with the bands that are kept, their centres in nm where known, and notes.

    Raises:
        DataError: A file cannot be read, or the grids do not nest.
        ConfigError: Options do not fit the bands.
    """
    table = None if config.data.wavelengths is None else Path(config.data.wavelengths)
    pair = open_pair(
        hs_path,
        pan_path,
        ratio=config.data.ratio,
        nodata=config.data.nodata,
        wavelengths=table,
        overlap=config.data.overlap,
    )
    wavelengths, notes = _wavelengths(pair.hs, config)
    if config.data.bands is not None:
        kept = _bands_kept(pair.hs, wavelengths, config.data.bands)
        pair, wavelengths = pair.with_bands(kept), None if wavelengths is None else wavelengths[kept]
    return pair, wavelengths, notes


def _wavelengths(
    cube: RasterCube, config: PansharpeningConfig
) -> tuple[NDArray[np.float64] | None, list[str]]:
    known = cube.wavelengths_nm
    if known is not None:
        return known, []
    if config.data.assume_ordered:
        assumed = _FIRST_NM + _STEP_NM * np.arange(cube.count, dtype=np.float64)
        return assumed, [
            f"The file states no wavelengths: bands are taken as ordered from {_FIRST_NM:g} nm on, "
            f"{_STEP_NM:g} nm apart."
        ]
    return None, ["The file states no wavelengths, and none were given (--wavelengths)."]


def _bands_kept(
    cube: RasterCube, wavelengths: NDArray[np.float64] | None, wanted: tuple[float, float]
) -> list[int]:
    low, high = wanted
    if wavelengths is None:
        raise ConfigError(
            f"option 'data.bands': {cube.path} states no wavelengths to choose by.",
            hint="Give them with --wavelengths file.csv.",
        )
    kept = bands_within(wavelengths, low, high)
    if not kept:
        raise ConfigError(
            f"option 'data.bands': no band of {cube.path} lies from {low:g} to {high:g} nm.",
            hint=f"Its bands lie from {wavelengths.min():g} to {wavelengths.max():g} nm.",
        )
    return kept


@dataclass
class _Stack:
    """Filled bands with what was learnt on the way.

    Attributes:
        values: Shape ``(B, h, w)``, float32, finite.
        dead: Shape ``(B,)``.
        high: Value near the top of each band, from its valid pixels; NaN where there are none.
        packed: Mask of each band, eight pixels a byte: whole masks of a large cube would fill the memory.
    """

    values: NDArray[np.float32]
    dead: NDArray[np.bool_]
    high: float
    packed: list[bytes] = field(repr=False)

    def seen(self, band: int) -> Mask:
        """Return which pixels of a band were observed, shape ``(h, w)``."""
        height, width = self.values.shape[1:]
        bits = np.frombuffer(self.packed[band], dtype=np.uint8)
        return np.unpackbits(bits, count=height * width).astype(bool).reshape(height, width)


def _read(cube: RasterCube, window: Window, scratch: Path | None, name: str, budget: int) -> _Stack:
    """Return the bands of a window, from a file of an earlier run if it holds just that."""
    shape = (cube.count, *window.shape)
    if scratch is None or 4 * int(np.prod(shape)) <= budget:
        planes = MemoryPlanes(shape)
        return _stack(planes.array, _fill(cube, window, planes))
    path = _file(scratch, name)
    fingerprint = _fingerprint(cube, window)
    record = recorded(path, fingerprint)
    if record is None:
        record = {"fingerprint": fingerprint}
        with file_planes(path, shape, record) as planes_on_disk:
            record.update(_fill(cube, window, planes_on_disk))
    return _stack(mapped(path), record)


def _stack(values: NDArray[np.float32], record: dict[str, Any]) -> _Stack:
    masks = [base64.b64decode(text) for text in record["masks"]]
    packed = [masks[number] for number in record["mask_of_band"]]
    high = float("nan") if record["high"] is None else float(record["high"])
    return _Stack(values, np.array(record["dead"], dtype=bool), high, packed)


def _fingerprint(cube: RasterCube, window: Window) -> str:
    """Return a digest of everything that the stored bands depend on; files by size and time of change."""
    files = [
        (str(file), stat.st_size, stat.st_mtime_ns)
        for file in cube.files
        if (stat := file.stat() if file.exists() else None) is not None
    ]
    stored = [(code.dtype, code.scale, code.offset, repr(code.nodata)) for code in cube.encodings]
    facts = [_VERSION, files, stored, cube.descriptions, list(window), repr(cube.wavelengths_nm)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _fill(cube: RasterCube, window: Window, planes: Planes) -> dict[str, Any]:
    """Read and fill every band; return masks, dead bands and the high value, ready for JSON."""
    masks: dict[bytes, int] = {}
    mask_of_band, dead, samples = [], [], []
    filler = _Filler()
    for band, values in enumerate(_bands(cube, window, planes)):
        seen = np.isfinite(values)
        packed = np.packbits(seen).tobytes()
        mask_of_band.append(masks.setdefault(packed, len(masks)))
        dead.append(is_dead(values, seen))
        valid = values[seen]
        # a copy: a view would keep the whole band alive
        samples.append(valid[:: max(1, valid.size // _SAMPLES)].copy())
        planes.write(band, filler(values, seen))
    everything = np.concatenate(samples)
    return {
        "masks": [base64.b64encode(packed).decode() for packed in masks],
        "mask_of_band": mask_of_band,
        "dead": dead,
        "high": float(np.percentile(everything, _PERCENTILE)) if everything.size else None,
    }


def _bands(cube: RasterCube, window: Window, planes: Planes) -> Iterator[NDArray[np.float32]]:
    """Yield the bands with NaN where missing, decoding blocks that hold all bands as seldom as fits."""
    if cube.block_rows is None:
        for band in range(cube.count):
            yield cube.read_band(band, window)
        return
    most = max(1, _STRIP_BYTES // (4 * cube.count * window.shape[1]))
    # strips of whole blocks, counted from the top of the file, unless one row of blocks is too much
    rows = max(1, most // cube.block_rows) * cube.block_rows if most >= cube.block_rows else most
    first = window.top // rows
    for strip in range(first, -(-window.bottom // rows)):
        top, bottom = max(strip * rows, window.top), min((strip + 1) * rows, window.bottom)
        block = cube.read(Window(top, window.left, bottom, window.right))
        for band, values in enumerate(block):
            planes.write(band, values, top - window.top)
    for band in range(cube.count):
        yield planes.read(band)


class _Filler:
    """Fills as ``scene.fill_nearest`` does, but searches once for bands that share a mask."""

    def __init__(self) -> None:
        self._seen: Mask | None = None
        self._nearest: Any = None

    def __call__(self, values: NDArray[np.float32], seen: Mask) -> NDArray[np.float32]:
        from scipy.ndimage import distance_transform_edt

        if seen.all():
            return values
        if not seen.any():
            return np.zeros_like(values)
        if self._seen is None or not np.array_equal(self._seen, seen):
            found = distance_transform_edt(~seen, return_distances=False, return_indices=True)
            missing = ~seen
            self._seen, self._nearest = seen, (missing, tuple(axis[missing] for axis in found))
        missing, nearest = self._nearest
        filled = values.copy()
        filled[missing] = values[nearest]
        return filled


def _common(hs: _Stack, path: Path) -> tuple[Mask, bool]:
    """Return what every living band observed, and whether any band differs from it."""
    if not any(any(packed) for packed in set(hs.packed)):
        raise DataError(
            f"{path}: no hyperspectral pixel is valid on the ground that both cover.",
            hint="Check its nodata value with gdalinfo -stats, or set it with --set data.nodata=VALUE.",
        )
    if hs.dead.all():
        raise DataError(f"{path}: every hyperspectral band is constant.", hint="Check the file.")
    living = {hs.packed[band]: int(band) for band in np.flatnonzero(~hs.dead)}
    common = np.logical_and.reduce([hs.seen(band) for band in living.values()])
    if not common.any():
        raise DataError(
            f"{path}: no pixel is valid in every hyperspectral band.",
            hint="Leave out the bands that are nearly empty: --set data.bands=[400,2400].",
        )
    return common, len(set(hs.packed)) > 1


def _masks(hs: _Stack, scratch: Path | None, name: str, budget: int) -> Mask:
    """Return the masks of all bands, shape ``(B, h, w)``, from a file where they are large."""
    shape = hs.values.shape
    every = (hs.seen(band) for band in range(shape[0]))
    if scratch is None or int(np.prod(shape)) <= budget:
        return np.stack(list(every))
    path = _file(scratch, name)
    with whole_file(path) as aside, aside.open("wb") as file:
        header = {"descr": "|b1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for mask in every:
            file.write(mask.data)
    return mapped(path)


def _file(scratch: Path, name: str) -> Path:
    return scratch / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.npy"


def _unit(cube: RasterCube, high: float) -> float:
    """Return the physical size of one stored step; for real numbers, a power of ten with 1,000 steps or more.

    The 99.9th percentile is then 1e3 to 1e4 steps: 1e-4 for reflectance from 0 to 1.
    """
    if np.dtype(cube.dtype).kind != "f":
        return float(np.median([abs(encoding.scale) for encoding in cube.encodings]))
    if not high > 0:
        return 1.0
    return float(10.0 ** np.floor(np.log10(high / _STEPS)))


def _dead_note(dead: NDArray[np.bool_]) -> list[str]:
    if not dead.any():
        return []
    names = ", ".join(str(band + 1) for band in np.flatnonzero(dead))
    return [f"Bands without signal, which pass through unsharpened: {names}."]

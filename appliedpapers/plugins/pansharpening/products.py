"""Sharpening one scene by any method, band by band, resumable at the last finished band."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import appliedpapers
from appliedpapers.core.errors import DataError
from appliedpapers.core.files import sha256_file, whole_file, write_json
from appliedpapers.core.progress import Progress, SilentProgress
from appliedpapers.core.rasters.tiles import Window, tiles
from appliedpapers.core.rasters.writing import TILE, Block
from appliedpapers.plugins.pansharpening.classical import sharpen as sharpen_classically
from appliedpapers.plugins.pansharpening.classical import whole
from appliedpapers.plugins.pansharpening.config import CLASSICAL, PansharpeningConfig
from appliedpapers.plugins.pansharpening.consistency import back_projected
from appliedpapers.plugins.pansharpening.planes import parse_memory
from appliedpapers.plugins.pansharpening.scene import Scene

Plane = NDArray[np.float32]

SMALLEST_FOR_NETWORKS = 16
# of the memory that a scene may take, this share is spent on one tile of all bands
_TILE_SHARE = 8


class Product(Protocol):
    """A sharpened scene: windows of it are computed or read when asked for."""

    @property
    def bands(self) -> int:
        """Number of bands."""

    @property
    def reports(self) -> list[dict[str, Any]]:
        """How the adaptation to each band went; empty for classical methods."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""

    def blocks(self) -> Iterator[Block]:
        """Yield everything once, in windows on multiples of the tile of files."""

    def window(self, window: Window) -> NDArray[np.float32]:
        """Return a window of all bands in physical units, shape ``(B, H, W)``, beyond the footprint, too."""

    def whole(self) -> NDArray[np.float32]:
        """Return the cube in physical units, shape ``(B, R h, R w)``."""


@dataclass(frozen=True)
class Task:
    """What sharpening a scene needs to know.

    Attributes:
        scene: The pair.
        config: The options.
        weights: R-PNN's first weights by name; None where they are not needed.
        device: Where networks run.
        scratch: Folder of what is finished, which a second try reads; None keeps everything in memory.
        progress: Where progress is shown.
    """

    scene: Scene
    config: PansharpeningConfig
    weights: dict[str, Any] | None = None
    device: str = "cpu"
    scratch: Path | None = None
    progress: Progress = field(default_factory=SilentProgress)

    @property
    def memory_bytes(self) -> int:
        """How much memory the scene may take."""
        return parse_memory(self.config.memory)


def sharpen(task: Task) -> Product:
    """Sharpen a scene.

    Raises:
        DataError: A network was asked for and the scene is smaller than 16 x 16 coarse pixels, or states no
            wavelengths.
        RunError: The adaptation diverged, or ``scratch`` is full.
    """
    method = task.config.method
    if method in CLASSICAL:
        fused = sharpen_classically(
            method,
            task.scene,
            budget=task.memory_bytes // _TILE_SHARE,
            progress=task.progress,
        )
        if not task.config.back_projections:
            return _Tiled(fused, task.scene, task.config)
        return _by_band(task, _Corrected(task, fused))
    scene = task.scene
    refusal = network_refusal(scene.coarse_shape, scene.wavelengths is not None, method)
    if refusal is not None:
        raise DataError(
            f"scene '{scene.scene_id}': {refusal}.", hint="--set method=gsa sharpens it without a network."
        )
    from appliedpapers.plugins.pansharpening.adaptation import NetworkBands

    return _by_band(task, NetworkBands(task))


def network_refusal(shape: tuple[int, int], wavelengths_known: bool, method: str) -> str | None:
    """Return why a network cannot sharpen a scene of this coarse height and width, or None."""
    if min(shape) < SMALLEST_FOR_NETWORKS:
        least = SMALLEST_FOR_NETWORKS
        return f"{shape[0]} x {shape[1]} coarse pixels; {method} needs {least} x {least} or more"
    if not wavelengths_known:
        return f"no wavelengths are known; {method} needs them, or --assume-ordered for steps of 10 nm"
    return None


class Bands(Protocol):
    """Something that makes one band after the other in an order of its own."""

    order: list[int]
    notes: tuple[str, ...]

    def make(self, position: int) -> tuple[Plane, dict[str, Any] | None]:
        """Return band ``order[position]`` on the fine grid and how its adaptation went."""

    def state(self) -> bytes:
        """Return what the next band continues from."""

    def restore(self, state: bytes) -> None:
        """Continue from :meth:`state`."""


class _Corrected:
    """Bands of a classical product, brought back to what the sensor saw."""

    def __init__(self, task: Task, fused: Any) -> None:
        self._task, self._fused = task, fused
        self.order = [int(band) for band in task.scene.living]
        self.notes: tuple[str, ...] = tuple(fused.notes)

    def make(self, position: int) -> tuple[Plane, None]:
        """Return a band."""
        band, scene = self.order[position], self._task.scene
        plane = self._fused.band(band, Window(0, 0, *scene.fine_shape))
        return back_projected(plane, scene, band, self._task.config.back_projections), None

    def state(self) -> bytes:
        """Return nothing: bands do not depend on one another."""
        return b""

    def restore(self, state: bytes) -> None:
        """Do nothing."""


def _by_band(task: Task, bands: Bands) -> Product:
    """Make every band, or what an earlier try did not finish."""
    store = _MemoryStore() if task.scratch is None else _FileStore(task.scratch, task)
    done, state = store.resume()
    if done:
        bands.restore(state)
    with task.progress.task("sharpen", len(bands.order)) as progress:
        progress.advance(done)
        for position in range(done, len(bands.order)):
            plane, report = bands.make(position)
            plane = np.maximum(plane, task.scene.floors[bands.order[position]])
            store.add(position, bands.order[position], plane, report, bands.state())
            progress.advance(1, note=_note(task.scene, bands.order[position], report))
    return _Stored(task.scene, task.config, store, bands.notes)


def _note(scene: Scene, band: int, report: dict[str, Any] | None) -> str:
    centre = "" if scene.wavelengths is None else f" {scene.wavelengths[band]:.0f} nm"
    how = "" if report is None else f" · spectral loss {report['share']:.2f} of EXP's"
    return f"band {band + 1}{centre}{how}"


class _MemoryStore:
    def __init__(self) -> None:
        self._planes: dict[int, Plane] = {}
        self.reports: list[dict[str, Any]] = []

    def resume(self) -> tuple[int, bytes]:
        return 0, b""

    def add(
        self, position: int, band: int, plane: Plane, report: dict[str, Any] | None, state: bytes
    ) -> None:
        self._planes[band] = plane
        self.reports += [report] if report else []

    def plane(self, band: int) -> Plane:
        return self._planes[band]


class _FileStore:
    """Finished bands as files: the plane, then the state that the next one continues from, by one rename."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._identity = _identity(task)
        self._sums: dict[str, str] = {}
        self.reports: list[dict[str, Any]] = []

    def resume(self) -> tuple[int, bytes]:
        """Return how many bands are finished and what the next one continues from; none if any is damaged."""
        try:
            ledger = json.loads((self._folder / "bands.json").read_text(encoding="utf-8"))
            if ledger["identity"] != self._identity:
                return 0, b""
            done, sums = int(ledger["done"]), dict(ledger["sha256"])
            state = self._folder / f"state-{done}.bin"
            if any(sha256_file(self._folder / name) != found for name, found in sums.items()):
                return 0, b""
            self._sums, self.reports = sums, list(ledger["reports"])
            return done, state.read_bytes()
        except (OSError, ValueError, KeyError, TypeError):
            return 0, b""

    def add(
        self, position: int, band: int, plane: Plane, report: dict[str, Any] | None, state: bytes
    ) -> None:
        old, new = (self._folder / f"state-{number}.bin" for number in (position, position + 1))
        with whole_file(self._plane(band)) as aside, aside.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": plane.shape}
            np.lib.format.write_array_header_1_0(file, header)
            # numpy's own writing does not say why it failed
            file.write(np.ascontiguousarray(plane, dtype="<f4").data)
        with whole_file(new) as aside:
            aside.write_bytes(state)
        self._sums.pop(old.name, None)
        self._sums |= {path.name: sha256_file(path) for path in (self._plane(band), new)}
        self.reports += [report] if report else []
        # the ledger last: what it names is whole
        write_json(
            self._folder / "bands.json",
            {
                **{"identity": self._identity, "done": position + 1},
                **{"sha256": self._sums, "reports": self.reports},
            },
        )
        old.unlink(missing_ok=True)

    def plane(self, band: int) -> Plane:
        plane: Plane = np.load(self._plane(band), mmap_mode="r")
        return plane

    def _plane(self, band: int) -> Path:
        return self._folder / f"band-{band:04d}.npy"


def _identity(task: Task) -> str:
    """Return a digest of everything that finished bands depend on."""
    scene, digest = task.scene, hashlib.sha256()
    # another version may compute otherwise
    digest.update(appliedpapers.__version__.encode())
    digest.update(task.config.model_dump_json(exclude={"output", "memory", "evaluation"}).encode())
    for name, value in sorted((task.weights or {}).items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    digest.update(repr((scene.scene_id, scene.hs.shape, scene.pan.shape, scene.optics, task.device)).encode())
    for image in (*scene.hs, scene.pan):
        digest.update(np.ascontiguousarray(image).tobytes())
    per_band = () if scene.band_valid is None else scene.band_valid
    for mask in (scene.hs_valid, scene.pan_valid, scene.dead, *per_band):
        digest.update(np.ascontiguousarray(mask).tobytes())
    if scene.wavelengths is not None:
        digest.update(scene.wavelengths.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Stored:
    scene: Scene
    config: PansharpeningConfig
    store: _MemoryStore | _FileStore
    notes: tuple[str, ...]

    @property
    def bands(self) -> int:
        return self.scene.bands

    @property
    def reports(self) -> list[dict[str, Any]]:
        return self.store.reports

    def blocks(self) -> Iterator[Block]:
        for band in range(self.bands):
            plane, seen = self._plane(band), self.scene.footprint_of(band)
            for window in tiles(self.scene.fine_shape, 4 * TILE):
                values = np.where(seen[window.slices], plane[window.slices], np.float32(np.nan))
                yield Block([band], window, values[None])

    def window(self, window: Window) -> NDArray[np.float32]:
        return np.stack([self._plane(band)[window.slices] for band in range(self.bands)])

    def whole(self) -> NDArray[np.float32]:
        return self.window(Window(0, 0, *self.scene.fine_shape))

    def _plane(self, band: int) -> Plane:
        if self.scene.dead[band]:
            return np.full(self.scene.fine_shape, np.float32(self.scene.hs[band].flat[0]))
        return self.store.plane(band)


@dataclass(frozen=True)
class _Tiled:
    """A classical product, whose windows are computed when they are written."""

    fused: Any
    scene: Scene
    config: PansharpeningConfig

    @property
    def bands(self) -> int:
        return self.scene.bands

    @property
    def reports(self) -> list[dict[str, Any]]:
        return []

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self.fused.notes)

    def blocks(self) -> Iterator[Block]:
        every = list(range(self.bands))
        for window in tiles(self.scene.fine_shape, _tile_side(self.bands, parse_memory(self.config.memory))):
            seen = self._seen(window)
            yield Block(every, window, np.where(seen, self.window(window), np.float32(np.nan)))

    def window(self, window: Window) -> NDArray[np.float32]:
        return self._floored(self.fused.window(window))

    def whole(self) -> NDArray[np.float32]:
        return self._floored(whole(self.fused, self.scene))

    def _floored(self, cube: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.maximum(cube, self.scene.floors[:, None, None], out=cube)

    def _seen(self, window: Window) -> NDArray[np.bool_]:
        ratio, pan = self.scene.optics.ratio, self.scene.pan_valid[window.slices]
        rows = np.arange(window.top, window.bottom) // ratio
        columns = np.arange(window.left, window.right) // ratio
        if self.scene.band_valid is None:
            return (self.scene.hs_valid[np.ix_(rows, columns)] & pan)[None]
        valid = self.scene.band_valid[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return np.asarray(valid[:, rows - rows[0]][:, :, columns - columns[0]]) & pan


def _tile_side(bands: int, memory: int) -> int:
    """Return a multiple of the file's tile such that a few float32 tiles of all bands fit the share."""
    side = TILE
    while (2 * side) ** 2 * bands * 4 * 4 <= memory // _TILE_SHARE and side < 8 * TILE:
        side *= 2
    return side

"""A part of a dataset whose units are scenes: opened one at a time, never all in memory."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.data import Split
from appliedpapers.core.files import sha256_file
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.scene import Optics, Scene
from appliedpapers.plugins.pansharpening.scene_files import Georeference, scratch_folder, write_bands
from appliedpapers.plugins.pansharpening.simulator import SceneOptions, SimulatedScene, simulate_scene

if TYPE_CHECKING:
    import pyarrow as pa


class SceneItem(ABC):
    """One scene that has not been opened yet.

    Attributes:
        scene_id: Its name, unique in the dataset.
    """

    scene_id: str

    @abstractmethod
    def open(self) -> Scene:
        """Read or make the scene."""

    @abstractmethod
    def files(self, folder: Path | None = None) -> tuple[Path, Path]:
        """Return the rasters of the hyperspectral cube and the panchromatic band.

        Args:
            folder: Where they are written if they are not files yet; by default one of this process, which
                goes away with it.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the sha256 of the content."""

    def recipe(self) -> str:
        """Return a hash that equal scenes share and that is cheap: by default :meth:`fingerprint`."""
        return self.fingerprint()


@dataclass(frozen=True)
class SimulatedItem(SceneItem):
    """A scene that the simulator makes when it is wanted.

    Attributes:
        scene_id: Its name.
        seed: Its own seed.
        options: Faults.
        shape: Further arguments of :func:`~.simulator.simulate_scene`: ``size``, ``ratio``, ``bands``.
        optics: Grids and sensor as a user would state them.
    """

    scene_id: str
    seed: int
    options: SceneOptions
    shape: dict[str, Any]
    optics: Optics

    def make(self) -> SimulatedScene:
        """Return what the simulator makes, with every number that was drawn."""
        return simulate_scene(
            self.seed, self.options, phase=self.optics.phase, scene_id=self.scene_id, **self.shape
        )

    def open(self) -> Scene:
        """Simulate the scene."""
        return self.make().to_scene(self.optics)

    def files(self, folder: Path | None = None) -> tuple[Path, Path]:
        """Write the pair, once a folder."""
        folder = folder or scratch_folder() / self.recipe()[:16]
        pair = folder / f"{self.scene_id}_hs.tif", folder / f"{self.scene_id}_pan.tif"
        return pair if all(path.is_file() for path in pair) else self.make().write(folder)

    def fingerprint(self) -> str:
        """Return the sha256 of the pair and its truth."""
        made = self.make()
        return _digest([self.scene_id, made.wavelengths, made.truth, made.hs, made.pan, made.observed])

    def recipe(self) -> str:
        """Return the sha256 of seed and options, which decide every byte."""
        shape = {name: np.asarray(value).tolist() for name, value in self.shape.items()}
        plain = {"seed": self.seed, **asdict(self.options), **shape, "phase": self.optics.phase}
        return _digest([json.dumps(plain, sort_keys=True)])


@dataclass(frozen=True)
class FileItem(SceneItem):
    """A pair of the user's rasters.

    Attributes:
        scene_id: Its name.
        hs_path: The hyperspectral raster.
        pan_path: The panchromatic raster.
        config: How they are read.
    """

    scene_id: str
    hs_path: Path
    pan_path: Path
    config: PansharpeningConfig

    def open(self) -> Scene:
        """Read the pair; it is checked here."""
        from appliedpapers.plugins.pansharpening.ingest import parse_memory, read_scene

        scratch = scratch_folder() / "arrays"
        scratch.mkdir(parents=True, exist_ok=True)
        scene, _ = read_scene(
            self.hs_path,
            self.pan_path,
            self.config,
            scene_id=self.scene_id,
            scratch=scratch,
            memory_bytes=parse_memory(self.config.memory),
        )
        return scene

    def files(self, folder: Path | None = None) -> tuple[Path, Path]:
        """Return the user's own files."""
        return self.hs_path, self.pan_path

    def fingerprint(self) -> str:
        """Return the sha256 of the bytes of both files."""
        return _digest([content_sha256(self.hs_path), content_sha256(self.pan_path)])


class ArrayItem(SceneItem):
    """A scene of arrays in memory, such as a published one; made when it is first wanted.

    Args:
        scene_id: Its name.
        make: Makes the scene.
        place: Where its fine grid lies.
        dtype: Type of its files, as NumPy names it.
        nodata: What its files hold where nothing was observed; None where all was.
        fwhm: Makes the band widths in nm for its files, where they are known.
    """

    def __init__(
        self,
        scene_id: str,
        make: Callable[[], Scene],
        place: Georeference,
        *,
        dtype: str,
        nodata: float | None = None,
        fwhm: Callable[[], Any] | None = None,
    ) -> None:
        self.scene_id = scene_id
        self._make = make
        self._place = place
        self._dtype = dtype
        self._nodata = nodata
        self._fwhm = fwhm

    @cached_property
    def _scene(self) -> Scene:
        return self._make()

    def open(self) -> Scene:
        """Return the scene."""
        return self._scene

    def files(self, folder: Path | None = None) -> tuple[Path, Path]:
        """Write the pair, once a folder."""
        scene = self._scene
        folder = folder or scratch_folder() / self.fingerprint()[:16]
        hs_path, pan_path = (folder / f"{self.scene_id}_{part}.tif" for part in ("hs", "pan"))
        if not (hs_path.is_file() and pan_path.is_file()):
            seen = scene.hs_valid[None] if scene.band_valid is None else scene.band_valid
            write_bands(
                hs_path,
                self._stored(scene.hs, seen),
                self._place.coarser(scene.optics.ratio),
                nodata=self._nodata,
                wavelengths=scene.wavelengths,
                fwhm=None if self._fwhm is None else self._fwhm(),
            )
            pan = self._stored(scene.pan[None], scene.pan_valid[None])
            write_bands(pan_path, pan, self._place, nodata=self._nodata)
        return hs_path, pan_path

    def _stored(self, values: Any, seen: Any) -> Any:
        marked = values if self._nodata is None else np.where(seen, values, self._nodata)
        return marked.astype(self._dtype)

    @cached_property
    def _content(self) -> str:
        scene = self._scene
        arrays = [scene.hs, scene.pan, scene.hs_valid, scene.pan_valid, scene.dead]
        more = [part for part in (scene.band_valid, scene.wavelengths, scene.truth) if part is not None]
        return _digest([self.scene_id, f"{scene.optics.ratio} {scene.optics.phase}", *arrays, *more])

    def fingerprint(self) -> str:
        """Return the sha256 of the arrays."""
        return self._content


class SceneSplit(Split):
    """Scenes that are opened one at a time.

    Args:
        items: The scenes; there may be none, for methods that adapt to a scene need no train part.
        by_recipe: Whether the fingerprint is made of what the scenes are drawn from, without making them.
    """

    def __init__(self, items: Sequence[SceneItem], *, by_recipe: bool = False) -> None:
        self.items = tuple(items)
        self._by_recipe = by_recipe

    @property
    def num_rows(self) -> int:
        """Number of scenes."""
        return len(self.items)

    def keys(self) -> pa.Table:
        """Return the column ``scene_id``."""
        import pyarrow as pa

        return pa.table({"scene_id": pa.array([item.scene_id for item in self.items], pa.string())})

    def scenes(self) -> Iterator[Scene]:
        """Yield the scenes in order, each opened when it is asked for."""
        return (item.open() for item in self.items)

    def batches(self, max_rows: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield ``scene_id``, ``hs_path`` and ``pan_path``; scenes that are not files are written."""
        for start in range(0, len(self.items), max_rows):
            yield from _rows(self.items[start : start + max_rows]).to_batches()

    def example(self, limit: int = 1) -> pa.Table:
        """Return the first ``limit`` scenes as users send them."""
        return _rows(self.items[:limit])

    def signatures(self) -> pa.Array:
        """Return a hash a scene, equal for equal scenes."""
        import pyarrow as pa

        return pa.array([item.recipe() for item in self.items], pa.string())

    def fingerprint(self) -> str:
        """Return the sha256 over all scenes, of which one at a time is in memory."""
        return _digest([item.recipe() if self._by_recipe else item.fingerprint() for item in self.items])


def content_sha256(path: Path) -> str:
    """Return the sha256 of a raster's bytes, computed once while it does not change.

    A folder counts with all its files, and an ENVI header with the files of the same name beside it.
    """
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
    elif path.suffix.lower() == ".hdr":
        parts = sorted(part for part in path.parent.glob(f"{path.stem}*") if part.is_file())
    else:
        parts = [path]
    states = [(part, part.stat()) for part in parts]
    sums = [_sha256(part, state.st_size, state.st_mtime_ns) for part, state in states]
    return sums[0] if len(sums) == 1 else _digest(sums)


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, modified: int) -> str:
    return sha256_file(path)


def _rows(items: Sequence[SceneItem]) -> pa.Table:
    import pyarrow as pa

    pairs = [item.files() for item in items]
    columns = {
        "scene_id": [item.scene_id for item in items],
        "hs_path": [str(hs) for hs, _ in pairs],
        "pan_path": [str(pan) for _, pan in pairs],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _digest(parts: Sequence[Any]) -> str:
    """Return the sha256 of texts and arrays, shapes and types included."""
    digest = hashlib.sha256()
    for part in parts:
        values = np.asarray(part)
        text = isinstance(part, str)
        head = f"text {len(part)} " if text else f"{values.dtype.str} {values.shape} "
        digest.update(head.encode())
        digest.update(part.encode() if text else np.ascontiguousarray(values).data)
    return digest.hexdigest()

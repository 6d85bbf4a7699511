"""The datasets of pansharpening: the simulator, published scenes, and the user's own pairs of rasters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from appliedpapers.core.data import PARTS, Dataset, Provenance
from appliedpapers.core.device import derive_seed
from appliedpapers.core.errors import ConfigError
from appliedpapers.core.fetching import fetch
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.plugins.pansharpening.config import PansharpeningConfig
from appliedpapers.plugins.pansharpening.published_data import PUBLISHED, entry_of
from appliedpapers.plugins.pansharpening.published_scenes import WALD, open_published, san_francisco
from appliedpapers.plugins.pansharpening.scene_pairs import PairPaths, find_pairs
from appliedpapers.plugins.pansharpening.sensors import optics_of
from appliedpapers.plugins.pansharpening.simulator import SceneOptions
from appliedpapers.plugins.pansharpening.splits import (
    FileItem,
    SceneItem,
    SceneSplit,
    SimulatedItem,
    content_sha256,
)

if TYPE_CHECKING:
    import pyarrow as pa

PLUGIN_ID = "pansharpening"
KNOWN_TRUTH = "known-truth"

_LEARN_RATIOS = (2, 3, 4, 5, 6)
_LEARN_NM = (440.0, 520.0)
_LEARN_BANDS = 4


class PansharpeningDatasets(DatasetCatalog[PansharpeningConfig]):
    """Simulated scenes, three published ones, and pairs of rasters that users bring."""

    published = PUBLISHED
    formats = (
        "a manifest (CSV or Parquet: scene_id, hs_path, pan_path and, if wanted, output_path, split), a "
        "folder with pairs NAME_hs.tif and NAME_pan.tif, or one NAME_hs.tif with NAME_pan.tif beside it; "
        "GeoTIFF, ENVI, PRISMA L2D, EnMAP L2A and Hyperion"
    )
    elsewhere = MappingProxyType(
        {
            "prisma": "PRISMA scenes may not be redistributed: register with the Italian Space Agency at "
            "prisma.asi.it, order an L2D product of your place, and give the .he5 file to --data (it holds "
            "both images).",
        }
    )

    def simulated(self, config: PansharpeningConfig) -> Dataset:
        """Simulate scenes (data card ``simulated-scenes``); they are made when they are opened.

        Raises:
            ConfigError: The size is not a multiple of the ratio.
            DataError: Initial weights shall also learn from San Francisco, which cannot be fetched.
        """
        wanted = config.simulator
        _require_multiple(wanted.size, wanted.ratio)
        if config.initial.enabled:
            train = _learning_items(config, "train", config.initial.scenes)
            valid = _learning_items(config, "valid", wanted.valid_scenes)
            train += _real_learning_items(config)
        else:
            train = _simulated_items(config, "train", wanted.train_scenes)
            valid = _simulated_items(config, "valid", wanted.valid_scenes)
        return Dataset(
            name=SIMULATED,
            protocol=KNOWN_TRUTH,
            provenance=Provenance.of_simulator("appliedpapers.plugins.pansharpening.simulator"),
            train=SceneSplit(train, by_recipe=True),
            valid=SceneSplit(valid),
            test=SceneSplit(_simulated_items(config, "test", wanted.test_scenes)),
            summary=f"scenes of {wanted.size} × {wanted.size} px, {wanted.bands} bands, ratio {wanted.ratio}",
            split_note="by disjoint seeds",
            disjoint=("scene_id",),
            notes=_learning_notes(config),
        )

    def from_user(self, path: Path, config: PansharpeningConfig) -> Dataset:
        """Read the user's own pairs; of rasters the headers are read, pixels when they are used.

        Raises:
            DataError: A pair cannot be read, or its grids do not nest.
            ConfigError: Options do not fit its bands.
        """
        from appliedpapers.plugins.pansharpening.ingest import open_configured_pair

        pairs = find_pairs(path)
        for pair in pairs:
            open_configured_pair(pair.hs_path, pair.pan_path, config)
        train, valid, test = (
            SceneSplit(_file_items([pair for pair in pairs if pair.split == name], config)) for name in PARTS
        )
        counted = f"{len(pairs)} scene{'s' if len(pairs) != 1 else ''}"
        return Dataset(
            name=path.name,
            protocol=WALD,
            provenance=Provenance.of_user(path, sha256=_checksums(pairs)),
            train=train,
            valid=valid,
            test=test,
            summary=counted,
            split_note="as the column 'split' says" if train.num_rows or valid.num_rows else "all in test",
            disjoint=("scene_id",),
        )

    def from_published(self, entry: PublishedDataset, folder: Path, config: PansharpeningConfig) -> Dataset:
        """Open a published scene whose files, or their prepared form, are verified."""
        return open_published(entry, folder, config)

    def prepare(self, entry: PublishedDataset, folder: Path) -> None:
        """Convert what was downloaded to pairs of GeoTIFFs that other tools open, in a folder ``<id>``."""
        opened = open_published(entry, folder, PansharpeningConfig())
        assert isinstance(opened.test, SceneSplit)
        for item in opened.test.items:
            item.files(folder / entry.id)

    def sample(self, folder: Path, config: PansharpeningConfig) -> pa.Table:
        """Write one simulated pair below ``folder``, and return a manifest with paths relative to it."""
        import pyarrow as pa

        test = self.simulated(config).test
        assert isinstance(test, SceneSplit)
        item = test.items[0]
        hs, pan = (str(file.relative_to(folder)) for file in item.files(folder / f"{PLUGIN_ID}-sample"))
        return pa.table({"scene_id": [item.scene_id], "hs_path": [hs], "pan_path": [pan]})

    def inputs(self, path: Path, config: PansharpeningConfig) -> pa.Table:
        """Return ``scene_id``, absolute ``hs_path`` and ``pan_path``, and ``output_path`` if it is given."""
        import pyarrow as pa

        pairs = find_pairs(path)
        columns: dict[str, list[str | None]] = {
            "scene_id": [pair.scene_id for pair in pairs],
            "hs_path": [str(pair.hs_path) for pair in pairs],
            "pan_path": [str(pair.pan_path) for pair in pairs],
        }
        if any(pair.output_path for pair in pairs):
            columns["output_path"] = [pair.output_path for pair in pairs]
        return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


DATASETS = PansharpeningDatasets()


def _simulated_items(config: PansharpeningConfig, part: str, count: int) -> list[SceneItem]:
    wanted = config.simulator
    shape = {"size": wanted.size, "ratio": wanted.ratio, "bands": wanted.bands}
    options = SceneOptions(**wanted.model_dump(include={field.name for field in fields(SceneOptions)}))
    optics = optics_of(config, wanted.ratio, wanted.bands)
    return [
        SimulatedItem(f"{part}-{number:04d}", _seed(config, part, number), options, shape, optics)
        for number in range(count)
    ]


def _learning_items(config: PansharpeningConfig, part: str, count: int) -> list[SceneItem]:
    """Return scenes for initial weights: any ratio, and a few bands where the first band of a scene lies."""
    size, items = config.initial.size, list[SceneItem]()
    ratios = [ratio for ratio in _LEARN_RATIOS if size % ratio == 0]
    for number in range(count):
        seed = _seed(config, part, number)
        rng = np.random.default_rng(derive_seed(seed, "learning"))
        ratio = int(rng.choice(ratios)) if ratios else config.simulator.ratio
        shape: dict[str, Any] = {
            "size": size - size % ratio,
            "ratio": ratio,
            "wavelengths": np.sort(rng.uniform(*_LEARN_NM, _LEARN_BANDS)),
            "band_range": _LEARN_NM,
        }
        options = SceneOptions(dead_bands=False, nodata=False)
        optics = optics_of(config, ratio, _LEARN_BANDS)
        items.append(SimulatedItem(f"{part}-{number:04d}", seed, options, shape, optics))
    return items


def _real_learning_items(config: PansharpeningConfig) -> list[SceneItem]:
    if not config.initial.san_francisco:
        return []
    entry = entry_of("san-francisco")
    return [san_francisco(fetch(PLUGIN_ID, entry), config, "learn", most_nm=_LEARN_NM[1])]


def _learning_notes(config: PansharpeningConfig) -> tuple[str, ...]:
    if not (config.initial.enabled and config.initial.san_francisco):
        return ()
    return ("one train scene is real: rows 0 to 131 of san-francisco",)


def _seed(config: PansharpeningConfig, part: str, number: int) -> int:
    return derive_seed(config.seed, PLUGIN_ID, part, number)


def _require_multiple(size: int, ratio: int) -> None:
    if size % ratio:
        raise ConfigError(
            f"option 'simulator.size': {size} is not a multiple of the ratio {ratio}.",
            hint=f"Choose {size - size % ratio} or {size + ratio - size % ratio}.",
        )


def _file_items(pairs: Sequence[PairPaths], config: PansharpeningConfig) -> list[SceneItem]:
    return [FileItem(pair.scene_id, pair.hs_path, pair.pan_path, config) for pair in pairs]


def _checksums(pairs: Sequence[PairPaths]) -> dict[str, str]:
    files = {(pair.scene_id, file) for pair in pairs for file in (pair.hs_path, pair.pan_path)}
    return {f"{scene_id}/{file.name}": content_sha256(file) for scene_id, file in sorted(files)}

"""The datasets of virtual inking: the simulator, simulated cuts on real slides, and the user's own slides."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.data import PARTS, Dataset, Provenance
from appliedpapers.core.device import derive_seed
from appliedpapers.core.files import sha256_file, whole_file
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.plugins.virtual_inking.config import InkingConfig
from appliedpapers.plugins.virtual_inking.published_data import SVS_SAMPLES, open_benchmark
from appliedpapers.plugins.virtual_inking.readers import FORMATS, deal, find_slides
from appliedpapers.plugins.virtual_inking.simulator import simulate_section
from appliedpapers.plugins.virtual_inking.splits import FileItem, MadeItem, SlideItem, SlideSplit

if TYPE_CHECKING:
    import pyarrow as pa

PLUGIN_ID = "virtual-inking"
NOTICE = (
    "labels are synthetic: cut edges were simulated, so that nothing here is clinical evidence or comparable "
    "with the paper's 73.3 %"
)


class InkingDatasets(DatasetCatalog[InkingConfig]):
    """Simulated blocks, a benchmark of simulated cuts on real tissue, and slides that users bring."""

    published = (SVS_SAMPLES,)
    formats = FORMATS

    def simulated(self, config: InkingConfig) -> Dataset:
        """Simulate blocks (data card ``simulated-inking``); slides are made when they are looked at."""
        wanted = config.simulator
        parts = [
            SlideSplit(_blocks(config, part, count), synthetic=True)
            for part, count in zip(PARTS, wanted.blocks, strict=True)
        ]
        counts = " : ".join(map(str, wanted.blocks))
        return Dataset(
            name=SIMULATED,
            protocol="simulated-blocks",
            provenance=Provenance.of_simulator("appliedpapers.plugins.virtual_inking.simulator"),
            train=parts[0],
            valid=parts[1],
            test=parts[2],
            summary=f"{sum(wanted.blocks) * wanted.slides} slides of {sum(wanted.blocks)} blocks, "
            f"{wanted.size} px of 1 um",
            split_note=f"whole blocks, {counts}",
            disjoint=("block",),
            notes=(NOTICE,),
        )

    def from_user(self, path: Path, config: InkingConfig) -> Dataset:
        """Read the user's slides, and deal them by whole blocks or patients.

        Raises:
            DataError: The list cannot be read, nothing is annotated, or there are fewer than three blocks.
        """
        listed = find_slides(path)
        parts, note, notes = deal(listed, config)
        items = [
            [
                FileItem(
                    one.slide_id,
                    one.group,
                    one.path,
                    config.slide,
                    mpp=one.mpp,
                    annotation=one.annotation,
                )
                for one in part
            ]
            for part in parts
        ]
        files = [item.path for part in items for item in part]
        sums = {file.name: sha256_file(file) for file in files if file.is_file()}
        train, valid, test = (SlideSplit(part, synthetic=False) for part in items)
        return Dataset(
            name=path.name,
            protocol="own-slides",
            provenance=Provenance.of_user(path, sha256=sums),
            train=train,
            valid=valid,
            test=test,
            summary=f"{len(files)} slides of {len({one.group for one in listed})} blocks",
            split_note=note,
            disjoint=("block",),
            notes=notes,
        )

    def from_published(self, entry: PublishedDataset, folder: Path, config: InkingConfig) -> Dataset:
        """Open the leave-source-out benchmark."""
        return open_benchmark(entry, folder, config)

    def sample(self, folder: Path, config: InkingConfig) -> pa.Table:
        """Write one simulated slide below ``folder``, and return a list with a path relative to it."""
        import pyarrow as pa

        item = _blocks(config, "test", 1)[0]
        cell = item.cell()
        assert isinstance(cell, bytes)
        name = f"{PLUGIN_ID}-sample/{item.slide_id}.tif"
        with whole_file(folder / name) as aside:
            aside.write_bytes(cell)
        return pa.table({"slide_id": [item.slide_id], "slide": [name]})

    def inputs(self, path: Path, config: InkingConfig) -> pa.Table:
        """Return ``slide_id``, absolute ``slide``, and ``mpp``, ``regions`` and ``features`` if given."""
        import pyarrow as pa

        listed = find_slides(path)
        table: dict[str, pa.Array] = {
            "slide_id": pa.array([one.slide_id for one in listed], pa.string()),
            "slide": pa.array([str(one.path) for one in listed], pa.string()),
        }
        if any(one.mpp is not None for one in listed):
            table["mpp"] = pa.array([one.mpp for one in listed], pa.float64())
        for name in ("regions", "features"):
            files = [getattr(one, name) for one in listed]
            if any(file is not None for file in files):
                table[name] = pa.array([None if file is None else str(file) for file in files], pa.string())
        return pa.table(table)


DATASETS = InkingDatasets()


def _blocks(config: InkingConfig, part: str, count: int) -> list[SlideItem]:
    wanted = config.simulator
    items: list[SlideItem] = []
    for block in range(count):
        name = f"{part}-{block:02d}"
        for number in range(wanted.slides):
            make = partial(
                simulate_section,
                derive_seed(config.seed, PLUGIN_ID, part, block),
                number,
                wanted.size,
                confounders=wanted.confounders,
                natural=(block + 1) / count <= wanted.natural_share,
            )
            items.append(MadeItem(f"{name}-{number + 1}", name, make))
    return items

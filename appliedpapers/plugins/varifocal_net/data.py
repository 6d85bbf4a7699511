"""The datasets of chromosome classification: the simulator, Pki-3, CIR-Net, and the user's own cells."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.errors import DataError
from appliedpapers.core.files import sha256_file, whole_file
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.plugins.varifocal_net.chromosomes import Chromosomes
from appliedpapers.plugins.varifocal_net.config import KaryotypeConfig
from appliedpapers.plugins.varifocal_net.images import SUFFIXES, png_bytes
from appliedpapers.plugins.varifocal_net.published_data import CIRNET, PKI3, open_cirnet, open_pki3
from appliedpapers.plugins.varifocal_net.readers import (
    FORMATS,
    input_table,
    list_chromosomes,
    read_chromosomes,
)
from appliedpapers.plugins.varifocal_net.simulator import simulate
from appliedpapers.plugins.varifocal_net.splits import ChromosomeSplit, Parts, split_chromosomes

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE_CELLS = {"train_cells": 2, "valid_cells": 2, "test_cells": 2}


class ChromosomeDatasets(DatasetCatalog[KaryotypeConfig]):
    """Simulated cells, two published collections, and chromosomes that users bring."""

    published = (PKI3, CIRNET)
    formats = FORMATS

    def simulated(self, config: KaryotypeConfig) -> Dataset:
        """Simulate cells (data card ``simulated-chromosomes``); each specimen stands in one part."""
        train, valid, test = simulate(config)
        cells = [len(part.rows_by_case()) for part in (train, valid, test)]
        note = f"whole specimens, {cells[0]:,} : {cells[1]:,} : {cells[2]:,} cells"
        parts = Parts(train, valid, test, protocol="simulated-specimens", split_note=note)
        provenance = Provenance.of_simulator("appliedpapers.plugins.varifocal_net.simulator")
        return _dataset(SIMULATED, parts, provenance)

    def from_user(self, path: Path, config: KaryotypeConfig) -> Dataset:
        """Read the user's own chromosomes, and split them by specimen unless a column says otherwise.

        Raises:
            DataError: They cannot be read or split, or are all of one type.
        """
        chromosomes = read_chromosomes(path, config.data)
        parts = split_chromosomes(chromosomes, config)
        if len({*parts.train.labels.tolist(), *parts.valid.labels.tolist(), *parts.test.labels.tolist()}) < 2:
            raise DataError(
                f"{path.name}: all chromosomes are of one type.",
                hint="Expected chromosomes of two types at least, such as whole cells.",
            )
        checksum = _folder_sha256(path) if path.is_dir() else sha256_file(path)
        provenance = Provenance.of_user(path, sha256={path.name: checksum})
        return _dataset(path.name, parts, provenance, chromosomes.notes)

    def from_published(self, entry: PublishedDataset, folder: Path, config: KaryotypeConfig) -> Dataset:
        """Open Pki-3 or CIR-Net; background and polarity of ``config.data`` do not concern them."""
        parts = open_pki3(folder) if entry is PKI3 else open_cirnet(folder, config)
        return _dataset(entry.id, parts, entry.provenance(folder, source=entry.title.partition(":")[0]))

    def sample(self, folder: Path, config: KaryotypeConfig) -> pa.Table:
        """Write the images of one simulated cell below ``folder``, and return a manifest relative to it.

        The files lie as users bring them for training, too: ``varifocal-net-sample/CASE/TYPE_N.png``.
        """
        import pyarrow as pa

        test = simulate(config.replace(simulator=_SAMPLE_CELLS))[2]
        case, rows = next(iter(test.rows_by_case().items()))
        names = [test.names[row].replace("-", "_") for row in rows]
        paths = [f"varifocal-net-sample/{case}/{name}.png" for name in names]
        for row, path in zip(rows, paths, strict=True):
            with whole_file(folder / path) as aside:
                aside.write_bytes(png_bytes(test.images[row]))
        return pa.table({"case": [case] * len(rows), "chromosome": names, "image": paths})

    def inputs(self, path: Path, config: KaryotypeConfig) -> pa.Table:
        """List what a source holds as ``predict`` takes it, without types: ``fixed_type`` alone is kept.

        Raises:
            DataError: The source breaks the contract; images are looked at by the model, each by itself.
        """
        from appliedpapers.core.tables import with_notes

        listing = list_chromosomes(path, config.data)
        return with_notes(input_table(listing, config.data.background), listing.notes)


DATASETS = ChromosomeDatasets()


def _dataset(name: str, parts: Parts, provenance: Provenance, notes: tuple[str, ...] = ()) -> Dataset:
    splits = [
        ChromosomeSplit(part, synthetic=provenance.synthetic)
        for part in (parts.train, parts.valid, parts.test)
    ]
    return Dataset(
        name=name,
        protocol=parts.protocol,
        provenance=provenance,
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        summary=_summary((parts.train, parts.valid, parts.test)),
        split_note=parts.split_note,
        disjoint=parts.disjoint,
        notes=(*notes, *parts.notes),
    )


def _summary(parts: tuple[Chromosomes, ...]) -> str:
    cells = sum(len(part.rows_by_case()) for part in parts)
    specimens = len({name for part in parts for name in part.specimens if name is not None})
    known = [(sum(map(len, parts)), "chromosome"), (cells, "cell"), (specimens, "specimen")]
    return ", ".join(f"{count:,} {word}{'s' * (count != 1)}" for count, word in known if count)


def _folder_sha256(folder: Path) -> str:
    """Return the sha256 over the names and checksums of all images below a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.name.lower().endswith(SUFFIXES) and file.is_file():
            digest.update(f"{file.relative_to(folder).as_posix()} {sha256_file(file)}\n".encode())
    return digest.hexdigest()

"""Pki-3 and CIR-Net: two collections that users obtain themselves, and how they are dealt.

Nothing of them is part of this package, and nothing of them is downloaded by it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.varifocal_net.chromosomes import Chromosomes
from appliedpapers.plugins.varifocal_net.config import DataConfig, KaryotypeConfig
from appliedpapers.plugins.varifocal_net.readers import read_chromosomes
from appliedpapers.plugins.varifocal_net.splits import Parts, split_chromosomes

PKI3 = PublishedDataset(
    id="pki3",
    title="Pki-3: 238 cells of 150 specimens, G-banded, 10,950 chromosomes",
    files=(
        RemoteFile(
            "pki3_subset.npz",
            None,
            sha256="80570e00c15bd9e81980f75cb6b7de623bb9ed9ac333426a01669dd2b2b089fd",
            size=7_758_609,
        ),
    ),
    licence="not stated; research use only, no redistribution",
    obtain="Its images state no licence, so that we neither download them nor hand them on. With leave of "
    "their owners, place the ragged npz (see the data card pki3) there, or give their folder to --data.",
)
CIRNET = PublishedDataset(
    id="cirnet",
    title="CIR-Net: 2,806 chromosomes of 16 patients, G-banded, several cells of a patient pooled",
    files=(
        RemoteFile(
            "cirnet.npz",
            None,
            sha256="826a0189303259c3673ecad52397bad61206e985dbe7bc635bc794db9824e741",
            size=2_090_171,
        ),
    ),
    licence="free for research and non-commercial use with citation",
    citation="Lin et al., CIR-Net: Automatic Classification of Human Chromosome Based on Inception-ResNet "
    "Architecture, IEEE/ACM TCBB 19(3), 2022, doi 10.1109/TCBB.2020.3003445",
    obtain="We do not download or hand it on. Get the images from their authors' repository, and place the "
    "ragged npz (see the data card cirnet) there, or give a folder of the images to --data.",
)


def open_pki3(folder: Path) -> Parts:
    """Open Pki-3 with its own split by specimen; ``config.data`` does not concern it.

    Raises:
        DataError: The file does not hold what it should.
    """
    read = read_chromosomes(folder / PKI3.files[0].path, DataConfig())
    parts = split_chromosomes(read, KaryotypeConfig())
    note = (
        "8 of the 61 test cells and 7 of the 148 to learn from are aneuploid; losses of one copy not counted"
    )
    return replace(
        parts,
        protocol="pki3-specimens",
        split_note=f"whole specimens, {parts.split_note.partition(', ')[2]}",
        notes=(*parts.notes, note),
    )


def open_cirnet(folder: Path, config: KaryotypeConfig) -> Parts:
    """Open CIR-Net, dealt by patient: what its file calls a case is a patient, whose cells are pooled.

    Raises:
        DataError: The file does not hold what it should.
    """
    read = read_chromosomes(folder / CIRNET.files[0].path, DataConfig())
    patients = read.cases
    pooled = Chromosomes(
        read.images,
        [f"{patient} {name}" for patient, name in zip(patients, read.names, strict=True)],
        [None] * len(read),
        patients,
        read.labels,
        read.polarity,
        read.fixed,
    )
    dealt = split_chromosomes(pooled, config.replace(data={"split": "specimen"}))
    return replace(
        dealt,
        protocol="cirnet-patients",
        split_note=dealt.split_note.replace("specimens", "patients"),
        notes=(*dealt.notes, "cells of a patient are pooled: there is no cell to make types consistent in"),
    )

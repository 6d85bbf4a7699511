"""Soil7: 913 photos of seven soils, with folds that keep near-duplicates together."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.manifests import read_manifest
from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.agrosense.soil_image.photos import Photos
from appliedpapers.plugins.agrosense.soils import SOILS

SOIL7 = PublishedDataset(
    id="soil7",
    title="Soil7: 913 photos of seven soils, five folds that keep near-duplicates together",
    files=(
        RemoteFile(
            "soil7/soil7_192.zip",
            None,
            sha256="8fa7409bd1fffb8caf97fabde4ad0f8d77e4502495640470c0a56fe8c866179a",
            size=10_581_778,
        ),
        RemoteFile(
            "soil7/manifest.csv",
            None,
            sha256="91dda3b3fc5772f64fb77af2859b8796d07a80e3a48f0902cd8dc244511abd43",
        ),
    ),
    licence="CC BY-NC 4.0; the photos were collected from the web by the dataset's authors",
    citation="Phantom-fs/Soil-Classification-Dataset on GitHub, commit c3108e9, folder Orignal-Dataset",
    obtain="The photos may not be used commercially, and we do not hand them on. Get them from "
    "github.com/Phantom-fs/Soil-Classification-Dataset; with our manifest and its photos at 192 px place "
    "both there (see the data card soil7), or give the folder of photos to --data.",
)


def open_soil7(folder: Path) -> tuple[Photos, NDArray[np.int64]]:
    """Return the photos with their groups, and the fold of each.

    Raises:
        DataError: The files do not hold what they should.
    """
    archive, listing = (folder / file.path for file in SOIL7.files)
    rows = read_manifest(listing, ("file", "label", "group", "fold"))
    try:
        with zipfile.ZipFile(archive) as packed:
            contents = tuple(packed.read(row.cells["file"]) for row in rows)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DataError(f"{archive}: {error}.", hint="Obtain the file again.") from None
    cells = [row.cells for row in rows]
    photos = Photos(
        contents,
        tuple(cell["file"] for cell in cells),
        np.array([SOILS.index(cell["label"]) for cell in cells], dtype=np.int64),
        SOILS,
        (None,) * len(cells),
        np.array([int(cell["group"]) for cell in cells], dtype=np.int64),
    )
    return photos, np.array([int(cell["fold"]) for cell in cells], dtype=np.int64)

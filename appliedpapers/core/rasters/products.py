"""Which reader opens a file: plain rasters, and products whose layout is not a plain raster."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.cube import RasterCube, open_cube
from appliedpapers.core.rasters.enmap import metadata_beside, open_enmap
from appliedpapers.core.rasters.hyperion import holds_hyperion, open_hyperion
from appliedpapers.core.rasters.prisma import is_prisma, open_prisma, open_prisma_pan

Overlap = Literal["vnir", "swir", "both"]


def open_hyperspectral(path: Path, *, nodata: float | None = None, overlap: Overlap = "vnir") -> RasterCube:
    """Return a hyperspectral cube.

    Args:
        path: Any raster of GDAL; PRISMA L2D (``.he5``); EnMAP L2A (its ``METADATA.XML`` or the spectral image
            beside it); Hyperion L1T or L1Gst (folder or zip of one GeoTIFF a band).
        nodata: Stored value that means missing, in place of what the file says.
        overlap: PRISMA: whose bands are kept where the detectors overlap.

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file.", hint="Check the path of the hyperspectral raster.")
    if is_prisma(path):
        return open_prisma(path, overlap=overlap)
    if path.is_dir() or path.suffix.lower() == ".zip":
        if holds_hyperion(path):
            return open_hyperion(path, nodata=nodata)
        raise DataError(
            f"{path}: no bands of Hyperion in it (files such as EO1H..._B011_L1T.TIF).",
            hint="Name the raster file itself, for example a GeoTIFF.",
        )
    metadata = metadata_beside(path)
    return open_cube(path, nodata=nodata) if metadata is None else open_enmap(metadata, nodata=nodata)


def open_panchromatic(path: Path) -> RasterCube:
    """Return a panchromatic band: any raster of GDAL, or that of a PRISMA L2D product (``.he5``).

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    return open_prisma_pan(path) if is_prisma(path) else open_cube(path)

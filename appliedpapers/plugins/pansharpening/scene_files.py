"""Pairs of GeoTIFFs that are written from arrays in memory: simulated scenes, and published ones."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.files import whole_file


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies.

    Attributes:
        left: Map coordinate of its left edge.
        top: Map coordinate of its upper edge.
        pixel: Side of a pixel.
        crs: Coordinate reference system as text, such as ``EPSG:32633``; None where there is none.
    """

    left: float
    top: float
    pixel: float
    crs: str | None = None

    def coarser(self, ratio: int) -> Georeference:
        """Return that of the grid with ``ratio`` times larger pixels."""
        return Georeference(self.left, self.top, self.pixel * ratio, self.crs)


def write_bands(
    path: Path,
    bands: NDArray[Any],
    place: Georeference,
    *,
    nodata: float | None = None,
    wavelengths: NDArray[np.float64] | None = None,
    fwhm: NDArray[np.float64] | None = None,
) -> None:
    """Write a GeoTIFF whole.

    Args:
        path: File to write; its folder is made.
        bands: Shape ``(B, H, W)``, in the type of the file.
        place: Where it lies.
        nodata: Value that means missing.
        wavelengths: Band centres in nm, shape ``(B,)``: the band tags ``wavelength`` and
            ``wavelength_units``.
        fwhm: Band widths in nm, shape ``(B,)``: the band tag ``fwhm``.

    Raises:
        RunError: The folder is not writable or the disk is full.
    """
    import rasterio
    from rasterio.transform import from_origin

    count, height, width = bands.shape
    # a transform without a reference system is legal, and tells the size of pixels
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": bands.dtype.name,
        "nodata": nodata,
        "crs": place.crs,
        "transform": from_origin(place.left, place.top, place.pixel, place.pixel),
        "compress": "deflate",
        "photometric": "MINISBLACK",
    }
    with whole_file(path) as aside, rasterio.open(aside, "w", **profile) as target:
        target.write(bands)
        for number, centre in enumerate(() if wavelengths is None else wavelengths):
            tags = {"wavelength": f"{centre:.3f}", "wavelength_units": "nm"}
            if fwhm is not None:
                tags["fwhm"] = f"{fwhm[number]:.3f}"
            target.update_tags(number + 1, **tags)
            target.set_band_description(number + 1, f"{centre:.2f} nm")


@lru_cache(maxsize=1)
def scratch_folder() -> Path:
    """Return a private folder for rasters made on demand; it goes away when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="apps-pansharpening-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    # a forked child must not take the parent's files away
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)

"""Hyperion (EO-1) L1T and L1Gst: one GeoTIFF a band, in a folder or a zip, without wavelengths.

Centres follow a line for each spectrometer, which meets the published table of the instrument to 0.1 nm.
Bands outside of 8 to 57 and 77 to 224 were not calibrated and hold zeros. Stored numbers are radiance times
40 (visible and near infrared) and 80 (short-wave infrared), in W / (m2 sr um) (USGS product description).
Pixels outside of the swath hold 0 in every band; a single 0 is legal.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.cube import RasterCube, Source, open_cube, rescaled
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.rasters.wavelengths import BandMetadata, Spectrum

_NAME = re.compile(r".*_B(\d{3})_L1(?:T|GST)\.TIFF?$", re.I)
_LAST_VNIR = 70
_CALIBRATED = (range(8, 58), range(77, 225))
_VNIR_LINE, _SWIR_LINE = (355.59, 10.1752), (851.92, 10.0888)
_VNIR_FACTOR, _SWIR_FACTOR = 40.0, 80.0


def centre_nm(band: int) -> float:
    """Return the centre in nm of a band, counted from 1 to 242 as the product does."""
    first, (start, step) = (1, _VNIR_LINE) if band <= _LAST_VNIR else (_LAST_VNIR + 1, _SWIR_LINE)
    return start + step * (band - first)


def _members(path: Path) -> dict[int, Path]:
    """Return the files of the calibrated bands by their number; those of a zip as paths that GDAL opens."""
    if path.is_dir():
        files = list(path.iterdir())
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                files = [Path(f"/vsizip/{{{path.absolute()}}}/{name}") for name in archive.namelist()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                f"{path}: cannot be read as a zip ({error}).", hint="Download it again."
            ) from None
    numbers = {int(match[1]): file for file in files if (match := _NAME.match(file.name))}
    return {band: numbers[band] for band in sorted(numbers) if any(band in good for good in _CALIBRATED)}


def holds_hyperion(path: Path) -> bool:
    """Return whether a folder or a zip holds calibrated bands of Hyperion."""
    return bool(_members(path))


def open_hyperion(path: Path, *, nodata: float | None = None) -> RasterCube:
    """Return the calibrated bands of a Hyperion L1T or L1Gst product as radiance in W / (m2 sr um).

    Args:
        path: Folder or zip with one GeoTIFF a band.
        nodata: Stored value that means missing, besides pixels outside of the swath.

    Raises:
        DataError: A band cannot be read, or lies on another grid than the others.
    """
    members = _members(path)
    cubes = [open_cube(file, nodata=nodata) for file in members.values()]
    first = cubes[0]
    for cube in cubes:
        if (cube.shape, cube.transform, cube.crs, cube.count) != (first.shape, first.transform, first.crs, 1):
            raise DataError(
                f"{path}: {cube.path.name} lies on another grid than {first.path.name}.",
                hint="Expected the bands of one product, each with one band on the same grid.",
            )
    stacked = replace(
        first,
        path=path,
        encodings=tuple(cube.encodings[0] for cube in cubes),
        source=_Stack(tuple(cube.source for cube in cubes)),
        metadata=BandMetadata(
            tags=tuple(cube.metadata.tags[0] for cube in cubes),
            imagery=tuple(cube.metadata.imagery[0] for cube in cubes),
            descriptions=tuple(f"B{band:03d}" for band in members),
        ),
        files=tuple(members.values()) if path.is_dir() else (path,),
        masked=True,
        given=Spectrum(np.array([centre_nm(band) for band in members])),
    )
    factors = np.array([_VNIR_FACTOR if band <= _LAST_VNIR else _SWIR_FACTOR for band in members])
    return rescaled(stacked, 1 / factors, np.zeros(len(members)))


@dataclass(frozen=True)
class _Stack:
    """Cubes of one band each as the bands of one cube."""

    sources: tuple[Source, ...]

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        planes = np.concatenate([self.sources[band].read([0], window) for band in bands])
        probes = sorted({0, len(self.sources) // 2, len(self.sources) - 1})
        outside = np.all([self.sources[band].read([0], window)[0] == 0 for band in probes], axis=0)
        planes[:, outside] = np.nan
        return planes

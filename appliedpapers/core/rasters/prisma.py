"""PRISMA L2D (ASI): two cubes and a panchromatic band in one HDF-EOS5 file.

Facts of the layout: cubes are stored as ``(rows, bands, columns)``; stored 0 to 65535 spans the minimum to
the maximum of the scaling attributes; unused bands have a wavelength of 0; corners are the centres of the
corner pixels of the 30 m grid; pixels outside of the swath hold 0 in every band.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.cube import RasterCube, require_rasterio
from appliedpapers.core.rasters.encoding import BandEncoding
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.rasters.wavelengths import BandMetadata, Spectrum

_SWATHS = "HDFEOS/SWATHS"
_CUBES = f"{_SWATHS}/PRS_L2D_HCO/Data Fields"
_PAN = f"{_SWATHS}/PRS_L2D_PCO/Data Fields/Cube"
_LARGEST = 65_535.0
_PIXEL = 30.0
_PAN_RATIO = 6
_HINT = "Expected a PRISMA L2D product (PRS_L2D_STD_....he5)."
Detector = Literal["Vnir", "Swir"]


@dataclass(frozen=True)
class _Band:
    field: str
    index: int | None
    encoding: BandEncoding
    centre: float = math.nan
    width: float = math.nan


@dataclass(frozen=True)
class _PrismaSource:
    path: Path
    bands: tuple[_Band, ...]

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        planes = np.empty((len(bands), *window.shape), dtype=np.float32)
        with _opened(self.path) as file:
            seen = self._seen(file, window)
            for plane, number in zip(planes, bands, strict=True):
                band = self.bands[number]
                plane[:] = band.encoding.decode(_stored(file, band, window), seen)
        return planes

    def _seen(self, file: Any, window: Window) -> NDArray[np.bool_]:
        """Return what lies inside of the swath: some of three bands is not 0."""
        probes = {0, len(self.bands) // 2, len(self.bands) - 1}
        seen: NDArray[np.bool_] = np.any(
            [_stored(file, self.bands[number], window) != 0 for number in sorted(probes)], axis=0
        )
        return seen


def _stored(file: Any, band: _Band, window: Window) -> NDArray[Any]:
    rows, columns = window.slices
    data = _dataset(file, band.field)
    stored: NDArray[Any] = data[rows, columns] if band.index is None else data[rows, band.index, columns]
    return stored


def _dataset(file: Any, field: str) -> Any:
    """Return a dataset that lies in the file itself: HDF5 can take values from any other file.

    Raises:
        KeyError: There is none, or a link leads elsewhere.
    """
    import h5py

    node = file
    for name in field.split("/"):
        if not isinstance(node.get(name, getlink=True), h5py.HardLink):
            raise KeyError(field)
        node = node[name]
    if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
        raise KeyError(field)
    return node


def is_prisma(path: Path) -> bool:
    """Return whether a file is named as an HDF-EOS5 product."""
    return path.suffix.lower() == ".he5"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise DataError(f"{path}: no such file.", hint="Check the path.")
    try:
        import h5py
    except ImportError:
        raise DataError(
            f"{path}: PRISMA products need the package h5py, which is not installed.",
            hint="Install it with: pip install h5py",
        ) from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except KeyError as error:
        said = str(error.args[0] if error.args else error)
        raise DataError(f"{path}: a part of the product is missing ({said}).", hint=_HINT) from None
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as HDF5 ({reason}).", hint=_HINT) from None


def open_prisma(path: Path, *, overlap: Literal["vnir", "swir", "both"] = "vnir") -> RasterCube:
    """Return the visible and short-wave bands of a PRISMA L2D product as reflectance, by wavelength.

    Args:
        path: The ``.he5`` file.
        overlap: Whose bands are kept where both detectors see the same wavelengths, 920 to 1,010 nm.

    Raises:
        DataError: The file is damaged, is another product, or h5py is not installed.
    """
    with _opened(path) as file:
        vnir, swir = _bands(file, "Vnir"), _bands(file, "Swir")
        if not vnir and not swir:
            raise DataError(f"{path}: every band has a wavelength of 0.", hint=_HINT)
        if vnir and swir and overlap == "vnir":
            swir = [band for band in swir if band.centre > max(other.centre for other in vnir)]
        elif vnir and swir and overlap == "swir":
            vnir = [band for band in vnir if band.centre < min(other.centre for other in swir)]
        bands = tuple(sorted(vnir + swir, key=lambda band: band.centre))
        height, _, width = _dataset(file, bands[0].field).shape
        return _cube(path, file, bands, (height, width), 1)


def open_prisma_pan(path: Path) -> RasterCube:
    """Return the panchromatic band of a PRISMA L2D product as reflectance.

    The product states one set of corners: the band covers the ground of the 30 m grid at 5 m.

    Raises:
        DataError: The file is damaged, is another product, or h5py is not installed.
    """
    with _opened(path) as file:
        pan = _dataset(file, _PAN)
        height, width = pan.shape
        encoding = _encoding(file, "Pan", pan.dtype)
        return _cube(path, file, (_Band(_PAN, None, encoding),), (height, width), _PAN_RATIO)


def _encoding(file: Any, part: str, dtype: Any) -> BandEncoding:
    low, high = (float(file.attrs[f"L2Scale{part}{end}"]) for end in ("Min", "Max"))
    return BandEncoding(str(dtype), (high - low) / _LARGEST, low)


def _bands(file: Any, detector: Detector) -> list[_Band]:
    """Return the bands of a detector that are in use, in the order of the file."""
    field = f"{_CUBES}/{detector.upper()}_Cube"
    centres = np.asarray(file.attrs[f"List_Cw_{detector}"], dtype=np.float64)
    widths = np.asarray(file.attrs.get(f"List_Fwhm_{detector}", np.zeros_like(centres)), dtype=np.float64)
    cube = _dataset(file, field)
    encoding = _encoding(file, detector, cube.dtype)
    if cube.ndim != 3 or cube.shape[1] != centres.size:
        raise KeyError(f"{field} with {centres.size} bands")
    return [
        _Band(field, index, encoding, float(centre), float(width))
        for index, (centre, width) in enumerate(zip(centres, widths, strict=True))
        if centre > 0
    ]


def _cube(path: Path, file: Any, bands: tuple[_Band, ...], shape: tuple[int, int], ratio: int) -> RasterCube:
    named = not math.isnan(bands[0].centre)
    widths = np.array([band.width for band in bands])
    return RasterCube(
        path=path,
        shape=shape,
        encodings=tuple(band.encoding for band in bands),
        source=_PrismaSource(path, bands),
        metadata=BandMetadata(
            tags=({},) * len(bands),
            imagery=({},) * len(bands),
            descriptions=tuple(f"{band.centre:.2f} nm" if named else None for band in bands),
        ),
        crs=require_rasterio().crs.CRS.from_epsg(int(file.attrs["Epsg_Code"])),
        transform=_transform(file, ratio),
        files=(path,),
        masked=True,
        given=Spectrum(np.array([band.centre for band in bands]), widths if (widths > 0).all() else None)
        if named
        else None,
    )


def _transform(file: Any, ratio: int) -> Any:
    """Return map coordinates of a grid with ``ratio`` times smaller pixels than the hyperspectral one."""
    x, y = (float(file.attrs[f"Product_ULcorner_{axis}"]) for axis in ("easting", "northing"))
    pixel = _PIXEL / ratio
    return require_rasterio().Affine(pixel, 0.0, x - _PIXEL / 2, 0.0, -pixel, y + _PIXEL / 2)

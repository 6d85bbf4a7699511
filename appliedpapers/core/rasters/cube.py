"""One interface to rasters of many bands: windows of bands as physical values, NaN where nothing was seen."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.client_files import serves_a_client
from appliedpapers.core.errors import DataError, PluginError
from appliedpapers.core.rasters.encoding import BandEncoding
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.rasters.wavelengths import BandMetadata, Spectrum, spectrum_of

_OPENING = threading.Lock()
_CACHE_BYTES = 256 * 2**20
_PLAIN = {b"II": "GTiff", b"MM": "GTiff", b"\x89P": "PNG", b"\xff\xd8": "JPEG", b"BM": "BMP"}
"""Drivers whose files name no others, by their first bytes: a stranger's file is opened with no other."""
_LOOK = "Expected a raster that GDAL reads, such as GeoTIFF; check it with 'gdalinfo -checksum'."


class Source(Protocol):
    """Where the bands of a cube come from. Implementations hold no open file and may be shared by threads."""

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        """Return physical values, shape ``(len(bands), *window.shape)``, float32, NaN where missing."""
        ...


@dataclass(frozen=True)
class RasterCube:
    """A raster of many bands on one grid; nothing is read before it is asked for.

    Attributes:
        path: File or folder that a person named.
        shape: Height and width in pixels.
        encodings: How each band is stored.
        source: Reads the bands.
        metadata: Tags and names of the bands.
        crs: Coordinate reference system (``rasterio.crs.CRS``), None if the file states none.
        transform: Pixel to map coordinates (``affine.Affine``), None if the file is not georeferenced.
        tags: Tags of the file.
        files: Every file that the values come from.
        block_rows: Rows of a block where the file keeps all bands of it together, so that reading one costs
            them all; None where bands are apart.
        masked: Whether pixels may be missing by a mask, as against a nodata value.
        given: Spectrum that was given from outside and replaces what the file states.
    """

    path: Path
    shape: tuple[int, int]
    encodings: tuple[BandEncoding, ...]
    source: Source
    metadata: BandMetadata
    crs: Any = None
    transform: Any = None
    tags: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    block_rows: int | None = None
    masked: bool = False
    given: Spectrum | None = None

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.encodings)

    @property
    def dtype(self) -> str:
        """NumPy name of the type that holds every band as stored."""
        return str(np.result_type(*{encoding.dtype for encoding in self.encodings}))

    @property
    def window(self) -> Window:
        """The whole raster."""
        return Window(0, 0, *self.shape)

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """Centres and widths of the bands, or None if they are not known.

        Raises:
            DataError: The file states wavelengths that are not positive, or not for every band.
        """
        return self.given if self.given is not None else spectrum_of(self.metadata, self.path)

    @property
    def wavelengths_nm(self) -> NDArray[np.float64] | None:
        """Centres of the bands in nm, shape ``(B,)``, or None."""
        return None if self.spectrum is None else self.spectrum.wavelengths

    @property
    def fwhm_nm(self) -> NDArray[np.float64] | None:
        """Full widths at half maximum in nm, shape ``(B,)``, or None."""
        return None if self.spectrum is None else self.spectrum.fwhm

    @property
    def descriptions(self) -> tuple[str | None, ...]:
        """Names of the bands."""
        return self.metadata.descriptions

    def read(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return a window of some bands in physical units.

        Args:
            window: Window on the raster; None is the whole of it.
            bands: Bands counted from 0; None is all.

        Returns:
            float32, shape ``(len(bands), height, width)``, NaN where a pixel is missing.

        Raises:
            DataError: The file is damaged.
        """
        wanted = range(self.count) if bands is None else bands
        return self.source.read(wanted, self.window if window is None else window)

    def read_band(self, band: int, window: Window | None = None) -> NDArray[np.float32]:
        """Return a window of one band, counted from 0, shape ``(height, width)``; see :meth:`read`."""
        plane: NDArray[np.float32] = self.read(window, [band])[0]
        return plane

    def selected(self, bands: Sequence[int]) -> RasterCube:
        """Return the cube of these bands, counted from 0, in this order."""
        spectrum = self.spectrum
        return replace(
            self,
            encodings=tuple(self.encodings[band] for band in bands),
            source=_Selected(self.source, tuple(bands)),
            metadata=self.metadata.selected(bands),
            given=None if spectrum is None else spectrum.selected(bands),
        )


@dataclass(frozen=True)
class _Selected:
    source: Source
    bands: tuple[int, ...]

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        return self.source.read([self.bands[band] for band in bands], window)


@dataclass(frozen=True)
class _GdalSource:
    """Bands of one file, which is opened for each read: GDAL handles must not be shared by threads."""

    path: Path
    indexes: tuple[int, ...]
    encodings: tuple[BandEncoding, ...]
    masked: tuple[bool, ...]
    together: bool
    plain: bool

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        area = require_rasterio().windows.Window(window.left, window.top, window.shape[1], window.shape[0])
        planes = np.empty((len(bands), *window.shape), dtype=np.float32)
        with opened(self.path, plain=self.plain) as dataset:
            # one call decodes blocks that hold all bands once
            every = (
                dataset.read([self.indexes[band] for band in bands], window=area) if self.together else None
            )
            for number, (plane, band) in enumerate(zip(planes, bands, strict=True)):
                index = self.indexes[band]
                stored = dataset.read(index, window=area) if every is None else every[number]
                seen = dataset.read_masks(index, window=area) != 0 if self.masked[band] else None
                plane[:] = self.encodings[band].decode(stored, seen)
        return planes


@contextmanager
def opened(path: Path, *, plain: bool = False) -> Iterator[Any]:
    """Yield a raster as ``rasterio`` opens it, and close it.

    Args:
        path: The file.
        plain: Refuse formats that name further files, which is also done for a stranger.

    Raises:
        DataError: There is no such file, it is no raster, or it is damaged; also when that shows only
            while the block reads from it.
        PluginError: rasterio is not installed.
    """
    if not path.exists() and not str(path).startswith("/vsi"):
        raise DataError(f"{path}: no such file.", hint="Check the path.")
    plain = plain or serves_a_client()
    try:
        with (
            bounded_gdal(),
            open_quietly(_data_file(path), **({"driver": _plain_driver(path)} if plain else {})) as dataset,
        ):
            if plain and dataset.tags(ns="OVERVIEWS"):
                raise DataError(f"{path}: it names its overviews, which are not looked for.", hint=_LOOK)
            yield dataset
    except gdal_errors() as error:
        raise DataError(
            f"{path}: cannot be read as a raster ({_reason(error)}).",
            hint="Expected GeoTIFF or ENVI." if plain else _LOOK,
        ) from error


def _plain_driver(path: Path) -> str:
    if path.suffix.lower() == ".hdr":
        return "ENVI"
    if not path.is_file():
        return "GTiff"  # a member of a zip
    with path.open("rb") as file:
        return _PLAIN.get(file.read(2), "ENVI")


def open_quietly(*args: Any, **kwargs: Any) -> Any:
    """Return ``rasterio.open`` of the arguments, without its warning that a raster has no georeference."""
    rasterio = require_rasterio()
    # filters of warnings belong to the process: two threads must not swap them at once
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(*args, **kwargs)


def gdal_errors() -> tuple[type[Exception], ...]:
    """Return what reading or writing with rasterio raises: some calls pass errors of GDAL on unwrapped."""
    rasterio = require_rasterio()
    return rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError, OSError


def bounded_gdal(**options: Any) -> Any:
    """Return a ``rasterio.Env`` whose cache of blocks is small: GDAL's own takes 5 % of the machine.

    Args:
        options: Further options of GDAL.
    """
    bound = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": _CACHE_BYTES}
    return require_rasterio().Env(**bound, **options)


def require_rasterio() -> Any:
    """Return the module rasterio.

    Raises:
        PluginError: It is not installed.
    """
    try:
        import rasterio
        import rasterio._err
        import rasterio.crs
        import rasterio.errors
        import rasterio.shutil
        import rasterio.windows
    except ImportError:
        raise PluginError(
            "rasters need the package rasterio, which is not installed.",
            hint='Install it with: pip install "applied-papers[pansharpening]"',
        ) from None
    return rasterio


def _data_file(path: Path) -> Path:
    """Return the file with the pixels of an ENVI header, which GDAL refuses to open; else the path itself."""
    if path.suffix.lower() != ".hdr":
        return path
    stems = [path.with_suffix("")] + [
        path.with_suffix(suffix) for suffix in (".img", ".dat", ".bsq", ".bil", ".bip")
    ]
    found = [stem for stem in stems if stem.is_file()]
    if not found:
        raise DataError(
            f"{path}: the ENVI header has no file with the pixels beside it.",
            hint=f"Expected {stems[0].name} or {stems[1].name} in the same folder.",
        )
    return found[0]


def _reason(error: BaseException) -> str:
    """Return what GDAL said first, in one line: the last message is often only 'Read failed'."""
    said = error
    while said.__cause__ is not None:
        said = said.__cause__
    return " ".join(str(said).split()).rstrip(".") or type(said).__name__


def open_cube(path: Path, *, nodata: float | None = None) -> RasterCube:
    """Return what a raster says about itself: any format of GDAL; an ENVI raster also by its header.

    Bands that hold transparency are taken as the mask that they are.

    Args:
        path: The file.
        nodata: Stored value that means missing, in place of what the file says.

    Raises:
        DataError: There is no such file, it is no raster, it is damaged, or its values are complex.
    """
    with opened(path) as dataset:
        indexes = _value_bands(dataset)
        if not indexes:
            raise DataError(
                f"{path}: the raster has no bands.", hint="Name the raster of a container directly."
            )
        if any(dataset.dtypes[index - 1].startswith("complex") for index in indexes):
            raise DataError(f"{path}: the values are complex numbers.", hint="Expected real numbers.")
        if dataset.gcps[0] and dataset.transform.is_identity:
            raise DataError(
                f"{path}: the raster is placed by control points, not by a grid.",
                hint="Rectify it first, for example with: gdalwarp in.tif out.tif",
            )
        encodings = tuple(_encoding(dataset, index, nodata) for index in indexes)
        masked = tuple(_has_mask(dataset, index) for index in indexes)
        together = dataset.count > 1 and dataset.profile.get("interleave") == "pixel"
        return RasterCube(
            path=path,
            shape=(dataset.height, dataset.width),
            encodings=encodings,
            source=_GdalSource(path, indexes, encodings, masked, together, serves_a_client()),
            metadata=BandMetadata(
                tags=tuple(dataset.tags(index) for index in indexes),
                imagery=tuple(dataset.tags(index, ns="IMAGERY") for index in indexes),
                descriptions=tuple(dataset.descriptions[index - 1] for index in indexes),
                dataset={**dataset.tags(), **dataset.tags(ns="ENVI")},
            ),
            crs=dataset.crs,
            transform=None
            if _is_pixel_grid(dataset.transform) and dataset.crs is None
            else dataset.transform,
            tags=dataset.tags(),
            files=tuple(Path(file) for file in dataset.files),
            block_rows=dataset.block_shapes[0][0] if together else None,
            masked=any(masked),
        )


def rescaled(cube: RasterCube, scales: NDArray[np.float64], offsets: NDArray[np.float64]) -> RasterCube:
    """Return a cube whose physical values are ``value * scale + offset`` of what it held, band by band.

    Args:
        cube: A cube that has no scaling of its own, so that values are what is stored.
        scales: Shape ``(B,)``.
        offsets: Shape ``(B,)``.
    """
    encodings = tuple(
        replace(encoding, scale=float(scale), offset=float(offset))
        for encoding, scale, offset in zip(cube.encodings, scales, offsets, strict=True)
    )
    return replace(cube, encodings=encodings, source=_Rescaled(cube.source, scales, offsets))


@dataclass(frozen=True)
class _Rescaled:
    source: Source
    scales: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def read(self, bands: Sequence[int], window: Window) -> NDArray[np.float32]:
        planes = self.source.read(bands, window)
        for plane, band in zip(planes, bands, strict=True):
            plane[:] = plane * self.scales[band] + self.offsets[band]
        return planes


def _value_bands(dataset: Any) -> tuple[int, ...]:
    """Return the bands, counted from 1 as GDAL does, that are not transparency."""
    colours = dataset.colorinterp
    return tuple(index for index in dataset.indexes if colours[index - 1].name != "alpha")


def _encoding(dataset: Any, index: int, nodata: float | None) -> BandEncoding:
    own = dataset.nodatavals[index - 1]
    return BandEncoding(
        dtype=dataset.dtypes[index - 1],
        scale=dataset.scales[index - 1] or 1.0,
        offset=dataset.offsets[index - 1],
        nodata=own if nodata is None else nodata,
    )


def _has_mask(dataset: Any, index: int) -> bool:
    names = {flag.name for flag in dataset.mask_flag_enums[index - 1]}
    return not names & {"all_valid", "nodata"}


def _is_pixel_grid(transform: Any) -> bool:
    """Return whether a transform only counts pixels, as that of a raster without georeference does."""
    return (transform.a, transform.b, transform.c, transform.d, abs(transform.e), transform.f) == (
        1,
        0,
        0,
        0,
        1,
        0,
    )

"""Products: tiled GeoTIFFs that appear whole, with every tag that a GIS and a spectral library look for."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.errors import DataError, RunError
from appliedpapers.core.files import whole_file, write_error
from appliedpapers.core.rasters.cube import (
    RasterCube,
    bounded_gdal,
    gdal_errors,
    open_quietly,
    opened,
    require_rasterio,
)
from appliedpapers.core.rasters.encoding import BandEncoding, fits, missing_value
from appliedpapers.core.rasters.pair import RasterPair
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.rasters.wavelengths import Spectrum

Compression = Literal["deflate", "zstd", "lzw", "none"]

TILE = 256
# one thread: GDAL's own workers would complain of a full disk where nobody listens
_EVERY_DRIVER = {"BIGTIFF": "IF_SAFER", "NUM_THREADS": 1}
_COG_BLOCK_BYTES = 16 * 2**20
_SMALLEST_BLOCK = 128


class Block(NamedTuple):
    """A piece of a product.

    Attributes:
        bands: Bands counted from 0.
        window: Window of the product.
        values: Physical values, shape ``(len(bands), *window.shape)``, NaN where missing.
    """

    bands: Sequence[int]
    window: Window
    values: NDArray[Any]


@dataclass(frozen=True)
class ProductProfile:
    """What a product looks like.

    Attributes:
        shape: Height and width in pixels.
        encodings: How each band is stored; all of one type and one nodata value, as a GeoTIFF needs.
        crs: Coordinate reference system (``rasterio.crs.CRS``) or None.
        transform: Map coordinates (``affine.Affine``) or None.
        spectrum: Centres and widths of the bands, if they are known.
        descriptions: Names of the bands; shorter than the bands where there are none.
        band_tags: Further tags of each band.
        tags: Tags of the file.
        compress: Compression of the tiles.
        cog: Whether to write a cloud-optimised GeoTIFF with overviews.
    """

    shape: tuple[int, int]
    encodings: tuple[BandEncoding, ...]
    crs: Any = None
    transform: Any = None
    spectrum: Spectrum | None = None
    descriptions: tuple[str | None, ...] = ()
    band_tags: tuple[dict[str, str], ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    compress: Compression = "deflate"
    cog: bool = False

    @classmethod
    def of_pair(
        cls,
        pair: RasterPair,
        *,
        dtype: Literal["keep", "float32"] = "keep",
        compress: Compression = "deflate",
        cog: bool = False,
        missing: bool = True,
        tags: dict[str, str] | None = None,
    ) -> ProductProfile:
        """Return the profile of the hyperspectral bands on the panchromatic grid.

        Args:
            pair: The inputs.
            dtype: ``"keep"`` stores as the hyperspectral file does, with its scale and offset.
            compress: Compression of the tiles.
            cog: Whether to write a cloud-optimised GeoTIFF.
            missing: Whether pixels may be missing: a file without a nodata value then gets one (NaN, the
                least signed integer, or 0).
            tags: Tags of the file, besides its own.
        """
        cube = pair.hs
        return cls(
            shape=pair.fine_shape,
            encodings=_encodings(cube, cube.dtype if dtype == "keep" else dtype, missing),
            crs=pair.crs,
            transform=pair.transform,
            spectrum=cube.spectrum,
            descriptions=cube.descriptions,
            band_tags=tuple(dict(band) for band in cube.metadata.tags),
            tags={**_worth_keeping(cube.tags), **(tags or {})},
            compress=compress,
            cog=cog,
        )

    @property
    def dtype(self) -> str:
        """NumPy name of the stored type."""
        return self.encodings[0].dtype

    @property
    def nodata(self) -> float | None:
        """Stored value that means missing."""
        return self.encodings[0].nodata

    def creation_options(self, driver: str = "GTiff") -> dict[str, Any]:
        """Return the creation options of a GDAL driver, ``GTiff`` or ``COG``."""
        compressed = {} if self.compress == "none" else {"COMPRESS": self.compress.upper()}
        if driver == "COG":
            predictor = {"PREDICTOR": "YES"} if compressed else {"COMPRESS": "NONE"}
            # this driver stores all bands of a block together: small blocks keep reading one band cheap
            return {"BLOCKSIZE": self._cog_block(), **_EVERY_DRIVER, **compressed, **predictor}
        kind = "3" if np.dtype(self.dtype).kind == "f" else "2"
        tiled = {"TILED": "YES", "BLOCKXSIZE": TILE, "BLOCKYSIZE": TILE, "INTERLEAVE": "BAND"}
        predictor = {"PREDICTOR": kind} if compressed else {}
        return {**_EVERY_DRIVER, **tiled, **compressed, **predictor}

    def _cog_block(self) -> int:
        pixel = len(self.encodings) * np.dtype(self.dtype).itemsize
        block = 512
        while block > _SMALLEST_BLOCK and block * block * pixel > _COG_BLOCK_BYTES:
            block //= 2
        return block


def _encodings(cube: RasterCube, dtype: str, missing: bool) -> tuple[BandEncoding, ...]:
    """Return the encodings of a product of ``cube``: one type and one nodata value for all bands."""
    kept = {encoding.nodata for encoding in cube.encodings} - {None}
    own = next((value for value in kept if value is not None and fits(value, dtype)), None)
    # another type than that of the file holds physical values: its nodata value would be one of them
    same = dtype == cube.dtype
    fallback = missing_value(dtype) if missing or np.dtype(dtype).kind == "f" else None
    nodata = own if same and own is not None else fallback
    return tuple(
        BandEncoding(dtype, encoding.scale if same else 1.0, encoding.offset if same else 0.0, nodata)
        for encoding in cube.encodings
    )


def _worth_keeping(tags: dict[str, str]) -> dict[str, str]:
    """Leave out what describes the layout of the input file, which GDAL states anew."""
    return {
        key: value for key, value in tags.items() if not key.startswith(("Band_", "TIFFTAG_", "wavelength"))
    }


def write_product(path: Path, blocks: Iterable[Block], profile: ProductProfile) -> None:
    """Write a product whole: it appears when every block is on disk and can be read back.

    Blocks come in any order, by band or by window, and each is stored before the next is asked for. Windows
    that start and end on multiples of :data:`TILE` are compressed once only.

    Args:
        path: The GeoTIFF.
        blocks: Pieces that together cover every pixel of every band once.
        profile: What the product looks like.

    Raises:
        RunError: The disk is full, the folder is not writable, or a pixel cannot be stored; nothing is left.
    """
    require_rasterio()
    with whole_file(path) as aside, _work_folder(path) as work:
        plain = work / "plain.tif"
        _write_plain(path, plain, blocks, profile)
        finished = _as_cog(path, plain, work, profile) if profile.cog else plain
        os.replace(finished, aside)


@contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path``, which goes with everything that GDAL may have left in it."""
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_plain(path: Path, file: Path, blocks: Iterable[Block], profile: ProductProfile) -> None:
    rasterio = require_rasterio()
    written = np.zeros(len(profile.encodings), dtype=np.int64)
    height, width = profile.shape
    # a file that is only copied from need not be small
    hasty = {"ZLEVEL": 1, "ZSTD_LEVEL": 1} if profile.cog else {}
    with _watching(path), bounded_gdal():
        dataset = open_quietly(
            file,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=len(profile.encodings),
            dtype=profile.dtype,
            crs=profile.crs,
            nodata=profile.nodata,
            **({} if profile.transform is None else {"transform": profile.transform}),
            **profile.creation_options(),
            **hasty,
        )
        with dataset:
            _describe(dataset, profile)
            for block in blocks:
                area = rasterio.windows.Window(block.window.left, block.window.top, *block.window.shape[::-1])
                for band, values in zip(block.bands, block.values, strict=True):
                    dataset.write(profile.encodings[band].encode(values), band + 1, window=area)
                    written[band] += values.size
    if (written != height * width).any():
        band = int(np.flatnonzero(written != height * width)[0])
        raise RunError(
            f"{path}: band {band + 1} was given {written[band]:,} of {height * width:,} pixels.",
            hint="This is a defect of the method that made the product.",
        )
    _require_complete(path, file, profile)


def _describe(dataset: Any, profile: ProductProfile) -> None:
    dataset.update_tags(**profile.tags)
    if any((encoding.scale, encoding.offset) != (1, 0) for encoding in profile.encodings):
        dataset.scales = tuple(encoding.scale for encoding in profile.encodings)
        dataset.offsets = tuple(encoding.offset for encoding in profile.encodings)
    for band in range(len(profile.encodings)):
        tags = dict(profile.band_tags[band]) if band < len(profile.band_tags) else {}
        if profile.spectrum is not None:
            plain, imagery = _spectral_tags(profile.spectrum, band)
            tags.update(plain)
            dataset.update_tags(band + 1, ns="IMAGERY", **imagery)
        if tags:
            dataset.update_tags(band + 1, **tags)
        if band < len(profile.descriptions) and (name := profile.descriptions[band]):
            dataset.set_band_description(band + 1, name)


def _spectral_tags(spectrum: Spectrum, band: int) -> tuple[dict[str, str], dict[str, str]]:
    centre = float(spectrum.wavelengths[band])
    plain = {"wavelength": f"{centre:.10g}", "wavelength_units": "nm"}
    imagery = {"CENTRAL_WAVELENGTH_UM": f"{centre / 1000:.10g}"}
    if spectrum.fwhm is not None:
        width = float(spectrum.fwhm[band])
        plain["fwhm"], imagery["FWHM_UM"] = f"{width:.10g}", f"{width / 1000:.10g}"
    return plain, imagery


def _as_cog(path: Path, plain: Path, work: Path, profile: ProductProfile) -> Path:
    """Return the product as a cloud-optimised GeoTIFF, with overviews down to one block."""
    rasterio = require_rasterio()
    finished = work / "cog.tif"
    options = {**profile.creation_options("COG"), "OVERVIEWS": "AUTO", "OVERVIEW_RESAMPLING": "AVERAGE"}
    # overviews are made in a temporary file, which must not land in the system's folder: that may be small
    with _watching(path), bounded_gdal(CPL_TMPDIR=str(work)):
        rasterio.shutil.copy(str(plain), str(finished), driver="COG", **options)
    _require_complete(path, finished, profile)
    plain.unlink()
    return finished


class _Complaints(logging.Handler):
    """Collects what GDAL complains of in this thread: at close it is said in the log alone."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.said: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.said.append(record.getMessage())


@contextmanager
def _watching(path: Path) -> Iterator[None]:
    """Turn what GDAL says about a failed write, in an exception or in its log, into an error of the run."""
    complaints = _Complaints()
    logger = logging.getLogger("rasterio")
    logger.addHandler(complaints)
    try:
        yield
    except gdal_errors() as error:
        said = "; ".join([*complaints.said, str(error.__cause__ or error)])
        _fail(path, said, error)
    finally:
        logger.removeHandler(complaints)
    if complaints.said:
        _fail(path, complaints.said[0])


def _fail(path: Path, said: str, error: Exception | None = None) -> NoReturn:
    """Raise what a person should see: GDAL names a full disk in words, or not at all.

    The cause is then an ``OSError`` as of any other full disk, by which callers know that trying the next
    item is in vain.
    """
    full = "No space left" in said or "quota" in said.lower() or shutil.disk_usage(path.parent).free < 2**20
    if full:
        refused = OSError(errno.ENOSPC, said)
        raise write_error(path, refused) from refused
    raise RunError(
        f"{path}: cannot be written ({' '.join(said.split()).rstrip('.')}).",
        hint="Check the free space, and the largest file that the disk and your limits (ulimit -f) allow.",
    ) from error


def _require_complete(path: Path, file: Path, profile: ProductProfile) -> None:
    """Check that every tile of the file lies inside of it: libtiff may lose the last ones without a word."""
    try:
        complete = _is_complete(file, len(profile.encodings))
    except DataError as error:
        _fail(path, f"it cannot be read back: {error.message}", error)
    if not complete:
        _fail(path, "tiles are missing from the file")


def _is_complete(file: Path, count: int) -> bool:
    size = file.stat().st_size
    with opened(file) as dataset:
        # with all bands of a tile stored together, each band names the same tiles
        bands = [1] if dataset.profile.get("interleave") == "pixel" else dataset.indexes
        rows, columns = dataset.block_shapes[0]
        grid = product(range(-(-dataset.width // columns)), range(-(-dataset.height // rows)))
        tiles = [(band, *place) for band, place in product(bands, grid)]
        return dataset.count == count and all(_block_end(dataset, *tile) <= size for tile in tiles)


def _block_end(dataset: Any, band: int, column: int, row: int) -> float:
    start, length = (
        dataset.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band) for what in ("OFFSET", "SIZE")
    )
    return float("inf") if start is None or length is None else int(start) + int(length)

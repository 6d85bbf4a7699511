"""A hyperspectral cube and the panchromatic band of the same place, cut so that their grids nest exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from appliedpapers.core.errors import DataError
from appliedpapers.core.rasters.cube import RasterCube
from appliedpapers.core.rasters.products import Overlap, open_hyperspectral, open_panchromatic
from appliedpapers.core.rasters.tiles import Window
from appliedpapers.core.rasters.wavelengths import read_wavelengths

SMALLEST_RATIO, LARGEST_RATIO = 2, 8
# how far pixel sizes may be from a whole ratio, and how many fine pixels that may add up to over the scene
_RATIO_TOLERANCE = 1e-3
_DRIFT_TOLERANCE = 0.5
# edges of a coarse pixel agree to this share of it: coordinates are stored with rounding
_SLACK = 1e-6
_WORTH_SAYING = 0.01


@dataclass(frozen=True)
class RasterPair:
    """Two rasters and the windows of them that cover the same ground.

    Attributes:
        hs: Hyperspectral cube, the coarse grid.
        pan: Panchromatic band, the fine grid.
        ratio: Fine pixels per coarse pixel, 2 to 8.
        hs_window: Whole coarse pixels that both cover.
        pan_window: The same ground on the fine grid: ``ratio`` times as many rows and columns, up to
            ``residual_shift``.
        residual_shift: Rows and columns, in fine pixels within half a pixel, by which the fine grid lies
            below and right of where the coarse grid puts it.
        notes: What was cut off or does not fit exactly.
    """

    hs: RasterCube
    pan: RasterCube
    ratio: int
    hs_window: Window
    pan_window: Window
    residual_shift: tuple[float, float] = (0.0, 0.0)
    notes: tuple[str, ...] = ()

    @property
    def crs(self) -> Any:
        """Coordinate reference system of both, or None."""
        return self.pan.crs if self.pan.crs is not None else self.hs.crs

    @property
    def transform(self) -> Any:
        """Map coordinates of the fine window (``affine.Affine``), or None without georeference."""
        grid = self.pan.transform
        if grid is None:
            return None
        left, top = grid.c + grid.a * self.pan_window.left, grid.f + grid.e * self.pan_window.top
        return type(grid)(grid.a, 0.0, left, 0.0, grid.e, top)

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """Height and width of the coarse window."""
        return self.hs_window.shape

    @property
    def fine_shape(self) -> tuple[int, int]:
        """Height and width of the fine window, which is the grid of the product."""
        return self.pan_window.shape

    def with_bands(self, bands: list[int]) -> RasterPair:
        """Return the pair with these hyperspectral bands, counted from 0, alone."""
        return replace(self, hs=self.hs.selected(bands))


class _Axis(NamedTuple):
    """One axis of a pair: where the fine grid starts and ends on the coarse one, in coarse pixels."""

    coarse: int
    fine: int
    start: float
    end: float


class _Cut(NamedTuple):
    """What is kept of an axis: first and last pixel (excluded) of both grids, and the shift left over."""

    coarse: tuple[int, int]
    fine: tuple[int, int]
    shift: float


def open_pair(
    hs_path: Path,
    pan_path: Path,
    *,
    ratio: int | None = None,
    nodata: float | None = None,
    wavelengths: Path | None = None,
    overlap: Overlap = "vnir",
) -> RasterPair:
    """Open a pair and check that its grids nest.

    Args:
        hs_path: Hyperspectral raster or product, see :func:`~.products.open_hyperspectral`.
        pan_path: Panchromatic raster of one band, or the PRISMA product that holds it.
        ratio: Fine pixels per coarse pixel; None measures it.
        nodata: Stored value of the hyperspectral raster that means missing; None takes its own.
        wavelengths: CSV with the centres of the bands, in place of what the file states.
        overlap: PRISMA: whose bands are kept where the detectors overlap.

    Raises:
        DataError: A file cannot be read, the arguments look swapped, the panchromatic raster has more than
            one band, or the grids do not nest: another CRS, rotation, a ratio that is no whole number from
            2 to 8, or extents that differ by more than one hyperspectral pixel.
    """
    hs = open_hyperspectral(hs_path, nodata=nodata, overlap=overlap)
    pan = open_panchromatic(pan_path)
    _require_one_band(hs, pan)
    _require_same_system(hs, pan)
    if wavelengths is not None:
        hs = replace(hs, given=read_wavelengths(wavelengths, hs.count, hs.path))
    nested = _nest_by_size(hs, pan, ratio) if hs.transform is None else _nest_by_place(hs, pan, ratio)
    return _cut(hs, pan, *nested)


def _require_one_band(hs: RasterCube, pan: RasterCube) -> None:
    if pan.count == 1:
        return
    if hs.count == 1:
        raise DataError(
            f"{hs.path} has 1 band and {pan.path} has {pan.count}: the two look swapped.",
            hint="Give the hyperspectral raster first, then the panchromatic one.",
        )
    raise DataError(
        f"{pan.path}: the panchromatic raster has {pan.count} bands, expected 1.",
        hint="Take one band out of it, for example with: gdal_translate -b 1 in.tif pan.tif",
    )


def _require_same_system(hs: RasterCube, pan: RasterCube) -> None:
    if (hs.transform is None) != (pan.transform is None):
        bare, placed = (hs, pan) if hs.transform is None else (pan, hs)
        raise DataError(
            f"{bare.path} has no georeference, but {placed.path} has one.",
            hint="Expected both or neither: copy it with gdal_edit.py -a_srs ... -a_ullr ... if you know it.",
        )
    if hs.crs != pan.crs:
        raise DataError(
            f"the coordinate systems differ: {hs.path} has {_name(hs.crs)}, {pan.path} has {_name(pan.crs)}.",
            hint=f"Warp the panchromatic raster: gdalwarp -t_srs {_name(hs.crs)} in.tif out.tif",
        )
    for raster in (hs, pan):
        grid = raster.transform
        if grid is not None and (grid.b, grid.d) != (0, 0) and _sheared(grid):
            raise DataError(
                f"{raster.path}: the grid is rotated or sheared.",
                hint="Make it north-up, for example with: gdalwarp in.tif out.tif",
            )


def _sheared(grid: Any) -> bool:
    return bool(abs(grid.b) > _SLACK * abs(grid.a) or abs(grid.d) > _SLACK * abs(grid.e))


def _name(crs: Any) -> str:
    if crs is None:
        return "none"
    return str(crs.to_string()) if crs.to_epsg() is None else f"EPSG:{crs.to_epsg()}"


def _nest_by_size(hs: RasterCube, pan: RasterCube, asked: int | None) -> tuple[int, _Axis, _Axis, float]:
    """Nest rasters without georeference by their upper left corners."""
    measured = (pan.shape[0] / hs.shape[0], pan.shape[1] / hs.shape[1])
    ratio = asked or _limited(round(measured[0]))
    if any(abs(fine - ratio * coarse) >= ratio for fine, coarse in zip(pan.shape, hs.shape, strict=True)):
        raise _no_whole_ratio(hs, pan, measured, asked, "their sizes in pixels give")
    rows, columns = (
        _Axis(coarse, fine, 0.0, fine / ratio) for coarse, fine in zip(hs.shape, pan.shape, strict=True)
    )
    return ratio, rows, columns, 0.0


def _nest_by_place(hs: RasterCube, pan: RasterCube, asked: int | None) -> tuple[int, _Axis, _Axis, float]:
    """Nest georeferenced rasters by their pixel sizes and origins."""
    coarse, fine = hs.transform, pan.transform
    measured = (coarse.e / fine.e, coarse.a / fine.a)
    ratio = asked or _limited(round(measured[0]))
    drifts = [size * abs(value - ratio) for size, value in zip(hs.shape, measured, strict=True)]
    if any(abs(value / ratio - 1) > _RATIO_TOLERANCE for value in measured) or max(drifts) > _DRIFT_TOLERANCE:
        raise _no_whole_ratio(hs, pan, measured, asked, "their pixel sizes give")
    top, left = (fine.f - coarse.f) / coarse.e, (fine.c - coarse.c) / coarse.a
    rows = _Axis(hs.shape[0], pan.shape[0], top, top + pan.shape[0] / measured[0])
    columns = _Axis(hs.shape[1], pan.shape[1], left, left + pan.shape[1] / measured[1])
    return ratio, rows, columns, max(drifts)


def _limited(ratio: int) -> int:
    return min(max(ratio, SMALLEST_RATIO), LARGEST_RATIO)


def _no_whole_ratio(
    hs: RasterCube, pan: RasterCube, measured: tuple[float, float], asked: int | None, how: str
) -> DataError:
    rows, columns = measured
    said = f"{rows:.4g}" if abs(rows / columns - 1) <= _RATIO_TOLERANCE else f"{rows:.4g} x {columns:.4g}"
    wanted = (
        f"the ratio {asked} was asked for" if asked else f"expected a whole number from {SMALLEST_RATIO} to 8"
    )
    if max(measured) < 1:
        hint = "The panchromatic raster is the coarser one: the two look swapped."
    elif hs.transform is None:
        hint = (
            "Resample the panchromatic raster: gdal_translate -outsize WIDTH HEIGHT -r cubic in.tif pan.tif"
        )
    else:
        ratio = asked or _limited(round(rows))
        size = f"{abs(hs.transform.a) / ratio:.10g} {abs(hs.transform.e) / ratio:.10g}"
        edges = " ".join(f"{edge:.10g}" for edge in _extent(hs))
        hint = f"Resample the panchromatic raster: gdalwarp -r cubic -tr {size} -te {edges} in.tif pan.tif"
    return DataError(f"{hs.path} and {pan.path}: {how} a ratio of {said}; {wanted}.", hint=hint)


def _extent(raster: RasterCube) -> tuple[float, float, float, float]:
    """Return least x, least y, largest x and largest y in map coordinates."""
    grid, (height, width) = raster.transform, raster.shape
    xs, ys = sorted((grid.c, grid.c + width * grid.a)), sorted((grid.f, grid.f + height * grid.e))
    return xs[0], ys[0], xs[1], ys[1]


def _cut(
    hs: RasterCube, pan: RasterCube, ratio: int, rows: _Axis, columns: _Axis, drift: float
) -> RasterPair:
    for axis in (rows, columns):
        if axis.start >= axis.coarse - _SLACK or axis.end <= _SLACK:
            raise _apart(hs, pan, "do not overlap")
    for axis in (rows, columns):
        if max(abs(axis.start), abs(axis.end - axis.coarse)) > 1 + _SLACK:
            raise _apart(hs, pan, "differ by more than one hyperspectral pixel")
    row, column = _cut_axis(rows, ratio), _cut_axis(columns, ratio)
    if min(row.coarse[1] - row.coarse[0], column.coarse[1] - column.coarse[0]) < 1:
        raise _apart(hs, pan, "have no whole hyperspectral pixel in common")
    return RasterPair(
        hs=hs,
        pan=pan,
        ratio=ratio,
        hs_window=Window(row.coarse[0], column.coarse[0], row.coarse[1], column.coarse[1]),
        pan_window=Window(row.fine[0], column.fine[0], row.fine[1], column.fine[1]),
        residual_shift=(row.shift, column.shift),
        notes=tuple(_notes(hs, pan, row, column, drift)),
    )


def _cut_axis(axis: _Axis, ratio: int) -> _Cut:
    """Keep the whole coarse pixels that the fine grid covers once it is moved to the nearest fine pixel."""
    place = axis.start * ratio
    start = round(place)
    first = max(0, -(-start // ratio))
    last = min(axis.coarse, (start + axis.fine) // ratio)
    fine = (first * ratio - start, last * ratio - start)
    return _Cut((first, last), fine, place - start if abs(place - start) > _SLACK * ratio else 0.0)


def _apart(hs: RasterCube, pan: RasterCube, how: str) -> DataError:
    if hs.transform is None:
        return DataError(
            f"{hs.path} ({_size(hs)}) and {pan.path} ({_size(pan)}) {how}.",
            hint="Cut both to the same ground.",
        )
    edges = " ".join(f"{edge:.10g}" for edge in _extent(hs))
    places = [", ".join(f"{edge:.10g}" for edge in _extent(raster)) for raster in (hs, pan)]
    return DataError(
        f"the extents {how}: {hs.path} has ({places[0]}), {pan.path} has ({places[1]}) as (left, bottom, "
        "right, top).",
        hint=f"Cut both to the ground they share, for example with: gdalwarp -te {edges} in.tif pan.tif",
    )


def _size(raster: RasterCube) -> str:
    return f"{raster.shape[0]} x {raster.shape[1]} pixels"


def _notes(hs: RasterCube, pan: RasterCube, row: _Cut, column: _Cut, drift: float) -> list[str]:
    notes = []
    for name, raster, kept in (
        ("hyperspectral", hs, (row.coarse, column.coarse)),
        ("panchromatic", pan, (row.fine, column.fine)),
    ):
        (top, bottom), (left, right) = kept
        if (top, left, bottom, right) != (0, 0, *raster.shape):
            notes.append(
                f"The {name} raster was cut from {_size(raster)} to rows {top} to {bottom - 1} and columns "
                f"{left} to {right - 1}, the ground that both cover."
            )
    if max(abs(row.shift), abs(column.shift)) > _WORTH_SAYING:
        notes.append(
            f"The grids do not nest exactly: the panchromatic pixels lie {row.shift:+.2f} rows and "
            f"{column.shift:+.2f} columns (panchromatic pixels) from where the hyperspectral grid puts them."
        )
    if drift > _WORTH_SAYING:
        notes.append(f"The pixel sizes drift apart by {drift:.2f} panchromatic pixels over the scene.")
    return notes
